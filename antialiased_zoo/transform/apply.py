"""Antialiases a model, or a copy of it: makes a plan and applies it completely, or not at all on an error."""

from __future__ import annotations

import contextlib
import copy
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import TypeVar, cast

from torch import nn
from torch.optim import Optimizer
from typing_extensions import Unpack

from ..errors import warn
from ..layers import FilterSize, forget_compiled_code
from .downsamplers import Downsampler, make_downsampler
from .graph_form import apply_to_graph
from .hosting import mark_hosts
from .links import links_of, restore_blurs
from .module_form import apply_site
from .options import PlanOptions
from .planner import read_plan
from .plans import Plan
from .structures import note_structure, published_structure

_Model = TypeVar("_Model", bound=nn.Module)
# Options that say how maps are downsampled; the others say where blurs go.
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
    """Return an antialiased copy of a model: each downsampling step low-pass filters first.

    Args:
        model: See `antialias_`.
        filter_size: See `antialias_`.
        graph: Also treat what cannot be treated module by module (functional pools and convolutions, an activation
            module used several times with several readers). If the model has any of these, the copy is a
            `torch.fx.GraphModule`, whose parameters keep their names. Code that differs between training and
            evaluation is fixed in the model's current mode; a warning says so.
        **options: The other arguments of `antialias_`, except ``optimizers``: none holds the copy's parameters.

    Returns:
        An antialiased deep copy; the model itself is not changed.

    Raises:
        ValueError: See `antialias_`; or if the model cannot be copied.
        TypeError: If ``optimizers`` is given.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        >>> type(antialias(model)[2]).__name__, type(model[2]).__name__
        ('MaxBlurPool2d', 'MaxPool2d')
    """
    if "optimizers" in options:
        raise TypeError(
            "antialias() returns a copy, whose parameters are in no optimizer: use antialias_(), or create the "
            "optimizer from the copy"
        )
    options = _resolved(options)
    way, chosen = _downsampler(filter_size, options), _placing(options)
    model = _copied(model)
    modules_alone = read_plan(model, **chosen) if graph else None
    if modules_alone and len(modules_alone.treated) < len((found := read_plan(model, graph=True, **chosen)).treated):
        made = apply_plan(model, found, way)
        note_structure(made, filter_size, options)
        return made
    return antialias_new(model, filter_size, **options)


