"""Antialias any network: read its dataflow, plan where each blur belongs, apply the plan."""

from .activations import register_activation
from .apply import Options as Options
from .apply import antialias, antialias_
from .apply import antialias_new as antialias_new
from .cost import plan
from .cost import without_data as without_data
from .downsamplers import Downsampler, register_downsampler
from .graph import Dataflow as Dataflow
from .hosting import blur_before as blur_before
from .links import check as check
from .links import check_blurs as check_blurs
from .links import take_links as take_links
from .module_form import replace_module as replace_module
from .op_table import register_strided_op
from .ops import Op as Op
from .options import Shortcut as Shortcut
from .options import StemPool as StemPool
from .plans import Plan
from .stride_offsets import is_plain as is_plain
from .structures import forget_structure as forget_structure
from .structures import published_structure as published_structure
from .structures import register_structure as register_structure
from .traced import UntraceableError as UntraceableError

__all__ = [
    "Downsampler",
    "Plan",
    "antialias",
    "antialias_",
    "plan",
    "register_activation",
    "register_downsampler",
    "register_strided_op",
]
