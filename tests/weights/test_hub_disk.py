"""What the disk may do."""

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_server import FaultServer
from fetching import CONTENT, NAME, get

from antialiased_zoo.errors import CacheError
from antialiased_zoo.weights.hub import cache

pytestmark = pytest.mark.usefixtures("fetching_server")


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
        from antialiased_zoo.weights.hub.part import Part

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
