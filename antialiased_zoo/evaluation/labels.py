"""Labels of images in one folder: ImageNet's devkit, or a text file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .label_file import read_label_file

_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
_MOST = 1_000_000  # classes
_NUMBER = re.compile(r"ILSVRC2012_val_(\d{8})")


def read_labels(path: Path, samples: Sequence[str]) -> list[str]:
    """Returns the class name of each image.

    Args:
        path: ImageNet's devkit (``ILSVRC2012_devkit_t12``), or a text file: a line ``image,label``
            per image, separated by a comma, a semicolon, a tab or a space (as in Kaggle's
            ``LOC_val_solution.csv`` and Caffe's ``val.txt``), or one label per line for the images in
            the order of their names. An image is named with or without its folders and its suffix.
        samples: The images' names, sorted.

    Raises:
        FileNotFoundError: There is no such file or folder.
        ValueError: A line has another form, an image has no label or several, or the labels are
            numbers of unknown meaning.
    """
    if path.is_dir():
        return _devkit(path, samples)
    return read_label_file(path, samples)


def _devkit(folder: Path, samples: Sequence[str]) -> list[str]:
    data = folder / "data" if (folder / "data").is_dir() else folder
    numbers = [int(line) for line in (data / _TRUTH).read_text(encoding="utf-8").split()]
    ids = _wordnet_ids(data / "meta.mat")
    found = [_NUMBER.search(name) for name in samples]
    strange = [name for name, match in zip(samples, found, strict=True) if not match or int(match[1]) > len(numbers)]
    if strange:
        raise ValueError(
            f"{strange[0]} is not an image of the devkit's validation set, such as ILSVRC2012_val_00000001.JPEG"
        )
    return [ids[numbers[int(match[1]) - 1]] for match in found if match]


def _wordnet_ids(path: Path) -> dict[int, str]:
    """Returns the devkit's class number -> WordNet id."""
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise ImportError("ImageNet's devkit needs scipy: pip install 'antialiased-zoo[data]'") from error
    synsets: Any = loadmat(path, squeeze_me=True, struct_as_record=False)["synsets"]
    return {int(synset.ILSVRC2012_ID): str(synset.WNID) for synset in synsets}


def numbered(labels: Sequence[str]) -> tuple[list[str], list[int]]:
    """Returns the classes in labels, and the class number of each label.

    The classes are sorted or, if all labels are numbers, all numbers from 0 to the largest.

    Raises:
        ValueError: A number is too large for a class, such as a date or an identifier.

    Example:
        >>> numbered(["2", "0", "2"]), numbered(["dog", "cat"])
        ((['0', '1', '2'], [2, 0, 2]), (['cat', 'dog'], [1, 0]))
    """
    if all(label.isdecimal() for label in labels):
        numbers = [int(label) for label in labels]
        count = max(numbers, default=-1) + 1
        if count > _MOST:
            raise ValueError(
                f"there is the label {count - 1}, and class numbers start at 0: give class numbers below {_MOST:,}, or "
                "names"
            )
        return [str(number) for number in range(count)], numbers
    classes = sorted(set(labels))
    index = {name: number for number, name in enumerate(classes)}
    return classes, [index[label] for label in labels]
