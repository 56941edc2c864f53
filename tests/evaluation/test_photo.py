"""Photos as they come: the right pixels or a named error, never a crash or gigabytes."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import PIL
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from antialiased_zoo.evaluation.photo import MAX_PIXELS, PhotoError, read_photo

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)


def saved(tmp_path: Path, image: Image.Image, name: str, **options: object) -> Path:
    path = tmp_path / name
    image.save(path, **options)
    return path


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "YCbCr"])
def test_every_mode_becomes_rgb(mode: str, tmp_path: Path) -> None:
    grey = Image.fromarray(RAMP)
    path = saved(tmp_path, grey.convert(mode), "image.tif")
    if mode == "YCbCr" and int(PIL.__version__.partition(".")[0]) < 13:
        pytest.skip("this Pillow cannot read the file that it has written")
    photo = read_photo(path)
    assert photo.mode == "RGB"
    if mode not in ("1",):  # black and white keeps only two levels
        assert abs(np.asarray(photo).astype(int) - RAMP[..., None]).max() <= 2


def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.fromarray(RAMP.astype(np.uint16) * 257), "image.png")
    assert np.array_equal(np.asarray(read_photo(path))[..., 0], RAMP)


@pytest.mark.parametrize("orientation", range(10))
def test_exif_rotation_is_pillows(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path, Image.fromarray(RAMP[:8]).convert("RGB"), "image.png", exif=exif)
    assert np.array_equal(np.asarray(read_photo(path)), np.asarray(ImageOps.exif_transpose(Image.open(path))))


def test_other_metadata_may_be_broken(tmp_path: Path) -> None:
    """A width that is a fraction ended in struct.error, when Pillow wrote the metadata without the rotation."""
    exif = Image.Exif()
    exif[0x0112], exif[0x011A] = 6, 2.5  # rotate 90 degrees clockwise to view
    path = saved(tmp_path, Image.fromarray(RAMP[:8]).convert("RGB"), "image.jpg", exif=exif)
    resolution, width = (tag.to_bytes(2, "big") + b"\0\5" for tag in (0x011A, 0x0100))
    path.write_bytes(path.read_bytes().replace(resolution, width))
    assert read_photo(path).size == (8, 16)


def test_transparency_is_white_and_animations_show_their_first_frame(tmp_path: Path) -> None:
    clear = Image.new("RGBA", (4, 4), (10, 20, 30, 0))
    assert read_photo(saved(tmp_path, clear, "clear.png")).getpixel((0, 0)) == (255, 255, 255)
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    path = saved(tmp_path, frames[0], "two.gif", save_all=True, append_images=frames[1:])
    assert read_photo(path).getpixel((0, 0)) == (255, 0, 0)


def test_strips_keep_their_centre(tmp_path: Path) -> None:
    assert read_photo(saved(tmp_path, Image.new("RGB", (1, 1), "red"), "dot.png")).size == (1, 1)
    strip = Image.new("RGB", (60_000, 1), "red")
    strip.putpixel((30_000, 0), (0, 0, 255))
    photo = read_photo(saved(tmp_path, strip, "strip.png"))
    assert photo.size == (4, 1)
    assert (0, 0, 255) in [photo.getpixel((x, 0)) for x in range(4)]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "not an image"), (b"<html></html>", "not an image"), (None, "No such file"), (b"\xff\xd8\xff\xe0", "image")],
)
def test_what_is_no_image_is_named(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "file.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PhotoError, match=message) as caught:
        read_photo(path)
    assert str(path) in str(caught.value)


def test_floats_and_huge_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PhotoError, match="floating-point"):
        read_photo(saved(tmp_path, Image.fromarray(RAMP.astype(np.float32)), "float.tif"))
    huge = Image.new("1", (MAX_PIXELS // 1000, 1001))
    with pytest.raises(PhotoError, match="scale it down"):
        read_photo(saved(tmp_path, huge, "huge.png"))


JPEG, PNG = (io.BytesIO() for _ in range(2))
Image.fromarray(np.kron(RAMP, np.ones((4, 4), np.uint8))).convert("RGB").save(JPEG, "jpeg")
Image.fromarray(RAMP).save(PNG, "png")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    original=st.sampled_from([JPEG.getvalue(), PNG.getvalue()]),
    cut=st.integers(0, 4000),
    places=st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=8),
)
def test_harmed_files_give_an_image_or_a_photo_error(
    original: bytes, cut: int, places: list[tuple[int, int]], tmp_path: Path
) -> None:
    data = bytearray(original[: len(original) - cut] if cut < len(original) else original)
    for place, value in places:
        data[place % len(data)] = value
    path = tmp_path / "harmed"
    path.write_bytes(data)
    try:
        photo = read_photo(path)
    except PhotoError:
        return
    assert photo.mode == "RGB"
    assert photo.width * photo.height <= MAX_PIXELS
