"""The command under bad luck: nothing to read, nobody who reads, no network, devices that are not there."""

import io
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_server import FaultServer
from fault_table import write
from fetching import CONTENT, DIGEST, NAME
from manifests import text_of
from PIL import Image

import antialiased_zoo as az
from antialiased_zoo import cli
from antialiased_zoo.weights import hub, manifest
from antialiased_zoo.weights.hub import cache

pytestmark = pytest.mark.usefixtures("fetching_server")
ENTRY = {
    "model": "resnet18",
    "filter_size": 7,
    "recipe": "mine",
    "file": NAME,
    "format": "pickle",
    "sha256": DIGEST,
    "license": "MIT",
    "dataset": "photos",
    "num_classes": 2,
    "preprocessing": {},
}


ROWS: dict[str, tuple[str, ...]] = {}


@pytest.fixture(scope="module", autouse=True)
def _table() -> Iterator[None]:
    yield
    write("The command", ("situation", "outcome"), ROWS, 17)


@pytest.fixture
def listed(server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four entries: one that is alive in one of three places, one dead, one of another size, one of another digest."""
    (server.folder / "other.pth").write_bytes(b"other")
    sources = {
        "mine": [f"{server.url}/404/{NAME}", f"{server.url}/good/{NAME}", f"hf://faults/good/{NAME}@main"],
        "dead": [f"{server.url}/500/dead.pth", "http://127.0.0.1:1/x", f"{server.url}/403/dead.pth"],
        "sized": [f"{server.url}/good/sized.pth"],
        "other": ["hf://faults/good/other.pth@main"],
    }
    entries = [
        {**ENTRY, "recipe": name, "file": ENTRY["file"] if name == "mine" else f"{name}.pth", "sources": urls}
        | ({"size": 7} if name == "sized" else {})
        for name, urls in sources.items()
    ]
    (server.folder / "sized.pth").write_bytes(CONTENT)
    (server.folder / "dead.pth").write_bytes(CONTENT)
    path = tmp_path / "manifest.json"
    path.write_text(text_of(*entries))
    monkeypatch.setattr("antialiased_zoo.weights.manifest.own_path", lambda: path)


def test_a_cache_that_cannot_be_reached_is_named(
    listed: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real, home = Path.exists, cache.folder().parent

    def exists(path: Path, **options: bool) -> bool:
        if home in path.parents:  # as for a folder inside another user's
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, **options)

    monkeypatch.setattr(Path, "exists", exists)
    monkeypatch.setenv("ANTIALIASED_ZOO_OFFLINE", "1")
    assert cli.main(["doctor"]) == 0
    assert f"unusable: cannot use {cache.folder()}: Permission denied. Free space" in capsys.readouterr().out
    assert cli.main(["verify"]) == 1
    assert f"cannot use {cache.folder() / NAME}: Permission denied" in capsys.readouterr().err


def test_sources_that_differ_in_their_query_are_told_apart(
    listed: None, server: FaultServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = manifest.own_path()
    content = json.loads(path.read_text())
    content["entries"] = [{**ENTRY, "sources": [f"{server.url}/good/{NAME}?dl=1", f"{server.url}/404/{NAME}?dl=1"]}]
    path.write_text(json.dumps(content))
    assert cli.main(["doctor"]) == 0
    assert "?dl=1" not in capsys.readouterr().out
    assert "dl=1" not in (cache.folder() / ".antialiased_zoo_doctor.json").read_text()
    cli.main(["list"])
    assert "1/2" in capsys.readouterr().out


@pytest.mark.usefixtures("listed")
class TestDoctor:
    def test_every_cell(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.main(["doctor", "--json"]) == 1  # three entries have no living source
        found = json.loads(capsys.readouterr().out)
        states = [(row["weights"].split(":")[-1], row["status"], row["detail"]) for row in found["sources"]]
        assert [state[:2] for state in states] == [
            ("mine", "dead"), ("mine", "alive"), ("mine", "alive"), ("dead", "dead"), ("dead", "dead"),
            ("dead", "dead"), ("sized", "differs"), ("other", "differs"),
        ]  # fmt: skip
        details = [state[2] for state in states]
        assert "HTTP 404" in details[0]
        assert details[1] == details[2] == f"{len(CONTENT):,} bytes"
        assert "HTTP 500" in details[3]
        assert "refused" in details[4]
        assert "200,000 bytes, but the manifest states 7" in details[6]
        assert "the hub states the SHA-256" in details[7]
        machine = found["environment"]
        assert str(cache.folder()) in machine["cache"]
        assert machine["offline"] is False

    def test_mirrors_are_asked_first(
        self, server: FaultServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bases = [
            f"http://me:secret@127.0.0.1:{port}/{path}" for port, path in ((1, ""), (server.port, "good?sig=secret"))
        ]
        monkeypatch.setenv(hub.MIRROR, " ".join(bases))
        assert cli.main(["doctor", "--json"]) == 1  # "sized" is of another size everywhere
        out = capsys.readouterr().out
        assert "secret" not in out
        found = json.loads(out)["sources"]
        states = {name: [row["status"] for row in found if row["weights"].endswith(name)] for name in ("mine", "dead")}
        assert states["mine"] == ["dead", "alive", "dead", "alive", "alive"]
        assert states["dead"] == ["dead", "alive", "dead", "dead", "dead"]
        assert [row["status"] for row in found if row["weights"].endswith("sized")] == ["dead", "differs", "differs"]

    def test_list_marks_what_it_found(self, capsys: pytest.CaptureFixture[str]) -> None:
        cli.main(["list"])
        assert all(line.endswith(" ?") for line in capsys.readouterr().out.splitlines()[1:])
        cli.main(["doctor"])
        capsys.readouterr()
        assert cli.main(["list"]) == 0
        rows = {line.split()[0].split(":")[-1]: line for line in capsys.readouterr().out.splitlines()[1:]}
        assert rows["mine"].endswith(" 2/3")
        assert rows["dead"].endswith(" 0/3")

    def test_offline_asks_nobody(
        self, server: FaultServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        monkeypatch.setenv(hub.MIRROR, "https://me:secret@mirror.example.org/x?sig=secret")
        assert cli.main(["doctor", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["environment"]["offline"] == ["HF_HUB_OFFLINE"]
        assert found["environment"]["mirrors"] == ["https://mirror.example.org/x?..."]
        assert cli.main(["doctor"]) == 0  # ended after the environment, without a word on the sources
        assert capsys.readouterr().out.endswith("\nno source was asked: HF_HUB_OFFLINE forbids the network\n")
        assert server.requests == []

    def test_download_goes_on_after_a_failure(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.main(["download", "resnet18:lpf7:sized", "resnet18:lpf7:mine", "--quiet"]) == 1
        out, err = capsys.readouterr()
        assert out.strip().endswith(NAME)
        assert "offers 200,000 bytes" in err
        assert "antialiased-zoo doctor resnet18" in err
        ROWS["`download A B`, and no source gives A"] = (
            "B is fetched; A's reasons, and what else can be had; exit code 1",
        )

    def test_one_unreadable_file_does_not_end_the_list(self, capsys: pytest.CaptureFixture[str]) -> None:
        (cache.folder() / NAME).mkdir(parents=True)
        assert cli.main(["list"]) == 0
        rows = capsys.readouterr().out.splitlines()
        assert "error" in rows[1]
        assert len(rows) == 5
        ROWS["`list`, and one file cannot be read"] = ("every line is there; the file's says `error`",)


def test_the_error_says_what_can_be_had(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert cli.main(["download", "resnet50", "--quiet"]) == 1
    err = capsys.readouterr().err
    assert 'az.resnet50(filter_size=3, pretrained="timm_bt")  # from github.com, huggingface.co' in err
    assert 'az.resnet50(filter_size=4, pretrained="torchvision")' in err
    assert 'az.mobilenet_v2(filter_size=4, pretrained="cifar10")  # on this machine' in err
    with pytest.raises(OSError, match='pretrained="timm_bt"'):
        az.resnet50(4, pretrained=True, progress=False)
    ROWS["`download resnet50` offline"] = (
        "the error names what is on this machine, and what others have; exit code 1",
    )


@pytest.mark.parametrize("name", [f"{NAME[:-4]} (1).pth", f"{NAME}.tar", f"{NAME[:-4]}(2).pth.tar"])
def test_a_copy_under_a_browsers_name_is_pointed_out(name: str, server: FaultServer) -> None:
    from fetching import get

    cache.make(cache.folder())
    (cache.folder() / name).write_bytes(CONTENT)
    with pytest.raises(OSError, match="rename it to") as caught:
        get(f"{server.url}/404/{NAME}")
    assert name in str(caught.value)
    ROWS[f"a copy of {NAME} called `{name}`, and no source"] = (f"the error names it: rename it to {NAME}",)


def test_photos_are_looked_at_before_weights_are_fetched(
    server: FaultServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(hub.MIRROR, f"{server.url}/404")
    assert cli.main(["predict", "missing.jpg"]) == 1
    assert "missing.jpg" in capsys.readouterr().err
    assert server.requests == []
    ROWS["`predict missing.jpg`"] = ("says so; nothing is fetched; exit code 1",)


def test_offline_the_packaged_network_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    Image.new("RGB", (40, 40)).save(tmp_path / "é.png")
    assert cli.main(["predict", str(tmp_path / "é.png")]) == 0
    out, err = capsys.readouterr()
    assert (len(out.splitlines()), err) == (1, "")
    assert cli.main(["predict", str(tmp_path / "é.png"), "--weights", "resnet50"]) == 1
    assert "az.efficientnet_lite0(filter_size=4" in capsys.readouterr().err  # what is on this machine
    ROWS["`predict` offline"] = ("the packaged network answers",)


@pytest.mark.parametrize("device", ["foo", "cuda:99", ""])
def test_devices_that_are_not_there(device: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    weights = "mobilenet_v2:lpf4:cifar10"
    assert cli.main(["predict", str(tmp_path / "a.png"), "--weights", weights, "--device", device]) == 1
    err = capsys.readouterr().err
    assert f"device {device!r} cannot be used here" in err
    assert len(err.splitlines()) == 1
    ROWS[f"`predict --device '{device}'`"] = ("one line: it cannot be used here, and torch's reason; exit code 1",)


def test_the_process_is_as_before(capsys: pytest.CaptureFixture[str]) -> None:
    before = warnings.showwarning, list(warnings.filters), dict(os.environ)
    assert cli.main(["list", "alexnet"]) == 0
    assert cli.main(["list", "nonsense"]) == 1
    assert (warnings.showwarning, list(warnings.filters), dict(os.environ)) == before


def test_names_that_the_terminal_cannot_spell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("é.png", os.fsdecode(b"\xff.png")):
        Image.new("RGB", (40, 40)).save(tmp_path / "plain.png")
        os.replace(tmp_path / "plain.png", tmp_path / name)
    paths = sorted(str(path) for path in tmp_path.iterdir())
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii", write_through=True))
    assert cli.main(["predict", "--weights", "mobilenet_v2:lpf4:cifar10", *paths]) == 0
    assert len(written.getvalue().splitlines()) == 2
    assert rb"\xe9.png" in written.getvalue()
    ROWS["`predict`, and names that the terminal cannot spell"] = ("every answer, the names' characters escaped",)


@pytest.mark.skipif(os.name != "posix", reason="pipes")
def test_a_reader_who_has_gone() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "antialiased_zoo", "list"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert done.returncode == 141
    assert done.stderr == b""
    ROWS["`list \\| head`, and the reader goes"] = ("silence; exit code 141",)


@pytest.mark.skipif(os.name != "posix", reason="SIGINT")
@pytest.mark.parametrize("module", ["argparse", "antialiased_zoo.weights", "PIL", "torch"])
def test_ctrl_c_while_something_is_imported(module: str, tmp_path: Path) -> None:
    """The signal comes when the module is looked for: in the first seconds a command does nothing but import."""
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    code = f"""
import os, signal, sys
class Finder:
    def find_spec(self, name, *_):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
from antialiased_zoo.cli import main
sys.exit(main(["predict", {str(tmp_path / "a.png")!r}]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 130
    assert done.stdout == ""
    assert done.stderr.startswith("interrupted")
    assert len(done.stderr.splitlines()) == 1
    ROWS[f"Ctrl-C while {module} is imported"] = ("one line; exit code 130",)
