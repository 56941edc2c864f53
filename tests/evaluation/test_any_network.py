"""Models of other libraries: how they are named, what they state, how their outputs match a data set's classes."""

import json
import sys

import huggingface_hub
import pytest
import torch
from torch import nn

import antialiased_zoo as az
from antialiased_zoo import antialias
from antialiased_zoo.errors import CheckpointError, OfflineError
from antialiased_zoo.evaluation import (
    MODEL_SOURCES,
    Built,
    Options,
    changed,
    load_named,
    match_classes,
    new_model,
    prepare,
    register_model_source,
)
from antialiased_zoo.evaluation.classes import imagenet_ids, imagenet_names
from antialiased_zoo.evaluation.modelspec import parse_spec
from antialiased_zoo.evaluation.stated import from_timm, from_torchvision
from antialiased_zoo.training import RunFolder
from antialiased_zoo.weights import Preprocessing

timm = pytest.importorskip("timm")


@pytest.mark.parametrize(
    ("text", "source", "name", "size", "weights"),
    [
        ("resnet50:lpf4:finetuned", "zoo", "resnet50", 4, "finetuned"),
        ("timm:resnet18.a1_in1k", "timm", "resnet18.a1_in1k", None, ""),
        ("x=timm:resnet18:lpf3:none", "timm", "resnet18", 3, "none"),
        ("torchvision:resnet50:IMAGENET1K_V2", "torchvision", "resnet50", None, "IMAGENET1K_V2"),
        ("hf-hub:timm/resnet18:baseline", "hf-hub", "timm/resnet18", None, ""),
        ("my.models:build:lpf2:w.pth", "python", "my.models:build", 2, "w.pth"),
    ],
)
def test_specs_are_read(text, source, name, size, weights):
    spec = parse_spec(text)
    assert (spec.source, spec.request.name) == (source, name)
    assert (spec.request.filter_size, spec.request.weights) == (size, weights)


