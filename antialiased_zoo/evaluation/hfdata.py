"""Data sets of Hugging Face's ``datasets`` library, from the hub or a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .images import LabelledImages

# Files that ``save_to_disk`` writes for a data set and for a dict of splits.
_SAVED = ("state.json", "dataset_dict.json")


class HuggingFaceImages(LabelledImages):
    """One split of a data set with a column of images and one of class labels.

    Args:
        name: ``OWNER/NAME`` or a folder (from ``save_to_disk``, or in any layout that
            ``load_dataset`` reads, such as Parquet files), optionally followed by a colon and the
            split. Default split: ``validation``.

    Raises:
        ImportError: ``datasets`` is not installed.
        ValueError: There is no such split, or not exactly one column of images and one of labels.
    """

    def __init__(self, name: str) -> None:
        try:
            import datasets
        except ImportError as error:
            raise ImportError("hf: needs datasets: pip install 'antialiased-zoo[data]'") from error
        place, _, split = name.partition(":")
        if any(Path(place, mark).is_file() for mark in _SAVED):
            found: Any = datasets.load_from_disk(place)
            table = found if isinstance(found, datasets.Dataset) else _split(found, split or "validation")
        else:
            table = datasets.load_dataset(place, split=split or "validation")
        image = _column(table, datasets.Image, place)
        label = _column(table, datasets.ClassLabel, place)
        self._table = table.cast_column(image, datasets.Image(decode=False))
        self._column = image
        classes: list[str] = table.features[label].names
        super().__init__(name, classes, [f"{row:08}" for row in range(len(table))], table[label])

    def read(self, name: str) -> bytes:
        """Returns the encoded image of one row."""
        cell = self._table[int(name)][self._column]
        content: bytes = cell["bytes"] if cell["bytes"] is not None else Path(cell["path"]).read_bytes()
        return content


def _split(found: Any, split: str) -> Any:
    if split not in found:
        raise ValueError(f"no split {split!r}; there are {', '.join(found)}")
    return found[split]


def _column(table: Any, kind: type, place: str) -> str:
    names = [name for name, feature in table.features.items() if isinstance(feature, kind)]
    if len(names) != 1:
        raise ValueError(f"{place} has {len(names)} columns of {kind.__name__}, expected one; it has {table.features}")
    return str(names[0])
