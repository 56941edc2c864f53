"""A file that Hugging Face's own client has fetched before is used from its cache, offline too."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_handler import COMMIT
from fault_server import FaultServer
from fault_table import write
from fetching import CONTENT, NAME, get

from antialiased_zoo.errors import OfflineError
from antialiased_zoo.weights import hub
from antialiased_zoo.weights.hub import cache

pytestmark = pytest.mark.usefixtures("fetching_server")
SOURCE = f"hf://faults/good/{NAME}@{COMMIT}"
ROWS: dict[str, tuple[str, ...]] = {}


@pytest.fixture(scope="module", autouse=True)
def _table() -> Iterator[None]:
    yield
    write("huggingface_hub's cache", ("what it holds", "outcome offline", "outcome with a good source"), ROWS, 3)


def keep(folder: Path, content: bytes) -> None:
    """Put a file into a cache as Hugging Face's client lays it out: a blob, a snapshot's link to it, a branch."""
    repo = folder / "models--faults--good"
    for part in ("blobs", f"snapshots/{COMMIT}", "refs"):
        (repo / part).mkdir(parents=True)
    (repo / "blobs" / "blob").write_bytes(content)
    (repo / "snapshots" / COMMIT / NAME).symlink_to(repo / "blobs" / "blob")
    (repo / "refs" / "main").write_text(COMMIT)


@pytest.mark.parametrize("what", ["the file", "another file under its name", "nothing"])
def test_it_is_looked_into_first(
    what: str, server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    if what != "nothing":
        keep(tmp_path, CONTENT if what == "the file" else CONTENT[::-1])
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    server.requests.clear()
    if what == "the file":
        for source in (SOURCE, SOURCE.replace(COMMIT, "main")):
            path = get(source)
            assert path == cache.folder() / NAME  # a checked copy: the other cache may change
            assert path.read_bytes() == CONTENT
            path.unlink()
        offline = "the right file"
    else:
        with pytest.raises(OfflineError):
            get(SOURCE)
        assert not (cache.folder() / NAME).exists()
        offline = "OfflineError"
    assert server.requests == []
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert not hub.is_offline()
    assert get(SOURCE).read_bytes() == CONTENT
    assert bool(server.requests) == (what != "the file")
    ROWS[what] = (offline, f"the right file, {'fetched' if server.requests else 'without a request'}")
