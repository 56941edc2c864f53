"""Adaptation of pretrained weights to an antialiased network: recalibration and distillation."""

from .crops import RandomCrops as RandomCrops
from .distillation import distill
from .recalibration import recalibrate

__all__ = ["distill", "recalibrate"]
