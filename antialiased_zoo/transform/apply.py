"""Applies a plan: gives strides over to blurs, in place of modules, beside them, or between a graph's nodes."""

from __future__ import annotations

import contextlib
import copy
import itertools
import warnings
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar, cast

from torch import fx, nn
from torch.optim import Optimizer
from typing_extensions import Unpack

from ..layers import FilterSize, Window, forget_compiled_code
from .downsamplers import Downsampler, make_downsampler, upsampling_blur
from .graph import Dataflow, UntraceableError
from .hosting import Link, attach, keep, links_of, mend
from .ops import row_of
from .options import PlanOptions
from .planner import plan
from .plans import Plan, Site
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
        return _apply_to_graph(model, found, way)
    for site in found.treated:
        _apply(model, site, way, found)
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


def _apply(model: nn.Module, site: Site, way: Downsampler, found: Plan) -> None:
    if site.placement is None:
        return
    module, host, where = model.get_submodule(site.name), model.get_submodule(site.placement.host), site.placement.where
    if where == "instead":
        replace_module(model, module, _like(module, model, _in_place_of(module, site, way)))
        return
    if site.keep != site.stride:
        cast(nn.Conv2d, module).stride = site.keep
    if site.shares:
        return
    blur = _like(module, model, _blur_of(site, way))
    attach(host, where, blur)
    if site.keeper is not None:
        served = [other for other in found.treated if other is site or other.shares == site.name]
        keeper = model.get_submodule(site.keeper)
        convs = [
            (path, other.stride, other.keep)
            for other in served
            if other.keep != other.stride
            for path in _names(keeper, model.get_submodule(other.name))
        ]
        norms = [path for norm in site.norms for path in _names(keeper, model.get_submodule(norm))]
        known = frozenset(name for name, _ in keeper.named_modules(remove_duplicate=False))
        keep(keeper, Link(convs, tuple(_names(keeper, host)), where, blur, tuple(norms), known))


def _names(keeper: nn.Module, module: nn.Module) -> list[str]:
    return [name for name, found in keeper.named_modules(remove_duplicate=False) if found is module]


def _in_place_of(module: nn.Module, site: Site, way: Downsampler) -> nn.Module:
    """What replaces a pool, or an op that was registered."""
    row = row_of(module)
    if row is None or row.blurred is None:
        return _blur_of(site, way)

    def blur(channels: int | None = None, stride: Sequence[int] = site.stride) -> nn.Module:
        return _blur_of(replace(site, channels=channels, blur_stride=tuple(stride), window=None), way)

    return row.blurred(module, blur)


def _blur_of(site: Site, way: Downsampler) -> nn.Module:
    stride, window, way = site.stride, site.window, way.at(site.level)
    if site.filter_size is not None:
        return upsampling_blur(site.filter_size, stride, site.channels, way.pad_type)
    if site.blur_stride == 1:
        return way.dense(stride, site.channels)
    stride = cast("tuple[int, ...]", site.blur_stride)
    if site.offsets:
        return way.subsample_at(site.offsets, stride)
    if window is None or site.pool == "blur":
        return way.subsample(stride, site.channels)
    if site.pool == "fit":
        return way.avg_pool(window, stride)
    return way.max_pool(Window.make(2, 0, 1, False, len(stride)) if site.pool == "max2" else window, stride)


def _like(module: nn.Module, model: nn.Module, blur: nn.Module) -> nn.Module:
    """Give a blur its model's dtype and device, and the train flag of the module it stands beside or for."""
    tensor = next(itertools.chain(module.parameters(), model.parameters(), model.buffers()), None)
    if tensor is not None and not tensor.is_meta:  # on the meta device the kernel would be lost: it is in no checkpoint
        blur = blur.to(device=tensor.device, dtype=tensor.dtype if tensor.is_floating_point() else None)
    return blur.train(module.training)


