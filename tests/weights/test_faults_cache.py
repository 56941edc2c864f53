"""What the cache can look like before a fetch with a good source, and what comes of it."""

import dataclasses
import json
import os
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fault_server import FaultServer
from fault_table import plain, write
from fetching import CONTENT, DIGEST, NAME, cached_names, get, part_of

from antialiased_zoo.errors import FetchError
from antialiased_zoo.weights.hub import cache, stamps
from antialiased_zoo.weights.hub.part import Note

pytestmark = pytest.mark.usefixtures("fetching_server")
CACHE_ROWS: dict[str, tuple[str, ...]] = {}


@pytest.fixture(scope="module", autouse=True)
def _table() -> Iterator[None]:
    yield
    write("Cache", ("what is in the cache before", "outcome with a good source"), CACHE_ROWS, len(CACHE))


def wrong_copy(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """a wrong file under the name"""
    (folder / NAME).write_bytes(CONTENT[:-1] + b"?")


def empty_copy(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """an empty file under the name"""
    (folder / NAME).touch()


def right_copy(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """a right file, put in by hand"""
    (folder / NAME).write_bytes(CONTENT)


def flipped_bit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """a bit flipped after the file was verified"""
    (folder / NAME).write_bytes(CONTENT)
    stamps.stamp(folder / NAME, finite=False)
    (folder / NAME).write_bytes(bytes([CONTENT[0] ^ 1]) + CONTENT[1:])
    os.utime(folder / NAME, ns=(1, 1))


def garbage_part(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """a part of another file"""
    (folder / part_of(SOURCE[0])).write_bytes(b"garbage")


def lying_part(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """a damaged part whose note says that it can be continued"""
    (folder / part_of(SOURCE[0])).write_bytes(bytes(1000))
    note = Note(f'"{DIGEST}"', len(CONTENT))
    (folder / part_of(SOURCE[0], suffix=".part.json")).write_text(json.dumps(dataclasses.asdict(note)))


def stale_lock(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """a lock file that nobody holds"""
    (folder / f"{NAME}.lock").touch()


def torn_stamp(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """a right file with half a stamp"""
    (folder / NAME).write_bytes(CONTENT)
    (folder / f"{NAME}.verified").write_text('{"sha256": "')


def folder_in_the_way(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """a folder under the name"""
    (folder / NAME).mkdir()


def full_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """no room on the disk"""
    monkeypatch.setattr("shutil.disk_usage", lambda path: types.SimpleNamespace(free=1000))


def offline(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """nothing, and the network forbidden"""
    monkeypatch.setenv("ANTIALIASED_ZOO_OFFLINE", "1")


SOURCE = [""]
GOOD = "the right file"
QUARANTINED = "the right file; the other one is kept as net.pth.bad"
CACHE: dict[Callable[[Path, pytest.MonkeyPatch], None], str] = {
    wrong_copy: QUARANTINED,
    empty_copy: QUARANTINED,
    right_copy: GOOD,
    flipped_bit: QUARANTINED,
    garbage_part: GOOD,
    lying_part: GOOD,
    stale_lock: GOOD,
    torn_stamp: GOOD,
    folder_in_the_way: "CacheError: cannot read CACHE/net.pth: Is a directory",
    full_disk: "CacheError: CACHE has 1,000 bytes free, but net.pth.PART needs 200,000.",
    offline: "OfflineError: net.pth (SHA-256 ...) is not in the cache,",
}


@pytest.mark.parametrize("state", CACHE, ids=lambda state: state.__name__)
@pytest.mark.filterwarnings("ignore:.*had the wrong digest")
def test_cache(
    state: Callable[[Path, pytest.MonkeyPatch], None], server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    SOURCE[0] = f"{server.url}/good/{NAME}"
    cache.make(cache.folder())
    state(cache.folder(), monkeypatch)
    before = {path.name for path in cache.folder().iterdir()}
    try:
        result = GOOD if get(SOURCE[0]).read_bytes() == CONTENT else "a wrong file"
    except FetchError as error:
        result = f"{type(error).__name__}: {error}"
        assert {path.name for path in cache.folder().iterdir()} == before
    else:
        names = cached_names()
        assert names - {f"{NAME}.bad"} == {NAME, f"{NAME}.verified"}
        result += "; the other one is kept as net.pth.bad" if f"{NAME}.bad" in names else ""
    result = plain(result.replace(str(cache.folder()), "CACHE").replace(part_of(SOURCE[0]), "net.pth.PART"))
    assert result.startswith(CACHE[state])
    CACHE_ROWS[state.__doc__ or ""] = (result.splitlines()[0].split(". ")[0],)
