"""Networks that are only for inference: frozen copies, and files for other runtimes."""

from .exporting import Exported as Exported
from .exporting import export_model, load_exported
from .folding import for_inference

__all__ = ["export_model", "for_inference", "load_exported"]
