"""Antialiased resampling: blur pooling, max and average pooling, and upsampling, as modules and functions."""

from .allocator import keep_freed_memory
from .eligibility import is_onednn_map as is_onednn_map
from .eligibility import needs_grad as needs_grad
from .filters import FilterSize as FilterSize
from .filters import alias_energy, binomial_taps, wide_taps
from .filters import read_filter_size as read_filter_size
from .filters import taps_of as taps_of
from .functional import (
    avg_blur_pool1d,
    avg_blur_pool2d,
    avg_blur_pool3d,
    blur_pool1d,
    blur_pool2d,
    blur_pool3d,
    blur_upsample1d,
    blur_upsample2d,
    blur_upsample3d,
    max_blur_pool1d,
    max_blur_pool2d,
    max_blur_pool3d,
)
from .gpu import use_gpu_kernels
from .modules import (
    BlurPool,
    BlurUpsample,
    BlurUpsample1d,
    BlurUpsample3d,
    Downsample,
    Downsample1d,
    Downsample3d,
)
from .modules import Blurred as Blurred
from .offset_downsample import OffsetDownsample as OffsetDownsample
from .offset_downsample import StrideOffsets as StrideOffsets
from .pool_modules import (
    AvgBlurPool1d,
    AvgBlurPool2d,
    AvgBlurPool3d,
    MaxBlurPool1d,
    MaxBlurPool2d,
    MaxBlurPool3d,
)
from .same_pad import SamePadConv2d as SamePadConv2d
from .torch_internals import COMPILED as COMPILED
from .torch_internals import TorchDispatchMode as TorchDispatchMode
from .torch_internals import conv2d_reordered as conv2d_reordered
from .torch_internals import forget_compiled_code as forget_compiled_code
from .torch_internals import is_compiled_wrapper as is_compiled_wrapper
from .torch_internals import is_operator as is_operator
from .torch_internals import is_saving_through_hooks as is_saving_through_hooks
from .torch_internals import own_call as own_call
from .torch_internals import patch_wrapped_functions as patch_wrapped_functions
from .torch_internals import reorder_conv2d_weight as reorder_conv2d_weight
from .torch_internals import set_call as set_call
from .torch_internals import storage_key as storage_key
from .torch_internals import trace_patcher as trace_patcher
from .torch_internals import without_dispatch_modes as without_dispatch_modes
from .torch_internals import wrap_functions as wrap_functions
from .window import Window as Window

__all__ = [
    "AvgBlurPool1d",
    "AvgBlurPool2d",
    "AvgBlurPool3d",
    "BlurPool",
    "BlurUpsample",
    "BlurUpsample1d",
    "BlurUpsample3d",
    "Downsample",
    "Downsample1d",
    "Downsample3d",
    "MaxBlurPool1d",
    "MaxBlurPool2d",
    "MaxBlurPool3d",
    "alias_energy",
    "avg_blur_pool1d",
    "avg_blur_pool2d",
    "avg_blur_pool3d",
    "binomial_taps",
    "blur_pool1d",
    "blur_pool2d",
    "blur_pool3d",
    "blur_upsample1d",
    "blur_upsample2d",
    "blur_upsample3d",
    "keep_freed_memory",
    "max_blur_pool1d",
    "max_blur_pool2d",
    "max_blur_pool3d",
    "use_gpu_kernels",
    "wide_taps",
]
