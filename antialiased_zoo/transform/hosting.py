"""Where a blur lives on: beside the module that it follows or precedes, with a record of the stride that it took over.

Other tools replace modules. The record is kept by a module above both the convolution and its blur,
which compares it with what is there before each forward: a blur that was lost is put back, and what
cannot be mended is an error.
"""

# No `from __future__ import annotations`, and no comments on types in the hooks: torch.jit.script
# reads both.
# mypy: disable-error-code="no-untyped-def,no-any-return"
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Optional, Tuple, cast  # noqa: UP035  # as TorchScript knows them

import torch
from torch import Tensor, nn
from torch.jit import is_scripting  # type: ignore[attr-defined]  # public, and not listed
from torch.nn.modules.conv import _ConvNd

from ..errors import LostBlurError
from .activations import is_map_norm
from .plans import Where

_LINKS = "_blur_links"
_ONE_MEND = threading.Lock()


@dataclass
class Link:
    """What belongs together: convolutions that gave up a stride, and the blur that took it; paths from the keeper.

    Attributes:
        convs: Path, stride before, stride kept, of each convolution under each of its names; none
            where nothing was given up.
        hosts: Paths of the module that the blur stands beside: other tools may replace it under one
            name alone.
        where: "before" or "after" the host, or "within" it.
        blur: The blur.
        norms: Paths of the batch norms between them.
        known: Paths that there were, to tell what is new.
    """

    convs: list[tuple[str, tuple[int, ...], tuple[int, ...]]]
    hosts: tuple[str, ...]
    where: Where
    blur: nn.Module
    norms: tuple[str, ...]
    known: frozenset[str] = field(repr=False)

    def __post_init__(self) -> None:
        self.child = f"blur_{self.where}"

    @property
    def host(self) -> str:
        """The first of the host's paths."""
        return self.hosts[0]


# Hooks and not wrappers, so that the host keeps its class, its name and its parameters' names,
# whatever it is.


def blur_before(self, input: Tuple[Tensor]) -> Tuple[Tensor]:  # noqa: UP006
    """Forward pre-hook of a host: blur its first argument."""
    if is_scripting():
        return (self.blur_before(input[0]),)
    else:  # TorchScript compiles one branch alone
        return _with_first_blurred(self, input)


def blur_after(self, input: Tuple[Tensor], output: Tensor) -> Tensor:  # noqa: UP006
    """Forward hook of a host: blur what it returns."""
    if is_scripting():
        return self.blur_after(output)
    else:
        return _child(self, "blur_after")(output)


def blur_within(self, input: Tuple[Tensor], output: Tensor) -> Tensor:  # noqa: UP006
    """Forward hook of a pool that stays where it is: what takes its place computes its output."""
    if is_scripting():
        return self.blur_within(input[0])
    else:
        return _child(self, "blur_within")(_positional(self, input))


def check_blurs(self, input: Tuple[Tensor]) -> None:  # noqa: UP006
    """Forward pre-hook of a keeper: compare what is there with what there was."""
    if not is_scripting():
        check(self)


# These work on each image by itself, unlike what a user's own hooks may do.
BLUR_HOOKS = (blur_before, blur_after, blur_within, check_blurs)
_HOOKS: dict[str, Any] = {"before": blur_before, "after": blur_after, "within": blur_within}


def attach(host: nn.Module, where: Where, blur: nn.Module) -> None:
    """Put a blur beside a module; a second one on the same side follows the first."""
    name = f"blur_{where}"
    if name in host._modules:  # both the op before and this one blur here
        host.add_module(name, nn.Sequential(host.get_submodule(name), blur))
        return
    host.add_module(name, blur)
    _hook_once(host, where)
    if type(host).__module__.startswith("torch."):
        # `torch.fx` takes a module of torch's own for one op, and tools that fuse ops of its graph
        # would drop the blur. A module that names another home is looked into: the blur becomes an
        # op of the graph.
        host.__module__ = __name__


def _hook_once(host: nn.Module, where: Where) -> None:
    """Have a host call its blur once: tools copy a hook, move it or drop it."""
    hooks, hook = _hooks_beside(host, where), _HOOKS[where]
    for key in [key for key, value in hooks.items() if value is hook][1:]:
        del hooks[key]
    if hook in hooks.values():
        return
    if where == "before":
        host.register_forward_pre_hook(hook)
    else:  # what takes a pool's place comes before other hooks that its output goes through
        host.register_forward_hook(hook, prepend=where == "within")


