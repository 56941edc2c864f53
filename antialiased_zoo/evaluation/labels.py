"""Labels of images in one folder: ImageNet's devkit, or a text file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
_NUMBER = re.compile(r"ILSVRC2012_val_(\d{8})")


def read_labels(path: Path, samples: Sequence[str]) -> list[str]:
    """Returns the class name of each image.

    Args:
        path: ImageNet's devkit (``ILSVRC2012_devkit_t12``), or a text file: a line ``image label``
            per image, separated by a comma or white space (as in Kaggle's ``LOC_val_solution.csv``
            and Caffe's ``val.txt``), or one label per line for the images in the order of their
            names.
        samples: The images' names, sorted.

    Raises:
        FileNotFoundError: There is no such file or folder.
        ValueError: An image has no label, or the labels are numbers of unknown meaning.
    """
    if path.is_dir():
        return _devkit(path, samples)
    lines = [re.split(r"[,\s]+", line.strip()) for line in path.read_text().splitlines() if line.strip()]
    if all(len(line) == 1 for line in lines):
        return _in_order(path, [line[0] for line in lines], samples)
    known = {PurePosixPath(line[0]).stem: line[1] for line in lines if len(line) > 1}
    missing = [name for name in samples if PurePosixPath(name).stem not in known]
    if missing:
        raise ValueError(f"{path} has no label for {missing[0]} ({len(missing)} of {len(samples)} images)")
    return [known[PurePosixPath(name).stem] for name in samples]


def _in_order(path: Path, labels: list[str], samples: Sequence[str]) -> list[str]:
    if len(labels) != len(samples):
        raise ValueError(f"{path} has {len(labels)} labels, one per line, for {len(samples)} images")
    if all(label.isdigit() for label in labels):
        raise ValueError(
            f"{path} contains only numbers, and ImageNet's devkit numbers classes differently from its networks: give "
            "the devkit's folder, whose meta.mat defines them, or lines of image and class number"
        )
    return labels


def _devkit(folder: Path, samples: Sequence[str]) -> list[str]:
    data = folder / "data" if (folder / "data").is_dir() else folder
    numbers = [int(line) for line in (data / _TRUTH).read_text().split()]
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


def class_order(labels: Sequence[str]) -> list[str]:
    """Returns the classes in labels: sorted, or, if all labels are numbers, all numbers from 0 to the largest.

    Example:
        >>> class_order(["2", "0", "2"]), class_order(["dog", "cat"])
        (['0', '1', '2'], ['cat', 'dog'])
    """
    if all(label.isdigit() for label in labels):
        return [str(number) for number in range(max(map(int, labels)) + 1)]
    return sorted(set(labels))
