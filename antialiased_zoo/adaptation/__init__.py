"""Adaptation of pretrained weights to an antialiased network: recalibration and distillation."""

from .augmentation import MIXED as MIXED
from .augmentation import STRONG as STRONG
from .augmentation import Augmentation as Augmentation
from .crops import RandomCrops as RandomCrops
from .distillation import distill
from .recalibration import recalibrate

__all__ = ["distill", "recalibrate"]
