"""A cache folder that others write to: links, pipes, devices and other people's files under this package's names."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_server import FaultServer
from fault_table import write
from fetching import CONTENT, DIGEST, NAME, get, part_of, wanted

from antialiased_zoo.errors import CacheError, ManifestError
from antialiased_zoo.weights import atomic_files, hub, manifest
from antialiased_zoo.weights.atomic_files import private_name
from antialiased_zoo.weights.hub import cache, stamps
from antialiased_zoo.weights.hub.part import Note

pytestmark = [
    pytest.mark.usefixtures("fetching_server"),
    pytest.mark.skipif(os.name != "posix", reason="pipes and links"),
    pytest.mark.timeout(60),
]
OWN = (".part", ".part.json", ".verified")
ROWS: dict[str, tuple[str, ...]] = {}
RIGHT = "the right file"


def planted(server: FaultServer, fault: str, suffix: str) -> str:
    """Return the name that the loader will use: a stamp's, or that of the part of this source."""
    return part_of(f"{server.url}/{fault}/{NAME}", NAME, suffix) if ".part" in suffix else f"{NAME}{suffix}"


@pytest.fixture(scope="module", autouse=True)
def _table() -> Iterator[None]:
    yield
    write("Cache folders that others write to", ("what lies there", "outcome"), ROWS, 23)


@pytest.fixture
def folder() -> Path:
    cache.make(cache.folder())
    return cache.folder()


@pytest.mark.parametrize("suffix", OWN)
@pytest.mark.parametrize("fault", ["good", "short_once"])
def test_links_are_not_written_through(
    suffix: str, fault: str, folder: Path, server: FaultServer, tmp_path: Path
) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    (folder / planted(server, fault, suffix)).symlink_to(precious)
    assert get(f"{server.url}/{fault}/{NAME}").read_bytes() == CONTENT
    assert precious.read_bytes() == b"precious"
    ROWS[f"a link under {NAME}{suffix}"] = (f"{RIGHT}; what the link points to is as before",)


