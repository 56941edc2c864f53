"""Faults of the network, over plain HTTP and as an hf:// source, and what comes of each."""

import dataclasses
import hashlib
import json
import os
import random
import re
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fault_handler import COMMIT
from fault_server import FaultServer
from fault_table import write
from faults import FAULTS
from fetching import part_of

from antialiased_zoo.errors import FetchError, SourcesFailedError
from antialiased_zoo.weights import hub
from antialiased_zoo.weights.hub import cache, stamps
from antialiased_zoo.weights.hub.part import Note
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
    "redirect_file": "cannot be understood",
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
    write("Cache", ("what is in the cache before", "outcome with a good source"), CACHE_ROWS, len(CACHE))


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
    """Return the cache's names, after making sure that what stands under the weights' own name is right."""
    folder = cache.folder()
    names = {path.name for path in folder.glob("*")} if folder.is_dir() else set()
    if NAME in names:
        assert (folder / NAME).read_bytes() == CONTENT
    return names


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


def plain(text: str) -> str:
    """Return an outcome without what differs from run to run and from system to system."""
    for pattern, instead in (
        (r"\b[0-9a-f]{64}\b", "..."),
        (r":\d{4,5}/", ":PORT/"),
        (r"HTTPS?Connection\(.*?\): |\[Errno -?\d+\] ", ""),
        (r"(TLS failed|Failed to resolve '\S+').*", r"\1"),
    ):
        text = re.sub(pattern, instead, text)
    return text


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


# What the cache can look like before a fetch, and what must come of it with a good source.
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
    note = Note.of(SOURCE[0], f'"{DIGEST}"', len(CONTENT))
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
    full_disk: "CacheError: CACHE has 1,000 bytes free, but net.pth.PART needs 300,000.",
    offline: "OfflineError: net.pth (SHA-256 ...) is not in the cache,",
}
CACHE_ROWS: dict[str, tuple[str, ...]] = {}


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
        names = shown()
        assert names - {f"{NAME}.bad"} == {NAME, f"{NAME}.verified"}
        result += "; the other one is kept as net.pth.bad" if f"{NAME}.bad" in names else ""
    result = plain(result.replace(str(cache.folder()), "CACHE").replace(part_of(SOURCE[0]), "net.pth.PART"))
    assert result.startswith(CACHE[state])
    CACHE_ROWS[state.__doc__ or ""] = (result.splitlines()[0].split(". ")[0],)
