"""Antialiases a model, or a copy of it: plans, and applies the plan whole or not at all."""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import TypeVar, cast

from torch import nn
from torch.optim import Optimizer
from typing_extensions import Unpack

from ..layers import FilterSize, forget_compiled_code
from .downsamplers import Downsampler, make_downsampler
from .graph_form import apply_to_graph
from .hosting import links_of, mend
from .module_form import apply_site
from .options import PlanOptions
from .planner import plan
from .plans import Plan
from .structures import note_structure, published_structure

_Model = TypeVar("_Model", bound=nn.Module)
# Options that say how a map is downsampled; the others say where.
_HOW = ("downsampler", "pad_type", "wide")


class Options(PlanOptions, total=False):
    """The keyword arguments of `antialias_` after ``filter_size``."""

    pad_type: str
    wide: bool
    downsampler: str
    like: str | None


def antialias(
    model: nn.Module, filter_size: FilterSize = 4, *, graph: bool = False, **options: Unpack[Options]
) -> nn.Module:
    """Return a copy of a model whose downsampling low-pass filters first; the model itself is left alone.

    Args:
        model: See `antialias_`.
        filter_size: See `antialias_`.
        graph: Also treat what modules alone cannot express (functional pools and convolutions, an activation module
            used at several places with several readers): the copy is then a `torch.fx.GraphModule`, whose
            parameters have the names they had, if there is something of that kind in the model. What the model's own
            code does only while training is fixed as in the mode that the model is in; a warning says so.
        **options: The other arguments of `antialias_`, but for ``optimizers``: none holds the copy's parameters.

    Returns:
        An antialiased deep copy.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        >>> type(antialias(model)[2]).__name__, type(model[2]).__name__
        ('MaxBlurPool2d', 'MaxPool2d')
    """
    way = make_downsampler(
        options.get("downsampler", "blur"),
        filter_size,
        options.get("pad_type", "reflect"),
        options.get("wide", False),
    )
    if "optimizers" in options:
        raise TypeError("antialias() returns a copy, which no optimizer knows: use antialias_(), or make one after it")
    options = _resolved(options)
    model = copy.deepcopy(model)
    chosen = cast(PlanOptions, {name: value for name, value in options.items() if name not in _HOW})
    if graph and len(plan(model, **chosen).treated) < len((found := plan(model, graph=True, **chosen)).treated):
        made = apply_plan(model, found, way)
        note_structure(made, filter_size, options)
        return made
    return antialias_(model, filter_size, **options)


