"""A kind of source that the package does not know, registered from outside."""

from pathlib import Path

import pytest
from fault_server import FaultServer
from fetching import CONTENT, DIGEST, HASTE, NAME, wanted

from antialiased_zoo.errors import SourcesFailedError
from antialiased_zoo.weights import hub, schemes
from antialiased_zoo.weights.hub import cache
from antialiased_zoo.weights.weights_file import WeightsFile

pytestmark = pytest.mark.usefixtures("fetching_server")


class Shelf(hub.Scheme):
    """``shelf:NAME``: a folder that stands for storage of some other kind."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def check(self, source: str) -> None:
        if "/" in source:
            raise ValueError("a shelf has no folders")

    def fetch(self, source: str, job: hub.Job) -> bool:
        job.copy(self.folder / source.removeprefix("shelf:"))
        return False


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(schemes, "_SCHEMES", dict(schemes._SCHEMES))
    hub.register_scheme("shelf", Shelf(tmp_path))
    return tmp_path


def test_its_files_are_verified_like_any(shelf: Path) -> None:
    (shelf / "good").write_bytes(CONTENT)
    (shelf / "bad").write_bytes(CONTENT[:-1])
    path = hub.fetch(wanted("shelf:missing", "shelf:bad", "shelf:good"), progress=False)
    assert path.read_bytes() == CONTENT
    path.unlink()
    with pytest.raises(SourcesFailedError, match="SHA-256"):
        hub.fetch(wanted("shelf:bad"), progress=False)
    assert not path.exists()


def test_it_may_turn_into_a_download(shelf: Path, server: FaultServer) -> None:
    class Alias(hub.Scheme):
        def fetch(self, source: str, job: hub.Job) -> bool:
            return job.download(f"{server.url}/{source.removeprefix('alias:')}/{NAME}")

    hub.register_scheme("alias", Alias())
    assert hub.fetch(wanted("alias:short_once"), progress=False, retry=HASTE).read_bytes() == CONTENT
    assert [path.name for path in cache.folder().glob("*.part*")] == []


def test_one_that_fetches_nothing_is_passed_over(shelf: Path) -> None:
    class Empty(hub.Scheme):
        def fetch(self, source: str, job: hub.Job) -> bool:
            return False

    hub.register_scheme("empty", Empty())
    (shelf / "good").write_bytes(CONTENT)
    assert hub.fetch(wanted("empty:x", "shelf:good"), progress=False).read_bytes() == CONTENT


def test_its_rules_are_part_of_the_manifests(shelf: Path) -> None:
    with pytest.raises(ValueError, match="no folders"):
        WeightsFile(NAME, "pickle", ("shelf:a/b",), DIGEST)
    with pytest.raises(ValueError, match=r"must begin with one of https:.*shelf:"):
        WeightsFile(NAME, "pickle", ("cupboard:a",), DIGEST)


@pytest.mark.parametrize("name", ["https", "shelf", "S3", "a:b", ""])
def test_names_that_are_taken_or_none(shelf: Path, name: str) -> None:
    with pytest.raises(ValueError, match="scheme"):
        hub.register_scheme(name, hub.Scheme())
