"""What every test shares: one thread each, since the files run side by side, and no cache but the test's own."""

import itertools
import os
import signal
from collections.abc import Iterator

import pytest
import torch
from fault_server import FaultServer
from fetching import CONTENT, NAME
from ways import WAYS, take

import antialiased_zoo as az

torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that tests start
az.keep_freed_memory()  # fresh memory takes a third of the suite's time


def pytest_configure(config: pytest.Config) -> None:
    """Leave slow tests to `make test-slow`."""
    config.addinivalue_line("markers", "slow: shows for more networks or cases what a quick test shows for one")
    config.option.markexpr = config.option.markexpr or "not slow"


@pytest.fixture(autouse=True, scope="session")
def _interruptible() -> None:
    """A shell ignores SIGINT for what it runs in the background, and every process started from there inherits that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


_COUNT = itertools.count()


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's own torch hub folder."""
    folder = tmp_path_factory.getbasetemp() / f"torch_home_{next(_COUNT)}"  # mktemp() would look through all before
    folder.mkdir()
    monkeypatch.setenv("TORCH_HOME", str(folder))
    for name in (
        "ANTIALIASED_ZOO_MANIFEST",
        "ANTIALIASED_ZOO_MIRROR",
        "ANTIALIASED_ZOO_OFFLINE",
        "HF_HUB_OFFLINE",
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultServer]:
    with FaultServer(tmp_path_factory.mktemp("served")) as server:
        yield server


@pytest.fixture
def fetching_server(server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the server hold the files of `fetching`, and stand for Hugging Face too."""
    for name in (NAME, "net two é.pth"):
        (server.folder / name).write_bytes(CONTENT)
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    server.requests.clear()
    server.seen.clear()


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """One way of computing a blur after the other."""
    take(request.param, monkeypatch)
