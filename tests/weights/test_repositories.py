"""``hf-hub:OWNER/NAME``: files are verified against what the hub states, within the loader's limits, or not used."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from fake_hub import FakeHub, Handler
from fetching import HASTE
from plain_server import served
from safetensors.torch import save

from antialiased_zoo.errors import DigestError, FetchError, OfflineError, SourcesFailedError
from antialiased_zoo.weights import hub, repository
from antialiased_zoo.weights.hub import cache

WEIGHTS = save({"a": torch.ones(1000)})
FILES = {"model.safetensors": WEIGHTS, "config.json": b'{"architecture": "x"}'}
PLACE = "hf-hub:me/mine"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with FakeHub() as server:
        server.commit("me/mine", FILES)
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf"))
        monkeypatch.setattr(hub, "Hub", lambda: hub.statements.Hub(HASTE))
        yield server


@pytest.fixture
def answers(server: FakeHub) -> Callable[[Callable[[Handler, str], bool]], None]:
    """Let a function answer a request for a file instead, if it returns True."""

    def install(function: Callable[[Handler, str], bool]) -> None:
        class Other(Handler):
            def resolve(self, repo: str, revision: str, name: str) -> None:
                if not function(self, name):
                    super().resolve(repo, revision, name)

        server.RequestHandlerClass = Other

    return install


def loads() -> bool:
    return torch.equal(repository.open_place(PLACE).tensors["a"], torch.ones(1000))


def test_found_again_without_the_hub(server: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    assert loads()
    assert [request.partition(" ")[0] for request in server.requests] == ["HEAD", "GET", "GET"]
    commit = server.repos["me/mine"][0][0]
    assert repository.open_place(f"{PLACE}@{commit}").path == repository.open_place(PLACE).path
    server.requests.clear()
    assert repository.open_place(f"{PLACE}@{commit}")  # a commit does not change
    assert server.requests == []
    server.RequestHandlerClass = Silent
    assert loads()
    monkeypatch.setenv("ANTIALIASED_ZOO_OFFLINE", "1")
    assert loads()
    with pytest.raises(OfflineError, match="give the path of its folder"):
        repository.open_place("hf-hub:me/other")


@pytest.mark.parametrize("status", [401, 403])
def test_found_again_where_the_hub_refuses(
    status: int,
    answers: Callable[[Callable[[Handler, str], bool]], None],
    server: FakeHub,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A firewall answers 403 in the hub's place, and a token expires."""
    known = repository.open_place(PLACE).path

    def refuse(handler: Handler, name: str) -> bool:
        handler.answer(b"", status)
        return True

    answers(refuse)
    assert repository.open_place(PLACE).path == known
    assert f"cannot look up me/mine at main: HTTP {status}" in caplog.text
    with pytest.raises(FetchError, match=f"cannot get me/other at main: HTTP {status} .*set HF_TOKEN"):
        repository.open_place("hf-hub:me/other")


def test_what_the_hub_does_not_state_is_not_used(
    answers: Callable[[Callable[[Handler, str], bool]], None], server: FakeHub
) -> None:
    def odd(handler: Handler, name: str) -> bool:
        handler.answer(FILES[name], ETag=f'"{name}-7"', X_Repo_Commit="a" * 40)
        return True

    answers(odd)
    with pytest.raises(FetchError, match=r"cannot verify hf://me/mine/model.safetensors@main: .*states no digest"):
        loads()
    assert not cache.folder().exists()


def test_other_files_than_the_hub_states(
    answers: Callable[[Callable[[Handler, str], bool]], None], server: FakeHub
) -> None:
    def answer(handler: Handler, name: str) -> bool:
        digest = hashlib.sha256(FILES[name]).hexdigest()
        handler.answer(FILES[name][:-4] + b"evil" if name in forged else FILES[name], ETag=f'"{digest}"')
        return True

    answers(answer)
    forged = ["config.json"]
    with pytest.raises(DigestError, match="is not the file that the hub states"):
        loads()
    forged = ["model.safetensors"]
    with pytest.raises(SourcesFailedError, match="its SHA-256 is"):
        loads()


def test_weights_that_are_stored_in_git_itself(
    answers: Callable[[Callable[[Handler, str], bool]], None], server: FakeHub
) -> None:
    def in_git(handler: Handler, name: str) -> bool:
        digest = hashlib.sha1(b"blob %d\0" % len(FILES[name]) + FILES[name]).hexdigest()
        handler.answer(FILES[name], ETag=f'W/"{digest}"', X_Repo_Commit="a" * 40)
        return True

    answers(in_git)
    with pytest.raises(FetchError, match=r"stored in git itself.* no SHA-256"):
        loads()


