"""The weights manifest, ``weights_manifest.json``: reading, checking and searching it."""

from __future__ import annotations

import difflib
import json
import os
import reprlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ..errors import ManifestError, UnknownWeightsError
from .entry import Entry, no_unknown, numbers, parse_entry, typed
from .hub.redaction import printable
from .regular import open_regular

if TYPE_CHECKING:
    from ..layers import FilterSize

FILE_NAME = "weights_manifest.json"
VARIABLE = "ANTIALIASED_ZOO_MANIFEST"
SCHEMA = 1
# A manifest of a thousand entries is about 1 MB; beyond this it is a mistake or an attack.
MAX_BYTES = 16 * 1024 * 1024
_TABLES = ("licenses", "preprocessing", "citations")
_FULL = "require_full_digests"
_FIELDS = ("schema", "entries", "baselines", _FULL, *_TABLES)


@dataclass(frozen=True)
class Manifest:
    """An immutable list of valid entries with unique names.

    Attributes:
        entries: The entries, in the files' order.
        baselines: Published metrics of torchvision's own weights by model, for comparison.
    """

    entries: tuple[Entry, ...]
    baselines: Mapping[str, Mapping[str, float]] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        """Check that entries do not contradict each other.

        Raises:
            ManifestError: Two entries share a key, a file name or a default; the message names both.
        """
        _no_two([(entry.key, entry) for entry in self.entries], "have the same model, filter size and recipe")
        # Compared without case: on some systems `A.pth` and `a.pth` are one file.
        named = [(file.file.casefold(), entry) for entry in self.entries for file in entry.files]
        _no_two(named, "have the same file name")
        defaults = [((entry.model, entry.filter_size), entry) for entry in self.entries if entry.default]
        _no_two(defaults, "are both the default for their model and filter size")

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def of_model(self, model: str) -> tuple[Entry, ...]:
        """Return every entry of one model, possibly none."""
        return tuple(entry for entry in self.entries if entry.model == model)

    def find(self, model: str, filter_size: FilterSize | None, recipe: str | None = None) -> Entry:
        """Return the entry of one model, filter size and recipe.

        Args:
            model: The factory's name.
            filter_size: 1 to 7, or ``None`` for the network without blur.
            recipe: The recipe; ``None`` for the default of that model and filter size.

        Raises:
            UnknownWeightsError: There is none; the message lists the model's entries.

        Example:
            >>> load().find("resnet50", 4).recipe
            'finetuned'
        """
        for entry in self.of_model(model):
            wanted = entry.default if recipe is None else entry.recipe == recipe
            if entry.filter_size == filter_size and wanted:
                return entry
        raise UnknownWeightsError(self._nothing(model, filter_size, recipe))

    def _nothing(self, model: str, filter_size: FilterSize | None, recipe: str | None) -> str:
        wanted = "default weights" if recipe is None else f"weights with recipe {recipe!r}"
        there = [
            f"filter_size={entry.filter_size}: {entry.recipe}{' (default)' if entry.default else ''}"
            for entry in self.of_model(model)
        ]
        near = difflib.get_close_matches(model, sorted({entry.model for entry in self.entries}), 3, 0.7)
        guess = f"; did you mean {' or '.join(near)}?" if near else "."
        known = f"There are: {'; '.join(there)}." if there else f"There are none at all for this model{guess}"
        return f"There are no {wanted} for {model} with filter_size={filter_size}. {known}"


def _no_two(keyed: Sequence[tuple[object, Entry]], what: str) -> None:
    seen: dict[object, Entry] = {}
    for key, entry in keyed:
        other = seen.setdefault(key, entry)
        if other is not entry:
            raise ManifestError(f"entries {_label(other)} and {_label(entry)} {what}")


def _label(entry: Entry) -> str:
    return f"{entry.name} ({entry.file})"


def load(paths: Sequence[str | os.PathLike[str]] | None = None) -> Manifest:
    """Read the project's manifest and those named in ``ANTIALIASED_ZOO_MANIFEST``.

    Args:
        paths: Files to read instead.

    Raises:
        ManifestError: A file cannot be read or breaks a rule; the message names the file and the
            entry.

    Example:
        >>> len(load()) >= 61
        True
    """
    files = [Path(path) for path in paths] if paths is not None else [own_path(), *_paths_from_environment()]
    parts = [parse(_read(path), str(path)) for path in files]
    baselines = {model: facts for part in parts for model, facts in part.baselines.items()}
    return Manifest(tuple(entry for part in parts for entry in part), MappingProxyType(baselines))


