"""Files of labels: each image gets the label of its own line, or an error says why not."""

from pathlib import Path

import pytest

from antialiased_zoo.evaluation.classes import match_classes, read_classes
from antialiased_zoo.evaluation.label_file import read_label_file


def labels(tmp_path: Path, text: str, *samples: str) -> list[str]:
    file = tmp_path / "labels.csv"
    file.write_text(text)
    return read_label_file(file, samples)


PETS = ("cat/1.jpg", "cat/2.jpg", "dog/1.jpg", "dog/2.jpg")


@pytest.mark.parametrize("above", ["", "val/", "./"])
@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ""])
def test_images_of_one_name_in_two_folders_have_their_own_labels(tmp_path, above, suffix):
    """Only names were compared, without folders, so that the last line labelled them all."""
    text = "\n".join(f"{above}{name.removesuffix('.jpg')}{suffix} {name[:3]}" for name in PETS)
    assert labels(tmp_path, text, *PETS) == ["cat", "cat", "dog", "dog"]


def test_whole_names_agree_first(tmp_path):
    """b/a/1.jpg, which is not there, was taken for a/1.jpg too, so that this had several labels."""
    text = "1.jpg,cat\na/1.jpg,dog\nb/a/1.jpg,bird\nb/1.png,cow\n"
    assert labels(tmp_path, text, "1.jpg", "a/1.jpg") == ["cat", "dog"]
    assert labels(tmp_path, text, "1.jpg") == ["cat"]


@pytest.mark.parametrize("separator", [",", ", ", ";", "\t"])
def test_labels_and_names_may_have_spaces(tmp_path, separator):
    """All retrievers and eagles were of the class "golden"."""
    text = f"my photo.jpg{separator}golden retriever\nother.jpg{separator}golden eagle\n"
    assert labels(tmp_path, text, "my photo.jpg", "other.jpg") == ["golden retriever", "golden eagle"]


@pytest.mark.parametrize("separator", [";", "\t"])
def test_labels_may_have_commas_behind_another_separator(tmp_path, separator):
    text = f"1.jpg{separator}tench, Tinca tinca\n'2'.jpg{separator}cat\n\"3;4.jpg\"{separator}tench, Tinca tinca\n"
    assert labels(tmp_path, text, "1.jpg", "'2'.jpg", "3;4.jpg") == ["tench, Tinca tinca", "cat", "tench, Tinca tinca"]


def test_quotes_and_byte_order_marks_belong_to_the_file(tmp_path):
    text = '\ufeff"a.jpg","cat, small"\n"b.jpg","dog"\n'
    assert labels(tmp_path, text, "a.jpg", "b.jpg") == ["cat, small", "dog"]


def test_a_dot_in_a_name_starts_no_suffix(tmp_path):
    assert labels(tmp_path, "photo.1,cat\nphoto.2,dog\n", "photo.1.jpg", "photo.2.jpg") == ["cat", "dog"]


def test_boxes_after_a_label_are_left_out(tmp_path):
    text = "ImageId,PredictionString\na,n01440764 1 2 3 4 n01440764 5 6 7 8 \nb,n01443537 1 2 3 4\n"
    assert labels(tmp_path, text, "a.JPEG", "b.JPEG") == ["n01440764", "n01443537"]


@pytest.mark.parametrize(
    ("text", "samples", "message"),
    [
        ("a.jpg,1,0,0\nb.jpg,0,1,0\n", ["a.jpg", "b.jpg"], r"'a\.jpg,1,0,0' has 4 fields; expected an image and its"),
        ("a.jpg golden eagle\n", ["a.jpg"], "has 3 fields"),
        ("a.jpg,cat\na.jpg,dog\n", ["a.jpg"], r"several labels for a\.jpg: cat, dog"),
        (
            "1.jpg,cat\n",
            ["cat/1.jpg", "dog/1.jpg"],
            r"no label for cat/1\.jpg \(2 of 2 images\); name images",
        ),
        ("a.jpg,\nb.jpg,dog\n", ["a.jpg", "b.jpg"], r"no label for a\.jpg \(1 of 2"),
        ("a/1.jpg,\nb/1.jpg,dog\n", ["a/1.jpg"], r"several labels for a/1\.jpg: none, dog"),
    ],
)
def test_what_has_no_single_label_is_an_error(tmp_path, text, samples, message):
    with pytest.raises(ValueError, match=message):
        labels(tmp_path, text, *samples)


def test_class_names_and_labels_are_utf_8_with_or_without_a_mark_or_an_error_names_the_file(tmp_path):
    """The first class was called "\\ufeffÄffin", and no folder of that name was found."""
    for mark in ("", "\ufeff"):
        (tmp_path / "names.txt").write_text(f"{mark}Äffin\nBär\n", encoding="utf-8")
        (tmp_path / "names.json").write_text(f'{mark}["Äffin", "Bär"]', encoding="utf-8")
        for name in ("names.txt", "names.json"):
            assert match_classes(["Bär", "Äffin"], 2, given=str(tmp_path / name)).index == [1, 0]
    for encoding in ("latin-1", "utf-16"):
        (tmp_path / "names.txt").write_text("Äffin\nBär\n", encoding=encoding)
        for read in (read_classes, lambda path: read_label_file(path, ["1.jpg", "2.jpg"])):
            with pytest.raises(ValueError, match=r"names\.txt is not text in UTF-8 .*save it as UTF-8"):
                read(tmp_path / "names.txt")
