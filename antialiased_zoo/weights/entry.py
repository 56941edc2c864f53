"""Entries of the weights manifest: the facts about one set of weights each."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any

from .preprocessing import Preprocessing
from .weights_file import WeightsFile

# The options of the transform that differ between published networks, with their values.
STRUCTURE = MappingProxyType({"shortcut": ("blur", "stride"), "stem_pool": ("max2", "max", "blur")})
#: Prefix of a model's name if timm builds the network.
TIMM = "timm:"
_FILE_FIELDS = tuple(f.name for f in fields(WeightsFile))


@dataclass(frozen=True)
class License:
    """A licence of weights: its SPDX identifier, the URL of its text, and whether it allows commercial use."""

    name: str
    url: str
    commercial_use: bool


@dataclass(frozen=True)
class Entry:
    """One set of weights.

    Attributes:
        model: The factory's name; ``timm:NAME`` for a network that timm builds.
        filter_size: 1 to 7, or ``None`` for a network without added blurs.
        recipe: How the weights were made (``"scratch"``, ``"finetuned"``, ``"timm_bt"`` ...).
        files: The file, followed by other files with the same weights; the first available one is
            used.
        license: Licence of the weights.
        dataset: The training set.
        num_classes: Size of the head.
        classes: Class names in the order of the outputs, if they are not ImageNet's.
        default: True if ``pretrained=True`` means this entry.
        structure: The transform's options, if they differ from the paper's (see ``STRUCTURE``).
        preprocessing: The preprocessing with which the metrics were measured.
        metrics: Metrics in percent: ``acc1``, ``acc5``, ``consistency_crop``; a suffix such as
            ``_288`` is the test size.
        citation: Citation of the paper.
        command: The command that made the weights, if this project trained them.
    """

    model: str
    filter_size: int | None
    recipe: str
    files: tuple[WeightsFile, ...]
    license: License
    dataset: str
    num_classes: int
    classes: tuple[str, ...] | None = None
    default: bool = False
    structure: Mapping[str, str] = field(default_factory=dict, hash=False)
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    metrics: Mapping[str, float] = field(default_factory=dict, hash=False)
    citation: str = ""
    command: str = ""

    @property
    def name(self) -> str:
        """Short name for messages, such as ``resnet50 filter_size=4 finetuned``."""
        return f"{self.model} filter_size={self.filter_size} {self.recipe}"

    @property
    def key(self) -> tuple[str, int | None, str]:
        """The model, filter size and recipe, which identify an entry."""
        return self.model, self.filter_size, self.recipe

    @property
    def file(self) -> str:
        """Name of the (first) file in the cache."""
        return self.files[0].file

    @property
    def sources(self) -> tuple[str, ...]:
        """Every source of every file, in the order in which they are tried."""
        return tuple(source for file in self.files for source in file.sources)

    @property
    def notice(self) -> str:
        """A warning for users at the first download, if commercial use is not allowed; else ``""``."""
        if self.license.commercial_use:
            return ""
        return (
            f"The weights {self.name} are licensed {self.license.name} ({self.license.url}), which does not "
            "allow commercial use. The licence of antialiased-zoo's code does not cover them."
        )


def parse_entry(record: Any, tables: Mapping[str, Mapping[str, Any]]) -> Entry:
    """Turn one JSON object into an :class:`Entry`.

    Args:
        record: The object.
        tables: The manifest's shared tables by name: ``licenses``, ``preprocessing``,
            ``citations``.

    Raises:
        ValueError: A field is missing, unknown or invalid; the message names it.
    """
    if not isinstance(record, dict):
        raise ValueError("an entry must be a JSON object")
    known = {f.name for f in fields(Entry)} - {"files"} | set(_FILE_FIELDS) | {"also"}
    no_unknown(record, known)
    also = typed(record, "also", list, [])
    citation = typed(record, "citation", str, "")
    return Entry(
        model=_name(record, "model"),
        filter_size=_filter_size(record),
        recipe=_name(record, "recipe"),
        files=(_file({k: v for k, v in record.items() if k in _FILE_FIELDS}), *map(_file, also)),
        license=_license(record, tables.get("licenses", {})),
        dataset=typed(record, "dataset", str),
        num_classes=_positive(record, "num_classes"),
        classes=_classes(record),
        default=typed(record, "default", bool, False),
        structure=_structure(record),
        preprocessing=_preprocessing(record, tables.get("preprocessing", {})),
        metrics=numbers(record, "metrics"),
        citation=tables.get("citations", {}).get(citation, citation),
        command=typed(record, "command", str, ""),
    )


def no_unknown(record: Mapping[str, Any], known: Collection[str]) -> None:
    """Refuse a record with other fields than the known ones."""
    if unknown := sorted(set(record) - set(known)):
        raise ValueError(f"unknown field {reprlib.repr(unknown[0])}; the fields are {', '.join(sorted(known))}")


_REQUIRED = object()


def typed(record: Mapping[str, Any], name: str, kind: type, default: Any = _REQUIRED) -> Any:
    """Return a field of a record, which must be of this type, or its default."""
    value = record.get(name, default)
    if value is _REQUIRED:
        raise ValueError(f"{name} is missing")
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ValueError(f"{name} is {reprlib.repr(value)}; it must be of type {kind.__name__}")
    return value


def _name(record: Mapping[str, Any], name: str) -> str:
    value: str = typed(record, name, str)
    plain = value.removeprefix(TIMM) if name == "model" else value
    if not plain.isidentifier() or not value.isascii():
        raise ValueError(f"{name} is {value!r}; it must be letters, digits and underscores")
    return value


def _positive(record: Mapping[str, Any], name: str) -> int:
    value: int = typed(record, name, int)
    if not 1 <= value <= 10**6:
        raise ValueError(f"{name} is {value}; it must be 1 to 1,000,000")
    return value


def _filter_size(record: Mapping[str, Any]) -> int | None:
    if "filter_size" not in record:
        raise ValueError("filter_size is missing; write null for a network without blur")
    value: int | None = record["filter_size"]
    if value is not None and (type(value) is not int or not 1 <= value <= 7):
        raise ValueError(f"filter_size is {value!r}; it must be 1 to 7, or null")
    if value is not None and str(record.get("model")).startswith(TIMM):
        raise ValueError(f"filter_size is {value}; no blurs are added to timm's networks: write null")
    return value


def _file(record: Any) -> WeightsFile:
    if not isinstance(record, dict):
        raise ValueError("also must hold JSON objects")
    no_unknown(record, _FILE_FIELDS)
    for name in ("file", "format"):
        typed(record, name, str)
    facts: dict[str, Any] = {name: record.get(name) for name in _FILE_FIELDS}  # whose values WeightsFile checks
    return WeightsFile(**{**facts, "sources": tuple(typed(record, "sources", list))})


def _license(record: Mapping[str, Any], table: Mapping[str, Any]) -> License:
    name = typed(record, "license", str)
    facts = table.get(name)
    if facts is None:
        raise ValueError(f"license is {name!r}, which the manifest's table `licenses` does not describe")
    return License(name, typed(facts, "url", str), typed(facts, "commercial_use", bool))


def _classes(record: Mapping[str, Any]) -> tuple[str, ...] | None:
    if record.get("classes") is None:
        return None
    classes = typed(record, "classes", list)
    if not all(isinstance(c, str) for c in classes) or len(set(classes)) != len(classes):
        raise ValueError("classes must be different names")
    if len(classes) != record.get("num_classes"):
        raise ValueError(f"classes has {len(classes)} names, but num_classes is {record.get('num_classes')!r}")
    return tuple(classes)


def _structure(record: Mapping[str, Any]) -> Mapping[str, str]:
    structure = typed(record, "structure", dict, {})
    for option, value in structure.items():
        if value not in STRUCTURE.get(option, ()):
            allowed = "; ".join(f"{k}: {', '.join(v)}" for k, v in STRUCTURE.items())
            raise ValueError(f"structure has {option!r}: {value!r}; the options are {allowed}")
    return MappingProxyType(structure)


def _preprocessing(record: Mapping[str, Any], table: Mapping[str, Any]) -> Preprocessing:
    facts = record.get("preprocessing")
    facts = table.get(facts) if isinstance(facts, str) else facts
    if not isinstance(facts, dict):
        raise ValueError("preprocessing must be an object, or the name of one in the manifest's table")
    no_unknown(facts, {f.name for f in fields(Preprocessing)})
    scales = {
        name: tuple(_number(value, name) for value in typed(facts, name, list))
        for name in ("mean", "std")
        if name in facts
    }
    return Preprocessing(**{**facts, **scales})


def numbers(record: Mapping[str, Any], name: str) -> Mapping[str, float]:
    """Return a field of a record that is an object of finite numbers, or none at all."""
    return MappingProxyType({key: _number(value, key) for key, value in typed(record, name, dict, {}).items()})


def _number(value: Any, name: str) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
        raise ValueError(f"{name} is {reprlib.repr(value)}; it must be a finite number")
    return float(value)
