"""From `pretrained=` to tensors in the network: manifest, server, digest, names, head and input channels."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
from collections.abc import Callable
from pathlib import Path

import antialiased_cnns
import pytest
import torch
import torchvision
from fault_server import FaultServer
from manifests import text_of
from safetensors.torch import save_file
from torch import nn

import antialiased_zoo as az
from antialiased_zoo.errors import SourcesFailedError, TensorMismatchError

Publish = Callable[..., nn.Module]


@pytest.fixture
def publish(server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Publish:
    """Write a peer's checkpoint as the author did, serve it, and list it in a manifest of one's own."""

    def publish(
        name: str, sources: tuple[str, ...] = ("/good/{file}",), old_names: bool = False, **facts: object
    ) -> nn.Module:
        torch.manual_seed(1)
        with contextlib.redirect_stdout(io.StringIO()):
            peer = getattr(antialiased_cnns, name)(pretrained=False, filter_size=3)
        state = peer.state_dict()
        if old_names:  # as torchvision's DenseNets were before 0.3
            for part in ("norm", "conv"):
                state = {
                    key.replace(f".{part}1.", f".{part}.1.").replace(f".{part}2.", f".{part}.2."): value
                    for key, value in state.items()
                }
        written = io.BytesIO()
        torch.save({"epoch": 90, "state_dict": state}, written, _use_new_zipfile_serialization=False)
        digest = hashlib.sha256(written.getvalue()).hexdigest()
        file = f"{name}_lpf3-{digest[:8]}.pth"
        (server.folder / file).write_bytes(written.getvalue())
        entry = {
            "model": name,
            "filter_size": 3,
            "recipe": "mine",
            "file": file,
            "format": "pickle",
            "sha256_prefix": digest[:8],
            "sources": [server.url + source.format(file=file) for source in sources],
            "license": "MIT",
            "dataset": "noise",
            "num_classes": 1000,
            "preprocessing": {},
            **facts,
        }
        manifest = tmp_path / "manifest.json"
        manifest.write_text(text_of(entry))
        monkeypatch.setenv("ANTIALIASED_ZOO_MANIFEST", str(manifest))
        return peer.eval()

    return publish


IMAGE = torch.randn(1, 3, 96, 101)


@torch.inference_mode()
@pytest.mark.parametrize(
    ("name", "old_names"),
    [
        ("resnet18", False),
        ("densenet121", True),
        ("mobilenet_v2", False),
        pytest.param("alexnet", False, marks=pytest.mark.slow),
    ],
)
def test_a_published_checkpoint_loads_by_name(name: str, old_names: bool, publish: Publish) -> None:
    peer = publish(name, old_names=old_names)
    ours = az.create_model(name, 3, pretrained="mine", progress=False).eval()
    expected = peer(IMAGE)
    assert (ours(IMAGE) - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_a_second_source_serves_where_the_first_forbids(publish: Publish, server: FaultServer) -> None:
    publish("mobilenet_v2", sources=("/403/{file}", "/good/{file}"))
    server.requests.clear()
    az.mobilenet_v2(3, pretrained="mine", progress=False)
    assert [request.path.split("/")[1] for request in server.requests] == ["403", "good"]


def test_a_warm_cache_needs_no_network(publish: Publish, server: FaultServer) -> None:
    publish("mobilenet_v2")
    first = az.mobilenet_v2(3, pretrained="mine", progress=False).state_dict()
    server.requests.clear()
    second = az.mobilenet_v2(3, pretrained="mine", progress=False).state_dict()
    assert server.requests == []
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_new_head_and_no_more(publish: Publish, caplog: pytest.LogCaptureFixture) -> None:
    publish("mobilenet_v2")
    with caplog.at_level(logging.INFO):
        ours = az.mobilenet_v2(3, pretrained="mine", num_classes=7, progress=False)
    whole = az.mobilenet_v2(3, pretrained="mine", progress=False).state_dict()
    assert ours.classifier[1].weight.shape == (7, 1280)
    assert ours.classifier[1].weight.isfinite().all()
    assert ours.classifier[1].weight.std() > 0
    assert "7 classes instead of 1000" in caplog.text
    for name, tensor in ours.state_dict().items():
        assert name.startswith("classifier.1.") or torch.equal(tensor, whole[name])


@torch.inference_mode()
@pytest.mark.parametrize("in_chans", [1, 6])
def test_folded_channels_answer_to_grey_as_before(in_chans: int, publish: Publish) -> None:
    publish("resnet18")
    whole = az.resnet18(3, pretrained="mine", progress=False).eval()
    ours = az.resnet18(3, pretrained="mine", in_chans=in_chans, progress=False).eval()
    grey = torch.randn(1, 1, 64, 64)
    torch.testing.assert_close(
        ours(grey.expand(-1, in_chans, -1, -1)), whole(grey.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-4
    )


def test_other_numbers_of_channels_repeat_the_three(publish: Publish) -> None:
    publish("mobilenet_v2")
    whole = az.mobilenet_v2(3, pretrained="mine", progress=False).features[0][0].weight
    ours = az.mobilenet_v2(3, pretrained="mine", in_chans=4, progress=False).features[0][0].weight
    torch.testing.assert_close(ours, torch.cat([whole, whole[:, :1]], 1) * 3 / 4)


def test_loaded_weights_train_and_leave_the_file_alone(publish: Publish) -> None:
    publish("mobilenet_v2")
    net = az.mobilenet_v2(3, pretrained="mine", progress=False)
    assert all(parameter.requires_grad and not parameter.is_meta for parameter in net.parameters())
    before = net.features[0][0].weight.detach().clone()
    net(IMAGE.expand(2, -1, -1, -1)).sum().backward()
    torch.optim.SGD(net.parameters(), lr=1.0).step()
    assert not torch.equal(net.features[0][0].weight, before)
    again = az.mobilenet_v2(3, pretrained="mine", progress=False)
    assert torch.equal(again.features[0][0].weight, before)


def test_an_entrys_structure_is_built(publish: Publish) -> None:
    publish("resnet18", structure={"shortcut": "stride", "stem_pool": "max"})
    net = az.resnet18(3, pretrained="mine", progress=False)
    assert net.layer2[0].downsample[0].stride == (2, 2)
    assert net.maxpool.window.size == (3, 3)
    with pytest.warns(UserWarning, match="belong to resnet18.filter_size=3, shortcut='stride'"):
        blurred = az.resnet18(3, pretrained="mine", shortcut="blur", progress=False)
    assert blurred.layer2[0].downsample[0].stride == (1, 1)


def test_a_path(tmp_path: Path) -> None:
    theirs = torchvision.models.resnet18(num_classes=5)
    path = tmp_path / "mine.safetensors"
    save_file(theirs.state_dict(), path)
    for given in (path, str(path)):
        ours = az.resnet18(4, pretrained=given, num_classes=5)
        assert torch.equal(ours.fc.weight, theirs.fc.weight)
    with pytest.warns(UserWarning, match="does not state the network"):
        assert torch.equal(az.resnet18(4, pretrained=path).fc.weight, theirs.fc.weight)
    with pytest.raises(TensorMismatchError, match="missing from the file: layer1"):
        az.resnet50(4, pretrained=path)
    with pytest.raises(FileNotFoundError, match="no such file"):
        az.resnet18(4, pretrained=tmp_path / "other.pth")
    with pytest.raises(TypeError, match="pretrained must be"):
        az.resnet18(4, pretrained=3)
    with pytest.raises(TypeError, match="pretrained must be") as caught:
        az.resnet18(4, pretrained=theirs.state_dict())
    assert len(str(caught.value)) < 150


def test_torchvisions_weights_are_verified_and_warned_about(
    server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = torchvision.models.mobilenet_v2()
    written = io.BytesIO()
    torch.save(theirs.state_dict(), written)
    monkeypatch.setenv("ANTIALIASED_ZOO_MIRROR", f"{server.url}/good")
    file = torchvision.models.MobileNet_V2_Weights.IMAGENET1K_V1.url.rpartition("/")[2]
    (server.folder / file).write_bytes(written.getvalue())
    # These random tensors are not the file whose digest stands in its name, and no network has the true one.
    with (
        pytest.warns(UserWarning, match="until the network is fine-tuned"),
        pytest.raises(SourcesFailedError, match=file),
    ):
        az.mobilenet_v2(4, pretrained="torchvision", progress=False)
