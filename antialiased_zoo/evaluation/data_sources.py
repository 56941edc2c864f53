"""Data sets named on a command line."""

from __future__ import annotations

import os
from collections.abc import Callable

from .cifar10 import Cifar10
from .data import open_images
from .hfdata import HuggingFaceImages
from .images import LabelledImages
from .webdataset import WebDataset

DATA_GRAMMAR = (
    "a folder of class folders, a zip of one, ZIP/FOLDER, cifar10:FOLDER (its authors' files), hf:NAME[:SPLIT] (a data "
    "set of Hugging Face's, or a folder that its library reads), or wds:SHARDS (WebDataset: val-{0000..0063}.tar)"
)
DataSource = Callable[[str], LabelledImages]
DATA_SOURCES: dict[str, DataSource] = {"cifar10": Cifar10, "hf": HuggingFaceImages, "wds": WebDataset}


def register_data_source(name: str, source: DataSource) -> None:
    """Adds a kind of data set, which every script then takes as ``NAME:...``.

    Args:
        name: Comes before the colon.
        source: Opens the data set that the text behind the colon names.

    Raises:
        ValueError: The name is taken.
    """
    if name in DATA_SOURCES:
        raise ValueError(f"there is a kind of data {name!r} already: choose another name")
    DATA_SOURCES[name] = source


def open_data(text: str, labels: str | os.PathLike[str] | None = None, *, labelled: bool = True) -> LabelledImages:
    """Opens the data set that a command line names.

    Args:
        text: See `DATA_GRAMMAR`.
        labels: For a folder or zip whose images are not in class folders; see `read_labels`.
        labelled: False takes a folder's or zip's images from anywhere below it; their targets then
            mean nothing.

    Raises:
        FileNotFoundError: Nothing there.
        ValueError: Not a data set of images, or labels for one that has its own.
    """
    kind, colon, place = text.partition(":")
    if not colon or kind not in DATA_SOURCES:
        return open_images(text, labels=labels, labelled=labelled)
    if labels is not None:
        raise ValueError(f"{kind}: has labels of its own; give no others")
    return DATA_SOURCES[kind](place)
