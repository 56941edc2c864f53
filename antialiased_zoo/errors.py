"""The package's exceptions, all derived from :class:`ZooError`, and its warnings."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence

_PACKAGE = __name__.partition(".")[0]


class ZooError(Exception):
    """Base class of the package's exceptions."""


class ManifestError(ZooError, ValueError):
    """A manifest or one of its entries breaks a rule; the message names the entry and the rule."""


class UnknownWeightsError(ZooError, ValueError):
    """No entry for the wanted model, filter size and recipe; the message lists what exists."""


class FetchError(ZooError, OSError):
    """No verified file could be provided."""


class OfflineError(FetchError):
    """The file is not in the cache, and an environment variable forbids the network."""


class CacheError(FetchError):
    """The cache folder cannot be used: it is full, read-only or not a folder."""


class DigestError(FetchError):
    """A file's SHA-256 is not the one its manifest entry states."""


class PinError(DigestError):
    """A file matches its short public digest, but not the full digest pinned when it was first seen."""


class SourcesFailedError(FetchError):
    """Every source of a file failed.

    Attributes:
        reasons: one ``(source, reason)`` pair per source, in the order in which they were tried.
    """

    def __init__(self, message: str, reasons: Sequence[tuple[str, str]]) -> None:
        super().__init__(message)
        self.reasons = tuple(reasons)


class CheckpointError(ZooError, ValueError):
    """A weights file cannot be loaded into the model."""


class MalformedFileError(CheckpointError):
    """The file is truncated, corrupt or not a format that this package reads."""


class UnsafePickleError(CheckpointError):
    """The pickle contains more than tensors in plain containers; none of its code was run."""


class TensorMismatchError(CheckpointError):
    """The file's tensors do not match the model's: some are missing, unexpected, or differ in shape or dtype."""


class NonFiniteError(CheckpointError):
    """A tensor in the file holds NaN or infinity."""


class StructureMismatchError(CheckpointError):
    """The weights belong to a different structure (filter, stem, shortcut ...); the message names both."""


class DivergedError(ZooError, FloatingPointError):
    """Training diverged: the loss is no longer finite."""


class LostBlurError(ZooError, RuntimeError):
    """Another tool removed a blur from an antialiased model, and its new position cannot be determined."""


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Issue a warning that points to the nearest caller outside this package.

    Args:
        message: The message.
        category: The warning's class.
    """
    level, frame = 1, sys._getframe(0)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == _PACKAGE:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
