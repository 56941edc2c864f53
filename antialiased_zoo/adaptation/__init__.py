"""A pretrained network keeps its accuracy when it is antialiased."""

from .crops import RandomCrops as RandomCrops
from .distillation import distill
from .recalibration import recalibrate

__all__ = ["distill", "recalibrate"]
