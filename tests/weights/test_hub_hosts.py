"""Which hosts learn what, and the Hugging Face Hub."""

import os
import ssl
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from fault_handler import COMMIT, FaultHandler
from fault_server import FaultServer
from fetching import CONTENT, DIGEST, HASTE, NAME, get, wanted

from antialiased_zoo.errors import SourcesFailedError
from antialiased_zoo.weights import hub
from antialiased_zoo.weights.hub import connection, exchange, tokens
from antialiased_zoo.weights.hub.retry import SourceError

pytestmark = pytest.mark.usefixtures("fetching_server")


class TestHosts:
    """Tokens, proxies and certificates."""

    @pytest.fixture
    def token(self, monkeypatch: pytest.MonkeyPatch) -> str:
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        monkeypatch.setattr(tokens, "TOKEN_HOSTS", ("127.0.0.1",))
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
        monkeypatch.setattr(tokens, "TOKEN_HOSTS", ("huggingface.co", "hf.co"))  # as shipped
        get(f"hf://faults/good/{NAME}@{COMMIT}")  # HF_ENDPOINT names another host
        monkeypatch.setenv(hub.MIRROR, f"{server.url}/404")
        get(f"{server.url}/good/{NAME}", name="other.pth")
        assert len(server.asked(".pth")) == 3
        assert all("hf_secret" not in str(request.headers) for request in server.requests)

    def test_token_goes_to_the_hub_as_a_mirror_and_when_it_is_probed(
        self, token: str, server: FaultServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        source = f"hf://faults/good/{NAME}@{COMMIT}"
        found = hub.probe(source, wanted(source), HASTE, hub.Network(HASTE.connect))
        assert found.status == "alive"
        monkeypatch.setenv(hub.MIRROR, f"{server.url}/good")
        get("https://no-such-host.invalid/x")
        assert [request.headers["Authorization"] for request in server.requests] == [f"Bearer {token}"] * 2

    def test_hub_that_states_another_digest_is_not_downloaded_from(self, server: FaultServer) -> None:
        (server.folder / "other.pth").write_bytes(b"something else")
        with pytest.raises(SourcesFailedError, match="the hub states the SHA-256"):
            get(f"hf://faults/good/other.pth@{COMMIT}")
        assert [request.method for request in server.asked("other.pth")] == ["GET"]  # its body is not read

    def test_proxy_is_used(self, server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
        # The server stands in for the proxy: it sees the other host's address in the request line.
        monkeypatch.setenv("http_proxy", server.url)
        monkeypatch.setenv("no_proxy", "")
        monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
        get(f"hf://faults/good/{NAME}@{COMMIT}")
        assert server.requests[0].path == f"http://hub.invalid/faults/good/resolve/{COMMIT}/{NAME}"

    def test_a_busy_proxy_is_asked_again(self, server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[str] = []

        def refuse(handler: FaultHandler) -> None:
            asked.append(handler.path)
            handler.send_error(503)

        monkeypatch.setattr(FaultHandler, "do_CONNECT", refuse, raising=False)
        monkeypatch.setenv("https_proxy", server.url)
        with pytest.raises(SourcesFailedError, match="the proxy failed: HTTP 503"):
            get("https://no-such-host.invalid/x")
        assert asked == ["no-such-host.invalid:443"] * HASTE.attempts

    @pytest.mark.parametrize(
        ("proxy", "reason"),
        [
            ("http://127.0.0.1:9", "the proxy 127.0.0.1:9 failed: Connection refused"),
            ("http://me:secret@proxy.invalid:3128", "the proxy proxy.invalid:3128 failed: Failed to resolve"),
        ],
    )
    def test_a_dead_proxy_is_named(self, proxy: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("https_proxy", proxy)
        monkeypatch.setenv("no_proxy", "")
        with pytest.raises(SourcesFailedError, match=reason) as caught:
            get("https://example.org/x")
        assert "secret" not in str(caught.value)

    def test_this_machine_is_never_asked_through_a_proxy(
        self, server: FaultServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("no_proxy", "")
        monkeypatch.setenv("http_proxy", "http://proxy.invalid:3128")
        monkeypatch.setenv(hub.MIRROR, f"http://me:secret@127.0.0.1:{server.port}/good")
        assert get("https://no-such-host.invalid/x").read_bytes() == CONTENT
        for host in ("localhost", "127.0.0.1", "127.1.2.3", "::1"):
            assert connection.proxy_for("http", (host, 80)) is None
        assert connection.proxy_for("http", ("localhost.example.org", 80)) is not None

    @pytest.mark.parametrize("endpoint", ["http://huggingface.co", "http://:hf_secret@hub.invalid"])
    def test_secrets_do_not_go_over_http_to_other_machines(
        self, endpoint: str, server: FaultServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        monkeypatch.setenv("no_proxy", "")
        monkeypatch.setenv("http_proxy", server.url)
        get(f"hf://faults/good/{NAME}@{COMMIT}")
        assert len(server.requests) == 1
        assert "Authorization" not in server.requests[0].headers

    def test_a_password_without_a_user_name_is_sent(self, server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(hub.MIRROR, f"http://:secret@127.0.0.1:{server.port}/good")
        get("https://no-such-host.invalid/x")
        assert server.requests[0].headers["Authorization"] == "Basic OnNlY3JldA=="

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
            with pytest.raises(SourcesFailedError, match=r"TLS failed.*; set SSL_CERT_FILE to a file with"):
                get(source)
            monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
            with pytest.raises(SourcesFailedError, match=r"TLS failed: [^;]*127\.0\.0\.1[^;]*\n"):
                get(source.replace("localhost", "127.0.0.1"))  # no advice: a name that does not match
            monkeypatch.setenv("SSL_CERT_FILE", "/no/such.pem")
            with pytest.raises(SourcesFailedError, match=r"TLS failed.*; SSL_CERT_FILE names /no/such.pem, .* missing"):
                get(source)
            monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
            assert get(source).read_bytes() == CONTENT

    @pytest.mark.parametrize("location", ["http://example.org/x", "HTTP://example.org/x", "//example.org:80/x"])
    def test_https_does_not_go_down_to_http(self, location: str) -> None:
        place = urlsplit("https://example.org/y")
        if location.startswith("//"):
            assert exchange.target(place, location).scheme == "https"
            return
        with pytest.raises(SourceError, match="https to http"):
            exchange.target(place, location)

    def test_redirects_over_http_stay_on_their_host(self) -> None:
        place = urlsplit("http://hub.internal:8080/a/b")
        assert exchange.target(place, "/api/c").geturl() == "http://hub.internal:8080/api/c"
        assert exchange.target(place, "http://HUB.internal/c").geturl() == "http://HUB.internal/c"
        with pytest.raises(SourceError, match="another machine"):
            exchange.target(place, "http://other.internal/c")


def test_hub_client_configured_by_the_environment_alone(server: FaultServer, tmp_path: Path) -> None:
    """In a fresh process, HF_ENDPOINT and TORCH_HOME are all that points the loader at this server."""
    code = (
        "from antialiased_zoo.weights import hub; from antialiased_zoo.weights.weights_file import WeightsFile\n"
        f"print(hub.fetch(WeightsFile({NAME!r}, 'pickle', ('hf://faults/good/{NAME}@{COMMIT}',), {DIGEST!r})))"
    )
    environment = {**os.environ, "TORCH_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()).read_bytes() == CONTENT
    assert done.stderr == ""
    assert [request.method for request in server.asked(NAME)] == ["GET"]


def test_a_file_in_the_hubs_own_cache_is_copied(server: FaultServer, tmp_path: Path) -> None:
    code = (
        "import huggingface_hub as h\n"
        "from antialiased_zoo.weights import hub; from antialiased_zoo.weights.weights_file import WeightsFile\n"
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
