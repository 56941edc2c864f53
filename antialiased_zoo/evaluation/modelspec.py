"""Model specs: models named on a command line."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from ..errors import TensorMismatchError
from ..transform import antialias_
from ..weights import NetworkConfig, checkpoints
from ..zoo import ARCHITECTURES, create_model
from .model_sources import MODEL_SOURCES, Built, Request, existing_file, one_line, similar
from .stated import from_file

GRAMMAR = (
    "[LABEL=]MODEL; MODEL is NAME:FILTER[:WEIGHTS] for a network of the zoo (resnet50:lpf4:finetuned), or timm:NAME, "
    "torchvision:NAME, hf-hub:OWNER/NAME or MODULE:CALLABLE, each with [:FILTER][:WEIGHTS]. FILTER is lpf1 to lpf7 or "
    "baseline; WEIGHTS a name (a recipe, timm's tag, torchvision's IMAGENET1K_V2), a file, or none for random ones"
)
_FILTER = re.compile(r"lpf([1-7])|baseline")
_LIKE_FILTER = re.compile(r"lpf-?\d*")  # a slip, not the name of weights
_LABEL = re.compile(r"([^:=/]+)=(.+)")


@dataclass(frozen=True)
class NamedModel(Built):
    """A model and the known facts about it.

    Attributes:
        label: Its name in tables and pictures.
        spec: The spec that named it.
    """

    label: str = ""
    spec: str = ""


@dataclass(frozen=True)
class ModelSpec:
    """A parsed spec: the model's label, its source, and the request to the source."""

    label: str
    source: str
    request: Request


def parse_spec(text: str) -> ModelSpec:
    """Parses a spec without building anything.

    Args:
        text: See `GRAMMAR`.

    Raises:
        ValueError: The spec is invalid.

    Example:
        >>> spec = parse_spec("lite=timm:tf_efficientnet_lite0:lpf4:weights.pth")
        >>> spec.label, spec.source, spec.request.filter_size, spec.request.weights
        ('lite', 'timm', 4, 'weights.pth')
    """
    label, rest = split_label(text)
    source, name, tail = _named(rest, text)
    first, _, others = tail.partition(":")
    filters = _FILTER.fullmatch(first)
    if not filters and (source == "zoo" or _LIKE_FILTER.fullmatch(first)):
        raise ValueError(f"{text!r} names no filter; expected {GRAMMAR}")
    size = int(filters[1]) if filters and filters[1] else None
    return ModelSpec(label or text, source, Request(name, size, others if filters else tail))


def split_label(text: str) -> tuple[str, str]:
    """Splits a spec into its label, or "", and the rest.

    Example:
        >>> split_label("mine=resnet50:lpf4"), split_label("resnet50:lpf4")
        (('mine', 'resnet50:lpf4'), ('', 'resnet50:lpf4'))
    """
    match = _LABEL.fullmatch(text)
    return (match[1], match[2]) if match else ("", text)


def _named(rest: str, text: str) -> tuple[str, str, str]:
    """Splits the part after the label into source, name, and filter with weights."""
    first, _, tail = rest.partition(":")
    if first in ARCHITECTURES:
        return "zoo", first, tail
    second, _, tail = tail.partition(":")
    if first in MODEL_SOURCES and first != "python":
        if not second:
            raise ValueError(f"{text!r} names no model of {first}; expected {GRAMMAR}")
        return first, second, tail
    if not second.isidentifier():
        raise ValueError(f"{text!r} is neither a zoo model{similar(first)} nor MODULE:CALLABLE; expected {GRAMMAR}")
    return "python", f"{first}:{second}", tail


def load_named(text: str, num_classes: int | None = None, progress: bool = True) -> NamedModel:
    """Builds the model that a command line names.

    Args:
        text: See `GRAMMAR`.
        num_classes: Size of the head of networks with random weights, and of files whose head
            differs from the network's default.
        progress: Show a progress bar during downloads.

    Raises:
        ValueError: The spec is invalid, its source cannot build the model, or the weights do not
            fit.

    Example:
        >>> load_named("plain=resnet18:baseline", num_classes=10).model.fc.out_features
        10
    """
    spec = parse_spec(text)
    request = replace(spec.request, progress=progress)
    with one_line(text):
        file = existing_file(request.weights)
        if file:
            built = _from_file(spec.source, request, file, num_classes)
        else:
            random = request.weights == "none" or (spec.source == "zoo" and not request.weights)
            built = MODEL_SOURCES[spec.source](replace(request, num_classes=num_classes if random else None))
            _antialias(built, request)
    return NamedModel(**vars(built), label=spec.label, spec=text)


