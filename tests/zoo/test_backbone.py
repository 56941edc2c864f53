"""timm's model methods and feature maps on the zoo's networks, against torchvision and timm."""

from __future__ import annotations

import copy
import inspect
import io
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_type_hints

import pytest
import timm
import torch
import torchvision
from backbone_checks import CHECKS
from torch import nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.segmentation import DeepLabV3
from torchvision.models.segmentation.deeplabv3 import DeepLabHead

import antialiased_zoo as az
from antialiased_zoo.zoo import ARCHITECTURES
from antialiased_zoo.zoo.options import CommonOptions

FAMILIES = ("alexnet", "vgg11_bn", "resnet18", "densenet121", "mobilenet_v2", "efficientnet_lite0")


# What depends on where a family's parts are; one network shows the rest.
OF_LAYOUT = ("features", "FPN", "reset_classifier", "num_classes=0", "layer decay")


def cases() -> Iterator[object]:
    for name in FAMILIES:
        for check in CHECKS:
            quick = check in OF_LAYOUT or (check, name) == ("grad checkpointing", "densenet121") or name == "resnet18"
            quick = quick and (check, name) != ("FPN", "vgg11_bn")
            yield pytest.param(name, check, marks=[] if quick else pytest.mark.slow)


@pytest.mark.parametrize(("name", "check"), cases())
def test_each_family_passes_the_tables_checks(name: str, check: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backbone_checks.SIZES", ((64, 64), (65, 98)))
    torch.manual_seed(0)
    CHECKS[check](name)


@torch.inference_mode()
@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "vgg11_bn"])
def test_it_is_torchvisions_class_and_computes_the_same(name: str) -> None:
    plain = ARCHITECTURES[name].build(num_classes=3).eval()
    ours = az.create_model(name, None, num_classes=3).eval()
    assert isinstance(ours, type(plain))
    assert isinstance(ours, az.Backbone)
    ours.load_state_dict(plain.state_dict())
    image = torch.randn(2, 3, 65, 96)
    assert torch.equal(ours(image), plain(image))


@torch.inference_mode()
def test_it_can_be_copied_pickled_traced_exported_and_compiled() -> None:
    model = az.resnet18(num_classes=3).eval()
    image = torch.randn(2, 3, 64, 64)
    written = io.BytesIO()
    torch.save(model, written)
    written.seek(0)
    for other in (
        copy.deepcopy(model),
        pickle.loads(pickle.dumps(model)),
        torch.load(written, weights_only=False),
        torch.fx.symbolic_trace(model),
        torch.export.export(model, (image,)).module(),
        torch.compile(model, backend="eager", fullgraph=True),
    ):
        assert torch.equal(other(image), model(image))
    assert pickle.loads(pickle.dumps(type(model))) is type(model)


def test_reset_classifier_and_its_errors() -> None:
    model = az.mobilenet_v2(num_classes=5)
    assert model.get_classifier() is model.classifier[1]
    model.reset_classifier(0, global_pool="")
    assert model(torch.randn(1, 3, 64, 64)).shape == (1, 1280, 2, 2)
    with pytest.raises(ValueError, match="'' with num_classes=0"):
        model.reset_classifier(3)
    with pytest.raises(ValueError, match="avg, max, avgmax"):
        model.reset_classifier(3, "median")
    model.reset_classifier(3, "max")
    image = torch.randn(2, 3, 64, 64)
    maps = model.eval().forward_features(image)
    torch.testing.assert_close(model(image), model.classifier(maps.amax((2, 3))))
    model.classifier = nn.Linear(1280, 9)  # as torchvision's users do
    assert model.num_classes == 9
    assert model(image).shape == (2, 9)
    with pytest.raises(ValueError, match="assign the new head"):
        model.reset_classifier(3)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_drop_rate_drops_features(name: str) -> None:
    model = az.create_model(name, num_classes=3)
    model.drop_rate = 1.0
    bias = model.get_classifier().bias
    assert torch.equal(model(torch.randn(2, 3, 64, 64)), bias.expand(2, -1))
    assert model.drop_rate == 1.0


def test_dilation_shows_in_the_strides() -> None:
    maps = az.create_model("resnet50", features_only=True, replace_stride_with_dilation=(False, True, True))
    assert maps.feature_info.reduction() == [2, 4, 8, 8, 8]
    assert [x.shape[-1] for x in maps(torch.randn(1, 3, 64, 64))] == [32, 16, 8, 8, 8]