@pytest.mark.parametrize("suffix", OWN)
def test_second_names_are_not_written_through(suffix: str, folder: Path, server: FaultServer, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    os.link(precious, folder / planted(server, "good", suffix))
    assert get(f"{server.url}/good/{NAME}").read_bytes() == CONTENT
    assert precious.read_bytes() == b"precious"
    ROWS[f"another file's second name under {NAME}{suffix}"] = (f"{RIGHT}; the other file is as before",)


@pytest.mark.parametrize("suffix", [*OWN, ".lock"])
def test_pipes_are_not_waited_for(suffix: str, folder: Path, server: FaultServer) -> None:
    os.mkfifo(folder / planted(server, "good", suffix))
    assert get(f"{server.url}/good/{NAME}").read_bytes() == CONTENT
    assert get(f"{server.url}/404/{NAME}").read_bytes() == CONTENT
    ROWS[f"a pipe under {NAME}{suffix}"] = (f"{RIGHT}, at once",)


@pytest.mark.parametrize("suffix", OWN)
def test_devices_are_not_read(suffix: str, folder: Path, server: FaultServer) -> None:
    (folder / planted(server, "good", suffix)).symlink_to("/dev/zero")
    assert get(f"{server.url}/good/{NAME}").read_bytes() == CONTENT
    ROWS[f"a link to /dev/zero under {NAME}{suffix}"] = (RIGHT,)


@pytest.mark.parametrize("suffix", [".part", ".part.json"])
def test_folders_under_a_parts_name(suffix: str, folder: Path, server: FaultServer) -> None:
    name = planted(server, "short_once", suffix)
    (folder / name).mkdir()
    assert get(f"{server.url}/short_once/{NAME}").read_bytes() == CONTENT
    assert {path.name for path in folder.iterdir()} == {NAME, f"{NAME}.verified", name}
    ROWS[f"a folder under {NAME}{suffix}"] = (f"{RIGHT}, under a name of its own; the log names the folder",)


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_under_the_files_own_name(kind: str, folder: Path, server: FaultServer) -> None:
    path = folder / NAME
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(CacheError, match="a pipe or a device") as caught:
        get(f"{server.url}/good/{NAME}")
    what = str(caught.value).replace(str(cache.folder()), "CACHE")
    ROWS[f"a {'pipe' if kind == 'pipe' else 'link to /dev/zero'} under {NAME}"] = (f"CacheError: {what}",)
    assert [verdict.status for verdict in hub.verify([wanted("https://x.invalid/x")])] == ["unreadable"]


def test_manifests(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("pipe", "zero"):
        with pytest.raises(ManifestError, match="a pipe or a device") as caught:
            manifest.load([tmp_path / name])
    ROWS["a pipe or /dev/zero as the manifest"] = (
        f"ManifestError: {str(caught.value).replace(str(tmp_path / 'zero'), 'FILE')}",
    )


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    home = Path(tempfile.mkdtemp())  # pytest's own folders are closed to others
    home.chmod(0o755)
    monkeypatch.setenv("TORCH_HOME", str(home))
    cache.make(cache.folder())
    cache.folder().chmod(0o1777)
    yield cache.folder()
    shutil.rmtree(home)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="another user's files need root to make")
def test_another_users_part_in_a_shared_folder_is_named_and_passed_by(
    shared: Path, server: FaultServer, caplog: pytest.LogCaptureFixture
) -> None:
    folder = shared
    get(f"{server.url}/good/{NAME}").unlink()  # imports what the other user may not read
    stamps.beside(folder / NAME, ".verified").unlink()
    source = f"{server.url}/good/{NAME}"
    part = folder / part_of(source)
    part.write_bytes(CONTENT[:10])
    note = Note(f'"{DIGEST}"', len(CONTENT))
    part.with_name(f"{part.name}.json").write_text(json.dumps(vars(note)))
    child = os.fork()  # the server stays root
    if child == 0:
        try:
            os.seteuid(65534)
            right = get(f"{server.url}/good/{NAME}").read_bytes() == CONTENT
            os._exit(0 if right and str(part) in caplog.text else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert part.read_bytes() == CONTENT[:10]
    assert {path.name for path in folder.iterdir()} == {NAME, f"{NAME}.verified", part.name, f"{part.name}.json"}
    ROWS["another user's interrupted part"] = (f"{RIGHT}, under a name of its own; the log names the part",)


def test_containers_with_one_host_name_do_not_sweep_each_others_parts(
    folder: Path, server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = f"{NAME}{private_name()}.part"
    monkeypatch.setattr(atomic_files, "_machine", lambda: "another")
    theirs = [f"{NAME}{private_name().replace(str(os.getpid()), '999999')}.part"]
    monkeypatch.undo()
    monkeypatch.setenv("TORCH_HOME", str(folder.parents[1]))
    for name in (ours, *theirs):
        (folder / name).touch()
    dead = f"{NAME}{private_name().replace(str(os.getpid()), '999999')}.part"
    (folder / dead).touch()
    get(f"{server.url}/good/{NAME}")
    assert {path.name for path in folder.iterdir()} == {NAME, f"{NAME}.verified", ours, *theirs}
    ROWS["temporary files of a container with the same host name"] = (f"{RIGHT}; the files stay",)


def test_a_nan_check_does_not_outlive_its_file(folder: Path, server: FaultServer) -> None:
    path = get(f"{server.url}/good/{NAME}")
    stamps.mark_finite(path)
    assert stamps.is_finite(path)
    path.write_bytes(CONTENT)  # the same bytes, but written later
    assert not stamps.is_finite(path)
    old = stamps.read(path)
    assert old is not None
    stamps.write(path, stamps.Stamp.of("0" * 64, path.stat(), finite=True))  # of another file
    assert next(hub.verify([wanted("https://x.invalid/x")])).status == "ok"
    assert not stamps.is_finite(path)
    ROWS["a newer file under an old stamp"] = ("hashed, and searched for NaN, anew",)


def test_short_digests_are_said_once(folder: Path, server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(hub.MIRROR, f"{server.url}/good")
    with pytest.warns(hub.ShortDigestWarning, match=rf"a mirror.*8 hex digits.*{DIGEST}") as caught:
        path = get("https://no-such-host.invalid/x", full=False)
    ROWS["8 digits of the digest are public; the file comes from a mirror"] = (told(caught),)
    path.with_name(f"{NAME}.verified").unlink()
    with pytest.warns(hub.ShortDigestWarning, match=rf"by hand.*{DIGEST}") as caught:
        get("https://no-such-host.invalid/x", full=False)
    assert caught[0].filename.endswith("fetching.py")  # the caller's line, not one of this package
    assert len(caught) == 1
    ROWS["8 digits of the digest are public; the file was put there by hand"] = (told(caught),)


def told(caught: pytest.WarningsRecorder) -> str:
    return f"{RIGHT}; ShortDigestWarning: {caught[0].message}".replace(DIGEST, "...")


@pytest.mark.parametrize("full", [True, False])
def test_short_digests_are_not_said_of_what_is_known(
    full: bool, server: FaultServer, recwarn: pytest.WarningsRecorder
) -> None:
    path = get(f"{server.url}/good/{NAME}", full=full)
    assert get("https://no-such-host.invalid/x", full=full) == path
    assert not [warning for warning in recwarn if warning.category is hub.ShortDigestWarning]
