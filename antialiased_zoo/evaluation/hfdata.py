"""Data sets of Hugging Face's ``datasets`` library, from the hub or a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from .images import LabelledImages
from .labels import numbered

# Files that ``save_to_disk`` writes for a data set and for a dict of splits.
_SAVED = ("state.json", "dataset_dict.json")


class HuggingFaceImages(LabelledImages):
    """One split of a data set with a column of images and one of class labels.

    Images may also be encoded bytes, as pandas writes them. If no column states class names, texts or class numbers
    are the labels, ordered as those of a label file.

    Args:
        name: ``OWNER/NAME`` or a folder (from ``save_to_disk``, or in any layout that
            ``load_dataset`` reads, such as Parquet files), optionally followed by a colon and the
            split (default: ``validation``), and another with the column of labels.
        labelled: False needs no labels; the targets then have no meaning.

    Raises:
        ImportError: ``datasets`` is not installed.
        FileNotFoundError: There is no such data set.
        ValueError: It cannot be read, there is no such split, not exactly one column of images or of labels, or an
            image has no label.
    """

    def __init__(self, name: str, labelled: bool = True) -> None:
        try:
            import datasets
        except ImportError as error:
            raise ImportError("hf: needs datasets: pip install 'antialiased-zoo[data]'") from error
        place, _, rest = name.partition(":")
        split, _, column = rest.partition(":")
        table = _open(datasets, place, split)
        self._column = _image_column(datasets, table, place)
        self._table = table.cast_column(self._column, datasets.Image(decode=False))
        classes, targets = ["0"], [0] * len(table)
        if labelled:
            chosen = _label_column(datasets, table, f"hf:{place}:{split or 'SPLIT'}", column)
            classes, targets = _labels(table, chosen)
        super().__init__(name, classes, [f"{row:08}" for row in range(len(table))], targets)

    def read(self, name: str) -> bytes:
        """Returns the encoded image of one row."""
        cell = self._table[int(name)][self._column]
        content: bytes = cell["bytes"] if cell["bytes"] is not None else Path(cell["path"]).read_bytes()
        return content


def _open(datasets: Any, place: str, split: str) -> Any:
    """One split of a data set."""
    if not place:
        raise ValueError("hf: names no data set: expected hf:OWNER/NAME or hf:FOLDER")
    if not any(Path(place, mark).is_file() for mark in _SAVED):
        try:
            return datasets.load_dataset(place, split=split or "validation")
        except FileNotFoundError:
            raise
        except (datasets.exceptions.DatasetsError, ValueError) as error:
            raise ValueError(
                f"cannot open hf:{place} ({error.__cause__ or error}); expected a data set with the split "
                f"{split or 'validation'}, or hf:{place}:SPLIT; or load it with the library, and give a folder of its "
                "save_to_disk"
            ) from error
    found = datasets.load_from_disk(place)
    if isinstance(found, datasets.Dataset):
        if split and split != str(found.split):
            raise ValueError(f"hf:{place} holds one split, {found.split or 'without a name'}: leave out :{split}")
        return found
    wanted = split or "validation"
    if wanted not in found:
        raise ValueError(f"hf:{place} has no split {wanted!r}; there are {', '.join(found)}: give hf:{place}:SPLIT")
    return found[wanted]


def _image_column(datasets: Any, table: Any, place: str) -> str:
    def encoded(feature: Any) -> bool:
        dtype = "" if isinstance(feature, dict) else getattr(feature, "dtype", "")
        return dtype in ("binary", "large_binary") or (isinstance(feature, dict) and "bytes" in feature)

    return (
        _only(table, lambda feature: isinstance(feature, datasets.Image))
        or _only(table, encoded)
        or _refuse(table, f"hf:{place} has not exactly one column of images")
    )


def _label_column(datasets: Any, table: Any, place: str, column: str) -> str:
    def plain(feature: Any) -> bool:
        dtype = str(getattr(feature, "dtype", "")).removeprefix("large_")
        return isinstance(feature, datasets.Value) and (dtype in ("string", "bool") or "int" in dtype)

    named = [name for name, feature in table.features.items() if isinstance(feature, datasets.ClassLabel)]
    if column:
        fits = column in named or plain(table.features.get(column))
        return column if fits else _refuse(table, f"{place} has no column {column} of class labels, texts or numbers")
    found = named[0] if len(named) == 1 else "" if named else _only(table, plain)
    return found or _refuse(table, f"{place} has not exactly one column of labels: name one, as in {place}:COLUMN")


def _only(table: Any, fits: Callable[[Any], bool]) -> str:
    """The name of the only column that fits, or nothing."""
    names = [str(name) for name, feature in table.features.items() if fits(feature)]
    return names[0] if len(names) == 1 else ""


def _refuse(table: Any, what: str) -> str:
    kinds = ", ".join(f"{name} ({type(feature).__name__})" for name, feature in table.features.items())
    raise ValueError(f"{what}; it has {kinds}")


def _labels(table: Any, column: str) -> tuple[list[str], list[int]]:
    """The classes, and each image's class number."""
    labels = list(table[column])
    missing = [row for row, label in enumerate(labels) if label in (None, "")]
    if missing:
        raise ValueError(f"image {missing[0]} has no label in column {column}: leave out the rows without one")
    names = getattr(table.features[column], "names", None)
    if names is not None:
        return list(names), labels
    if any(isinstance(label, int) and label < 0 for label in labels):
        raise ValueError(f"column {column} has class numbers below 0: leave out the rows without a label")
    return numbered(list(map(str, labels)))
