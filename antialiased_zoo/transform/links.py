"""Links: records of which convolutions gave their stride to which blur.

Other tools replace modules. A link is kept by its keeper, a module that contains both the
convolutions and the blur, and is checked before each of the keeper's forwards: a lost blur is
restored, and an error is raised if that is not possible.
"""

# torch.jit.script reads the hook: no `from __future__ import annotations`, and no type comments.
# mypy: disable-error-code="no-untyped-def"
import threading
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Optional, Tuple, cast  # noqa: UP035  # TorchScript knows only these

import torch
from torch import Tensor, nn
from torch.jit import is_scripting  # type: ignore[attr-defined]  # public, but not listed
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from ..errors import LostBlurError
from ..layers import COMPILED
from .activations import is_map_norm
from .hosting import HOOKS, attach, hook_once, hooks_of
from .plans import Where

_LINKS = "_blur_links"
_ONE_REPAIR = threading.Lock()


@dataclass
class Link:
    """The convolutions that gave up a stride, and the blur that took it over. Paths are relative to the keeper.

    Attributes:
        convs: Path, original stride and kept stride of each convolution, under each of its names;
            empty if no stride was given up.
        hosts: Paths of the blur's host, all of them: other tools may replace it under one name only.
        where: "before" or "after" the host, or "within" it.
        blur: The blur.
        norms: Paths of the batch norms between the convolutions and the blur.
        known: All paths at the time of antialiasing, to tell which modules are new.
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


def check_blurs(self, input: Tuple[Tensor]) -> None:  # noqa: UP006
    """Forward pre-hook of a keeper: check its links."""
    if not is_scripting():
        check(self)


# These act on each image separately, unlike a user's own hooks, perhaps.
BLUR_HOOKS = (*HOOKS.values(), check_blurs)


def add_link(keeper: nn.Module, link: Link) -> None:
    """Add a link to its keeper, which checks it before each forward."""
    links = vars(keeper).setdefault(_LINKS, [])
    if check_blurs not in keeper._forward_pre_hooks.values():
        keeper.register_forward_pre_hook(check_blurs)
    links.append(link)


def lost_blurs(model: nn.Module) -> list[tuple[str, str]]:
    """Names of the keepers that lost a blur, and what is missing."""
    found = []
    for name, keeper in model.named_modules():
        for link in vars(keeper).get(_LINKS, ()):
            if not _is_intact(keeper, link):
                what = ", ".join(path for path, *_ in link.convs) or link.host
                found.append((name, f"the blur {link.where} {link.host} is no longer in place for {what}"))
    return found


def restore_blurs(model: nn.Module) -> bool:
    """Restore every blur that was lost in a model.

    Returns:
        True if anything was restored.

    Raises:
        LostBlurError: If the new position of one cannot be determined.
    """
    restored = False
    for keeper in list(model.modules()):
        for link in vars(keeper).get(_LINKS, ()):
            if not _is_intact(keeper, link):
                _repair(keeper, link)
                restored = True
    return restored


def check(keeper: nn.Module) -> None:
    """Restore the lost blurs of a keeper; call it in code that bypasses the keeper's own call."""
    for link in getattr(keeper, _LINKS, ()):
        if not _is_intact(keeper, link):
            _repair(keeper, link)


def take_links(keeper: nn.Module, source: nn.Module, path: str) -> None:
    """Add another module's links to a keeper that has that module's children below ``path``.

    Links that reach outside the new keeper are left out, since it cannot check them.
    """
    prefix = f"{path}." if path else ""
    for link in links_of(source):
        convs = [(prefix + conv, stride, kept) for conv, stride, kept in link.convs]
        hosts, norms = (tuple(prefix + name for name in names) for names in (link.hosts, link.norms))
        if all(_at(keeper, place) is not None for place in (*hosts, *norms, *(conv for conv, *_ in convs))):
            known = frozenset(prefix + name for name in link.known)
            add_link(keeper, replace(link, convs=convs, hosts=hosts, norms=norms, known=known))


def _is_intact(keeper: nn.Module, link: Link) -> bool:
    for path in link.hosts:
        host = _at(keeper, path, link.known)
        if host is None or link.child not in host._modules or _calls(host, link.where) != 1:
            return False
    if any(is_map_norm(_at(keeper, path, link.known)) for path in link.norms):
        return False
    for path, _, kept in link.convs:
        conv = _at(keeper, path, link.known)
        if conv is None or (getattr(conv, "stride", None) != kept and not _wraps(conv, kept)):
            return False
    return True


def _calls(host: nn.Module, where: Where) -> int:
    """Number of times that a host calls its blur."""
    return sum(hook is HOOKS[where] for hook in hooks_of(host, where).values())


def _wraps(module: nn.Module, kept: tuple[int, ...]) -> bool:
    """True for a wrapper (an adapter, a quantiser) whose convolutions all have the kept stride."""
    convs = _convs(module)
    return not _is_conv(module) and bool(convs) and all(conv.stride == kept for conv in convs)


def _is_conv(module: Optional[nn.Module]) -> bool:  # noqa: UP045
    """True for a convolution that may stride; a transposed one upsamples by its stride."""
    return isinstance(module, _ConvNd) and not isinstance(module, _ConvTransposeNd)


def _convs(module: nn.Module) -> list[Any]:
    """The convolutions in a module, itself included, and the 1x1 ones of adapters."""
    return [inner for inner in module.modules() if _is_conv(inner)]


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _repair(keeper: nn.Module, link: Link) -> None:
    with _ONE_REPAIR:
        if not _is_intact(keeper, link):  # another thread may have repaired it
            _restore(keeper, link)


