"""No secret reaches a log, an error, a file or another host, whatever goes wrong."""

import base64
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_handler import COMMIT
from fault_server import FaultServer
from fault_table import write
from faults import FAULTS
from fetching import CONTENT, NAME, get

from antialiased_zoo.errors import SourcesFailedError
from antialiased_zoo.weights import hub
from antialiased_zoo.weights.hub import cache, tokens
from antialiased_zoo.weights.hub.redaction import printable, redacted

pytestmark = pytest.mark.usefixtures("fetching_server")
USER, PASSWORD, SIGNATURE, TOKEN, NETRC = "user-planted", "pass-planted", "sig-planted", "hf_planted", "netrc-planted"
BASIC = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
# What takes long brings nothing new here.
QUICK = sorted(set(FAULTS) - {"silent", "stalled", "drip", "slow_header", "endless_continue", "endless_trailer",
                              "slow_chunk", "endless", "redirect_drip", "endless_hints"})  # fmt: skip

ROWS: dict[str, tuple[str, ...]] = {}
SAFE: set[str] = set()


@pytest.fixture(scope="module", autouse=True)
def _table() -> Iterator[None]:
    yield
    if {*QUICK, "403", "500"} == SAFE:
        what = "a mirror's password and signature, HF_TOKEN, .netrc"
        secrets = "in no message, log, warning or file, nor in a header to another host"
        ROWS[f"{what}, under each of {len(SAFE)} faults of the network"] = (secrets,)
    write("Secrets", ("what holds a secret", "outcome"), ROWS, 14)


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine 127.0.0.1 login {NETRC} password {NETRC}\ndefault login {NETRC} password {NETRC}\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HF_TOKEN", TOKEN)


def visible(text: str) -> None:
    for secret in (USER, PASSWORD, SIGNATURE, TOKEN, NETRC, BASIC.removeprefix("Basic ")):
        assert secret not in text, secret