def test_layers_beyond_the_last_map_are_left_out() -> None:
    maps = az.create_model("resnet18", features_only=True, out_indices=(1, 2))
    assert not hasattr(maps, "layer3")
    assert az.create_model("vgg11", features_only=True, out_indices=[0]).state_dict().keys() == {
        "features.0.weight",
        "features.0.bias",
    }
    for wrong in ((5,), (), (2, 1), 3):
        with pytest.raises(ValueError, match="out_indices"):
            az.create_model("resnet18", features_only=True, out_indices=wrong)


@pytest.mark.parametrize(("name", "options"), [("alexnet", {}), ("resnet18", {"stem_stride": 1}), ("mobilenet_v2", {})])
@pytest.mark.parametrize("way", ["maps", "body", "checkpointed"])
def test_a_blur_that_another_tool_drops_is_put_back(name: str, options: dict[str, int], way: str) -> None:
    network = az.create_model(name, num_classes=2, **options).train()
    maps = az.zoo.FeatureMaps(network)
    network.set_grad_checkpointing(way == "checkpointed")
    run = {"maps": lambda x: maps(x)[-1]}.get(way, network.forward_features)
    image = torch.randn(2, 3, 96, 96)
    before = run(image).shape
    for root in (maps, network):  # a user swaps activations, some of which hold a blur
        for path, module in list(root.named_modules()):
            if isinstance(module, (nn.ReLU, nn.ReLU6)):
                root.set_submodule(path, nn.Hardswish())
    assert run(image).shape == before


def test_feature_info_is_timms() -> None:
    ours = az.create_model("resnet50", features_only=True, out_indices=(1, 2, 3, 4)).feature_info
    theirs = timm.create_model("resnetblur50", features_only=True, out_indices=(1, 2, 3, 4)).feature_info
    assert ours.channels() == theirs.channels()
    assert ours.reduction() == theirs.reduction()
    assert ours.module_name() == theirs.module_name()
    model = az.resnet50()
    assert timm.models.FeatureInfo(model.feature_info, (1, 4)).channels() == [256, 2048]


