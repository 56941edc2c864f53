"""Faults of the network, over plain HTTP and as an hf:// source, and what comes of each, and of sources in turn."""

import dataclasses
import hashlib
import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_handler import COMMIT
from fault_server import FaultServer
from fault_table import plain, write
from faults import FAULTS
from fetching import cached_names

from antialiased_zoo.errors import SourcesFailedError
from antialiased_zoo.weights import hub
from antialiased_zoo.weights.hub import cache
from antialiased_zoo.weights.hub.retry import Retry
from antialiased_zoo.weights.weights_file import WeightsFile

NAME = "net.pth"
CONTENT = random.Random(0).randbytes(300_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
HASTE = Retry(attempts=3, backoff=0.01, longest_pause=2, connect=2, read=0.6, window=1.0, slowest=1000, lock=20)
# fault: what must come of it, over HTTP and as an hf:// source alike.
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
    "reset_always": "reset|ended|Connection",
    "reset_at_once": "reset|closed|aborted|Connection",
    "short_once": GOOD,
    "short": "ended early",
    "truncated": "SHA-256",
    "long": GOOD,
    "longer": "SHA-256",
    "endless": "sent more than",
    "no_length": GOOD,
    "chunked": GOOD,
    "chunked_broken": "ended early",
    "bad_length": GOOD,
    "silent": "no answer in time",
    "stalled": "no data in time",
    "stalled_once": GOOD,
    "drip": "slower than",
    "loop": "redirects in a loop",
    "redirect": GOOD,
    "html": "HTML page",
    "html_unsaid": "HTML page",
    "gzipped": GOOD,
    "gzip_bomb": "sent more than|SHA-256",
    "gzip_broken": "does not match its Content-Encoding",
    "range_ignored": GOOD,
    "range_refused": GOOD,
    "range_shifted": GOOD,
    "changed": GOOD,
    "changed_silently": GOOD,
    "wrong": "SHA-256",
    "range_never": r"HTTP 416|ended early",
    "range_always_shifted": "changed between two parts|ended early",
    "slow_header": "no answer in time",
    "endless_header": "invalid HTTP",
    "endless_continue": "no answer in time",
    "endless_trailer": "no data in time",
    "slow_chunk": "no data in time",
    "redirect_drip": GOOD,
    "redirect_endless": GOOD,
    "error_endless": "HTTP 503",
    "redirect_unparsable": "cannot be understood",
    "redirect_bytes": "another machine",
    "redirect_elsewhere": "redirects to http on another machine",
    "redirect_file": r"address file:///etc/passwd is not http",
    "terminal": r"HTTP 418 \(\\x1b",
    "not_http": "invalid HTTP",
    "many_headers": "invalid HTTP",
    "brotli": "not asked for",
    "early_hints": GOOD,
    "endless_hints": "no answer in time",
    "bad_chunk": "ended early|invalid HTTP",
    "two_lengths": "SHA-256|ended early",
    "huge_length": GOOD,
    "part_unasked": "changed between two parts",
    "redirect_no_host": "[Ff]ailed to resolve|cannot be understood",
    "gzip_junk": "Content-Encoding",
    "no_encoding": GOOD,
    "unsaid_once": GOOD,
    "gzip_cut_once": GOOD,
    "gzip_cut": "ended early",
    "total_unsaid": GOOD,
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
    write("Network", ("fault", "what the server does", "outcome over HTTP and as an hf:// source"), ROWS, len(NETWORK))
    write("Sources", ("sources in turn", "outcome"), SOURCE_ROWS, len(SOURCES))


@pytest.fixture(autouse=True)
def _no_limit_of_memory(monkeypatch: pytest.MonkeyPatch, server: FaultServer) -> None:
    # A server that never stops is cut off at this size instead of four gigabytes.
    monkeypatch.setattr("antialiased_zoo.weights.hub.download.MAX_BYTES", 4_000_000)
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_HOME", str(cache.folder() / "no_hub_cache"))


def wanted(*sources: str, name: str = NAME, digest: str = DIGEST) -> WeightsFile:
    return WeightsFile(name, "pickle", sources, sha256=digest if len(digest) == 64 else None, sha256_prefix=digest[:8])


def get(*sources: str, **changes: str) -> Path:
    return hub.fetch(wanted(*sources, **changes), progress=False, retry=HASTE)


def shown() -> set[str]:
    return cached_names(CONTENT)


def outcome(source: str) -> str:
    refusal = None
    try:
        path = get(source)
    except SourcesFailedError as error:
        refusal = error
    if refusal is not None:
        assert all(".part" in name for name in shown())
        ((listed, reason),) = refusal.reasons
        assert listed == source
        assert all(part in str(refusal) for part in (source, reason, NAME, DIGEST, str(cache.folder())))
        return "refused: " + reason
    assert path.read_bytes() == CONTENT
    assert shown() == {NAME, f"{NAME}.verified"}
    return GOOD


def test_a_cut_that_only_the_manifest_shows_is_resumed(server: FaultServer) -> None:
    server.seen.clear()
    server.requests.clear()
    file = dataclasses.replace(wanted(f"{server.url}/unsaid_once/{NAME}"), size=len(CONTENT))
    assert hub.fetch(file, progress=False, retry=HASTE).read_bytes() == CONTENT
    assert [request.headers.get("Range") for request in server.requests] == [None, f"bytes={len(CONTENT) // 2}-"]


def test_a_range_whose_total_is_not_stated_is_no_other_file(server: FaultServer) -> None:
    server.seen.clear()
    server.requests.clear()
    assert get(f"{server.url}/total_unsaid/{NAME}").read_bytes() == CONTENT
    assert len(server.requests) == 2


@pytest.mark.parametrize("fault", NETWORK)
def test_network(fault: str, server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.seen.clear()
    cells = []
    for source in (f"{server.url}/{fault}/{NAME}", f"hf://faults/{fault}/{NAME}@{COMMIT}"):
        monkeypatch.setenv("TORCH_HOME", str(tmp_path / source[:2]))
        server.requests.clear()
        result = outcome(source)
        assert re.search(NETWORK[fault], result), result
        assert len(server.requests) <= 11  # of which each attempt may be redirected
        assert result == GOOD or fault == "loop" or len(server.requests) <= HASTE.attempts
        resumed = any("Range" in request.headers for request in server.requests)
        cells.append(plain(result) + (", after asking to resume" if resumed and result == GOOD else ""))
    over_http, over_hub = cells
    both = over_http if over_http == over_hub else f"{over_http}; as an hf:// source: {over_hub}"
    ROWS[fault] = (FAULTS[fault].__doc__ or "" if fault in FAULTS else f"status {fault}", both)


# Lists of sources, and what must come of each; addresses of the server are written as faults.
SOURCES = {
    "nobody listens": (["http://127.0.0.1:1/x"], "refused: .*refused"),
    "the host's name does not resolve": (["https://no-such-host.invalid/x"], "refused: .*resolve"),
    "TLS to a server without it": (["tls"], "refused: TLS failed"),
    "403, then good": (["403", "good"], GOOD),
    "no such host, a login page, half a file, a wrong file, then good": (
        ["https://no-such-host.invalid/x", "html", "truncated", "wrong", "good"],
        GOOD,
    ),
    "wrong everywhere": (["wrong", "truncated", "longer"], "refused: (its SHA-256 is [^/]*(; )?){3}$"),
    "stalled, then good": (["stalled", "good"], GOOD),
    "part of the first, then the second fails too": (["stalled", "503"], "refused: no data in time; HTTP 503"),
}
SOURCE_ROWS: dict[str, tuple[str, ...]] = {}


@pytest.mark.parametrize("case", SOURCES)
def test_sources(case: str, server: FaultServer) -> None:
    server.seen.clear()
    faults, expected = SOURCES[case]
    tls = f"https://127.0.0.1:{server.port}/good/{NAME}"
    sources = [tls if f == "tls" else f if ":" in f else f"{server.url}/{f}/{NAME}" for f in faults]
    try:
        result = GOOD if get(*sources).read_bytes() == CONTENT else "a wrong file"
        assert shown() == {NAME, f"{NAME}.verified"}
    except SourcesFailedError as error:
        result = "refused: " + "; ".join(reason for _, reason in error.reasons)
        assert all(".part" in name for name in shown())
    assert re.search(expected, result), result
    SOURCE_ROWS[case] = (plain(result),)
