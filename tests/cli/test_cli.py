"""The command line: what it prints, and its exit codes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
import torchvision
from fetching import part_of
from manifests import text_of
from PIL import Image
from safetensors.torch import save

import antialiased_zoo as az
from antialiased_zoo import cli
from antialiased_zoo.cli.specs import spec_of
from antialiased_zoo.weights.manifest import load


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A network that always says "dog", already in the cache and listed in a manifest of one's own."""
    net = torchvision.models.mobilenet_v2(num_classes=3)
    torch.nn.init.zeros_(net.classifier[1].weight)
    net.classifier[1].bias.data = torch.tensor([0.0, 2.0, 1.0])
    data = save(net.state_dict())
    digest = hashlib.sha256(data).hexdigest()
    folder = Path(torch.hub.get_dir(), "checkpoints")
    folder.mkdir(parents=True)
    path = folder / "mine.safetensors"
    path.write_bytes(data)
    entry = {
        "model": "mobilenet_v2",
        "filter_size": 7,
        "recipe": "mine",
        "file": path.name,
        "format": "safetensors",
        "sha256": digest,
        "sources": ["https://example.invalid/mine.safetensors"],
        "license": "MIT",
        "dataset": "pets",
        "num_classes": 3,
        "classes": ["cat", "dog", "horse"],
        "preprocessing": {"resize": 64, "crop": 64},
    }
    manifest = tmp_path / "manifest.json"
    manifest.write_text(text_of(entry))
    monkeypatch.setenv("ANTIALIASED_ZOO_MANIFEST", str(manifest))
    return path


def test_list_shows_every_entry(capsys: pytest.CaptureFixture[str], weights: Path) -> None:
    assert cli.main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("~ only 8 digits of the SHA-256 are public")
    marked = {line.split()[0].strip("*~") for line in lines[1:-1] if "~" in line.split()[0]}
    assert marked == {spec_of(entry) for entry in load() if entry.files[0].sha256 is None}
    assert {line.split(":")[0] for line in lines[1:-1]} == {*az.list_models(pretrained=True), "timm"}
    (mine,) = [line for line in lines if line.startswith("mobilenet_v2:lpf7:mine")]
    assert "yes" in mine.split()
    assert cli.main(["list", "resnet50", "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)
    assert {entry["recipe"] for entry in entries} == {"scratch", "finetuned", "timm_bt", "timm_a1h"}


def test_list_as_markdown_has_a_row_for_each_network(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list", "--markdown"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("|")[1].strip(" `") for line in lines[2:]] == [
        name for name in az.list_models() if name in load().baselines
    ]
    row = next(line for line in lines if line.startswith("| `resnet50`"))
    assert "76.16 / 89.20" in row  # the baseline
    assert "77.41 / 91.32" in row  # Tri-4, fine-tuned


def test_info_says_all(capsys: pytest.CaptureFixture[str], weights: Path) -> None:
    assert cli.main(["info", "mobilenet_v2:lpf7:mine", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["cached"] == str(weights)
    assert facts["classes"] == ["cat", "dog", "horse"]
    assert cli.main(["info", "resnet50"]) == 0
    assert "finetuned" in capsys.readouterr().out
    assert cli.main(["info", "timm:darknetaa53"]) == 0
    assert "timm:darknetaa53:c2ns_in1k" in capsys.readouterr().out


def test_download_prints_where_the_file_is(capsys: pytest.CaptureFixture[str], weights: Path) -> None:
    assert cli.main(["download", "mobilenet_v2:lpf7:mine", "--quiet"]) == 0
    assert capsys.readouterr().out.strip() == str(weights)


def test_verify_finds_a_flipped_bit(capsys: pytest.CaptureFixture[str], weights: Path) -> None:
    assert cli.main(["verify"]) == 0
    assert capsys.readouterr().out.startswith("ok ")
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert cli.main(["verify", "--json"]) == 1
    statuses = {Path(row["path"]).name: row["status"] for row in json.loads(capsys.readouterr().out)}
    assert statuses["mine.safetensors"] == "quarantined"
    assert not weights.exists()


def test_predict_answers_for_sound_images_and_names_the_others(
    capsys: pytest.CaptureFixture[str], weights: Path, tmp_path: Path
) -> None:
    Image.new("L", (80, 70)).save(tmp_path / "grey.png")
    (tmp_path / "not.png").write_text("text")
    arguments = ["predict", "--weights", "mobilenet_v2:lpf7:mine", "--json", "--top", "2"]
    assert cli.main([*arguments, str(tmp_path / "not.png"), str(tmp_path / "grey.png")]) == 1
    out, err = capsys.readouterr()
    assert "not.png" in err
    (answer,) = map(json.loads, out.splitlines())
    assert [guess["label"] for guess in answer["predictions"]] == ["dog", "horse"]
    expected = torch.tensor([0.0, 2.0, 1.0]).softmax(0)
    assert answer["predictions"][0]["probability"] == pytest.approx(expected[1].item(), rel=1e-5)
    assert cli.main(["predict", "--weights", "mobilenet_v2:lpf7:mine", str(tmp_path / "grey.png")]) == 0
    assert "dog 0.665" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["info", "resnet5"], "did you mean resnet50"),
        (["list", "resnet5"], "did you mean resnet50"),
        (["info", "resnet50:lpf9"], "is not valid"),
        (["download", "resnet50:lpf4:other"], "finetuned"),
        (["demo", "--photo", "missing.jpg"], "missing.jpg"),
    ],
)
def test_failures_say_what_to_do_and_exit_with_1(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 1
    out, err = capsys.readouterr()
    assert message in err
    assert "Traceback" not in err
    assert out == ""


@pytest.mark.parametrize("arguments", [[], ["fly"], ["predict"]])
def test_usage_errors_exit_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2


def test_import_is_light() -> None:
    heavy = ("torchvision", "torch", "matplotlib", "PIL")
    code = f"import antialiased_zoo, sys; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


class Dripping(BaseHTTPRequestHandler):
    """Promises a file and sends it slowly for ever."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(10**9))
        self.send_header("ETag", '"one"')
        self.end_headers()
        with contextlib.suppress(OSError):
            while True:
                self.wfile.write(bytes(50_000))
                time.sleep(0.02)

    def log_message(self, *_: object) -> None:
        """Stay quiet."""


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_interrupting_a_download_keeps_its_part_and_shows_no_traceback(weights: Path, tmp_path: Path) -> None:
    weights.unlink()
    with ThreadingHTTPServer(("127.0.0.1", 0), Dripping) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        manifest = Path(os.environ["ANTIALIASED_ZOO_MANIFEST"])
        address = f"http://127.0.0.1:{server.server_port}/mine.safetensors"
        manifest.write_text(manifest.read_text().replace("https://example.invalid/mine.safetensors", address))
        command = [sys.executable, "-m", "antialiased_zoo", "download", "mobilenet_v2:lpf7:mine", "--quiet"]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        part = weights.with_name(part_of(address, "mine.safetensors"))
        deadline = time.monotonic() + 120
        while not (part.exists() and part.stat().st_size) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        server.shutdown()
    assert process.returncode == 130
    assert err.startswith("interrupted")
    assert "Traceback" not in err
    assert part.stat().st_size > 0
    assert not weights.exists()
