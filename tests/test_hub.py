"""The cache and its trust: what counts as verified, what the disk may do, which hosts learn what."""

import errno
import hashlib
import json
import os
import random
import socket
import ssl
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_server import COMMIT, FaultServer

from antialiased_zoo import hub, manifest
from antialiased_zoo.errors import CacheError, OfflineError, PinError, SourcesFailedError
from antialiased_zoo.hub import cache, huggingface, stamps
from antialiased_zoo.hub.patience import Patience
from antialiased_zoo.weights_file import WeightsFile

NAME = "net.pth"
# The loader without the rest of the package: a process that only fetches files needs no torch, and starts at once.
LIGHT = (
    "import sys, types\nlight = types.ModuleType('antialiased_zoo')\n"
    f"light.__path__ = [{str(Path(hub.__file__).parents[1])!r}]\nsys.modules['antialiased_zoo'] = light\n"
)
CONTENT = random.Random(1).randbytes(200_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
HASTE = Patience(attempts=2, backoff=0.01, connect=2, read=1, lock=20)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultServer]:
    folder = tmp_path_factory.mktemp("served")
    for name in (NAME, "net two é.pth"):
        (folder / name).write_bytes(CONTENT)
    with FaultServer(folder) as server:
        yield server


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, server: FaultServer) -> None:
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    server.requests.clear()
    server.seen.clear()


def wanted(*sources: str, name: str = NAME, full: bool = True) -> WeightsFile:
    return WeightsFile(name, "pickle", sources, DIGEST if full else None, DIGEST[:8])


def get(*sources: str, name: str = NAME, full: bool = True) -> Path:
    return hub.fetch(wanted(*sources, name=name, full=full), progress=False, patience=HASTE)


def flip(path: Path, *, at: int = 1000, quietly: bool = False) -> None:
    """Flip one bit; quietly, so that size, inode and time stay."""
    before = path.stat()
    with path.open("rb+") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))
    when = before.st_mtime_ns if quietly else before.st_mtime_ns + 10_000_000
    os.utime(path, ns=(when, when))