def replace_module(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put ``new`` wherever ``old`` stands in a model, under all its names; hooks and blurs beside it move along."""
    for hooks, value in vars(old).items():  # the same objects, so that the handles of hooks go on
        if hooks.startswith(("_forward_", "_backward_", "_is_full_backward_")):
            vars(new)[hooks] = value
    for name in ("blur_before", "blur_after"):  # another op's
        if hasattr(old, name):
            new.add_module(name, old.get_submodule(name))
    for parent in list(model.modules()):
        for name, value in (*vars(parent).items(),):
            if name == "_modules" or type(value) in (list, tuple, dict):
                vars(parent)[name] = _with_replaced(value, old, new)


def _with_replaced(value: Any, old: nn.Module, new: nn.Module) -> Any:
    """A container that holds one module in place of another; the same object, unless it does."""
    if value is old:
        return new
    if isinstance(value, dict):
        found = {name: _with_replaced(item, old, new) for name, item in value.items()}
        if any(found[name] is not item for name, item in value.items()):
            value = value.copy()
            value.update(found)
    elif type(value) in (list, tuple):
        items = [_with_replaced(item, old, new) for item in value]
        if any(item is not before for item, before in zip(items, value, strict=True)):
            return type(value)(items)
    return value


def _apply_to_graph(model: nn.Module, found: Plan, way: Downsampler) -> fx.GraphModule:
    """Put blurs between the nodes of the model's graph; parts that could not be traced are treated as modules."""
    flow = Dataflow(model)
    _warn_of_modes(model, flow)
    graph = flow.graph
    for name, tensor in flow.constants.items():
        model.register_buffer(name, tensor, persistent=False)
    nodes = {node.name: node for node in graph.nodes}
    names = (f"blur_{index}" for index in itertools.count())  # a graph that was treated before has some
    for site in found.treated:
        if not site.node:
            _apply(model, site, way, found)
            continue
        if not site.shares:
            path = next(name for name in names if not hasattr(model, name))
            model.add_module(path, _like(model, model, _blur_of(site, way)))
            _rewire(graph, nodes, site, path)
        if site.placement and site.placement.where != "instead" and site.keep != site.stride:
            _set_stride(model, nodes[site.node], site.keep)
    graph.lint()
    made = fx.GraphModule(model, graph, type(model).__name__)
    for name, tensor in flow.constants.items():
        if isinstance(tensor, nn.Parameter):  # of a module in a plain list: in no state dict before, nor now
            delattr(made, name)
            vars(made)[name] = tensor
    _keep_unused(model, made)
    return made


def _warn_of_modes(model: nn.Module, flow: Dataflow) -> None:
    """Warn where a model's own code does something else in the other mode, which a graph cannot."""
    try:
        same = Dataflow(model, not model.training).described() == flow.described()
    except UntraceableError:
        same = False
    if not same:
        name, mode, other = type(model).__name__, *(("training", "eval") if model.training else ("evaluation", "train"))
        warnings.warn(
            f"{name} has code of its own that differs between training and evaluation (functional dropout, say): the "
            f"graph keeps what it does in {mode}, whatever train() and eval() say; call {other}() first for the other",
            stacklevel=5,
        )


def _keep_unused(model: nn.Module, made: fx.GraphModule) -> None:
    """Give the made module what its graph does not use (auxiliary heads, say): checkpoints hold it."""
    known = made.state_dict()
    for key, tensor in model.state_dict(keep_vars=True).items():
        if key in known:
            continue
        *path, name = key.split(".")
        module: nn.Module = made
        for part in path:
            if not hasattr(module, part):
                module.add_module(part, nn.Module())
            module = module.get_submodule(part)
        if isinstance(tensor, nn.Parameter):
            module.register_parameter(name, tensor)
        else:
            module.register_buffer(name, tensor)


def _rewire(graph: fx.Graph, nodes: dict[str, fx.Node], site: Site, path: str) -> None:
    placement = cast(Any, site.placement)
    host = nodes[placement.host]
    source = cast(fx.Node, host.args[0] if host.args else host.kwargs["input"])
    if placement.where == "before":
        with graph.inserting_before(host):
            host.replace_input_with(source, graph.call_module(path, (source,)))
        return
    with graph.inserting_after(host):
        blurred = graph.call_module(path, (host if placement.where == "after" else source,))
    host.replace_all_uses_with(blurred, delete_user_cb=lambda user: user is not blurred)
    if placement.where == "instead":
        graph.erase_node(host)


def _set_stride(model: nn.Module, node: fx.Node, keep: tuple[int, ...]) -> None:
    if node.op == "call_module":
        cast(nn.Conv2d, model.get_submodule(str(node.target))).stride = keep
    elif len(node.args) > 3:  # (input, weight, bias, stride, ...)
        node.update_arg(3, keep)
    else:
        node.update_kwarg("stride", keep)
