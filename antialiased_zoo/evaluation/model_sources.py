"""Sources of models: the zoo, timm, torchvision, the Hugging Face hub, a user's module.

A source is a function from a `Request` to a `Built`. `register_model_source` registers one under a
name, and all scripts then accept ``NAME:...`` as a model.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import hub as torch_hub
from torch import nn

from ..errors import OfflineError, ZooError
from ..weights import Preprocessing, class_names, hub, imagenet_names, manifest
from ..zoo import ARCHITECTURES, create_model
from .stated import from_timm, from_torchvision

_FORBIDDEN = f"{' or '.join(hub.OFFLINE)} forbids the network"


@dataclass(frozen=True)
class Request:
    """A model to build.

    Attributes:
        name: The model's name in its source.
        filter_size: Filter size of the blurs; ``None`` for no antialiasing.
        weights: ``""`` for the source's default, ``"none"`` for random weights, else a name that
            the source knows.
        num_classes: Number of outputs; ``None`` for the weights' or the source's default.
        options: Further arguments of the builder.
        progress: Show a progress bar during downloads.
    """

    name: str
    filter_size: int | None = None
    weights: str = ""
    num_classes: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    progress: bool = True

    def arguments(self) -> dict[str, Any]:
        """Returns the builder's arguments: the options, and the number of classes if given."""
        return dict(self.options) | ({"num_classes": self.num_classes} if self.num_classes is not None else {})


@dataclass(frozen=True)
class Built:
    """A model that a source has built, and the facts that the source states about it.

    Attributes:
        model: The network.
        preprocessing: Its preprocessing; ``None`` if unknown.
        stated_by: Where the preprocessing was found, for reports.
        classes: Names of the outputs; ``None`` if unknown.
        antialiased: True if the source has applied ``filter_size``.
        license: Licence of the weights, as the source states it; "" if unknown.
        remark: A remark on the weights, for reports.
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
    """Registers a source of models.

    Args:
        name: The part of a spec before the colon.
        source: A function that builds a requested model; its exceptions are reported in one line.

    Raises:
        ValueError: The name is taken.
    """
    if name in MODEL_SOURCES:
        raise ValueError(f"the source {name!r} is already registered: choose another name")
    MODEL_SOURCES[name] = source


def zoo(request: Request) -> Built:
    """Builds a network of the zoo, with a recipe of the manifest or torchvision's weights."""
    name, size, weights = request.name, request.filter_size, request.weights not in ("", "none") and request.weights
    entry = manifest.load().find(name, size, weights) if weights and weights != "torchvision" else None
    model = create_model(name, size, weights, request.num_classes, progress=request.progress, **request.options)
    if not weights:
        return Built(model, antialiased=True)
    if entry is None:
        stated = from_torchvision(_library("torchvision.models").get_model_weights(name)["IMAGENET1K_V1"].transforms())
        return Built(model, stated, "torchvision's IMAGENET1K_V1", _of_head(imagenet_names(), request), True)
    classes = _of_head(class_names(entry), request)
    return Built(model, entry.preprocessing, "the manifest", classes, True, entry.license.name)


def _of_head(names: Sequence[str], request: Request) -> Sequence[str] | None:
    """The class names of weights, unless they are unknown or the head is a new one."""
    return names if names and request.num_classes in (None, len(names)) else None


def timm(request: Request) -> Built:
    """Builds a model of timm; its weights are named by timm's tag."""
    library = _library("timm")
    random = request.weights == "none"
    name = f"{request.name}.{request.weights}" if request.weights and not random else request.name
    with _hub_client(name, request.progress):
        model = library.create_model(name, pretrained=not random, **request.arguments())
    # With num_classes the classifier may be new, so its class names are unknown.
    classes = None if request.num_classes or random else _timm_classes(library, model)
    stated, unlike = from_timm(model.pretrained_cfg)
    return Built(model, stated, f"timm's pretrained_cfg{unlike}", classes, license="" if random else _license(model))


@contextmanager
def _hub_client(name: str, progress: bool) -> Iterator[None]:
    """Keeps the hub's library, from which timm fetches without options for it, quiet and off the network if wanted."""
    constants: Any = importlib.import_module("huggingface_hub.constants")
    bars: Any = importlib.import_module("huggingface_hub.utils")
    before, hide = constants.HF_HUB_OFFLINE, not (progress or bars.are_progress_bars_disabled())
    constants.HF_HUB_OFFLINE = before or hub.is_offline()
    if hide:
        bars.disable_progress_bars()
    try:
        yield
    except FileNotFoundError as error:
        if not hub.is_offline():
            raise
        raise OfflineError(f"{name} is not in the Hugging Face hub's cache, and {_FORBIDDEN}") from error
    finally:
        constants.HF_HUB_OFFLINE = before
        if hide:
            bars.enable_progress_bars()


def _timm_classes(library: ModuleType, model: nn.Module) -> Sequence[str] | None:
    """Returns ImageNet-1k's names, as for the zoo's networks, or the WordNet ids of another ImageNet."""
    subset = library.data.infer_imagenet_subset(model)
    if subset in (None, "imagenet-1k"):
        return subset and imagenet_names()
    names: Sequence[str] = library.data.ImageNetInfo(subset).label_names()
    return names


