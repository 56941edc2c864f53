"""Files that call themselves photos."""

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_table import write

from antialiased_zoo.evaluation import PhotoError, read_photo

ROWS: dict[str, tuple[str, ...]] = {}


@pytest.fixture(scope="module", autouse=True)
def _table() -> Iterator[None]:
    yield
    write("Photos", ("what calls itself a photo", "outcome"), ROWS, 6)


def said(error: PhotoError, path: Path) -> tuple[str]:
    return (f"PhotoError: {error}".replace(str(path), path.name),)


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_postscript_is_not_given_to_ghostscript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "cat.jpg"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_, **__: pytest.fail("Ghostscript was started"))
    with pytest.raises(PhotoError, match="not an image in one of the formats JPEG, PNG") as caught:
        read_photo(path)
    ROWS["PostScript"] = said(caught.value, path)


@pytest.mark.parametrize(("width", "height"), [(1, 64_000_000), (64_000_000, 1), (65_536, 1)])
def test_strips_are_refused_before_they_are_decoded(width: int, height: int, tmp_path: Path) -> None:
    (tmp_path / "strip.png").write_bytes(png(width, height))
    with pytest.raises(PhotoError, match="no side may be longer than 65,535") as caught:
        read_photo(tmp_path / "strip.png")
    ROWS[f"a PNG of {width:,} x {height:,} pixels"] = said(caught.value, tmp_path / "strip.png")


@pytest.mark.skipif(os.name != "posix", reason="pipes")
@pytest.mark.timeout(60)
def test_pipes_and_devices(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "cat.jpg")
    for path in (tmp_path / "cat.jpg", Path("/dev/zero")):
        with pytest.raises(PhotoError, match="a pipe or a device") as caught:
            read_photo(path)
        ROWS["a pipe" if path.suffix else "/dev/zero"] = said(caught.value, path)
