"""Faults of the network, over plain HTTP and through the real huggingface_hub client, and what comes of each."""

import hashlib
import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_server import COMMIT, FaultServer
from fault_table import write

from antialiased_zoo import cache, hub
from antialiased_zoo.errors import SourcesFailedError
from antialiased_zoo.patience import Patience
from antialiased_zoo.weights_file import WeightsFile

NAME = "net.pth"
CONTENT = random.Random(0).randbytes(300_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
HASTE = Patience(attempts=3, backoff=0.01, longest_pause=2, connect=2, read=0.4, window=0.3, slowest=1000, lock=20)
# fault: what must come of it, over HTTP and through huggingface_hub alike.
GOOD = "the right file"
NETWORK = {
    "good": GOOD,
    "busy": GOOD,
    "later": GOOD,
    "much_later": "HTTP 429",
    "401": "HTTP 401",
    "403": "HTTP 403",
    "404": "HTTP 404",
    "429": "HTTP 429",
    "500": "HTTP 500",
    "501": "HTTP 501",
    "502": "HTTP 502",
    "503": "HTTP 503",
    "504": "HTTP 504",
    "reset_once": GOOD,
    "reset_always": "reset|ended after|Connection",
    "reset_at_once": "reset|closed|aborted|Connection",
    "short_once": GOOD,
    "short": "early",
    "truncated": "SHA-256",
    "long": GOOD,
    "longer": "SHA-256",
    "endless": "sent more than",
    "no_length": GOOD,
    "chunked": GOOD,
    "chunked_broken": "incomplete|chunk|Incomplete|broken|Connection",
    "bad_length": GOOD,
    "silent": "no data in time",
    "stalled": "no data in time",
    "stalled_once": GOOD,
    "drip": "slower than",
    "loop": "redirects in a loop",
    "redirect": GOOD,
    "html": "HTML page",
    "html_unsaid": "HTML page",
    "gzipped": GOOD,
    "gzip_bomb": "sent more than|SHA-256",
    "gzip_broken": "not what its Content-Encoding says",
    "range_ignored": GOOD,
    "range_refused": GOOD,
    "range_shifted": GOOD,
    "changed": GOOD,
    "changed_silently": GOOD,
    "wrong": "SHA-256",
}
ROWS: dict[str, tuple[str, ...]] = {}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultServer]:
    folder = tmp_path_factory.mktemp("served")
    (folder / NAME).write_bytes(CONTENT)
    (folder / "net two é.pth").write_bytes(CONTENT)
    with (
        FaultServer(folder) as other,
        FaultServer(folder, redirect_to=other.url.replace("127.0.0.1", "localhost")) as one,
    ):
        one.other = other  # type: ignore[attr-defined]
        yield one


@pytest.fixture(scope="module", autouse=True)
def _table() -> Iterator[None]:
    yield
    write("Network", ("fault", "over HTTP", "through huggingface_hub"), ROWS, len(NETWORK))


@pytest.fixture(autouse=True)
def _no_limit_of_memory(monkeypatch: pytest.MonkeyPatch, server: FaultServer) -> None:
    # A server that never stops is cut off at this size instead of four gigabytes.
    monkeypatch.setattr("antialiased_zoo.download.MAX_BYTES", 4_000_000)
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_HOME", str(cache.folder() / "no_hub_cache"))


def wanted(*sources: str, name: str = NAME, digest: str = DIGEST) -> WeightsFile:
    return WeightsFile(name, "pickle", sources, sha256=digest if len(digest) == 64 else None, sha256_prefix=digest[:8])


def get(*sources: str, **changes: str) -> Path:
    return hub.fetch(wanted(*sources, **changes), progress=False, patience=HASTE)


def shown() -> set[str]:
    """Return the cache's names, after making sure that what stands under the weights' own name is right."""
    folder = cache.folder()
    names = {path.name for path in folder.glob("*")} if folder.is_dir() else set()
    if NAME in names:
        assert (folder / NAME).read_bytes() == CONTENT
    return names


def outcome(source: str) -> str:
    try:
        path = get(source)
    except SourcesFailedError as error:
        assert shown() <= {f"{NAME}.part", f"{NAME}.part.json"}
        ((listed, reason),) = error.reasons
        assert listed == source
        assert all(part in str(error) for part in (source, reason, NAME, DIGEST, str(cache.folder())))
        return "refused: " + reason
    assert path.read_bytes() == CONTENT
    assert shown() == {NAME, f"{NAME}.verified"}
    return GOOD


@pytest.mark.parametrize("fault", NETWORK)
def test_network(fault: str, server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.seen.clear()
    cells = []
    for source in (f"{server.url}/{fault}/{NAME}", f"hf://faults/{fault}/{NAME}@{COMMIT}"):
        monkeypatch.setenv("TORCH_HOME", str(tmp_path / source[:2]))
        server.requests.clear()
        result = outcome(source)
        assert re.search(NETWORK[fault], result), result
        requests_made = [r for r in server.requests if r.method == "GET"]
        resumed = ", resumed" if any("Range" in r.headers for r in requests_made) else ""
        cells.append(f"{result} ({len(requests_made)} requests{resumed})")
    ROWS[fault] = tuple(cell.replace(str(server.port), "PORT") for cell in cells)
