"""Antialias any network: read its dataflow, plan where each blur belongs, apply the plan."""

from .apply import Options as Options
from .apply import antialias, antialias_
from .cost import plan
from .graph import Dataflow as Dataflow
from .graph import UntraceableError as UntraceableError
from .options import Shortcut as Shortcut
from .options import StemPool as StemPool
from .plans import Plan

__all__ = ["Plan", "antialias", "antialias_", "plan"]
