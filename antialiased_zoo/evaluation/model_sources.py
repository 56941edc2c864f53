"""Where a named model comes from: the zoo, timm, torchvision, the Hugging Face hub, your own module.

A source is a function from a `Request` to a `Built`. `register_model_source` adds one under a name
of its own, and every script then takes ``NAME:...`` as a model.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from ..errors import ZooError
from ..weights import Preprocessing, manifest
from ..zoo import create_model
from .stated import from_timm, from_torchvision


@dataclass(frozen=True)
class Request:
    """A model to build.

    Attributes:
        name: In its source's own terms.
        filter_size: Antialias it with these taps; ``None`` leaves it as it is.
        weights: ``""`` for the source's default, ``"none"`` for random ones, else a name that the
            source knows.
        num_classes: Outputs; ``None`` for the weights' own or the source's default.
        options: More arguments for the builder.
        progress: Show a bar while weights are fetched.
    """

    name: str
    filter_size: int | None = None
    weights: str = ""
    num_classes: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    progress: bool = True

    def arguments(self) -> dict[str, Any]:
        """Returns the builder's arguments: the options, and the number of classes if one is wanted."""
        return dict(self.options) | ({"num_classes": self.num_classes} if self.num_classes is not None else {})


@dataclass(frozen=True)
class Built:
    """A model, not yet antialiased unless its source did so, and what its source states about it.

    Attributes:
        model: The network.
        preprocessing: ``None`` if the source states none.
        stated_by: Where the preprocessing was found, for reports.
        classes: Names of the outputs; ``None`` if unknown.
        antialiased: Whether the source has dealt with ``filter_size``.
        license: Of the weights, as the source states it; empty if it states none.
        remark: What a report must say of the weights.
    """

    model: nn.Module
    preprocessing: Preprocessing | None = None
    stated_by: str = ""
    classes: Sequence[str] | None = None
    antialiased: bool = False
    license: str = ""
    remark: str = ""


ModelSource = Callable[[Request], Built]
MODEL_SOURCES: dict[str, ModelSource] = {}


def register_model_source(name: str, source: ModelSource) -> None:
    """Adds a source of models.

    Args:
        name: Comes before the colon of a spec.
        source: Builds what it is asked for; any exception it raises is reported in one line.

    Raises:
        ValueError: The name is taken.
    """
    if name in MODEL_SOURCES:
        raise ValueError(f"there is a source {name!r} already: choose another name")
    MODEL_SOURCES[name] = source


def zoo(request: Request) -> Built:
    """Builds a network of the zoo, with a recipe of the manifest or torchvision's weights."""
    name, size, weights = request.name, request.filter_size, request.weights
    options = {"progress": request.progress, **request.options}
    if weights in ("", "none"):
        model = create_model(name, size, False, request.num_classes, **options)
        return Built(model, antialiased=True)
    if weights == "torchvision":
        model = create_model(name, size, weights, request.num_classes, **options)
        stated = from_torchvision(_library("torchvision.models").get_model_weights(name)["IMAGENET1K_V1"].transforms())
        return Built(model, stated, "torchvision's IMAGENET1K_V1", antialiased=True)
    entry = manifest.load().find(name, size, weights)
    model = create_model(name, size, weights, request.num_classes, **options)
    return Built(model, entry.preprocessing, "the manifest", entry.classes, True, entry.license.name)


def timm(request: Request) -> Built:
    """Builds a model of timm; weights are a pretrained tag."""
    library = _library("timm")
    random = request.weights == "none"
    name = f"{request.name}.{request.weights}" if request.weights and not random else request.name
    model = library.create_model(name, pretrained=not random, **request.arguments())
    # A classifier of another size than the weights' is a new one, whose classes nobody has named.
    classes = None if request.num_classes else _timm_classes(library, model)
    stated, unlike = from_timm(model.pretrained_cfg)
    return Built(model, stated, f"timm's pretrained_cfg{unlike}", classes, license="" if random else _license(model))


def _timm_classes(library: ModuleType, model: nn.Module) -> Sequence[str] | None:
    """Returns wordnet ids for the ImageNets other than ImageNet-1k, whose ids this package has itself."""
    subset = library.data.infer_imagenet_subset(model)
    if subset in (None, "imagenet-1k"):
        return None
    names: Sequence[str] = library.data.ImageNetInfo(subset).label_names()
    return names


