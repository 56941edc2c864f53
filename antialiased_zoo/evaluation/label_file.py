"""A text file of image labels, one line for each image."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from .images import IMAGE_SUFFIXES
from .text_file import read_text_file

_BOXES = re.compile(r"(\S+)( \d+){4}( \S+( \d+){4})*")  # Kaggle's LOC_val_solution.csv: a label and a box, repeated

_SEPARATOR = re.compile(r'(?:"[^"]*")?[^,;]*([,;])')  # that after a name, which may be in quotes

_Parts = tuple[str, ...]  # folders and file


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
    return _by_name(path, [(row[0], row[1]) for row in rows if row[1]], samples)


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
    """The label of each image: that of the lines whose name agrees in the file and in the most folders above it."""
    named: dict[str, list[tuple[_Parts, str]]] = {}
    for name, label in rows:
        parts = PurePosixPath(name).parts or (name,)
        named.setdefault(_stem(parts[-1]), []).append((parts, label))
    found: list[str] = []
    missing: list[str] = []
    owners: dict[_Parts, str] = {}
    for sample in samples:
        lines = _nearest(PurePosixPath(sample).parts, named)
        labels = sorted({label for _, label in lines})
        if len(labels) > 1:
            raise ValueError(f"{path} has several labels for {sample}: {', '.join(labels)}; expected one")
        for parts, _ in lines:
            if owners.setdefault(parts, sample) != sample:
                raise ValueError(
                    f"{path}: {'/'.join(parts)} may be {owners[parts]} or {sample}; name images with their folders"
                )
        found += labels
        missing += [] if labels else [sample]
    if missing:
        raise ValueError(f"{path} has no label for {missing[0]} ({len(missing)} of {len(samples)} images)")
    return found


def _nearest(own: _Parts, named: Mapping[str, list[tuple[_Parts, str]]]) -> list[tuple[_Parts, str]]:
    """The lines for one image among those of the same name."""
    lines = named.get(_stem(own[-1]), [])
    exact = [line for line in lines if line[0] == own]
    if exact or len(lines) < 2:
        return exact or lines
    ranks = [_agreeing(own, parts) for parts, _ in lines]
    best = max(ranks)
    return [line for line, rank in zip(lines, ranks, strict=True) if rank == best]


def _agreeing(own: _Parts, parts: _Parts) -> tuple[int, bool]:
    """How many folders above two files agree, and whether their suffixes do."""
    count = 0
    for mine, theirs in zip(own[-2::-1], parts[-2::-1], strict=False):
        if mine != theirs:
            break
        count += 1
    return count, own[-1] == parts[-1]


def _stem(file: str) -> str:
    """A file's name without an image's suffix: labels often have another one, or none."""
    place = PurePosixPath(file)
    return place.stem if place.suffix.lower() in IMAGE_SUFFIXES else file