def _hooks_beside(host: nn.Module, where: Where) -> Any:
    return host._forward_pre_hooks if where == "before" else host._forward_hooks


def keep(keeper: nn.Module, link: Link) -> None:
    """Record a link with the module that checks it before each forward."""
    links = vars(keeper).setdefault(_LINKS, [])
    if check_blurs not in keeper._forward_pre_hooks.values():
        keeper.register_forward_pre_hook(check_blurs)
    links.append(link)


def lost(model: nn.Module) -> list[tuple[str, str]]:
    """Names of modules that lost a blur, and what is missing."""
    found = []
    for name, keeper in model.named_modules():
        for link in vars(keeper).get(_LINKS, ()):
            if not _holds(keeper, link):
                what = ", ".join(path for path, *_ in link.convs) or link.host
                found.append((name, f"the blur {link.where} {link.host} is not in place any more for {what}"))
    return found


def mend(model: nn.Module) -> bool:
    """Put back every blur that was lost in a model.

    Returns:
        True if anything was put back.

    Raises:
        LostBlurError: If it is not known where one belongs now.
    """
    mended = False
    for keeper in list(model.modules()):
        for link in vars(keeper).get(_LINKS, ()):
            if not _holds(keeper, link):
                _mend(keeper, link)
                mended = True
    return mended


def _child(host: nn.Module, name: str) -> Callable[..., Any]:
    blur = host._modules.get(name)
    if blur is None:
        raise LostBlurError(
            f"{type(host).__name__} has taken over the hook {name} of another module, but not its blur: another tool "
            "has replaced modules of this antialiased model. Call antialias_(model) once more, or use the tool first"
        )
    return blur


def _positional(host: nn.Module, args: Tuple[Any, ...]) -> Any:  # noqa: UP006
    if not args:
        raise TypeError(f"{type(host).__name__} was antialiased and takes its map by position: a hook sees no keywords")
    return args[0]


def _with_first_blurred(host: nn.Module, args: Tuple[Any, ...]) -> Tuple[Any, ...]:  # noqa: UP006
    return (_child(host, "blur_before")(args[0]), *args[1:])


def check(keeper: nn.Module) -> None:
    """Put back each blur that a module keeps and that was lost; for code that goes past the module's own call."""
    for link in getattr(keeper, _LINKS, ()):
        if not _holds(keeper, link):
            _mend(keeper, link)


def take_links(keeper: nn.Module, source: nn.Module, path: str) -> None:
    """Keep what another module keeps, where its children lie below ``path`` in the new keeper.

    What lies partly outside the new keeper is left out: it cannot be checked from there.
    """
    prefix = f"{path}." if path else ""
    for link in links_of(source):
        convs = [(prefix + conv, stride, kept) for conv, stride, kept in link.convs]
        hosts, norms = (tuple(prefix + name for name in names) for names in (link.hosts, link.norms))
        if all(_at(keeper, place) is not None for place in (*hosts, *norms, *(conv for conv, *_ in convs))):
            known = frozenset(prefix + name for name in link.known)
            keep(keeper, replace(link, convs=convs, hosts=hosts, norms=norms, known=known))


def _holds(keeper: nn.Module, link: Link) -> bool:
    for path in link.hosts:
        host = _at(keeper, path)
        if host is None or link.child not in host._modules or _calls(host, link.where) != 1:
            return False
    if any(is_map_norm(_at(keeper, path)) for path in link.norms):
        return False
    for path, _, kept in link.convs:
        conv = _at(keeper, path)
        if conv is None or (getattr(conv, "stride", None) != kept and not _wraps(conv, kept)):
            return False
    return True


def _calls(host: nn.Module, where: Where) -> int:
    """How often a host calls its blur."""
    return sum(hook is _HOOKS[where] for hook in _hooks_beside(host, where).values())


def _wraps(module: nn.Module, kept: tuple[int, ...]) -> bool:
    """True for a wrapper (an adapter, a quantiser) whose convolutions all have the stride that was kept."""
    convs = _convs(module)
    return not isinstance(module, _ConvNd) and bool(convs) and all(conv.stride == kept for conv in convs)


def _convs(module: nn.Module) -> list[_ConvNd]:
    """Convolutions in a module that stride or have the size to; the 1x1 ones of adapters come along."""
    return [m for m in module.modules() if isinstance(m, _ConvNd) and not isinstance(m, nn.ConvTranspose2d)]


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _mend(keeper: nn.Module, link: Link) -> None:
    with _ONE_MEND:
        if not _holds(keeper, link):  # another thread may have been first
            _put_back(keeper, link)


