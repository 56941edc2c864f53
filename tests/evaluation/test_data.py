"""open_images: folders and zips, and what it says about data it cannot use."""

import io
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder

from antialiased_zoo.evaluation import images as images_module
from antialiased_zoo.evaluation.data import open_images
from antialiased_zoo.evaluation.images import CorruptImageError

CIFAR10 = Path(__file__).parents[3] / "shared" / "data" / "cifar10.zip"
MODES = {"a/1.png": "RGB", "a/2.png": "L", "a/deep/3.png": "RGBA", "b/1.png": "P", "b/2.jpg": "CMYK"}


def picture(mode="RGB", colour=7, suffix="png"):
    buffer = io.BytesIO()
    image = Image.new("RGB", (6, 4), (colour, 100, 200)).convert(mode)
    image.save(buffer, {"png": "PNG", "jpg": "JPEG"}[suffix])
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path):
    for name, mode in MODES.items():
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(mode, suffix=name[-3:]))
    (tmp_path / "images" / "b" / "notes.txt").write_text("no image")
    (tmp_path / "images" / "a" / "._1.png").write_text("a macOS companion file")
    return tmp_path / "images"


def zipped(folder, prefix=""):
    archive = folder.parent / "images.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in folder.rglob("*"):
            file.write(path, prefix + path.relative_to(folder).as_posix())
    return archive


def test_folder_is_read_as_torchvision_reads_it(folder):
    (folder / "a" / "._1.png").unlink()
    ours, theirs = open_images(folder), ImageFolder(folder)
    assert ours.classes == theirs.classes == ["a", "b"]
    assert ours.targets == theirs.targets
    assert [str(folder / name) for name in ours.samples] == [path for path, _ in theirs.samples]
    for (image, target), (expected, label) in zip(ours, theirs, strict=True):
        assert image.mode == "RGB"
        assert image.tobytes() == expected.tobytes()
        assert target == label


@pytest.mark.parametrize("inside", ["", "set/train"])
def test_zip_equals_folder(folder, inside):
    archive = zipped(folder, f"{inside}/" if inside else "")
    in_zip, on_disk = open_images(archive / inside), open_images(folder)
    assert (in_zip.classes, in_zip.targets, in_zip.samples) == (on_disk.classes, on_disk.targets, on_disk.samples)
    assert len(in_zip) == len(MODES)
    assert [image.tobytes() for image, _ in in_zip] == [image.tobytes() for image, _ in on_disk]
    assert in_zip.digest() == on_disk.digest()


def test_digest_sees_content_and_names(folder):
    before = open_images(folder).digest()
    (folder / "a" / "1.png").write_bytes(picture(colour=8))
    changed = open_images(folder).digest()
    (folder / "a" / "1.png").write_bytes(picture())
    assert open_images(folder).digest() == before
    (folder / "a" / "1.png").rename(folder / "a" / "0.png")
    assert len({before, changed, open_images(folder).digest()}) == 3
    assert len(before) == 64


def test_transform_is_applied(folder):
    images = open_images(folder, transform=lambda image: image.size)
    assert images[0] == ((6, 4), 0)
    assert images.image(0).size == (6, 4)


def test_worker_processes_read_the_same(folder):
    images = open_images(zipped(folder), transform=lambda image: torch.tensor(list(image.tobytes())))
    alone = [(pixels.tolist(), target) for pixels, target in images]
    loader = DataLoader(images, batch_size=None, num_workers=2)
    assert [(pixels.tolist(), int(target)) for pixels, target in loader] == alone


def test_an_open_zip_can_be_pickled(folder):
    images = open_images(zipped(folder))
    assert images[0][1] == 0
    copy = pickle.loads(pickle.dumps(images))
    assert copy[3][0].tobytes() == images[3][0].tobytes()


def test_the_quick_digest_tells_other_images_of_the_same_names_and_sizes(folder, monkeypatch):
    before = open_images(folder).quick_digest()
    assert open_images(zipped(folder)).quick_digest() == before
    (folder / "a" / "1.png").write_bytes(other := picture(colour=8))
    assert len(other) == len(picture())
    assert open_images(folder).quick_digest() != before
    (folder / "a" / "1.png").write_bytes(picture())
    assert open_images(folder).quick_digest() == before
    (folder / "a" / "1.png").rename(folder / "a" / "0.png")
    assert open_images(folder).quick_digest() != before


def test_the_quick_digest_reads_a_spread_sample_of_many_images(folder, monkeypatch):
    images, read = open_images(folder), []
    sizes = {name: (folder / name).stat().st_size for name in images.samples}
    monkeypatch.setattr(images_module, "_READ", -(-sum(sizes.values()) // 2))
    monkeypatch.setattr(images, "read", lambda name: read.append(name) or (folder / name).read_bytes())
    before = images.quick_digest()
    assert read == images.samples[::2]
    name = images.samples[1]  # not read, but its size is known
    (folder / name).write_bytes((folder / name).read_bytes() + b"x")
    assert images.quick_digest() != before


@pytest.mark.parametrize("name", ["a/1.png", "b/2.jpg"])
@pytest.mark.parametrize("damage", [lambda data: b"text", lambda data: data[: len(data) // 2], lambda data: b""])
def test_corrupt_image_is_named(folder, name, damage):
    (folder / name).write_bytes(damage((folder / name).read_bytes()))
    images = open_images(folder)
    with pytest.raises(CorruptImageError, match=name):
        images[images.samples.index(name)]


def test_missing_paths(tmp_path, folder):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        open_images(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="'test/'"):
        open_images(zipped(folder) / "test")


def test_what_is_no_image_folder(tmp_path, folder):
    (tmp_path / "file.zip").write_text("not a zip")
    with pytest.raises(ValueError, match="is not a zip file"):
        open_images(tmp_path / "file.zip" / "train")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"no images in .*empty"):
        open_images(tmp_path / "empty")
    (folder / "c").mkdir()
    with pytest.raises(ValueError, match=r"without images in .*: c;"):
        open_images(folder)
    with pytest.raises(ValueError, match="directly in"):
        open_images(folder / "a")


@pytest.mark.skipif(not CIFAR10.exists(), reason="the shared data is not here")
def test_cifar10():
    for part, count in (("train", 50_000), ("val", 10_000)):
        images = open_images(CIFAR10 / part)
        assert len(images) == count
        assert [images.targets.count(label) for label in range(10)] == [count // 10] * 10
        assert images[count - 1][0].size == (32, 32)
    assert images.classes[0] == "airplane"
    assert images.classes[9] == "truck"
