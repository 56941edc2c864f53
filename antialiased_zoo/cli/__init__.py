"""The command ``antialiased-zoo``."""

from .command import main

__all__ = ["main"]
