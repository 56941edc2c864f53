"""Data outside class folders: ImageNet's validation images and devkit, label files, WebDataset, Hugging Face."""

import gzip
import io
import tarfile

import numpy as np
import pytest
from PIL import Image

from antialiased_zoo.evaluation import images as images_module
from antialiased_zoo.evaluation import open_data, register_data_source, webdataset
from antialiased_zoo.evaluation.data_sources import DATA_SOURCES

IDS = ["n02119789", "n02100735", "n01440764", "n01443537"]  # as in the devkit: not sorted


def picture(value):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6), (value, 9, 9)).save(buffer, "PNG")
    return buffer.getvalue()


def colour(images, index):
    return images.image(index).getpixel((0, 0))[0]


@pytest.fixture
def flat(tmp_path):
    folder = tmp_path / "val"
    folder.mkdir()
    for number in range(1, 6):
        (folder / f"ILSVRC2012_val_{number:08}.png").write_bytes(picture(number))
    return folder


@pytest.fixture
def devkit(tmp_path):
    from scipy.io import savemat

    data = tmp_path / "ILSVRC2012_devkit_t12" / "data"
    data.mkdir(parents=True)
    rows = [(number, wnid, f"word {number}", "gloss", 0) for number, wnid in enumerate(IDS, start=1)]
    kinds = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("gloss", "O"), ("num_children", "O")]
    savemat(data / "meta.mat", {"synsets": np.array(rows, dtype=kinds).reshape(-1, 1)})
    (data / "ILSVRC2012_validation_ground_truth.txt").write_text("3\n1\n4\n2\n3\n")
    return data.parent


def test_the_devkits_labels_are_torchvisions(flat, devkit, tmp_path, monkeypatch):
    import torch
    from torchvision.datasets import imagenet

    monkeypatch.setattr(imagenet, "_verify_archive", lambda *_: None)
    monkeypatch.setattr(imagenet, "extract_archive", lambda _, target: devkit.rename(f"{target}/{devkit.name}"))
    monkeypatch.setattr(
        imagenet, "ARCHIVE_META", {"devkit": ("ILSVRC2012_devkit_t12.tar.gz", ""), "train": ("", ""), "val": ("", "")}
    )
    images = open_data(str(flat), labels=devkit)
    assert images.classes == sorted(IDS)
    assert [images.classes[target] for target in images.targets] == [IDS[n - 1] for n in (3, 1, 4, 2, 3)]
    assert colour(images, 3) == 4
    imagenet.parse_devkit_archive(tmp_path)
    _, theirs = torch.load(tmp_path / imagenet.META_FILE)
    assert theirs == [images.classes[target] for target in images.targets]


def test_the_devkits_numbers_alone_are_refused(flat, devkit):
    truth = devkit / "data" / "ILSVRC2012_validation_ground_truth.txt"
    with pytest.raises(ValueError, match=r"give the devkit's folder, whose meta\.mat"):
        open_data(str(flat), labels=truth)


@pytest.mark.parametrize("form", ["ILSVRC2012_val_{:08}.JPEG {}", "ILSVRC2012_val_{:08},{} 1 2 3 4"])
def test_a_file_of_images_and_labels(flat, tmp_path, form):
    labels = tmp_path / "labels.csv"
    labels.write_text("ImageId,PredictionString\n" + "\n".join(form.format(n, "ab"[n % 2]) for n in range(5, 0, -1)))
    assert open_data(str(flat), labels=labels).targets == [1, 0, 1, 0, 1]
    labels.write_text(labels.read_text().replace("00000003", "00000009"))
    with pytest.raises(ValueError, match=r"no label for ILSVRC2012_val_00000003.png \(1 of 5"):
        open_data(str(flat), labels=labels)


def test_class_numbers_keep_their_meaning(flat, tmp_path):
    labels = tmp_path / "val.txt"
    labels.write_text("\n".join(f"ILSVRC2012_val_{n:08}.JPEG {n * 2}" for n in range(1, 6)))
    images = open_data(str(flat), labels=labels)
    assert (len(images.classes), images.targets) == (11, [2, 4, 6, 8, 10])