def new_model(
    text: str,
    num_classes: int,
    filter_size: int | None,
    weights: str = "none",
    progress: bool = True,
    **options: Any,
) -> NamedModel:
    """Builds a network for training, with a head of ``num_classes`` and, by default, random weights.

    Args:
        text: A name of the zoo, or a spec without filter and weights: ``timm:resnet18``,
            ``mymodels:build``.
        num_classes: Number of outputs.
        filter_size: Filter size of the blurs; ``None`` for no antialiasing.
        weights: As in a spec.
        progress: Show a progress bar during downloads.
        **options: Options of the builder.

    Raises:
        ValueError: See `load_named`.

    Example:
        >>> new_model("torchvision:resnet18", 10, filter_size=3).model.fc.out_features
        10
    """
    spec = parse_spec(f"{text}:baseline")
    if spec.request.weights:
        raise ValueError(f"{text!r}: give filter and weights as options, not in the model's name")
    request = Request(spec.request.name, filter_size, weights, num_classes, options, progress)
    with one_line(text):
        file = existing_file(weights)
        if file and spec.source == "zoo" and checkpoints.read_contents(file).config is not None:
            built = _fine_tuned(request, file)
        elif file:
            built = _from_file(spec.source, request, file, num_classes, other_filter=True)
        else:
            built = MODEL_SOURCES[spec.source](request)
            _antialias(built, request)
    return NamedModel(**vars(built), label=text, spec=text)


def _fine_tuned(request: Request, file: Path) -> Built:
    """Builds a network of the zoo with the tensors of a file that states its network.

    The file's network may have another structure: fine-tuning an antialiased network starts from the
    baseline's tensors.
    """
    trained = create_model(request.name, pretrained=file, num_classes=request.num_classes, progress=False)
    model = create_model(request.name, request.filter_size, False, request.num_classes, **dict(request.options))
    difference = trained.config.difference(model.config)
    model.load_state_dict(dict(trained.state_dict()))  # a plain dict, so that structures are not compared
    facts = trained.config
    return Built(model, facts.preprocessing, "the record in its weights", antialiased=True, remark=difference)


def _antialias(built: Built, request: Request, structure: Mapping[str, Any] | None = None) -> None:
    if request.filter_size is not None and not built.antialiased:
        antialias_(built.model, request.filter_size, **(structure or {}))


def _other_filter(config: NetworkConfig | None, size: int | None) -> str:
    """How a spec's filter differs from that of a file's network, or ""."""
    if config is None or config.filter_size in (None, size):
        return ""
    named = "no filter" if size is None else f"lpf{size}"
    return f"was saved from a network with filter_size={config.filter_size}, but the spec names {named}"


def _from_file(source: str, request: Request, file: Path, num_classes: int | None, other_filter: bool = False) -> Built:
    """Builds a model with a file's tensors; its head has the recorded, requested, default or the data's size.

    Networks of the zoo compare the whole structure; for others, only training may start from ``other_filter``.
    """
    facts, config = from_file(file), checkpoints.read_contents(file).config
    difference = _other_filter(config, request.filter_size) if source != "zoo" else ""
    if difference and not other_filter:
        raise ValueError(f"{file} {difference}")

    def attempt(outputs: int | None) -> Built:
        if source == "zoo":
            options: dict[str, Any] = dict(request.options)
            model = create_model(request.name, request.filter_size, file, outputs, progress=False, **options)
            return Built(model)
        built = MODEL_SOURCES[source](replace(request, weights="none", num_classes=outputs))
        remarks = (_load(built.model, file), difference and f"its file {difference}")
        built = replace(built, remark="; ".join(filter(None, remarks)))
        _antialias(built, request, config.structure if config else None)
        return built

    known = len(facts["classes"]) if facts.get("classes") else None
    heads = [known] if known else list(dict.fromkeys((request.num_classes, None, num_classes)))
    built = _first_that_fits(attempt, heads)
    return replace(built, **{"classes": None, **facts})


def _first_that_fits(attempt: Callable[[int | None], Built], heads: Sequence[int | None]) -> Built:
    first: TensorMismatchError | None = None
    for outputs in heads:
        try:
            return attempt(outputs)
        except TensorMismatchError as error:
            first = first or error
    raise first or ValueError("no head to try")


def _load(model: nn.Module, file: Path) -> str:
    """Loads tensors by name, or by position if names differ but all shapes and kinds agree in order.

    Returns:
        A remark for reports, or "".
    """
    try:
        checkpoints.load_into(model, file)
        return ""
    except TensorMismatchError as error:
        found, wanted = checkpoints.read_contents(file).tensors, model.state_dict()
        # The last part of a name is its kind (weight, running_mean ...), which must agree.
        kinds = [[(name.rpartition(".")[2], t.shape) for name, t in state.items()] for state in (found, wanted)]
        if kinds[0] != kinds[1]:
            raise
        if not all(tensor.isfinite().all() for tensor in found.values()):
            raise ValueError(f"{file} contains values that are not finite") from error
        model.load_state_dict(dict(zip(wanted, found.values(), strict=True)))
        first = next((a, b) for a, b in zip(found, wanted, strict=True) if a != b)
        return f"weights matched by position, since names differ ({first[0]} for {first[1]}) but all shapes agree"
