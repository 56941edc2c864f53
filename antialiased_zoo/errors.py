"""Every exception that this package raises on purpose, in one family under :class:`ZooError`."""

from __future__ import annotations

from collections.abc import Sequence


class ZooError(Exception):
    """Base of this project's own exceptions."""


class ManifestError(ZooError, ValueError):
    """A manifest or one of its entries breaks a rule; the message names the entry and the rule."""


class UnknownWeightsError(ZooError, ValueError):
    """No entry for the wanted model, filter size and recipe; the message lists what exists."""


class FetchError(ZooError, OSError):
    """No verified file could be provided."""


class OfflineError(FetchError):
    """The file is not in the cache, and an environment variable forbids the network."""


class CacheError(FetchError):
    """The cache folder cannot be used: full, read-only, not a folder."""


class DigestError(FetchError):
    """A file's SHA-256 is not the one its manifest entry states."""


class PinError(DigestError):
    """A file fits its short public digest, but not the full digest pinned when it was first seen."""


class SourcesFailedError(FetchError):
    """Every source of a file failed.

    Attributes:
        reasons: one ``(source, reason)`` pair per source, in the order in which they were tried.
    """

    def __init__(self, message: str, reasons: Sequence[tuple[str, str]]) -> None:
        super().__init__(message)
        self.reasons = tuple(reasons)


class CheckpointError(ZooError, ValueError):
    """A weights file cannot be put into the model."""


class MalformedFileError(CheckpointError):
    """The file is truncated, corrupt or not a format that this package reads."""


class UnsafePickleError(CheckpointError):
    """The pickle asks for more than tensors in plain containers; none of it was run."""


class TensorMismatchError(CheckpointError):
    """The file's tensors are not the model's: some are missing, extra, or of another shape or dtype."""


class NonFiniteError(CheckpointError):
    """A tensor in the file holds NaN or infinity."""


class StructureMismatchError(CheckpointError):
    """Weights belong to a network of another structure (filter, stem, shortcut ...); the message names both."""


class LostBlurError(ZooError, RuntimeError):
    """Another tool took a blur out of an antialiased model, and it is not clear where it belongs now."""