def _license(model: nn.Module) -> str:
    """Returns the licence that timm states for a model's weights, as an SPDX identifier."""
    stated = str(model.pretrained_cfg.get("license") or "")  # type: ignore[union-attr, operator]
    spelled = {"apache-2.0": "Apache-2.0", "mit": "MIT", "cc-by-nc-4.0": "CC-BY-NC-4.0"}
    return spelled.get(stated, stated)


def hf_hub(request: Request) -> Built:
    """Builds a timm model from the Hugging Face hub: ``hf-hub:owner/name``."""
    if request.weights not in ("", "none"):
        raise ValueError("a model of the hub has its own weights; after its name give a file, none, or nothing")
    return timm(replace(request, name=f"hf-hub:{request.name}", filter_size=None))


def torchvision(request: Request) -> Built:
    """Builds a classifier of torchvision with weights named like IMAGENET1K_V2, or any network without weights."""
    models = _library("torchvision.models")
    choices = models.get_model_weights(request.name)
    if request.weights == "none":
        return _untrained(models.get_model_builder(request.name), request, next(iter(choices)))
    weights = choices[request.weights] if request.weights else choices.DEFAULT
    stated = from_torchvision(weights.transforms())  # before a download: they may be for another task
    _check_offline(weights.url)
    model = models.get_model(request.name, weights=weights, progress=request.progress, **request.options)
    classes: Sequence[str] | None = weights.meta["categories"]
    if request.num_classes not in (None, len(weights.meta["categories"])):
        _replace_head(model, len(weights.meta["categories"]), request.num_classes)
        classes = None
    return Built(model, stated, f"torchvision's {weights.name}", classes)


def _check_offline(url: str) -> None:
    """Refuses a file that torchvision would fetch although a variable forbids the network."""
    file = Path(torch_hub.get_dir(), "checkpoints", url.rpartition("/")[2])
    if hub.is_offline() and not file.exists():
        raise OfflineError(f"{file.name} is not in {file.parent}, and {_FORBIDDEN}: put a copy there")


def _untrained(builder: Callable[..., nn.Module], request: Request, weights: Any) -> Built:
    """Builds a network of torchvision with random weights, and the preprocessing of some weights of it."""
    # Detectors and segmenters would fetch the weights of their backbone.
    parts = {"weights_backbone": None} if "weights_backbone" in inspect.signature(builder).parameters else {}
    model = builder(weights=None, **parts, **request.arguments())
    try:
        return Built(model, from_torchvision(weights.transforms()), f"torchvision's {weights.name}")
    except ValueError:  # they are for another task, which is measured elsewhere: such a network can be planned
        return Built(model)


def _replace_head(model: nn.Module, old: int, new: int | None) -> None:
    """Replaces the head, the only linear layer with ``old`` outputs, by an untrained one."""
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
    """Imports a module object, or calls a callable that returns one: ``MODULE:CALLABLE``."""
    if request.weights not in ("", "none"):  # they would be measured under the name of weights they do not have
        raise ValueError(
            f"a callable brings its own weights, so {request.weights!r} has no meaning: give a file, none, or nothing"
        )
    place, _, name = request.name.partition(":")
    try:
        found = getattr(importlib.import_module(place), name)
    except (ImportError, AttributeError) as error:
        hint = similar(place) if isinstance(error, ModuleNotFoundError) and error.name == place else ""
        raise ValueError(f"cannot import {name} from module {place}: {error}{hint}") from error
    if callable(found) and not isinstance(found, nn.Module):
        arguments = request.arguments()
        if "num_classes" in arguments and "num_classes" not in inspect.signature(found).parameters:
            del arguments["num_classes"]
        found = found(**arguments)
    if not isinstance(found, nn.Module):
        raise ValueError(f"{name} is or returns an object of type {type(found).__name__}; expected a torch.nn.Module")
    for attribute in ("pretrained_cfg", "default_cfg"):
        config = getattr(found, attribute, None)
        if isinstance(config, Mapping) and "input_size" in config:
            stated, unlike = from_timm(config)
            return Built(found, stated, f"its {attribute}{unlike}")
    return Built(found)


def similar(name: str) -> str:
    """Asks in an error whether a network of the zoo with a similar name was meant, or returns ""."""
    near = difflib.get_close_matches(name.lower().replace("-", "_"), ARCHITECTURES, cutoff=0.7)
    return f" (did you mean {' or '.join(near)}?)" if near else ""


def _library(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(f"needs {name}: pip install {name.partition('.')[0]}") from error


for _source in (("zoo", zoo), ("timm", timm), ("hf-hub", hf_hub), ("torchvision", torchvision), ("python", python)):
    register_model_source(*_source)


@contextmanager
def one_line(spec: str) -> Iterator[None]:
    """Turns any exception of another library's builder into a `ValueError` that names the spec."""
    try:
        yield
    except (ZooError, FileNotFoundError):
        raise
    except Exception as error:
        reason = str(error).strip() or type(error).__name__
        raise ValueError(f"{spec}: {' '.join(reason.split())}") from error


def existing_file(weights: str) -> Path | None:
    """Returns the path that ``weights`` names, or ``None`` if it is a name for the source.

    Raises:
        FileNotFoundError: It can only be a path, but does not exist.
    """
    path = Path(weights).expanduser()
    if weights and path.is_file():
        return path
    if path.suffix in {".safetensors", ".pth", ".pt", ".bin", ".tar"} or len(path.parts) > 1:
        raise FileNotFoundError(f"there is no weights file {weights}")
    return None