def antialias_(
    model: _Model,
    filter_size: FilterSize = 4,
    *,
    pad_type: str = "reflect",
    wide: bool = False,
    downsampler: str = "blur",
    optimizers: Optimizer | Iterable[Optimizer] = (),
    like: str | None = None,
    **options: Unpack[PlanOptions],
) -> _Model:
    """Antialias a model in place: each strided op is evaluated densely, then blurred and subsampled.

    Parameters stay the same objects under the same names, and the state dict has the same keys, so checkpoints
    load and optimizers go on. A state dict's metadata say how the model was antialiased, and loading one compares.
    Convolutions stay where they are with a smaller stride; the blur is a child (``blur_before``, ``blur_after``) of
    the module beside it. Pools are replaced. A second call changes nothing.
    Every op returns the size that it returned before, for every input.

    Args:
        model: A network in 1, 2 or 3 dimensions, on any device. Parts that `torch.fx` cannot trace are treated by
            themselves; `plan` says what was not.
        filter_size: Length of the binomial taps, 1 to 7 (1 subsamples without a blur), or taps of your own: a 1-D
            sequence, normalised to sum to one.
        pad_type: Padding of the blurs: "reflect", "replicate" or "zero".
        wide: Widen binomial taps for strides above 2 (`antialiased_zoo.wide_taps`).
        downsampler: "blur"; "alternating", whose filters of even size move maps to alternate sides, so that the moves
            nearly cancel; or a name given to `register_downsampler`.
        optimizers: The model's optimizers, for those who come from libraries that must change them. They are only
            checked to be this model's, and go on: parameters stay the same objects, and blurs have none.
        like: Name of a published network (``"resnet50"``, ``"densenet121"``): its options are the defaults, so that a
            network with the same parts in another library's classes computes what its weights were trained for.
        **options: Any of the following.

            * ``stem_stride`` (2): stride that the convolution reading the image keeps: 2 in the paper, 1
              antialiases it fully.
            * ``shortcut`` ("blur"): "blur" puts a blur before linear 1x1 strided convolutions, "stride" leaves them.
            * ``stem_pool`` ("max"): what becomes of the first max pool: "max" keeps its window, densely evaluated,
              "max2" takes a 2x2 maximum without padding (the published ResNets; one pixel less at odd sizes),
              "blur" takes no maximum.
            * ``avg_pool`` ("fit"): "fit" puts the blur on the average's centres and keeps its size, "blur" gives
              ceil(size / stride), as in the published DenseNets.
            * ``placement`` ("after_nonlinearity"): "before_conv" puts a dense blur before each strided convolution,
              which keeps its stride: cheaper, but what the convolution makes still aliases (Composer's blur_first).
            * ``kinds`` (all): some of "conv", "maxpool", "avgpool".
            * ``min_channels`` (0): convolutions that read fewer channels are left alone.
            * ``upsample`` (None): filter size (or taps) of a dense blur after each strided transposed convolution,
              nearest interpolation by a whole factor and pixel shuffle; None leaves them. Binomial taps are widened
              for factors above 2. Odd sizes such as 3 keep the map in place, even ones shift it by half a pixel.
            * ``where`` (None): a function of (module, qualified name); modules for which it is false are left alone.

    Returns:
        The same model.

    Raises:
        ValueError: If an option is out of range, ``like`` names no known network, or an optimizer holds no parameter of
            the model; the model is then as it was.
        TypeError: If ``optimizers`` are none.

    Warns:
        UserWarning: If nothing in the model was left to antialias.

    Source: Zhang, ICML 2019, section 3.2.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.ReLU())
        >>> antialias_(model, stem_stride=1)[1].blur_after
        Downsample(8, filt_size=4, stride=(2, 2), reflect)
    """
    way = make_downsampler(downsampler, filter_size, pad_type, wide)
    _check_optimizers(model, [optimizers] if isinstance(optimizers, Optimizer) else optimizers)
    options = cast(PlanOptions, _resolved(cast(Options, {**options, "like": like})))
    with _as_before_on_error(model):
        mended = mend(model)
        found = plan(model, **options)
        if not found.treated and not mended:
            warnings.warn(f"nothing in {type(model).__name__} was left to antialias; see plan(model)", stacklevel=2)
        apply_plan(model, found, way)
        if found.treated:
            how = {"downsampler": downsampler, "pad_type": pad_type, "wide": wide}
            note_structure(model, filter_size, {**options, **how})
        forget_compiled_code()  # it does not notice a new hook
    return model


def apply_plan(model: nn.Module, found: Plan, way: Downsampler) -> nn.Module:
    """Apply a plan of ``model``: in place, or, if the plan is a graph's, to the `torch.fx.GraphModule` returned."""
    if found.graph:
        return apply_to_graph(model, found, way)
    for site in found.treated:
        apply_site(model, site, way, found)
    return model


@contextlib.contextmanager
def _as_before_on_error(model: nn.Module) -> Iterator[None]:
    """Put every attribute, child, hook and link of a model's modules back if an error occurs."""
    modules = list(model.modules())
    held = [value for module in modules for value in vars(module).values() if type(value) in (dict, OrderedDict, list)]
    links = [link for module in modules for link in links_of(module)]
    before = [(mutable, copy.copy(mutable)) for mutable in (*map(vars, (*modules, *links)), *held)]
    try:
        yield
    except BaseException:
        for mutable, content in before:
            mutable.clear()
            (mutable.extend if isinstance(mutable, list) else mutable.update)(content)
        raise


def _resolved(options: Options) -> Options:
    """Put the options of the network that is named by ``like`` in its place, below those that are given."""
    given = {name: value for name, value in options.items() if name != "like"}
    like = options.get("like")
    return cast(Options, {**(published_structure(like) if like is not None else {}), **given})


def _check_optimizers(model: nn.Module, optimizers: Iterable[Optimizer]) -> None:
    own = set(map(id, model.parameters()))
    for optimizer in optimizers:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"optimizers must be torch.optim.Optimizer objects, got {type(optimizer).__name__}")
        if own.isdisjoint(id(parameter) for group in optimizer.param_groups for parameter in group["params"]):
            raise ValueError(
                f"{type(optimizer).__name__} holds no parameter of this {type(model).__name__}: it would train another "
                "model; make it from this one's parameters"
            )
