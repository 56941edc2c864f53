"""The choice between the Triton kernel and torch; Triton is imported for the first map that needs it."""

from __future__ import annotations

import importlib
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd import forward_ad

from ...errors import warn
from ..filters import Blur
from ..torch_internals import (
    is_dispatch_mode_active,
    is_function_mode_active,
    is_functorch_active,
    is_jit_tracing,
)

_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_MODES = ("reflect", "replicate", "constant")
# The kernel unrolls its loop over the taps: longer filters would take long to compile.
_MOST_TAPS = 16
_MOST_ELEMENTS = 2**31

# What the user chose. One setting for the process, as in `torch.backends`: a context variable would
# have its default in the threads that torch's data parallelism starts.
_choice: bool | None = None


def use_gpu_kernels(use: bool | None = True) -> bool | None:
    """Choose whether blurs of two-dimensional maps on a GPU use the Triton kernel.

    The kernel pads, blurs and subsamples in one pass over the map, forward and backward, where torch makes a padded
    copy and then convolves it (docs/gpu.md has the times). The choice holds for the whole process and all its threads;
    `torch.compile` recompiles when it changes.

    Args:
        use: None, the default, uses the kernel where it works: not without Triton 3.4 or newer, not where Triton cannot
            compile (a warning says why), and not in exported programs, which need only torch. True uses it in exported
            programs too, which then need this package. False never uses it. In all cases the kernel takes maps in
            float16, bfloat16, float32 (computed in float32) and float64, in any layout, and filters of at most 16 taps;
            torch computes other blurs.

    Returns:
        The previous choice.

    Raises:
        ImportError: If ``use`` is True and Triton 3.4 or newer is not installed.

    Example:
        >>> before = use_gpu_kernels(False)
        >>> use_gpu_kernels(before)
        False
    """
    global _choice
    if use:
        try:
            _kernel()
        except ModuleNotFoundError as error:
            if error.name != "triton":
                raise
            raise ImportError(
                "the GPU kernels need Triton, which torch's wheels for Linux bring: pip install triton"
            ) from None
    before, _choice = _choice, use
    return before


def supports(x: Tensor, blur: Blur) -> bool:
    """True if the kernel blurs the batch ``x``."""
    if _choice is False or not (x.is_cuda or _choice) or x.dim() != 4 or x.dtype not in _DTYPES:
        return False
    if blur.mode not in _MODES:  # the kernel would treat it as "replicate"
        return False
    if blur.is_subsampling or max([len(taps) for taps in blur.taps]) > _MOST_TAPS or _is_transformed(x):
        return False
    # The kernel computes offsets within an image as 32-bit integers.
    if sum([(n - 1) * s for n, s in zip(x.shape[1:], x.stride()[1:], strict=True)]) >= _MOST_ELEMENTS:
        return False
    if _choice is None:
        return not (_is_exported() or _is_recorded()) and _works(x.device)
    return x.device.type in _devices()


@cache
def _kernel() -> Any:
    """The module of the kernel; torch's operators are registered too."""
    importlib.import_module(".operators", __package__)
    return importlib.import_module(".functions", __package__)


# The compiler calls these once and does not trace them.
@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]  # torch has no types for it
def _devices() -> tuple[str, ...]:
    return cast(tuple[str, ...], _kernel().DEVICES)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _works(device: torch.device) -> bool:
    return _try_kernel(device)


@cache
def _try_kernel(device: torch.device) -> bool:
    """Blur a tiny map; warn if that fails, for example without a C compiler, which Triton needs."""
    try:
        # In a thread of its own, since this one may be tracing, recording operators or faking tensors.
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(_probe, device).result() == 1
    except ImportError:  # no Triton, as on Windows
        return False
    except Exception as error:
        warn(
            f"the GPU kernel of antialiased-zoo does not run here, so torch computes the blur, more slowly: "
            f"{type(error).__name__}: {error}. use_gpu_kernels(False) turns this warning off.",
            RuntimeWarning,
        )
        return False


def _probe(device: torch.device) -> float:
    with torch.inference_mode():
        x = torch.ones(1, 1, 2, 2, device=device)
        return float(_kernel().blur_pool(x, Blur.make(2, 2, "reflect", 0, 2)).item())


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _is_exported() -> bool:
    """True while a program is exported that must run with torch alone."""
    # The compiler must not trace the question: torch 2.11's answers yes for all that it compiles.
    # torch 2.6 cannot say, and its Triton is too old for the kernel.
    return is_jit_tracing() or (hasattr(torch.compiler, "is_exporting") and torch.compiler.is_exporting())


def _is_recorded() -> bool:
    """True if a tool such as NNCF records the calls of torch's functions: it would not see the kernel's."""
    return not torch.compiler.is_compiling() and is_function_mode_active()


def _is_transformed(x: Tensor) -> bool:
    """True in `torch.func` transforms and forward-mode AD, which torch's custom operators do not support."""
    if is_functorch_active():
        return True
    if torch.compiler.is_compiling():
        return False
    return forward_ad.unpack_dual(x).tangent is not None  # type: ignore[no-untyped-call]


def blur_pool(x: Tensor, blur: Blur, kernel: Tensor | None = None) -> Tensor:
    """Blur a supported batch, differentiably any number of times; ``kernel`` is ignored."""
    if torch.compiler.is_compiling() or is_dispatch_mode_active() or type(x) is not Tensor:
        padding = [side for around in blur.padding for side in around]
        return cast(Tensor, torch.ops.antialiased_zoo.blur_pool2d(x, *blur.taps, blur.stride, padding, blur.mode))
    return cast(Tensor, _kernel().blur_pool(x, blur))