class Silent(Handler):
    def do_GET(self) -> None:  # noqa: N802  # http.server's name
        time.sleep(5)


class Dripping(Handler):
    def resolve(self, repo: str, revision: str, name: str) -> None:
        if name == "model.safetensors":
            return super().resolve(repo, revision, name)
        self.send_response(200)
        self.send_header("ETag", '"' + "0" * 40 + '"')
        self.send_header("Content-Length", "5000")
        self.end_headers()
        while True:
            self.wfile.write(b"x")
            time.sleep(0.05)


@pytest.mark.parametrize(("handler", "reason"), [(Silent, "no answer in time"), (Dripping, "slower than")])
def test_a_slow_hub_is_given_up(
    handler: type[Handler], reason: str, server: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    haste = hub.Retry(attempts=2, backoff=0.01, read=0.3, window=0.5)
    monkeypatch.setattr(hub, "Hub", lambda: hub.statements.Hub(haste))
    server.RequestHandlerClass = handler
    begun = time.monotonic()
    with pytest.raises(FetchError, match=f"cannot get me/mine at main: {reason}"):
        loads()
    assert time.monotonic() - begun < 3


def test_an_invalid_endpoint(server: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "example.org")
    with pytest.raises(FetchError, match="cannot get me/mine at main: HF_ENDPOINT is not a URL"):
        loads()


@pytest.mark.parametrize("linked", [True, False])
def test_huggingface_hubs_own_cache(
    linked: bool, server: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, commit = tmp_path / "hf" / "models--me--mine", "a" * 40
    snapshot = folder / "snapshots" / commit / "model.safetensors"
    snapshot.parent.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(commit)
    snapshot.write_bytes(WEIGHTS)
    if linked:
        (folder / "blobs").mkdir()
        os.replace(snapshot, folder / "blobs" / hashlib.sha256(WEIGHTS).hexdigest())
        snapshot.symlink_to(folder / "blobs" / hashlib.sha256(WEIGHTS).hexdigest())
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    if linked:
        assert loads()
    else:  # as on Windows: nothing states the digest
        with pytest.raises(OfflineError, match="states its digest"):
            loads()
    assert server.requests == []


def test_a_url_with_a_digest_has_a_name_of_its_own_in_the_cache(tmp_path: Path) -> None:
    """Digits that are not the digest's may be a date, and the folder is shared with other programs."""
    digests = {}
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        content = save({"a": torch.full((2,), float(ord(name)))})
        digests[name] = hashlib.sha256(content).hexdigest()
        (tmp_path / name / "model-20240101.safetensors").write_bytes(content)
        (tmp_path / name / f"model-{digests[name][:10]}.safetensors").write_bytes(content)
    with served(tmp_path) as url:
        for name, digest in digests.items():
            dated, digits = (f"{url}/{name}/model-{end}.safetensors" for end in ("20240101", digest[:10]))
            assert (
                repository.open_place(f"{dated}#sha256={digest}").path.name
                == f"model-20240101-{digest[:8]}.safetensors"
            )
            assert repository.open_place(f"{digits}#sha256={digest.upper()}").path.name == digits.rpartition("/")[2]
    with pytest.raises(ValueError, match="states no digest") as caught:
        repository.open_place("https://me:secret@example.org/model.pth?signature=secret")
    assert "secret" not in str(caught.value)


def test_a_url_of_an_unknown_kind() -> None:
    with pytest.raises(ValueError, match="it must begin with one of https:, http:") as caught:
        repository.open_place("ftp://me:secret@example.org/model-0123abcd.pth?signature=secret")
    assert "secret" not in str(caught.value)
    with pytest.raises(ValueError, match="it must begin with one of https:"):
        repository.open_place("file:///models/model.pth")


@pytest.mark.parametrize("place", ["hf-hub:mine", "hf-hub:a/b/c", "hf-hub:../x", "hf-hub:a/b@../c"])
def test_names_of_no_repository(place: str) -> None:
    with pytest.raises(ValueError, match="is not a repository"):
        repository.open_place(place)


@pytest.mark.parametrize("place", ["hf-hub:me/none", "hf-hub:me/none@"])
def test_a_repository_that_does_not_exist(place: str, server: FakeHub) -> None:
    with pytest.raises(FetchError, match="there is none at main"):
        repository.open_place(place)