def own_path() -> Path:
    """Return the path of the project's manifest: in the package (wheel) or next to it (clone)."""
    package = Path(__file__).resolve().parent
    inside = package / FILE_NAME
    return inside if inside.exists() else package.parents[1] / FILE_NAME


def _paths_from_environment() -> list[Path]:
    paths = os.environ.get(VARIABLE, "").split(os.pathsep)
    return [Path(path).expanduser() for path in paths if path.strip()]


def _read(path: Path) -> str:
    try:
        with open_regular(path) as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ManifestError(f"cannot read the manifest {path}: {error.strerror}; see {VARIABLE}") from None
    if len(data) > MAX_BYTES:
        raise ManifestError(f"the manifest {path} is larger than {MAX_BYTES:,} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ManifestError(f"the manifest {path} is not UTF-8 text: {error}") from None


def parse(text: str, where: str = "manifest") -> Manifest:
    """Turn a manifest's JSON text into a :class:`Manifest`.

    Args:
        text: A JSON object with ``schema`` (1), ``entries`` and the tables ``licenses``,
            ``preprocessing``, ``citations`` that the entries refer to by name. With
            ``"require_full_digests": true``, files with only a digest prefix are refused.
        where: The text's name in messages.

    Raises:
        ManifestError: The text breaks a rule; the message names the entry.
    """
    try:
        return _manifest(_json(text))
    except (ValueError, OverflowError, RecursionError) as error:
        raise ManifestError(f"{where}: {error}") from None


def _manifest(top: Any) -> Manifest:
    if not isinstance(top, dict) or top.get("schema") != SCHEMA or type(top["schema"]) is not int:
        raise ValueError(f'not a manifest; it must be a JSON object with "schema": {SCHEMA}')
    no_unknown(top, _FIELDS)
    _check_printable({name: value for name, value in top.items() if name != "entries"})
    tables = {name: _table(top, name) for name in _TABLES}
    entries = tuple(_entry(record, tables, index) for index, record in enumerate(typed(top, "entries", list)))
    short = [entry.name for entry in entries if not all(file.sha256 for file in entry.files)]
    if typed(top, _FULL, bool, False) and short:
        raise ValueError(f"{_FULL} is set, but {short[0]} has a file without all 64 digits in sha256")
    baselines = typed(top, "baselines", dict, {})
    return Manifest(entries, MappingProxyType({model: _baseline(baselines, model) for model in baselines}))


def _json(text: str) -> Any:
    def no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        seen = dict(pairs)
        if len(seen) != len(pairs):
            (name, _), *_ = Counter(name for name, _ in pairs).most_common(1)
            raise ValueError(f"the name {reprlib.repr(name)} occurs twice in one object")
        return seen

    def no_constant(name: str) -> Any:
        raise ValueError(f"{name} is not a number")

    try:
        return json.loads(text, object_pairs_hook=no_duplicates, parse_constant=no_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not valid JSON: {error}") from None


def _check_printable(value: Any) -> None:
    """Refuse control characters, which a terminal would interpret, including newlines."""
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list):
        for one in value:
            _check_printable(one)
    elif isinstance(value, str) and not value.isprintable():
        raise ValueError(f"{reprlib.repr(value)} holds unprintable characters")


def _table(top: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    table: Mapping[str, Any] = typed(top, name, dict, {})
    kind = str if name == "citations" else dict
    if not all(isinstance(value, kind) for value in table.values()):
        raise ValueError(f"{name} must be an object of {kind.__name__} by name")
    return table


def _baseline(baselines: Mapping[str, Any], model: str) -> Mapping[str, float]:
    try:
        return numbers(baselines, model)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"baseline {model}: {error}") from None


def _entry(record: Any, tables: Mapping[str, Mapping[str, Any]], index: int) -> Entry:
    try:
        _check_printable(record)
        return parse_entry(record, tables)
    except (ValueError, OverflowError) as error:
        facts = record if isinstance(record, dict) else {}
        known = [printable(facts[key])[:40] for key in ("model", "filter_size", "recipe", "file") if key in facts]
        raise ValueError(f"entry {index} ({' '.join(known) or 'unnamed'}): {error}") from None
