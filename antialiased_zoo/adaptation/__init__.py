"""A pretrained network keeps its accuracy when it is antialiased."""

from .recalibration import recalibrate

__all__ = ["recalibrate"]
