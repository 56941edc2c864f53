"""Kinds of data sets that a command line can name."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable

from .cifar10 import Cifar10
from .data import open_images
from .hfdata import HuggingFaceImages
from .images import LabelledImages
from .webdataset import WebDataset

DATA_GRAMMAR = (
    "a folder of class folders, a zip of one, ZIP/FOLDER, cifar10:FOLDER (its original files), "
    "hf:NAME[:SPLIT[:COLUMN]] (a Hugging Face data set, or a folder that its library reads; COLUMN has the labels), or "
    "wds:SHARDS (WebDataset: val-{0000..0063}.tar)"
)
DataSource = Callable[..., LabelledImages]
DATA_SOURCES: dict[str, DataSource] = {"cifar10": Cifar10, "hf": HuggingFaceImages, "wds": WebDataset}


def register_data_source(name: str, source: DataSource) -> None:
    """Registers a kind of data set, which all scripts then accept as ``NAME:...``.

    Args:
        name: The part before the colon.
        source: A function that opens the data set named by the text after the colon. If it takes
            ``hide_bar``, it gets tqdm's ``disable``; if it takes ``labelled``, False where labels are not needed.

    Raises:
        ValueError: The name is taken.
    """
    if name in DATA_SOURCES:
        raise ValueError(f"the kind of data {name!r} is already registered: choose another name")
    DATA_SOURCES[name] = source


def open_data(
    text: str,
    labels: str | os.PathLike[str] | None = None,
    *,
    labelled: bool = True,
    hide_bar: bool | None = True,
) -> LabelledImages:
    """Opens the data set that a command line names.

    Args:
        text: See `DATA_GRAMMAR`.
        labels: Labels of a folder's or zip's images that are not in class folders; see
            `read_labels`.
        labelled: False accepts images without labels, in a folder or zip anywhere below it; their
            targets then have no meaning.
        hide_bar: tqdm's ``disable``, for data sets that must be read to be opened: ``None`` shows a
            bar on a terminal.

    Raises:
        FileNotFoundError: The data does not exist.
        ValueError: It is not a data set of images, or ``labels`` is given for one that has its own.
    """
    kind, colon, place = text.partition(":")
    if not colon or kind not in DATA_SOURCES:
        return open_images(text, labels=labels, labelled=labelled)
    if labels is not None:
        raise ValueError(f"{kind}: has its own labels; do not give others")
    source = DATA_SOURCES[kind]
    taken = inspect.signature(source).parameters
    options = {"hide_bar": hide_bar, "labelled": labelled}
    return source(place, **{name: value for name, value in options.items() if name in taken})