@pytest.mark.slow  # a quicker one is in tests/examples
def test_a_detector_overfits_its_tiny_set() -> None:
    torch.manual_seed(0)
    backbone = az.backbone_with_fpn("mobilenet_v2", out_channels=32, width_mult=0.25)
    detector = FasterRCNN(backbone, num_classes=2, min_size=64, max_size=64, box_detections_per_img=5)
    images = [torch.zeros(3, 64, 64), torch.zeros(3, 64, 64)]
    boxes = (torch.tensor([[8.0, 8.0, 32.0, 32.0]]), torch.tensor([[28.0, 20.0, 60.0, 52.0]]))
    for image, box in zip(images, boxes, strict=True):
        left, top, right, bottom = box[0].int().tolist()
        image[:, top:bottom, left:right] = 1
    targets = [{"boxes": box, "labels": torch.tensor([1])} for box in boxes]
    optimizer = torch.optim.AdamW(detector.parameters(), lr=2e-3)
    for _ in range(60):
        loss = sum(detector(images, targets).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    # Norms have seen two images at a time: judged as trained, so that the test needs no long run for their averages.
    for module in detector.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.track_running_stats, module.running_mean, module.running_var = False, None, None
    found = detector.eval()(images)
    for one, box in zip(found, boxes, strict=True):
        assert torchvision.ops.box_iou(one["boxes"][:1], box).item() > 0.6


@pytest.mark.slow
def test_a_segmenter_overfits_its_tiny_set() -> None:
    torch.manual_seed(0)
    body = az.create_model("resnet18", features_only=True, out_indices=(3,), out_map=("out",))
    segmenter = DeepLabV3(body, DeepLabHead(body.feature_info.channels()[0], 2, atrous_rates=(1, 2, 3)))
    images = torch.zeros(4, 3, 64, 64)
    for at in range(4):
        images[at, :, 8 + 8 * at : 32 + 8 * at, 16:48] = 1
    masks = images[:, 0].long()
    optimizer = torch.optim.AdamW(segmenter.parameters(), lr=1e-3)
    for _ in range(30):
        loss = nn.functional.cross_entropy(segmenter(images)["out"], masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    answer = segmenter(images)["out"].argmax(1)
    assert (answer & masks).sum() / (answer | masks).sum() > 0.8


@pytest.mark.parametrize("name", FAMILIES)
def test_typed_keywords_are_the_builders(name: str) -> None:
    architecture = ARCHITECTURES[name]
    taken = architecture.builder or type(az.create_model(name, None, num_classes=1))._base
    own = set(get_type_hints(architecture.options)) - set(get_type_hints(CommonOptions))
    chosen_by_name = {"features", "layers", "growth_rate", "block_config", "num_init_features"}
    chosen_by_name |= set() if name == "mobilenet_v2" else {"block"}
    assert own == set(inspect.signature(taken).parameters) - chosen_by_name - {"num_classes"}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: az.resnet18(filtersize=3), "unexpected keyword 'filtersize': did you mean filter_size"),
        (lambda: az.resnet18(norm_layers=None), "did you mean norm_layer"),
        (lambda: az.vgg11(width_mult=0.5), "unexpected keyword 'width_mult'"),
        (lambda: az.create_model("alexnet", drop_out=0.1), "did you mean dropout"),
    ],
)
def test_a_misspelt_keyword_is_named(call: object, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        call()


def test_patterns_of_names() -> None:
    assert az.list_models("resne*") == [name for name in az.list_models() if name.startswith("resne")]
    assert az.list_models("vgg1?_bn") == ["vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn"]
    assert set(az.list_models("res*", pretrained=True)) <= set(az.list_models("res*"))


def test_weights_as_objects() -> None:
    from PIL import Image

    weights = az.get_weights("resnet50", 3, "timm_bt")
    assert len(weights.classes) == 1000
    assert weights.meta["license"] == "Apache-2.0"
    photo = Image.new("RGB", (400, 300), (10, 200, 30))
    assert weights.transforms()(photo).shape == weights.transforms(train=True)(photo).shape == (3, 224, 224)
    assert az.get_weights("mobilenet_v2", 4, "cifar10").classes[0] == "airplane"
    ours = az.mobilenet_v2(4, pretrained="cifar10")
    assert ours.config.classes == az.get_weights("mobilenet_v2", 4, "cifar10").classes
    assert ours.pretrained_cfg["num_classes"] == 10


def test_a_recipe_implies_its_filter_where_only_one_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTIALIASED_ZOO_OFFLINE", "1")
    for recipe, file in (("timm_bt", "resnetblur50"), ("timm_a1h", "resnetaa50")):
        with pytest.raises(az.errors.OfflineError, match=file):
            az.resnet50(pretrained=recipe)
    with pytest.raises(ValueError, match="filter_size=4"):
        az.resnet50(4, pretrained="timm_bt")


def test_the_pages_examples_run_and_its_table_names_every_network(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "backbones.md").read_text()
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(block, names)
    assert "[4, 8, 16, 32]" in capsys.readouterr().out
    assert names["features"].shape == (1, 512)
    table = page.partition("<!-- networks -->\n")[2].partition("<!-- /networks -->")[0].splitlines()
    assert table[0] == "| network | " + " | ".join(CHECKS) + " |"
    assert [line.split("`")[1] for line in table[2:]] == az.list_models()
    assert all(cell == "yes" for line in table[2:] for cell in line.strip("| ").split(" | ")[1:])


def test_a_network_of_another_form_keeps_its_own_methods(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from antialiased_zoo.zoo import registry

    monkeypatch.setattr(registry, "_TABLE", table := dict(registry._TABLE))
    monkeypatch.setattr("antialiased_zoo.zoo.factories.ARCHITECTURES", table)
    squeezenet = az.register_network("squeezed", head="classifier.1", builder=torchvision.models.squeezenet1_1)
    model = squeezenet(3, num_classes=6)
    assert type(model) is torchvision.models.SqueezeNet
    torch.save(model.state_dict(), tmp_path / "w.pth")
    renewed = squeezenet(3, pretrained=tmp_path / "w.pth", num_classes=4)
    assert renewed(torch.randn(1, 3, 64, 64)).shape == (1, 4)
    assert torch.equal(renewed.features[0].weight, model.features[0].weight)