def _restore(keeper: nn.Module, link: Link) -> None:
    for path in link.norms:
        norm = _at(keeper, path, link.known)
        if is_map_norm(norm):
            kind = type(norm).__name__
            raise _error(keeper, link, f"{path!r} is a {kind} now, whose statistics differ on the dense map")
    convs = [(conv[0], list(_set_kept_stride(keeper, link, *conv))) for conv in link.convs]
    moved = {path: found[0][0] for path, found in convs if len(found) == 1}
    link.convs = [conv for _, found in convs for conv in found]
    link.hosts = tuple(moved.get(path, path) for path in link.hosts)
    hosts = [(_at(keeper, path, link.known), path) for path in link.hosts]
    for host, path in hosts:
        if host is None:
            raise _error(keeper, link, f"there is no longer a module {path!r} to blur {link.where}")
    found = [host for host, _ in hosts if host is not None]
    if any(link.child not in host._modules for host in found):
        _detach(keeper, link)
    for host in found:
        if link.child not in host._modules:
            attach(host, link.where, _like(link.blur, keeper))
        hook_once(host, link.where)


def _set_kept_stride(
    keeper: nn.Module, link: Link, path: str, stride: tuple[int, ...], kept: tuple[int, ...]
) -> Iterator[tuple[str, tuple[int, ...], tuple[int, ...]]]:
    """Find what replaced a convolution, give it the stride that the convolution kept, and yield its entry in a link."""
    module = _at(keeper, path, link.known)
    if module is not None:
        found = [(path, conv) for conv in _convs(module)]
        paths = [path]
    else:
        found = list(_new_convs(keeper, link, path))
        paths = [name for name, _ in found]
        if len(found) != 1:
            # If several branches were fused into one, the first branch finds it.
            if not found and link.convs[0][0] != path and _at(keeper, link.convs[0][0], link.known) is None:
                return
            raise _error(keeper, link, f"{path!r} is gone, and it is not clear what replaced it")
    for _, conv in found:
        if conv.stride == stride:
            conv.stride = kept
        elif conv.stride != kept and max(conv.kernel_size) > 1:
            raise _error(keeper, link, f"{path!r} has the stride {conv.stride} now, not {kept}")
    if not found and getattr(module, "stride", kept) != kept:
        raise _error(keeper, link, f"{path!r} is a {type(module).__name__} now")
    for name in paths:
        yield name, stride, kept


def _new_convs(keeper: nn.Module, link: Link, path: str) -> Iterator[tuple[str, Any]]:
    """Yield the new convolutions below a path, or below its nearest parent that still exists."""
    above = path
    while above and _at(keeper, above, link.known) is None:
        above = above.rpartition(".")[0]
    parent = (_at(keeper, above, link.known) if above else None) or keeper
    for inside, module in parent.named_modules():
        name = f"{above}.{inside}".strip(".")
        if _is_conv(module) and (not inside or name not in link.known):
            yield name, module


def _detach(keeper: nn.Module, link: Link) -> None:
    """Remove a blur and its hook from every module of a keeper."""
    for module in keeper.modules():
        if module._modules.get(link.child) is link.blur:
            del module._modules[link.child]
        hooks = hooks_of(module, link.where)
        for key, hook in list(hooks.items()):
            if hook is HOOKS[link.where] and link.child not in module._modules:
                del hooks[key]


def _at(keeper: nn.Module, path: str, known: Collection[str] = ()) -> Optional[nn.Module]:  # noqa: UP045
    """The module at a path, or None; also found inside modules that came to wrap one of the ``known`` paths."""
    module: Optional[nn.Module] = keeper  # noqa: UP045
    parts = path.split(".")
    for depth, part in enumerate(parts):
        if module is not None and known and part not in module._modules:
            above = "".join([f"{name}." for name in parts[:depth]])
            module = _wrapped(part, [c for name, c in module._modules.items() if above + name not in known])
        module = module._modules.get(part) if module is not None else None
    while module is not None and COMPILED in module._modules:  # hooks of the wrapper's own may be ignored
        module = module._modules[COMPILED]
    return module


def _wrapped(name: str, inside: Sequence[Optional[nn.Module]]) -> Optional[nn.Module]:  # noqa: UP045
    """The only module with a child of that name at the least depth inside a wrapper, or None.

    `torch.compile`, activation checkpointing and sharding hold the module that they wrap as a child.
    """
    level = [module for module in inside if module is not None]
    while level:
        found = [module for module in level if name in module._modules]
        if found:
            return found[0] if len(found) == 1 else None
        level = [child for module in level for child in module._modules.values() if child is not None]
    return None


def _like(blur: nn.Module, keeper: nn.Module) -> nn.Module:
    tensor = next(keeper.parameters(), None)
    return blur if tensor is None or tensor.is_meta else blur.to(tensor.device)


def _error(keeper: nn.Module, link: Link, what: str) -> LostBlurError:
    convs = ", ".join(path for path, *_ in link.convs)
    return LostBlurError(
        f"{type(keeper).__name__} was antialiased: {convs or link.host} gave its stride to a blur {link.where} "
        f"{link.host}. Another tool has changed the model since: {what}. Use that tool on the original model and then "
        "antialias the result, or antialias the graph (graph=True)"
    )


def links_of(module: nn.Module) -> list[Link]:
    """The links of a keeper; empty for other modules."""
    return cast("list[Link]", vars(module).get(_LINKS, []))
