"""The record of a network's structure, which is saved with its state dict."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar

from ..errors import MalformedFileError
from .preprocessing import Preprocessing

if TYPE_CHECKING:
    from ..layers import FilterSize

# The options of `antialias_` that change what a network computes, with their defaults.
DEFAULTS: Mapping[str, Any] = {
    "stem_stride": 2,
    "shortcut": "blur",
    "stem_pool": "max",
    "avg_pool": "fit",
    "placement": "after_nonlinearity",
    "downsampler": "blur",
    "pad_type": "reflect",
    "wide": False,
}


@dataclass(frozen=True)
class NetworkConfig:
    """The description of a network and of its weights.

    Attributes:
        model: The factory's name.
        filter_size: 1 to 7, normalised custom taps, or None for no blur.
        structure: Options of `antialias_`; at least those that differ from its defaults.
        num_classes: Size of the head, 0 for none.
        in_chans: Number of image channels.
        global_pool: How the last map is pooled.
        builder: Keywords of torchvision's builder.
        not_saved: Names of the keywords whose values JSON cannot hold, such as ``norm_layer``.
        classes: Class names in the order of the outputs.
        preprocessing: How an image becomes the network's input.
        metrics: Metrics in percent, measured with that preprocessing.
        license: Licence of the weights.
        origin: The weights that these were made from.
        dataset: The training set.
    """

    #: Key of the record in a file's metadata.
    KEY: ClassVar[str] = "antialiased_zoo"

    model: str
    filter_size: FilterSize | None
    structure: dict[str, Any] = field(default_factory=dict, hash=False)
    num_classes: int = 1000
    in_chans: int = 3
    global_pool: str = "avg"
    builder: dict[str, Any] = field(default_factory=dict, hash=False)
    not_saved: tuple[str, ...] = ()
    classes: tuple[str, ...] | None = None
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    metrics: dict[str, float] = field(default_factory=dict, hash=False)
    license: str | None = None
    origin: str | None = None
    dataset: str | None = None

    def describe(self) -> str:
        """The network and its structure, written as a call.

        Example:
            >>> NetworkConfig("resnet50", 3, {"shortcut": "stride"}).describe()
            "resnet50(filter_size=3, shortcut='stride')"
        """
        stated = {} if self.filter_size is None else {k: v for k, v in self._options().items() if v != DEFAULTS[k]}
        options = "".join(f", {name}={value!r}" for name, value in sorted(stated.items()))
        return f"{self.model}(filter_size={self.filter_size}{options})"

    def difference(self, other: NetworkConfig) -> str:
        """How ``other`` differs from the network of these tensors, as a sentence; "" if it computes the same."""
        if self._key() == other._key():
            return ""
        return f"the tensors were saved from {self.describe()}, but the network is {other.describe()}"

    def _options(self) -> dict[str, Any]:
        return {**DEFAULTS, **self.structure}

    def _key(self) -> tuple[Any, ...]:
        if self.filter_size is None:
            return self.model, None
        from ..layers import taps_of

        taps = tuple(round(tap, 6) for tap in taps_of(self.filter_size))
        return self.model, taps, tuple(self._options().items())

    def with_sizes(self, num_classes: int, in_chans: int, global_pool: str) -> NetworkConfig:
        """The record with other sizes; what it stated of the old ones (class names, metrics) is dropped."""
        made = replace(self, num_classes=num_classes, in_chans=in_chans, global_pool=global_pool)
        if made == self:
            return self
        classes = self.classes if self.classes and len(self.classes) == num_classes else None
        return replace(made, classes=classes, metrics={}, preprocessing=self.preprocessing.for_channels(in_chans))

    def with_new_head(self, num_classes: int) -> NetworkConfig:
        """The record of a network whose head is untrained: without class names and metrics."""
        return replace(self, num_classes=num_classes, classes=None, metrics={})

    def to_json(self) -> str:
        """The record as one line of JSON."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> NetworkConfig:
        """Read a record; unknown fields, from later versions, are ignored.

        Raises:
            MalformedFileError: If it is not a valid record; the message names the field.
        """
        try:
            return cls(**_checked(json.loads(text)))
        except (TypeError, ValueError, RecursionError) as error:
            raise MalformedFileError(f"the record of the network's structure is damaged: {error}") from None


def _checked(record: Any) -> dict[str, Any]:
    from ..layers import read_filter_size  # not at the top: the layers import torch

    if not isinstance(record, dict):
        raise ValueError("it is not a JSON object")
    known = {f.name for f in fields(NetworkConfig)}
    facts = {name: value for name, value in record.items() if name in known}
    if not isinstance(facts.get("model"), str) or "filter_size" not in facts:
        raise ValueError("it lacks model or filter_size")
    size = facts["filter_size"]
    if size is not None:
        facts["filter_size"] = read_filter_size(tuple(size) if isinstance(size, list) else size)
    for name, kind in (("structure", dict), ("builder", dict), ("metrics", dict), ("num_classes", int)):
        if not isinstance(facts.get(name, kind()), kind):
            raise ValueError(f"{name} is {facts[name]!r}")
    if facts.get("global_pool", "avg") not in ("avg", "max", "avgmax", ""):
        raise ValueError(f"global_pool is {facts['global_pool']!r}")
    unknown = set(facts.get("structure", {})) - set(DEFAULTS)
    if unknown:
        raise ValueError(f"structure has an option {min(unknown)!r} that this version does not know")
    for name in ("classes", "not_saved"):
        facts[name] = tuple(map(str, facts[name])) if facts.get(name) is not None else None
    facts["not_saved"] = facts["not_saved"] or ()
    if isinstance(facts.get("preprocessing"), dict):
        stated: dict[str, Any] = facts["preprocessing"]
        listed: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in stated.items()}
        facts["preprocessing"] = Preprocessing(**listed)
    return facts


def jsonable(values: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Split keywords into those that JSON can hold and the names of the others."""
    kept, left = {}, []
    for name, value in values.items():
        try:
            kept[name] = json.loads(json.dumps(value))
        except (TypeError, ValueError):
            left.append(name)
    return kept, tuple(left)