def antialias_new(model: _Model, filter_size: FilterSize = 4, **options: Unpack[Options]) -> _Model:
    """`antialias_` for a model that was just made: nobody has compiled it yet."""
    return _antialias(model, filter_size, options, new=True)


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

    Parameters stay the same objects under the same names, and the state dict keeps its keys, so checkpoints still
    load and optimizers keep working. The state dict's metadata records how the model was antialiased, and loading
    compares it. Strided convolutions stay in place with a smaller stride; the blur becomes a child (``blur_before``,
    ``blur_after``) of the module that it precedes or follows. Pools are replaced, unless the model's code may read
    their class or stride. Output sizes stay the same for every input. A second call changes nothing.

    Args:
        model: A network for 1-D, 2-D or 3-D data, on any device. Parts that `torch.fx` cannot trace are treated module
            by module; `plan` lists what was skipped.
        filter_size: Length of the binomial taps, 1 to 7 (1 subsamples without a blur), or custom taps: a 1-D
            sequence, normalised to sum to one.
        pad_type: Padding of the blurs: "reflect", "replicate" or "zero".
        wide: Widen binomial taps for strides above 2 (`antialiased_zoo.wide_taps`).
        downsampler: "blur"; "alternating", whose even-sized filters shift maps by half a pixel in alternating
            directions, so that the shifts nearly cancel; or a name given to `register_downsampler`.
        optimizers: The model's optimizers, as in libraries that must update them. Here they are only checked to belong
            to the model; they need no change, as parameters stay the same objects and blurs have none.
        like: Name of a published network (``"resnet50"``, ``"densenet121"``). Its options become the defaults, so that
            another library's version of the network computes what its weights were trained for.
        **options: Any of the following.

            * ``stem_stride`` (2): the stride that the convolution reading the image keeps: 2 in the paper; 1
              antialiases it fully.
            * ``shortcut`` ("blur"): "blur" puts a blur before linear 1x1 strided convolutions, "stride" skips them.
            * ``stem_pool`` ("max"): what replaces the first max pool: "max" keeps its window, densely evaluated;
              "max2" takes a 2x2 maximum without padding (the published ResNets; one pixel less at odd sizes);
              "blur" takes no maximum.
            * ``avg_pool`` ("fit"): "fit" keeps the centres and the size of the average pool; "blur" gives
              ceil(size / stride), as in the published DenseNets.
            * ``placement`` ("after_nonlinearity"): "before_conv" puts a dense blur before each strided convolution,
              which keeps its stride: cheaper, but the convolution's own output still aliases (Composer's blur_first).
            * ``kinds`` (all): a selection of "conv", "maxpool", "avgpool".
            * ``min_channels`` (0): convolutions with fewer input channels are skipped.
            * ``upsample`` (None): filter size (or taps) of a dense blur after each strided transposed convolution,
              nearest-neighbour interpolation by an integer factor and pixel shuffle; None skips them. Binomial taps are
              widened for factors above 2. Odd sizes such as 3 keep the map in place, even ones shift it half a pixel.
            * ``where`` (None): a function of (module, qualified name); modules for which it is false are skipped.

    Returns:
        The same model.

    Raises:
        ValueError: If an option is out of range, ``like`` names no known network, or an optimizer holds no parameter of
            the model. The model is then unchanged.
        TypeError: If ``optimizers`` contains anything but optimizers.

    Warns:
        UserWarning: If there was nothing to antialias in the model.

    Source: Zhang, ICML 2019, section 3.2.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.ReLU())
        >>> antialias_(model, stem_stride=1)[1].blur_after
        Downsample(8, filt_size=4, stride=(2, 2), reflect)
    """
    _check_optimizers(model, [optimizers] if isinstance(optimizers, Optimizer) else optimizers)
    how = {"pad_type": pad_type, "wide": wide, "downsampler": downsampler, "like": like}
    return _antialias(model, filter_size, cast(Options, {**how, **options}), new=False)


def _antialias(model: _Model, filter_size: FilterSize, options: Options, new: bool) -> _Model:
    options = _resolved(options)
    way = _downsampler(filter_size, options)
    placing = _placing(options)
    with _as_before_on_error(model):
        restored = restore_blurs(model)
        found = read_plan(model, **placing)
        if not found.treated and not restored:
            warn(f"nothing in {type(model).__name__} was left to antialias; see plan(model)")
        apply_plan(model, found, way)
        if found.treated:
            note_structure(model, filter_size, options)
        if not new and (found.treated or restored):
            forget_compiled_code()  # it does not notice new hooks
    return model


def apply_plan(model: nn.Module, found: Plan, way: Downsampler) -> nn.Module:
    """Apply a plan of ``model`` in place; if the plan is for a graph, return a `torch.fx.GraphModule`."""
    if found.graph:
        return apply_to_graph(model, found, way)
    for site in found.treated:
        apply_site(model, site, way, found)
    mark_hosts(model)
    return model


def _copied(model: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(model)
    except Exception as error:  # of torch.nn.utils.weight_norm, for example, or of a module's own code
        raise ValueError(
            f"{type(model).__name__} cannot be copied: use antialias_(), which changes the model itself "
            f"({type(error).__name__}: {error})"
        ) from error


@contextlib.contextmanager
def _as_before_on_error(model: nn.Module) -> Iterator[None]:
    """Restore every attribute, child, hook and link of a model's modules if an error occurs."""
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
    """Replace ``like`` by the options of the network that it names; options given explicitly override them."""
    given = {name: value for name, value in options.items() if name != "like"}
    like = options.get("like")
    return cast(Options, {**(published_structure(like) if like is not None else {}), **given})


def _downsampler(filter_size: FilterSize, options: Options) -> Downsampler:
    kind, pad_type = options.get("downsampler", "blur"), options.get("pad_type", "reflect")
    return make_downsampler(kind, filter_size, pad_type, options.get("wide", False))


def _placing(options: Options) -> PlanOptions:
    """The options of `plan` among those of `antialias_`."""
    return cast(PlanOptions, {name: value for name, value in options.items() if name not in _HOW})


def _check_optimizers(model: nn.Module, optimizers: Iterable[Optimizer]) -> None:
    own = set(map(id, model.parameters()))
    for optimizer in optimizers:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"optimizers must be torch.optim.Optimizer objects, got {type(optimizer).__name__}")
        if own.isdisjoint(id(parameter) for group in optimizer.param_groups for parameter in group["params"]):
            raise ValueError(
                f"{type(optimizer).__name__} holds no parameter of this {type(model).__name__}: create the optimizer "
                "from this model's parameters"
            )