@pytest.mark.usefixtures("planted")
@pytest.mark.parametrize("fault", [*QUICK, "403", "500"])
def test_every_fault(
    fault: str, server: FaultServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(tokens, "TOKEN_HOSTS", ("127.0.0.1",))
    monkeypatch.setattr("antialiased_zoo.weights.hub.download.MAX_BYTES", 4_000_000)
    mirror = f"http://{USER}:{PASSWORD}@127.0.0.1:{server.port}/{fault}?signature={SIGNATURE}"
    with FaultServer(server.folder) as other, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        server.redirect_to = other.url.replace("127.0.0.1", "localhost")
        elsewhere = server.url.replace("127.0.0.1", "localhost")  # not the hub, so it gets no token
        for source in (f"{elsewhere}/404/{NAME}", f"hf://faults/{fault}/{NAME}@{COMMIT}"):
            monkeypatch.setenv(hub.MIRROR, mirror)
            try:
                get(source, full=False)
            except SourcesFailedError as error:
                visible(str(error) + repr(error.reasons))
            visible(caplog.text + "".join(str(warning.message) for warning in warned))
            for path in cache.folder().glob("*.json"):
                visible(path.read_text())
            for path in cache.folder().iterdir():
                path.unlink()
        assert all("Authorization" not in request.headers for request in other.requests)
    sent = {request.headers.get("Authorization") for request in server.requests}
    assert sent <= {BASIC, f"Bearer {TOKEN}", None}
    mirrored = [request for request in server.requests if f"signature={SIGNATURE}" in request.path]
    assert mirrored
    assert mirrored[0].path == f"/{fault}/{NAME}?signature={SIGNATURE}"
    assert {request.headers["Authorization"] for request in mirrored} == {BASIC}
    plain = [request for request in server.requests if request.path == f"/404/{NAME}"]
    assert {request.headers.get("Authorization") for request in plain} <= {None}
    SAFE.add(fault)


@pytest.mark.parametrize("base", [
    f"http://{USER}:{PASSWORD}@[::1", f"https://{USER}:{PASSWORD}@", f"ftp://{USER}:{PASSWORD}@example.org",
    f"{USER}:{PASSWORD}@example.org", f"http://{USER}:{PASSWORD}@example.org/x?{SIGNATURE}",
    f"https://{USER}:{PASSWORD}@example.org:port/", f"https://{USER}:{PASSWORD}@example.org/../{'x' * 9}",
])  # fmt: skip
def test_malformed_mirrors(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(hub.MIRROR, base)
    with pytest.raises(ValueError, match=hub.MIRROR) as caught:
        get("https://no-such-host.invalid/x")
    visible(str(caught.value))
    for secret, name in {USER: "USER", PASSWORD: "PASSWORD", SIGNATURE: "SIGNATURE"}.items():
        base = base.replace(secret, name)
    ROWS[f"the mirror `{base}`"] = (str(caught.value),)


@pytest.mark.parametrize("token", ["hf_a\r\nX-Evil: 1", "hf_é", "hf_ a"])
def test_tokens_that_cannot_be_sent(token: str, server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "TOKEN_HOSTS", ("127.0.0.1",))
    monkeypatch.setattr("huggingface_hub.get_token", lambda: token)
    with pytest.warns(UserWarning, match="it is not sent"):
        assert get(f"hf://faults/good/{NAME}@{COMMIT}").read_bytes() == CONTENT
    assert "Authorization" not in server.requests[0].headers
    assert "X-Evil" not in server.requests[0].headers
    ROWS[f"HF_TOKEN={token!r}"] = ("the right file; a warning; the token is not sent",)


def test_proxy_with_a_password(
    server: FaultServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("http_proxy", f"http://{USER}:{PASSWORD}@127.0.0.1:{server.port}")
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
    source = f"hf://faults/403/{NAME}@{COMMIT}"
    with pytest.raises(SourcesFailedError) as caught:
        get(source)
    assert server.requests[0].headers["Proxy-Authorization"] == BASIC
    visible(str(caught.value) + caplog.text)
    ROWS["http_proxy=http://USER:PASSWORD@..."] = ("sent to the proxy alone",)
    monkeypatch.setenv("http_proxy", f"socks5://{USER}:{PASSWORD}@127.0.0.1:{server.port}")
    with pytest.raises(SourcesFailedError, match="only http:// proxies") as caught:
        get(source)
    visible(str(caught.value))
    reason = caught.value.reasons[0][1].replace(str(server.port), "PORT")
    ROWS["http_proxy=socks5://USER:PASSWORD@..."] = (f"refused: {reason}",)


def test_a_mirrors_fragment(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv(hub.MIRROR, f"http://127.0.0.1:1/#{SIGNATURE}")
    with pytest.raises(SourcesFailedError) as caught:
        get("http://127.0.0.1:1/x")
    visible(str(caught.value) + caplog.text)
    ROWS["the mirror `http://127.0.0.1/#SIGNATURE`"] = ("refused or used; the fragment is not shown",)


def test_a_proxy_that_writes_to_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "\x1b[2J")
    with pytest.raises(SourcesFailedError, match="the proxy") as caught:
        get("https://no-such-host.invalid/x")
    assert "\x1b" not in str(caught.value)


def test_several_mirrors_are_tried_in_turn(server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(hub.MIRROR, f"{server.url}/404 {server.url}/good/")
    assert get("https://no-such-host.invalid/x").read_bytes() == CONTENT
    assert [request.path for request in server.requests] == [f"/404/{NAME}", f"/good/{NAME}"]


def test_redaction() -> None:
    assert redacted("https://a:b@h/x?y#z") == "https://h/x?..."
    assert redacted("https://a:b@h/x#z and https://h/y#z") == "https://h/x#... and https://h/y#..."
    assert redacted("a:b@h") == "h"
    assert redacted("https://h/x@y") == "https://h/x@y"
    assert printable("a\x1b[2J\n‮") == r"a\x1b[2J\n\u202e"
    assert len(printable("x" * 10_000)) < 400