def test_images_without_labels_say_what_to_do(flat):
    with pytest.raises(ValueError, match="or give their labels"):
        open_data(str(flat))


def shards(folder):
    for shard, numbers in enumerate([(1, 2, 3), (4, 5)]):
        with tarfile.open(folder / f"val-{shard:04}.tar", "w") as tar:
            for number in numbers:
                for suffix, content in (("png", picture(number)), ("cls", str(number % 3).encode())):
                    member = tarfile.TarInfo(f"{number:05}.{suffix}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    return f"wds:{folder}/val-{{0000..0001}}.tar"


def test_webdataset_shards_are_read_at_random(tmp_path):
    images = open_data(shards(tmp_path))
    assert (images.classes, images.targets) == (["0", "1", "2"], [1, 2, 0, 1, 2])
    assert [colour(images, index) for index in (4, 0, 2)] == [5, 1, 3]
    assert open_data(f"wds:{tmp_path}").samples == images.samples
    images.keep([1, 3])
    assert (len(images), colour(images, 1), images.targets) == (2, 4, [2, 1])
    with pytest.raises(FileNotFoundError, match="no shard"):
        open_data(f"wds:{tmp_path}/val-{{0000..0002}}.tar")


def test_bars_are_shown_if_asked_for(tmp_path, monkeypatch):
    asked = []

    def bar(items, desc, disable, leave):
        asked.append((desc, disable))
        return items

    for module in (webdataset, images_module):
        monkeypatch.setattr(module, "tqdm", bar)
    for hidden in (None, True):
        open_data(shards(tmp_path), hide_bar=hidden).digest(hidden)
    assert asked == [("shards", None), ("digest", None), ("shards", True), ("digest", True)]
    monkeypatch.setitem(DATA_SOURCES, "own", lambda place: place)  # a source that shows none
    assert open_data("own:x", hide_bar=None) == "x"


def test_webdataset_reads_what_the_library_reads(tmp_path):
    library = pytest.importorskip("webdataset")
    images = open_data(shards(tmp_path))
    urls = [str(path) for path in sorted(tmp_path.glob("*.tar"))]
    theirs = list(library.WebDataset(urls, shardshuffle=False).decode("pil").to_tuple("png", "cls"))
    assert [target for _, target in theirs] == [int(images.classes[target]) for target in images.targets]
    assert [image.convert("RGB").tobytes() for image, _ in theirs] == [images.image(i).tobytes() for i in range(5)]


def test_webdataset_keys_end_at_the_first_dot_of_the_files_name(tmp_path):
    library = pytest.importorskip("webdataset")
    with library.TarWriter(str(tmp_path / "a.tar")) as writer:
        for number, key in enumerate(["./1", "set.v2/x/2", "set.v2/3"]):
            writer.write({"__key__": key, "png": picture(number), "cls": number, "json": {"a.b": 1}})
    images = open_data(f"wds:{tmp_path / 'a.tar'}")
    assert [name.removeprefix("a.tar/") for name in images.samples] == ["./1", "set.v2/x/2", "set.v2/3"]
    theirs = list(library.WebDataset(str(tmp_path / "a.tar"), shardshuffle=False))
    assert [sample["png"] for sample in theirs] == [images.read(name) for name in images.samples]
    assert [int(sample["cls"]) for sample in theirs] == images.targets


def test_a_cut_off_shard_is_an_error(tmp_path):
    """Where the cut went through a header, the images before it were taken for all."""
    source, shard = shards(tmp_path), tmp_path / "val-0000.tar"
    whole = shard.read_bytes()
    for cut in range(100, 3 * 2 * 1024, 200):  # three images and labels of up to a block, each with its header
        shard.write_bytes(whole[:cut])
        if cut % 512:
            with pytest.raises(ValueError, match=r"val-0000\.tar is not a whole, uncompressed tar"):
                open_data(source)
    shard.write_bytes(whole)
    assert len(open_data(source)) == 5
    (tmp_path / "zipped.tar").write_bytes(gzip.compress(whole))
    with pytest.raises(ValueError, match="is not a whole, uncompressed tar"):
        open_data(f"wds:{tmp_path}/zipped.tar")


def test_webdataset_keys_with_two_images_are_an_error(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for suffix in ("png", "jpg"):
            tar.addfile(tarfile.TarInfo(f"1.{suffix}"), io.BytesIO(b""))
    with pytest.raises(ValueError, match=r"a\.tar/1 has two images"):
        open_data(f"wds:{tmp_path / 'a.tar'}")


def hugging_faces(rows, features):
    """A table; from_dict() would pickle pyarrow's classes for a fingerprint, which fails with some versions."""
    import datasets
    import pyarrow

    table = pyarrow.table(rows, schema=features.arrow_schema)
    return datasets.Dataset(table, datasets.DatasetInfo(features=features), fingerprint="tests")


def test_hugging_faces_data_sets(tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"]), "id": datasets.Value("int32")}
    )
    rows = {"image": [{"bytes": picture(n), "path": None} for n in (1, 2, 3)], "label": [1, 0, 1], "id": [7, 8, 9]}
    table = hugging_faces(rows, features)
    datasets.DatasetDict({"validation": table, "test": table.select([2])}).save_to_disk(tmp_path / "pets")
    images = open_data(f"hf:{tmp_path / 'pets'}")
    assert (images.classes, images.targets, colour(images, 1)) == (["cat", "dog"], [1, 0, 1], 2)
    assert colour(open_data(f"hf:{tmp_path / 'pets'}:test"), 0) == 3
    assert len(images.digest()) == 64
    with pytest.raises(ValueError, match="no split 'train'; there are validation, test"):
        open_data(f"hf:{tmp_path / 'pets'}:train")
    table.remove_columns(["label", "id"]).save_to_disk(tmp_path / "bare")
    with pytest.raises(ValueError, match="has not exactly one column of labels"):
        open_data(f"hf:{tmp_path / 'bare'}")
    assert colour(open_data(f"hf:{tmp_path / 'bare'}", labelled=False), 2) == 3
    with pytest.raises(ValueError, match="holds one split, without a name: leave out :test"):
        open_data(f"hf:{tmp_path / 'bare'}:test")
    with pytest.raises(ValueError, match="names no data set"):
        open_data("hf:")


@pytest.fixture
def saved(tmp_path):
    """Saves a table of three images with further columns; returns what names it."""
    datasets = pytest.importorskip("datasets")

    def save(name, image=None, **columns):
        rows = {"image": [{"bytes": picture(n), "path": None} for n in (1, 2, 3)]}
        features = {"image": image or datasets.Image()}
        for column, values in columns.items():
            rows[column] = values
            texts = isinstance(values[0], str)
            features[column] = datasets.Value("string" if texts else "int64")
        if isinstance(image, datasets.Value):
            rows["image"] = [cell["bytes"] for cell in rows["image"]]
        hugging_faces(rows, datasets.Features(features)).save_to_disk(tmp_path / name)
        return f"hf:{tmp_path / name}"

    return save


def test_labels_of_hugging_faces_data_may_be_texts_or_numbers(saved):
    images = open_data(saved("texts", kind=["dog", "cat", "dog"]))
    assert (images.classes, images.targets, colour(images, 1)) == (["cat", "dog"], [1, 0, 1], 2)
    images = open_data(saved("numbers", label=[2, 0, 2]))
    assert (images.classes, images.targets) == (["0", "1", "2"], [2, 0, 2])
    two = saved("two", fine=["dog", "cat", "dog"], coarse=["pet"] * 3)
    with pytest.raises(ValueError, match=r"name one, as in hf:.*:SPLIT:COLUMN; it has image \(Image\), fine"):
        open_data(two)
    images = open_data(f"{two}::coarse")
    assert (images.classes, images.targets) == (["pet"], [0, 0, 0])
    with pytest.raises(ValueError, match="has no column medium"):
        open_data(f"{two}::medium")
    with pytest.raises(ValueError, match="image 1 has no label in column kind"):
        open_data(saved("gap", kind=["dog", None, "dog"]))
    with pytest.raises(ValueError, match="image 2 has no label in column kind"):
        open_data(saved("empty", kind=["dog", "cat", ""]))
    with pytest.raises(ValueError, match="has no column image of class labels, texts or numbers"):
        open_data(f"{two}::image")
    with pytest.raises(ValueError, match="class numbers below 0"):
        open_data(saved("unknown", label=[-1, 0, -1]))


def test_images_of_hugging_faces_data_may_be_bytes(saved):
    datasets = pytest.importorskip("datasets")
    for name, kind in (
        ("bytes", datasets.Value("binary")),
        ("pandas", {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}),
    ):
        images = open_data(saved(name, kind, label=[0, 1, 0]))
        assert [colour(images, index) for index in range(3)] == [1, 2, 3]


def test_hugging_faces_data_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "pets").mkdir()
    (tmp_path / "pets" / "train.parquet").write_bytes(b"none")
    with pytest.raises(ValueError, match=r"cannot open hf:.*; expected a data set with the split validation, or hf:"):
        open_data(f"hf:{tmp_path / 'pets'}")


def test_webdataset_without_labels(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        member = tarfile.TarInfo("1.png")
        member.size = len(picture(7))
        tar.addfile(member, io.BytesIO(picture(7)))
    with pytest.raises(ValueError, match="no label for"):
        open_data(f"wds:{tmp_path / 'a.tar'}")
    assert colour(open_data(f"wds:{tmp_path / 'a.tar'}", labelled=False), 0) == 7


def test_labels_that_are_numbers(flat, tmp_path):
    lines = tmp_path / "labels.csv"
    names = sorted(path.name for path in flat.iterdir())

    def opened(*labels):
        lines.write_text("".join(f"{name},{label}\n" for name, label in zip(names, labels, strict=True)))
        return open_data(str(flat), labels=lines)

    images = opened("003", "001", "0", "3", "1")  # with leading zeros, as identifiers have
    assert (images.classes, images.targets) == (["0", "1", "2", "3"], [3, 1, 0, 3, 1])
    images = opened("²", "1", "1", "1", "1")  # a digit, but no number
    assert (images.classes, images.targets) == (["1", "²"], [1, 0, 0, 0, 0])
    with pytest.raises(ValueError, match=r"the label 20261127.*numbers below 1,000,000, or names"):
        opened("20261127", "1", "1", "1", "1")


def test_folders_that_hugging_faces_library_reads(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    rows = {"image": [{"bytes": picture(n), "path": None} for n in (1, 2, 3)], "label": [1, 0, 1]}
    (tmp_path / "pets" / "data").mkdir(parents=True)
    table = hugging_faces(rows, features)
    table.to_parquet(tmp_path / "pets" / "data" / "validation-00000-of-00001.parquet")
    images = open_data(f"hf:{tmp_path / 'pets'}")
    assert (images.classes, images.targets, colour(images, 2)) == (["cat", "dog"], [1, 0, 1], 3)
    for index, name in enumerate(["cat", "dog"]):
        place = tmp_path / "files" / "validation" / name
        place.mkdir(parents=True)
        (place / "1.png").write_bytes(picture(7 + index))
    images = open_data(f"hf:{tmp_path / 'files'}")  # cells that hold a path instead of bytes
    assert (images.classes, images.targets, colour(images, 1)) == (["cat", "dog"], [0, 1], 8)


def test_a_kind_of_data_comes_from_outside(flat):
    register_data_source("toy", lambda place: open_data(str(flat), labels=flat.parent / place))
    try:
        (flat.parent / "five.txt").write_text("a\nb\na\nb\na\n")
        assert open_data("toy:five.txt").targets == [0, 1, 0, 1, 0]
        with pytest.raises(ValueError, match="has its own labels"):
            open_data("toy:five.txt", labels=flat)
    finally:
        del DATA_SOURCES["toy"]
