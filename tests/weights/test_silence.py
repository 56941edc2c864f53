"""Hosts that do not answer: how long they are waited for, all together."""

import socket
import time
from urllib.parse import urlsplit

import pytest
from fetching import NAME, get, wanted

from antialiased_zoo.errors import SourcesFailedError
from antialiased_zoo.weights import hub
from antialiased_zoo.weights.hub import connection
from antialiased_zoo.weights.hub.clock import Clock
from antialiased_zoo.weights.hub.connection import Network
from antialiased_zoo.weights.hub.retry import Retry, SourceError


def test_a_silent_host_is_asked_once_and_the_next_gets_half(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, float]] = []
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def silent(scheme: str, place: tuple[str, int], clock: Clock) -> connection.Stream:
        asked.append((place[0], round(clock.left(), 1)))
        now[0] += clock.left()
        clock.left()
        raise AssertionError("the limit is over")

    monkeypatch.setattr(connection, "_open", silent)
    network = Network(Retry().connect)
    for host in ("a", "a", "b", "c", "b"):
        with pytest.raises(SourceError, match="no connection in time"):
            network.open(urlsplit(f"https://{host}/x"), Clock())
    assert asked == [("a", 5.0), ("b", 2.5), ("c", 1.2)]  # less than ten seconds, however many there are


def test_addresses_share_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name with a dead address before a living one: the first has half of the time."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        waited: list[float] = []

        class Socket(socket.socket):
            def connect(self, address: object) -> None:
                waited.append(self.gettimeout() or 0)
                if address == ("dead", port):
                    raise TimeoutError
                super().connect(address)  # type: ignore[arg-type]

        monkeypatch.setattr(socket, "socket", Socket)
        clock = Clock()
        clock.limit("connect", 4, SourceError("no connection in time"))
        connection._tcp([(*kind, ("dead", port)), (*kind, ("127.0.0.1", port))], clock).close()
    assert waited[0] == pytest.approx(2, abs=0.2)


def test_lookups_that_never_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(60) or [])
    with pytest.raises(SourcesFailedError, match=r"Failed to resolve .* in time"):
        hub.fetch(wanted(f"https://no-such-host.invalid/{NAME}"), progress=False, retry=Retry(connect=0.2))


@pytest.mark.parametrize("endpoint", ["http://[::1", "nonsense", "http://127.0.0.1:port"])
def test_an_endpoint_that_is_no_url_means_the_next_source(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    with pytest.raises(SourcesFailedError) as caught:
        get(f"hf://faults/good/{NAME}@main", "http://127.0.0.1:1/x")
    first, (second, _) = caught.value.reasons
    assert "HF_ENDPOINT is not a URL" in first[1]
    assert second == "http://127.0.0.1:1/x"  # refused, or not in time on a busy machine


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_certificates_that_are_missing_mean_the_next_source(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "/no/such/file.pem")
    with socket.create_server(("127.0.0.1", 0)) as listening, pytest.raises(SourcesFailedError) as caught:
        get(f"https://127.0.0.1:{listening.getsockname()[1]}/x", "http://127.0.0.1:1/x")
    assert len(caught.value.reasons) == 2