@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_lite0", "resnet50.a1_in1k"])
def test_timms_preprocessing_is_timms_own_transform(name):
    from PIL import Image

    config = timm.get_pretrained_cfg(name).to_dict()
    facts, unlike = from_timm(config)
    pixels = torch.randint(0, 256, (260, 340, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    image = Image.fromarray(pixels.numpy())
    data = timm.data.resolve_data_config({}, pretrained_cfg=config)
    torch.testing.assert_close(facts.build()(image), timm.data.create_transform(**data)(image))
    assert unlike == ""
    assert "squash" in from_timm({**config, "crop_mode": "squash"})[1]


def test_torchvisions_preprocessing_is_its_own_transform():
    from PIL import Image
    from torchvision.models import ResNet50_Weights

    transforms = ResNet50_Weights.IMAGENET1K_V2.transforms()
    facts = from_torchvision(transforms)
    assert (facts.resize, facts.crop) == (232, 224)
    image = Image.effect_noise((300, 260), 80).convert("RGB")
    torch.testing.assert_close(facts.build()(image), transforms(image))


def test_flags_change_what_is_stated():
    facts = changed(Preprocessing(), mean=[0.1, 0.2, 0.3], interpolation="bicubic", crop_pct=0.95)
    assert (facts.resize, facts.crop, facts.interpolation, facts.mean) == (235, 224, "bicubic", (0.1, 0.2, 0.3))
    assert facts.std == Preprocessing().std
    with pytest.raises(ValueError, match="give only one of them"):
        changed(facts, resize=256, crop_pct=0.9)


def test_a_file_fits_by_position_only_where_kinds_and_shapes_agree(tmp_path):
    torch.manual_seed(0)
    trained = timm.create_model("resnet18", num_classes=7)
    other = {f"net._{name}": tensor for name, tensor in trained.state_dict().items()}
    torch.save(other, tmp_path / "renamed.pth")
    named = load_named(f"timm:resnet18:lpf3:{tmp_path / 'renamed.pth'}", num_classes=7)
    assert named.remark.startswith(
        "weights matched by position, since names differ (net._conv1.weight for conv1.weight"
    )
    torch.save(trained.state_dict(), tmp_path / "same.pth")
    assert load_named(f"timm:resnet18:lpf3:{tmp_path / 'same.pth'}", num_classes=7).remark == ""
    for tensor, expected in zip(named.model.state_dict().values(), trained.state_dict().values(), strict=True):
        assert torch.equal(tensor, expected)
    image = torch.rand(1, 3, 64, 64)
    expected = antialias(trained.eval(), 3)(image)
    assert torch.equal(named.model.eval()(image), expected)
    assert not torch.allclose(expected, trained(image))
    assert named.preprocessing.interpolation == "bicubic"
    swapped = list(other.items())
    swapped[1], swapped[2] = swapped[2], swapped[1]  # a norm's weight where its bias is expected: the same shape
    torch.save(dict(swapped), tmp_path / "swapped.pth")
    with pytest.raises(CheckpointError):
        load_named(f"timm:resnet18:{tmp_path / 'swapped.pth'}", num_classes=7)


def test_a_file_of_an_antialiased_copy_states_its_structure(tmp_path):
    torch.manual_seed(0)
    copy = antialias(timm.create_model("resnet18", num_classes=2), 4, downsampler="alternating").half().float().eval()
    path = RunFolder(tmp_path).save_weights(copy.state_dict(), "copy", Preprocessing(), num_classes=2)
    named = load_named(f"timm:resnet18:lpf4:{path}", num_classes=2)
    image = torch.rand(1, 3, 64, 64)
    assert torch.equal(named.model.eval()(image), copy(image))
    for spec, words in (("lpf5:", "names lpf5"), ("baseline:", "names no filter"), ("", "names no filter")):
        with pytest.raises(ValueError, match=f"filter_size=4, but the spec {words}"):
            load_named(f"timm:resnet18:{spec}{path}", num_classes=2)
    started = new_model("timm:resnet18", 2, 5, str(path))  # training may start from another, and says so
    assert "filter_size=4, but the spec names lpf5" in started.remark


def test_a_file_states_its_own_preprocessing_and_classes(tmp_path):
    facts = Preprocessing(72, 64, mean=(0.4, 0.4, 0.4))
    az.save_pretrained(az.resnet18(2, num_classes=2), tmp_path, classes=("cat", "dog"), preprocessing=facts)
    named = load_named(f"resnet18:lpf2:{tmp_path / 'model.safetensors'}", num_classes=5)
    assert (named.preprocessing, named.classes) == (facts, ("cat", "dog"))
    assert named.stated_by == "the record in its weights"
    assert prepare(f"a=resnet18:lpf2:{tmp_path / 'model.safetensors'}", Options()).protocol.preprocessing == facts


def test_a_file_keeps_its_own_head_whatever_the_data_has(tmp_path):
    model = timm.create_model("resnet18", num_classes=1000)
    torch.save(model.state_dict(), tmp_path / "w.pth")
    assert load_named(f"timm:resnet18:baseline:{tmp_path / 'w.pth'}", num_classes=3).model.fc.out_features == 1000


@pytest.mark.parametrize("text", ["timm:resnet18", "torchvision:resnet18", "torchvision:densenet121"])
def test_networks_to_train_have_the_datas_head_and_the_blur(text):
    named = new_model(text, 5, filter_size=3)
    assert named.model.eval()(torch.rand(1, 3, 64, 64)).shape == (1, 5)
    ours = [type(module).__module__.startswith("antialiased_zoo.layers") for module in named.model.modules()]
    plain = new_model(text, 5, filter_size=None)
    assert any(ours)
    assert not any("antialiased_zoo" in type(module).__module__ for module in plain.model.modules())


def test_a_source_comes_from_outside(monkeypatch):
    monkeypatch.setattr("antialiased_zoo.evaluation.model_sources.MODEL_SOURCES", MODEL_SOURCES)
    toy = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    register_model_source("toy", lambda request: Built(toy, Preprocessing(2, 2), "the toy", ["a", "b"]))
    try:
        named = load_named("t=toy:anything")
        assert (named.model, named.stated_by, named.classes) == (toy, "the toy", ["a", "b"])
        with pytest.raises(ValueError, match="already"):
            register_model_source("toy", lambda request: Built(toy))
    finally:
        del MODEL_SOURCES["toy"]


@pytest.mark.parametrize(
    "text", ["timm:no_such_model", "torchvision:no_such_model", "torchvision:resnet18:V9", "timm:resnet18:none.pth"]
)
def test_what_a_source_cannot_build_is_one_line(text):
    with pytest.raises((ValueError, OSError)) as raised:
        load_named(text)
    assert "\n" not in str(raised.value)


def test_a_callable_brings_timms_facts_with_it(tmp_path, monkeypatch):
    (tmp_path / "wrapped.py").write_text(
        "import timm\n\ndef build(num_classes=3):\n"
        "    return timm.create_model('tf_efficientnet_lite0', num_classes=num_classes)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "wrapped", raising=False)
    named = load_named("wrapped:build")
    assert (named.preprocessing.mean, named.preprocessing.interpolation) == ((0.5, 0.5, 0.5), "bicubic")
    assert named.stated_by == "its pretrained_cfg"
    assert new_model("wrapped:build", 9, None).model.classifier.out_features == 9


PLAIN = """
import torch
from torch import nn
import antialiased_zoo as az

def build():
    body = [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*body, nn.Linear(8, 3))

def antialiased():
    return az.antialias(az.mobilenet_v2(None, num_classes=3, width_mult=0.1), 3)
"""


@pytest.fixture
def plain(tmp_path, monkeypatch):
    (tmp_path / "plainnets.py").write_text(PLAIN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "plainnets", raising=False)


@pytest.mark.parametrize("weights", ["finetuned", "baseline:finetuned", "lpf4:IMAGENET1K_V2", "lpf8", "lpf0", "lpf"])
def test_a_callable_is_not_measured_under_weights_that_it_does_not_have(plain, weights):
    with pytest.raises(ValueError, match=r"brings its own weights|names no filter"):
        load_named(f"plainnets:build:{weights}")
    assert isinstance(load_named("plainnets:build:lpf4:none").model, nn.Module)


def test_a_network_of_the_zoo_antialiased_by_hand_is_measured(plain):
    """Its configuration describes what it was built as; only saving it with its structure is refused."""
    subject = prepare("plainnets:antialiased", Options(), flags={"crop": 32, "resize": 64})
    model = subject.named.model
    assert (subject.outputs, model.pretrained_cfg["architecture"]) == (3, "antialiased_zoo/mobilenet_v2")
    assert az.plan(model, input_size=(1, 3, 32, 32)).treated == ()
    assert new_model("plainnets:antialiased", 3, None).preprocessing == Preprocessing()
    with pytest.raises(az.errors.StructureMismatchError, match="changed after create_model"):
        model.save_pretrained("nowhere")
    plain = az.resnet18(None)
    assert plain.pretrained_cfg["architecture"] == "resnet18"
    # Under that name timm would build the network without blurs.
    assert antialias(plain, 3).pretrained_cfg["architecture"] == "antialiased_zoo/resnet18"


def test_progress_false_silences_the_hubs_bars(monkeypatch):
    from huggingface_hub.utils import are_progress_bars_disabled

    shown = []
    build = timm.create_model

    def noting(name, pretrained=False, **options):
        shown.append(not are_progress_bars_disabled())
        return build("resnet10t")

    monkeypatch.setattr(timm, "create_model", noting)
    for spec in ("timm:resnet10t", "hf-hub:some/resnet10t"):
        for progress in (True, False):
            load_named(spec, progress=progress)
    assert shown == [True, False, True, False]
    assert not are_progress_bars_disabled()


def test_other_libraries_stay_offline_too(tmp_path, monkeypatch):
    """torchvision downloaded, and the hub's library, which does not know the variable, tried for a minute."""
    monkeypatch.setenv("ANTIALIASED_ZOO_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: pytest.fail("asks for an address"))
    before = huggingface_hub.constants.HF_HUB_OFFLINE
    names = {"torchvision:resnet18": "resnet18-f37072fd.pth", "timm:resnet10t": "resnet10t", "hf-hub:a/b": "hf-hub:a/b"}
    for spec, name in names.items():
        with pytest.raises(OfflineError, match=rf"^{name} is not in .*OFFLINE forbids the network"):
            load_named(spec)
    assert before == huggingface_hub.constants.HF_HUB_OFFLINE


def test_classes_match_by_name_id_and_file(tmp_path):
    ids, names = imagenet_ids(), imagenet_names()
    assert len(ids) == len(set(ids)) == 1000
    assert ids == tuple(sorted(ids))  # as ImageNet's networks are numbered
    assert match_classes(["n01443537", "n15075141"], 1000).index == [1, 999]
    assert match_classes(["goldfish"], 1000, names).index == [1]
    assert match_classes(["dog", "cat"], 3, ["cat", "cow", "dog"]).index == [2, 0]
    assert match_classes(["b", "a"], 2).index == [0, 1]
    with pytest.raises(ValueError, match="several classes called crane"):
        match_classes(["crane"], 3, ["crane", "heron", "crane"])
    (tmp_path / "names.txt").write_text("cow\ncat\ndog\n")
    assert match_classes(["dog", "cow"], 3, given=str(tmp_path / "names.txt")).index == [2, 0]
    (tmp_path / "map.json").write_text(json.dumps({"hund": 2, "katze": 1}))
    assert match_classes(["hund", "katze"], 3, given=str(tmp_path / "map.json")).index == [2, 1]
    assert match_classes(["x", "y"], 1000, given="same-order").index == [0, 1]


def test_a_new_head_has_no_class_names():
    """It had ImageNet's thousand."""
    assert len(new_model("efficientnet_lite0", 1000, 4, "distilled").classes) == 1000
    assert new_model("efficientnet_lite0", 10, 4, "distilled").classes is None
    assert load_named("timm:resnet18:none").classes is None


def test_folders_that_are_numbers_are_not_sorted_as_text():
    """Output 2 answered for the folder 10, in a network whose classes are ImageNet's too."""
    thousand = sorted(map(str, range(1000)))
    assert match_classes(thousand, 1000, imagenet_names()).index == [int(name) for name in thousand]
    twelve, from_one = (sorted(map(str, range(first, 12))) for first in (0, 1))
    for names in (thousand, twelve, from_one):  # of a network of one's own: either may be meant
        with pytest.raises(ValueError, match=r"order as text \(10 before 2\).*--classes same-order"):
            match_classes(names, len(names))
        assert match_classes(names, len(names), given="same-order").index == list(range(len(names)))
    for names in ([f"{n:02}" for n in range(12)], [str(n) for n in range(10)], [str(n) for n in range(12)]):
        assert match_classes(names, len(names)).index == list(range(len(names)))


def test_torchvision_and_timm_agree_with_the_ids():
    """timm's list of ImageNet-1k's ids is independent of the one in the package."""
    assert tuple(timm.data.ImageNetInfo("imagenet-1k").label_names()) == imagenet_ids()


@pytest.mark.parametrize(
    ("data", "outputs", "model", "message"),
    [
        (["a", "b", "c"], 1000, None, "the model has 1000 classes, the data 3"),
        (["n01443537", "x"], 1000, None, "the model has 1000 classes, the data 2"),
        (["dog", "x"], 2, ["dog", "cat"], r"classes that the model lacks: x \(1 of 2\)"),
        (["a"], 3, None, "give --classes FILE"),
    ],
)
def test_a_foreign_number_of_classes_is_an_error(data, outputs, model, message):
    with pytest.raises(ValueError, match=message):
        match_classes(data, outputs, model)