class TestSources:
    def test_403_then_a_good_second_source(self, server: FaultServer) -> None:
        path = get(f"{server.url}/403/{NAME}", f"{server.url}/good/{NAME}")
        assert path.read_bytes() == CONTENT
        assert len(server.requests) == 2

    def test_right_digest_on_the_last_source_only(self, server: FaultServer) -> None:
        faults = ("wrong", "truncated", "html", "500", "good")
        assert get(*(f"{server.url}/{fault}/{NAME}" for fault in faults)).read_bytes() == CONTENT

    def test_wrong_digest_everywhere_lists_every_source(self, server: FaultServer) -> None:
        sources = [f"{server.url}/{fault}/{NAME}" for fault in ("wrong", "truncated", "404")]
        with pytest.raises(SourcesFailedError) as caught:
            get(*sources)
        assert [source for source, _ in caught.value.reasons] == sources
        assert all(text in str(caught.value) for text in (*sources, NAME, DIGEST, str(cache.folder()), "HTTP 404"))
        assert list(cache.folder().iterdir()) == []

    @pytest.mark.parametrize(
        ("source", "reason"),
        [
            ("http://127.0.0.1:1/net.pth", "refused"),
            ("https://no-such-host.invalid/net.pth", "resolve"),
        ],
    )
    def test_hosts_that_are_not_there(self, source: str, reason: str) -> None:
        with pytest.raises(SourcesFailedError, match=reason):
            get(source)

    def test_tls_to_a_server_without_it(self, server: FaultServer) -> None:
        with pytest.raises(SourcesFailedError, match="TLS failed"):
            get(f"https://127.0.0.1:{server.port}/good/{NAME}")

    def test_second_file_of_an_entry(self, server: FaultServer) -> None:
        class Either:
            files = (wanted(f"{server.url}/404/{NAME}", name="a.pth"), wanted(f"{server.url}/good/{NAME}"))
            notice = ""

        assert hub.fetch(Either(), progress=False, patience=HASTE).name == NAME

    def test_names_with_spaces_and_accents(
        self, server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache dir ü"))
        monkeypatch.setenv(hub.MIRROR, f"{server.url}/good")
        path = get("https://no-such-host.invalid/x", name="net two é.pth")
        assert path == tmp_path / "cache dir ü" / "hub" / "checkpoints" / "net two é.pth"
        assert server.requests[0].path == "/good/net%20two%20%C3%A9.pth"

    def test_package_source_is_used_in_place(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("antialiased_zoo.hub.sources.__file__", str(tmp_path / "hub" / "sources.py"))
        (tmp_path / "weights").mkdir()
        (tmp_path / "weights" / NAME).write_bytes(CONTENT)
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        assert get(f"package:{NAME}") == tmp_path / "weights" / NAME
        assert [path.name for path in (tmp_path / "weights").iterdir()] == [NAME]

    def test_damaged_package_file_is_not_used(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("antialiased_zoo.hub.sources.__file__", str(tmp_path / "hub" / "sources.py"))
        (tmp_path / "weights").mkdir()
        (tmp_path / "weights" / NAME).write_bytes(CONTENT[:-1])
        with pytest.raises(SourcesFailedError, match=rf"package:{NAME}: .*SHA-256"):
            get(f"package:{NAME}")

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


class TestTrust:
    def test_a_copy_put_in_by_hand_is_checked_and_used(self) -> None:
        cache.make(cache.folder())
        (cache.folder() / NAME).write_bytes(CONTENT)
        assert get("https://no-such-host.invalid/x").read_bytes() == CONTENT

    def test_a_wrong_copy_is_quarantined_and_replaced(self, server: FaultServer) -> None:
        cache.make(cache.folder())
        (cache.folder() / NAME).write_bytes(CONTENT[:-1])
        with pytest.warns(UserWarning, match=r"net\.pth\.bad"):
            assert get(f"{server.url}/good/{NAME}").read_bytes() == CONTENT
        assert (cache.folder() / f"{NAME}.bad").read_bytes() == CONTENT[:-1]

    def test_the_stamp_spares_hashing_until_it_no_longer_fits(
        self, server: FaultServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hashed = []
        real = stamps.sha256
        monkeypatch.setattr("antialiased_zoo.hub.stamps.sha256", lambda file: hashed.append(1) or real(file))
        path = get(f"{server.url}/good/{NAME}")
        hashed.clear()
        get(f"{server.url}/good/{NAME}")
        assert hashed == []
        os.utime(path, ns=(1, 1))
        get(f"{server.url}/good/{NAME}")
        assert hashed == [1]

    def test_a_flipped_bit_is_caught_at_load(self, server: FaultServer) -> None:
        flip(get(f"{server.url}/good/{NAME}"))
        assert hub.cached(wanted("https://x.invalid/x")) is None
        with pytest.warns(UserWarning, match=r"\.bad"):
            assert get(f"{server.url}/good/{NAME}").read_bytes() == CONTENT

    def test_a_flip_that_keeps_the_stamp_is_caught_by_verify(self, server: FaultServer) -> None:
        path = get(f"{server.url}/good/{NAME}")
        flip(path, quietly=True)
        assert hub.cached(wanted("https://x.invalid/x")) == path  # the stamp cannot know
        (verdict,) = hub.verify([wanted("https://x.invalid/x")])
        assert (verdict.status, verdict.path) == ("quarantined", path)
        assert not path.exists()
        assert path.with_name(f"{NAME}.bad").exists()

    def test_verify_accepts_what_is_right_and_passes_over_what_is_not_there(self, server: FaultServer) -> None:
        path = get(f"{server.url}/good/{NAME}")
        files = [wanted("https://x.invalid/x"), wanted("https://x.invalid/x", name="absent.pth")]
        assert list(hub.verify(files)) == [hub.Verdict(path, "ok", DIGEST)]

    def test_replaced_file_of_same_size_and_time(self, server: FaultServer) -> None:
        path = get(f"{server.url}/good/{NAME}")
        before = path.stat()
        other = path.with_name("other")
        other.write_bytes(bytes(len(CONTENT)))
        os.utime(other, ns=(before.st_mtime_ns, before.st_mtime_ns))
        os.replace(other, path)  # another inode
        assert hub.cached(wanted("https://x.invalid/x")) is None

    @pytest.mark.parametrize("text", ["", "null", "[]", '{"sha256": 3}', "\x00", '{"sha256": "' + "0" * 64 + '"}'])
    def test_a_damaged_stamp_means_hashing_again(self, server: FaultServer, text: str) -> None:
        path = get(f"{server.url}/good/{NAME}")
        path.with_name(f"{NAME}.verified").write_text(text)
        assert get(f"{server.url}/404/{NAME}") == path

    def test_pin_on_first_sight(self, server: FaultServer) -> None:
        path = get(f"{server.url}/good/{NAME}", full=False)
        stamp = path.with_name(f"{NAME}.verified")
        facts = json.loads(stamp.read_text())
        assert facts["sha256"] == DIGEST
        # Forging 32 bits of SHA-256 takes minutes, so the forgery is told by a stamp that saw another file.
        forged = DIGEST[:8] + "0" * 56
        stamp.write_text(json.dumps({**facts, "sha256": forged, "size": 1}))
        with pytest.raises(PinError, match=rf"{DIGEST}.*{forged}"):
            get(f"{server.url}/good/{NAME}", full=False)
        path.unlink()
        with pytest.raises(SourcesFailedError, match="was pinned"):
            get(f"{server.url}/good/{NAME}", full=False)
        assert not path.exists()
        stamp.unlink()
        assert get(f"{server.url}/good/{NAME}", full=False) == path

    def test_case_insensitive_file_systems_cannot_confuse_two_entries(self) -> None:
        # Manifests refuse names that differ in case only; the cache would otherwise show one file for both.
        names = [file.file.casefold() for entry in manifest.load() for file in entry.files]
        assert len(names) == len(set(names))


class TestLicence:
    def test_said_once_when_first_fetched(self, server: FaultServer) -> None:
        class Entry:
            files = (wanted(f"{server.url}/good/{NAME}"),)
            notice = "not for sale"

        with pytest.warns(hub.LicenseWarning, match="not for sale"):
            hub.fetch(Entry(), progress=False)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            hub.fetch(Entry(), progress=False)


class TestDisk:
    def test_cache_path_is_a_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: FaultServer) -> None:
        (tmp_path / "hub").write_text("in the way")
        monkeypatch.setenv("TORCH_HOME", str(tmp_path))
        with pytest.raises(CacheError, match="TORCH_HOME"):
            get(f"{server.url}/good/{NAME}")

    def test_target_is_a_folder(self, server: FaultServer) -> None:
        (cache.folder() / NAME).mkdir(parents=True)
        with pytest.raises(CacheError, match=NAME):
            get(f"{server.url}/good/{NAME}")

    def test_no_home_folder(self, monkeypatch: pytest.MonkeyPatch, server: FaultServer) -> None:
        monkeypatch.delenv("TORCH_HOME")
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setattr(os.path, "expanduser", lambda path: os.fspath(path))  # as where there is none
        with pytest.raises(CacheError, match=r"no home folder.*TORCH_HOME"):
            get(f"{server.url}/good/{NAME}")

    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
    def test_disk_refuses_in_mid_file(self, number: int, server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
        from antialiased_zoo.hub.part import Part

        class Full:
            def __init__(self, part: Part) -> None:
                self.file = part.path.open("wb", buffering=0)

            def __enter__(self) -> "Full":
                return self

            def __exit__(self, *_: object) -> None:
                self.file.close()

            def write(self, data: memoryview) -> int:
                if self.file.tell() > 50_000:
                    raise OSError(number, os.strerror(number))
                return self.file.write(data[:30_000])

        monkeypatch.setattr(Part, "begin", lambda part, note: Full(part))
        with pytest.raises(CacheError, match="TORCH_HOME"):
            get(f"{server.url}/good/{NAME}", f"{server.url}/good/{NAME}?second")
        assert list(cache.folder().iterdir()) == []
        assert len(server.requests) == 1  # another source would not make the disk larger

    def test_not_enough_room_is_seen_before_writing(self, server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
        import shutil

        monkeypatch.setattr("shutil.disk_usage", lambda path: shutil._ntuple_diskusage(10**6, 10**6, 1000))
        with pytest.raises(CacheError, match=r"1,000 bytes free, .* needs 200,000"):
            get(f"{server.url}/good/{NAME}")
        assert list(cache.folder().iterdir()) == []

    def test_a_warm_file_in_a_folder_that_cannot_be_written(
        self, server: FaultServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = get(f"{server.url}/good/{NAME}")
        path.with_name(f"{NAME}.verified").unlink()
        real = os.open

        def read_only(name: object, flags: int, *rest: object, **options: object) -> int:
            if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                raise OSError(errno.EROFS, "Read-only file system")
            return real(name, flags, *rest, **options)

        monkeypatch.setattr(os, "open", read_only)
        assert get("https://no-such-host.invalid/x") == path
        assert [p.name for p in path.parent.iterdir()] == [NAME]

    def test_no_symlinks_are_made(self, server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise OSError(errno.EPERM, "symlinks need a privilege")

        monkeypatch.setattr(os, "symlink", refuse)
        assert get(f"hf://faults/good/{NAME}@{COMMIT}").read_bytes() == CONTENT

    def test_a_symlinked_cache_file_is_followed(self, tmp_path: Path) -> None:
        cache.make(cache.folder())
        (tmp_path / "elsewhere.pth").write_bytes(CONTENT)
        (cache.folder() / NAME).symlink_to(tmp_path / "elsewhere.pth")
        assert get("https://no-such-host.invalid/x").read_bytes() == CONTENT


def mounted(folder: Path, options: str) -> bool:
    """Mount a small tmpfs, where this process may."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.fixture
def small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "small"
    if not mounted(folder, "size=100k"):
        pytest.skip("mounting a file system needs root; the tests of TestDisk stand in")
    monkeypatch.setenv("TORCH_HOME", str(folder))
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=False)


class TestRealFileSystems:
    def test_full_disk(self, small_disk: Path, server: FaultServer) -> None:
        for fault in ("good", "no_length"):  # with a length, and found out while writing
            with pytest.raises(CacheError, match=r"bytes free|No space left"):
                get(f"{server.url}/{fault}/{NAME}")
            assert not list(cache.folder().iterdir())

    def test_read_only(self, small_disk: Path, server: FaultServer) -> None:
        subprocess.run(["mount", "-o", "remount,size=1m", str(small_disk)], check=True)
        path = get(f"{server.url}/good/{NAME}")
        subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
        assert get("https://no-such-host.invalid/x") == path
        with pytest.raises(CacheError, match="Read-only"):
            get(f"{server.url}/good/{NAME}", name="other.pth")


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

    def test_no_network_with_a_warm_cache(self, server: FaultServer) -> None:
        path = get(f"{server.url}/good/{NAME}")
        assert get("https://no-such-host.invalid/x") == path
        assert get("http://127.0.0.1:1/x") == path


class TestHosts:
    """Tokens, proxies and certificates."""

    @pytest.fixture
    def token(self, monkeypatch: pytest.MonkeyPatch) -> str:
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        monkeypatch.setattr(huggingface, "TOKEN_HOSTS", ("127.0.0.1",))
        return "hf_secret"

    def test_token_goes_to_the_hub_and_not_past_a_redirect(self, token: str, server: FaultServer) -> None:
        with FaultServer(server.folder) as other:
            server.redirect_to = other.url.replace("127.0.0.1", "localhost")
            get(f"hf://faults/redirect/{NAME}@{COMMIT}")
        assert {request.headers.get("Authorization") for request in server.asked(NAME)} == {f"Bearer {token}"}
        assert len(other.requests) == 1
        assert "Authorization" not in other.requests[0].headers

    def test_token_goes_to_no_other_host(
        self, token: str, server: FaultServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(huggingface, "TOKEN_HOSTS", ("huggingface.co", "hf.co"))  # as shipped
        get(f"hf://faults/good/{NAME}@{COMMIT}")  # HF_ENDPOINT names another host
        monkeypatch.setenv(hub.MIRROR, f"{server.url}/404")
        get(f"{server.url}/good/{NAME}", name="other.pth")
        assert len(server.asked(".pth")) == 4
        assert all("hf_secret" not in str(request.headers) for request in server.requests)

    def test_hub_that_states_another_digest_is_not_downloaded_from(self, server: FaultServer) -> None:
        (server.folder / "other.pth").write_bytes(b"something else")
        with pytest.raises(SourcesFailedError, match="the hub states the SHA-256"):
            get(f"hf://faults/good/other.pth@{COMMIT}")
        assert [request.method for request in server.asked("other.pth")] == ["HEAD"]

    def test_proxy_is_used(self, server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
        # The server stands in for the proxy: it sees the other host's address in the request line.
        monkeypatch.setenv("http_proxy", server.url)
        monkeypatch.setenv("no_proxy", "")
        get(f"http://localhost:9/good/{NAME}")
        assert server.requests[0].path == f"http://localhost:9/good/{NAME}"

    def test_ssl_cert_file(self, tmp_path: Path, server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
        certificate = tmp_path / "cert.pem"
        command = (
            "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
        )
        made = subprocess.run(
            [*command.split(), "-keyout", tmp_path / "key.pem", "-out", certificate], capture_output=True, check=False
        )
        if made.returncode:
            pytest.skip("no openssl to make a certificate with")
        for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
            monkeypatch.delenv(name, raising=False)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, tmp_path / "key.pem")
        with FaultServer(server.folder, tls=context) as secure:
            source = f"https://localhost:{secure.port}/good/{NAME}"
            with pytest.raises(SourcesFailedError, match=r"TLS failed.*certificate"):
                get(source)
            monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
            assert get(source).read_bytes() == CONTENT

    def test_https_does_not_go_down_to_http(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import requests

        from antialiased_zoo.hub.download import _session
        from antialiased_zoo.hub.patience import SourceError

        response = requests.Response()
        response.url, response.status_code = "https://example.org/x", 302
        response.headers["Location"] = "http://example.org/x"
        with pytest.raises(SourceError, match="https to http"):
            _session({}).get_redirect_target(response)


def test_hub_client_configured_by_the_environment_alone(server: FaultServer, tmp_path: Path) -> None:
    """In a fresh process, HF_ENDPOINT and TORCH_HOME are all that points the real client at this server."""
    code = LIGHT + (
        "from antialiased_zoo import hub; from antialiased_zoo.weights_file import WeightsFile\n"
        f"print(hub.fetch(WeightsFile({NAME!r}, 'pickle', ('hf://faults/good/{NAME}@{COMMIT}',), {DIGEST!r})))"
    )
    environment = {**os.environ, "TORCH_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()).read_bytes() == CONTENT
    assert done.stderr == ""
    assert [request.method for request in server.asked(NAME)] == ["HEAD", "GET"]


def test_a_file_in_the_hubs_own_cache_is_copied(server: FaultServer, tmp_path: Path) -> None:
    code = LIGHT + (
        "import huggingface_hub as h\n"
        "from antialiased_zoo import hub; from antialiased_zoo.weights_file import WeightsFile\n"
        f"h.hf_hub_download('faults/good', {NAME!r}, revision={COMMIT!r})\n"
        f"print(hub.fetch(WeightsFile({NAME!r}, 'pickle', ('hf://faults/good/{NAME}@{COMMIT}',), {DIGEST!r})))"
    )
    environment = {
        **os.environ,
        "TORCH_HOME": str(tmp_path),
        "HF_HOME": str(tmp_path / "hf"),
    }
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()).read_bytes() == CONTENT
    assert [request.method for request in server.asked(NAME)] == ["HEAD", "GET"]  # the hub's own, none after


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
    code = LIGHT + "from antialiased_zoo import hub, manifest\nmanifest.load()\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "torchvision", "requests", "huggingface_hub", "safetensors", "tqdm"} & set(done.stdout.split())
