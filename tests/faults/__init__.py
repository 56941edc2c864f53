"""The faults: how a server or the way to it can fail, each a function that answers one request.

A docstring says what the fault does, for the table that tests/weights/test_faults.py makes.
"""

from . import body, connection, encodings, head, ranges, redirects
from .registry import FAULTS

__all__ = ["FAULTS", "body", "connection", "encodings", "head", "ranges", "redirects"]
