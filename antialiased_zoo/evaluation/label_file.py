"""A text file of image labels, one line for each image."""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from .images import IMAGE_SUFFIXES
from .text_file import read_text_file

_BOXES = re.compile(r"(\S+)( \d+){4}( \S+( \d+){4})*")  # Kaggle's LOC_val_solution.csv: a label and a box, repeated

_NONE = {""}  # what a line without a label says of its image

_SEPARATOR = re.compile(r'(?:"[^"]*")?[^,;]*([,;])')  # that after a name, which may be in quotes


def read_label_file(path: Path, samples: Sequence[str]) -> list[str]:
    """Returns the label of each image; `read_labels` describes the file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A line has another form, an image has no label or several, or the labels are
            numbers of unknown meaning.
    """
    lines = [line.strip() for line in read_text_file(path).splitlines() if line.strip()]
    rows = [_fields(line) for line in lines]
    if all(len(row) == 1 for row in rows):
        return _in_order(path, lines, samples)
    for line, row in zip(lines, rows, strict=True):
        if len(row) != 2:
            raise ValueError(
                f"{path}: {line[:80]!r} has {len(row)} fields; expected an image and its label, separated by a comma, "
                "a semicolon, a tab or, if there is none of these, a space"
            )
    return _by_name(path, [(row[0], row[1]) for row in rows], samples)


def _fields(line: str) -> list[str]:
    """The fields of a line, which is separated by commas, semicolons, tabs, or else by spaces."""
    found = _SEPARATOR.match(line)
    if "\t" not in line and found is None:
        return line.split()
    separator = "\t" if found is None or "\t" in line else found[1]  # labels often have commas, but no tabs
    fields = [field.strip() for field in next(csv.reader([line], delimiter=separator, skipinitialspace=True))]
    boxed = _BOXES.fullmatch(fields[-1])
    return [*fields[:-1], boxed[1]] if boxed else fields


def _in_order(path: Path, labels: list[str], samples: Sequence[str]) -> list[str]:
    if len(labels) != len(samples):
        raise ValueError(f"{path} has {len(labels)} labels, one per line, for {len(samples)} images")
    if all(label.isdecimal() for label in labels):
        raise ValueError(
            f"{path} contains only numbers, and ImageNet's devkit numbers classes differently from its networks: give "
            "the devkit's folder, whose meta.mat defines them, or lines of image and class number"
        )
    return labels


def _by_name(path: Path, rows: Sequence[tuple[str, str]], samples: Sequence[str]) -> list[str]:
    """The label of each image: names are compared with as many of the folders above as it takes to tell them apart."""
    first: list[set[str]] = []
    most = max(name.count("/") for name in samples) + 1  # with one more than there are, only whole names agree
    for suffixed, above in itertools.product((False, True), range(most + 1)):
        keys = [_key(sample, above, suffixed) for sample in samples]
        if len(set(keys)) < len(keys):
            continue
        named: dict[tuple[str, ...], set[str]] = {}
        for name, label in rows:
            named.setdefault(_key(name, above, suffixed), set()).add(label)
        found = [named.get(key, set()) for key in keys]
        if all(len(labels) == 1 and labels != _NONE for labels in found):
            return [label for labels in found for label in labels]
        first = first or found
    for sample, labels in zip(samples, first, strict=True):
        if len(labels) > 1:
            listed = ", ".join(label or "none" for label in sorted(labels))
            raise ValueError(f"{path} has several labels for {sample}: {listed}; expected one")
    missing = [sample for sample, labels in zip(samples, first, strict=True) if labels <= _NONE]
    raise ValueError(
        f"{path} has no label for {missing[0]} ({len(missing)} of {len(samples)} images); name images of several "
        "folders with their folders, unless all of their names differ"
    )


def _key(name: str, above: int, suffixed: bool) -> tuple[str, ...]:
    """A file's name, with or without an image's suffix, and the names of some folders above it."""
    *folders, file = PurePosixPath(name).parts or (name,)
    return (*folders[max(len(folders) - above, 0) :], file if suffixed else _stem(file))


def _stem(file: str) -> str:
    """A file's name without an image's suffix: labels often have another one, or none."""
    place = PurePosixPath(file)
    return place.stem if place.suffix.lower() in IMAGE_SUFFIXES else file