def _put_back(keeper: nn.Module, link: Link) -> None:
    for path in link.norms:
        if is_map_norm(_at(keeper, path)):
            kind = type(_at(keeper, path)).__name__
            raise _error(keeper, link, f"{path!r} is a {kind} now, whose statistics of the dense map are other ones")
    convs = [(conv[0], list(_dense_again(keeper, link, *conv))) for conv in link.convs]
    moved = {path: found[0][0] for path, found in convs if len(found) == 1}
    link.convs = [conv for _, found in convs for conv in found]
    link.hosts = tuple(moved.get(path, path) for path in link.hosts)
    hosts = [(_at(keeper, path), path) for path in link.hosts]
    for host, path in hosts:
        if host is None:
            raise _error(keeper, link, f"there is no module {path!r} any more to blur {link.where}")
    found = [host for host, _ in hosts if host is not None]
    if any(link.child not in host._modules for host in found):
        _detach(keeper, link)
    for host in found:
        if link.child not in host._modules:
            attach(host, link.where, _like(link.blur, keeper))
        _hook_once(host, link.where)


def _dense_again(
    keeper: nn.Module, link: Link, path: str, stride: tuple[int, ...], kept: tuple[int, ...]
) -> Iterator[tuple[str, tuple[int, ...], tuple[int, ...]]]:
    """Find what stands for a convolution now, and let it keep the stride that the convolution kept."""
    module = _at(keeper, path)
    if module is not None:
        found = [(path, conv) for conv in ([module] if isinstance(module, _ConvNd) else _convs(module))]
        paths = [path]
    else:
        found = list(_newer(keeper, link, path))
        paths = [name for name, _ in found]
        if len(found) != 1:
            # Of several branches that became one, the first finds it.
            if link.convs[0][0] != path and _at(keeper, link.convs[0][0]) is None and len(found) == 0:
                return
            raise _error(keeper, link, f"{path!r} is gone, and it is not clear what took its place")
    for _, conv in found:
        if conv.stride == stride:
            conv.stride = kept
        elif conv.stride != kept and max(conv.kernel_size) > 1:
            raise _error(keeper, link, f"{path!r} strides by {conv.stride} now, not by {kept}")
    if not found and getattr(module, "stride", kept) != kept:
        raise _error(keeper, link, f"{path!r} is a {type(module).__name__} now")
    for name in paths:
        yield name, stride, kept


def _newer(keeper: nn.Module, link: Link, path: str) -> Iterator[tuple[str, Any]]:
    """Convolutions below the nearest module above a path that is still there, that were not there before."""
    above = path
    while above and _at(keeper, above) is None:
        above = above.rpartition(".")[0]
    for name, module in keeper.named_modules():
        inside = not above or name == above or name.startswith(f"{above}.")
        new = name not in link.known or (name == above and isinstance(module, _ConvNd))
        if isinstance(module, _ConvNd) and inside and new:
            yield name, module


def _detach(keeper: nn.Module, link: Link) -> None:
    """Take a blur and its hook away from where a tool has put them, or left them."""
    for module in keeper.modules():
        if module._modules.get(link.child) is link.blur:
            del module._modules[link.child]
        hooks = _hooks_beside(module, link.where)
        for key, hook in list(hooks.items()):
            if hook is _HOOKS[link.where] and link.child not in module._modules:
                del hooks[key]


def _at(keeper: nn.Module, path: str) -> Optional[nn.Module]:  # noqa: UP045
    module: Optional[nn.Module] = keeper  # noqa: UP045
    for part in path.split("."):
        module = module._modules.get(part) if module is not None else None
    return module


def _like(blur: nn.Module, keeper: nn.Module) -> nn.Module:
    tensor = next(keeper.parameters(), None)
    return blur if tensor is None or tensor.is_meta else blur.to(tensor.device)


def _error(keeper: nn.Module, link: Link, what: str) -> LostBlurError:
    convs = ", ".join(path for path, *_ in link.convs)
    return LostBlurError(
        f"{type(keeper).__name__} was antialiased: {convs or link.host} gave its stride to a blur {link.where} "
        f"{link.host}. Another tool has changed that since: {what}. Use that tool on the plain model and antialias "
        "its result, or antialias the graph (graph=True)"
    )


def links_of(module: nn.Module) -> list[Link]:
    """The links that a module keeps."""
    return cast("list[Link]", vars(module).get(_LINKS, []))
