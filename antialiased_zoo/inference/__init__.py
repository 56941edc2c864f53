"""Networks for inference only: faster copies, and exports for other runtimes."""

from .exporting import Exported as Exported
from .exporting import export_model, load_exported
from .folding import for_inference

__all__ = ["export_model", "for_inference", "load_exported"]
