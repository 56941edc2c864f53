"""The wheel: all it needs is inside, and it works away from the repository."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import antialiased_zoo as az

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # a copy, as building leaves files behind in the tree
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in filter(None, tracked.stdout.split("\0")):
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
    # From the archive of the sources, as installers build it where there is no wheel.
    pack = [sys.executable, "setup.py", "-q", "sdist", "-d", folder]
    subprocess.run(pack, cwd=source, check=True, capture_output=True)
    (archive,) = folder.glob("*.tar.gz")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        folder,
        archive,
    ]
    subprocess.run(command, check=True)
    (built,) = folder.glob("*.whl")
    return built


def test_it_holds_the_manifest_the_weights_and_the_types(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert "antialiased_zoo/weights/weights_manifest.json" in names
    assert "antialiased_zoo/py.typed" in names
    packaged = {path.name for path in (ROOT / "antialiased_zoo" / "weights" / "packaged").glob("*.safetensors")}
    assert {Path(name).name for name in names if name.endswith(".safetensors")} == packaged
    assert not [name for name in names if name.startswith(("tests/", "scripts/"))]


def test_the_command_works_outside_the_repository(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = """
import sys
sys.path[:] = [SITE] + [p for p in sys.path if p not in ("", ROOT)]
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in repr(finder)]
import antialiased_zoo.cli
assert antialiased_zoo.__file__.startswith(SITE), antialiased_zoo.__file__
sys.exit(antialiased_zoo.cli.main(["list"]))
"""
    code = code.replace("SITE", repr(str(tmp_path / "site"))).replace("ROOT", repr(str(ROOT)))
    environment = {**os.environ, "PYTHONPATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    names = {line.split(":")[0] for line in done.stdout.splitlines()[1:-1]}
    assert names == {*az.list_models(pretrained=True), "timm"}
