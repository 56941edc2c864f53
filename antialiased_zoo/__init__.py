"""Shift-invariant convnets: antialias any model, a zoo with verified weights, and the metrics to judge them."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .adaptation import *
    from .inference import *
    from .layers import *
    from .transform import *
    from .weights import *
    from .zoo import *
    from .zoo.networks import *

__version__ = "0.1.0"

# Importing the package does not import torch: a name is looked up in the subpackages' `__all__` when
# it is first used.
_ROOMS = ("layers", "transform", "zoo", "weights", "adaptation", "inference")
_OTHERS = ("metrics", "evaluation", "training", "errors")


def __getattr__(name: str) -> Any:
    if name in (*_ROOMS, *_OTHERS):
        return import_module(f".{name}", __name__)
    if name == "__all__":
        return __dir__()
    if not name.startswith("_"):
        for room in _ROOMS:
            module = import_module(f".{room}", __name__)
            if name in module.__all__:
                return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(name for room in _ROOMS for name in import_module(f".{room}", __name__).__all__)