def _license(model: nn.Module) -> str:
    """Returns the licence that timm states of a model's weights, as SPDX spells it."""
    stated = str(model.pretrained_cfg.get("license") or "")  # type: ignore[union-attr, operator]
    spelled = {"apache-2.0": "Apache-2.0", "mit": "MIT", "cc-by-nc-4.0": "CC-BY-NC-4.0"}
    return spelled.get(stated, stated)


def hf_hub(request: Request) -> Built:
    """Builds a timm model from the Hugging Face hub: ``hf-hub:owner/name``."""
    if request.weights not in ("", "none"):
        raise ValueError("a model of the hub has its own weights; give a file, none, or nothing after its name")
    return timm(Request(f"hf-hub:{request.name}", None, request.weights, request.num_classes, request.options))


def torchvision(request: Request) -> Built:
    """Builds a classifier of torchvision; weights are a name such as IMAGENET1K_V2."""
    models = _library("torchvision.models")
    choices = models.get_model_weights(request.name)
    if request.weights == "none":
        first = next(iter(choices))  # states how the architecture is used
        model = models.get_model(request.name, weights=None, **request.arguments())
        return Built(model, from_torchvision(first.transforms()), f"torchvision's {first.name}")
    weights = choices[request.weights] if request.weights else choices.DEFAULT
    model = models.get_model(request.name, weights=weights, progress=request.progress, **request.options)
    classes: Sequence[str] | None = weights.meta["categories"]
    if request.num_classes not in (None, len(weights.meta["categories"])):
        _replace_head(model, len(weights.meta["categories"]), request.num_classes)
        classes = None
    return Built(model, from_torchvision(weights.transforms()), f"torchvision's {weights.name}", classes)


def _replace_head(model: nn.Module, old: int, new: int | None) -> None:
    """Puts an untrained linear layer in place of the only one with as many outputs as the weights have classes."""
    heads = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module.out_features == old
    ]
    if len(heads) != 1 or new is None:
        raise ValueError(f"cannot tell which layer is the head ({len(heads)} linear layers have {old} outputs)")
    name, head = heads[0]
    model.set_submodule(name, nn.Linear(head.in_features, new, head.bias is not None))


def python(request: Request) -> Built:
    """Takes a module, or what a callable returns: ``MODULE:CALLABLE``."""
    place, _, name = request.name.partition(":")
    try:
        found = getattr(importlib.import_module(place), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"cannot take {name} from module {place}: {error}") from error
    if callable(found) and not isinstance(found, nn.Module):
        arguments = request.arguments()
        if "num_classes" in arguments and "num_classes" not in inspect.signature(found).parameters:
            del arguments["num_classes"]
        found = found(**arguments)
    if not isinstance(found, nn.Module):
        raise ValueError(f"{name} gave a {type(found).__name__}; it must be, or return, a torch.nn.Module")
    for attribute in ("pretrained_cfg", "default_cfg"):
        config = getattr(found, attribute, None)
        if isinstance(config, Mapping) and "input_size" in config:
            stated, unlike = from_timm(config)
            return Built(found, stated, f"its {attribute}{unlike}")
    return Built(found)


def _library(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(f"needs {name}: pip install {name.partition('.')[0]}") from error


for _source in (("zoo", zoo), ("timm", timm), ("hf-hub", hf_hub), ("torchvision", torchvision), ("python", python)):
    register_model_source(*_source)


@contextmanager
def one_line(spec: str) -> Iterator[None]:
    """Turns whatever another library's builder raises into a `ValueError` that names the spec."""
    try:
        yield
    except (ZooError, FileNotFoundError):
        raise
    except Exception as error:
        reason = str(error).strip() or type(error).__name__
        raise ValueError(f"{spec}: {' '.join(reason.split())}") from error


def existing_file(weights: str) -> Path | None:
    """Returns the path that ``weights`` names, or ``None`` where it is a name that the source knows.

    Raises:
        FileNotFoundError: It can only be a path, and nothing is there.
    """
    path = Path(weights).expanduser()
    if weights and path.is_file():
        return path
    if path.suffix in {".safetensors", ".pth", ".pt", ".bin", ".tar"} or len(path.parts) > 1:
        raise FileNotFoundError(f"there is no weights file {weights}")
    return None
