"""Sources are tried in turn, or none where the network is forbidden."""

import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from fault_handler import COMMIT
from fault_server import FaultServer
from faults import FAULTS
from fetching import CONTENT, DIGEST, HASTE, NAME, get, part_of, wanted

from antialiased_zoo.errors import OfflineError, SourcesFailedError
from antialiased_zoo.weights import hub
from antialiased_zoo.weights.hub import cache

pytestmark = pytest.mark.usefixtures("fetching_server")


class TestSources:
    def test_403_then_a_good_second_source(self, server: FaultServer) -> None:
        path = get(f"{server.url}/403/{NAME}", f"{server.url}/good/{NAME}")
        assert path.read_bytes() == CONTENT
        assert len(server.requests) == 2

    def test_no_other_source_touches_what_one_has_sent(self, server: FaultServer) -> None:
        half, others = (
            f"{server.url}/short/{NAME}",
            [f"{server.url}/{fault}/{NAME}" for fault in ("403", "html_unsaid")],
        )
        with pytest.raises(SourcesFailedError):
            get(others[0], half, *others[1:])
        assert {path.name for path in cache.folder().iterdir()} == {part_of(half), part_of(half, suffix=".part.json")}
        server.requests.clear()
        with pytest.raises(SourcesFailedError):
            get(*others, half)
        assert server.requests[2].headers["Range"] == f"bytes={len(CONTENT) // 2}-"
        assert get(half, f"{server.url}/good/{NAME}").read_bytes() == CONTENT
        assert {path.name for path in cache.folder().iterdir()} == {NAME, f"{NAME}.verified"}

    def test_a_login_page_in_the_sources_place_does_not_cost_what_it_has_sent(
        self, server: FaultServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        source = f"{server.url}/short/{NAME}"
        with pytest.raises(SourcesFailedError):
            get(source)
        size = (cache.folder() / part_of(source)).stat().st_size
        monkeypatch.setitem(FAULTS, "short", FAULTS["html_unsaid"])
        with pytest.raises(SourcesFailedError, match="HTML page"):
            get(source)
        assert (cache.folder() / part_of(source)).stat().st_size == size

    def test_wrong_digest_everywhere_lists_every_source(self, server: FaultServer) -> None:
        sources = [f"{server.url}/{fault}/{NAME}" for fault in ("wrong", "truncated", "404")]
        with pytest.raises(SourcesFailedError) as caught:
            get(*sources)
        assert [source for source, _ in caught.value.reasons] == sources
        assert all(text in str(caught.value) for text in (*sources, NAME, DIGEST, str(cache.folder()), "HTTP 404"))
        assert list(cache.folder().iterdir()) == []

    def test_second_file_of_an_entry(self, server: FaultServer) -> None:
        class Either:
            files = (wanted(f"{server.url}/404/{NAME}", name="a.pth"), wanted(f"{server.url}/good/{NAME}"))
            notice = ""

        assert hub.fetch(Either(), progress=False, retry=HASTE).name == NAME

    def test_names_with_spaces_and_accents(
        self, server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache dir ü"))
        monkeypatch.setenv(hub.MIRROR, f"{server.url}/good")
        path = get("https://no-such-host.invalid/x", name="net two é.pth")
        assert path == tmp_path / "cache dir ü" / "hub" / "checkpoints" / "net two é.pth"
        assert server.requests[0].path == "/good/net%20two%20%C3%A9.pth"

    def test_package_source_is_used_in_place(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("antialiased_zoo.weights.hub.sources.__file__", str(tmp_path / "hub" / "sources.py"))
        (tmp_path / "packaged").mkdir()
        (tmp_path / "packaged" / NAME).write_bytes(CONTENT)
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        assert get(f"package:{NAME}") == tmp_path / "packaged" / NAME
        assert [path.name for path in (tmp_path / "packaged").iterdir()] == [NAME]

    def test_damaged_package_file_is_not_used(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("antialiased_zoo.weights.hub.sources.__file__", str(tmp_path / "hub" / "sources.py"))
        (tmp_path / "packaged").mkdir()
        (tmp_path / "packaged" / NAME).write_bytes(CONTENT[:-1])
        with pytest.raises(SourcesFailedError, match=rf"package:{NAME}: .*SHA-256"):
            get(f"package:{NAME}")

    def test_a_package_source_is_probed_by_its_digest(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("antialiased_zoo.weights.hub.sources.__file__", str(tmp_path / "hub" / "sources.py"))
        (tmp_path / "packaged").mkdir()
        states = []
        for content in (None, CONTENT[:-1], CONTENT):
            if content is not None:
                (tmp_path / "packaged" / NAME).write_bytes(content)
            found = hub.probe(f"package:{NAME}", wanted(f"package:{NAME}"), HASTE, hub.Network(HASTE.connect))
            states.append((found.status, found.detail.split(" ")[-1]))
        assert states == [("dead", "installation"), ("differs", DIGEST), ("local", DIGEST)]

    def test_mirror_first_and_its_password_never_shown(
        self, server: FaultServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(hub.MIRROR, f"http://me:secret@127.0.0.1:{server.port}/404/")
        with pytest.raises(SourcesFailedError) as caught:
            get(f"{server.url}/403/{NAME}")
        assert [request.path for request in server.requests] == [f"/404/{NAME}", f"/403/{NAME}"]
        assert "secret" not in str(caught.value)
        assert "Authorization" not in server.requests[1].headers

    def test_mirror_must_be_https(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(hub.MIRROR, "http://mirror.example.org")
        with pytest.raises(ValueError, match=r"ANTIALIASED_ZOO_MIRROR.*https"):
            get("https://no-such-host.invalid/x")

    def test_torch_hub_set_dir(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: FaultServer) -> None:
        import torch

        monkeypatch.setattr(torch.hub, "_hub_dir", None)
        torch.hub.set_dir(tmp_path)
        assert get(f"{server.url}/good/{NAME}").parent == tmp_path / "checkpoints"


@pytest.mark.parametrize("home", [None, "", "relative", "~/home"])
@pytest.mark.parametrize("general", [None, "", "/general"])
def test_the_folder_is_the_same_with_and_without_torch(
    home: str | None, general: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("TORCH_HOME", home), ("XDG_CACHE_HOME", general)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    found = cache.folder()
    monkeypatch.delitem(sys.modules, "torch.hub")
    assert cache.folder() == found


class TestOffline:
    @pytest.mark.parametrize("variable", hub.OFFLINE)
    def test_no_socket_is_opened(self, variable: str, server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
        path = get(f"{server.url}/good/{NAME}")

        def forbid(*_: object, **__: object) -> None:
            raise AssertionError("a socket was opened")

        monkeypatch.setenv(variable, "1")
        monkeypatch.setenv(hub.MIRROR, server.url)
        for name in ("socket", "create_connection", "getaddrinfo", "socketpair"):
            monkeypatch.setattr(socket, name, forbid)
        assert get(f"{server.url}/good/{NAME}") == path
        assert [verdict.status for verdict in hub.verify([wanted("https://x.invalid/x")])] == ["ok"]
        for source in (f"{server.url}/good/{NAME}", f"hf://faults/good/{NAME}@{COMMIT}"):
            with pytest.raises(OfflineError, match=variable):
                get(source, name="cold.pth")

    def test_a_wrong_copy_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        cache.make(cache.folder())
        (cache.folder() / NAME).write_bytes(CONTENT[:-1])
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        with pytest.raises(OfflineError, match=rf"{NAME} has the SHA-256 \w+, expected {DIGEST}: it was not used"):
            get("https://no-such-host.invalid/x")

    def test_no_network_with_a_warm_cache(self, server: FaultServer) -> None:
        path = get(f"{server.url}/good/{NAME}")
        assert get("https://no-such-host.invalid/x") == path
        assert get("http://127.0.0.1:1/x") == path


def test_threads_share_one_download(server: FaultServer) -> None:
    paths: list[Path] = []
    threads = [threading.Thread(target=lambda: paths.append(get(f"{server.url}/good/{NAME}"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(paths) == 8
    assert len(server.requests) == 1


def test_importing_the_loader_imports_nothing_heavy() -> None:
    code = "import sys\nfrom antialiased_zoo.weights import hub, manifest\nmanifest.load()\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "torchvision", "huggingface_hub", "safetensors", "tqdm"} & set(done.stdout.split())
