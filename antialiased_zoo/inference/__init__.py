"""Frozen copies of a network, for inference only."""

from .folding import for_inference

__all__ = ["for_inference"]
