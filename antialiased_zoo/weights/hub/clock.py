"""Deadlines: no wait on a socket goes beyond the first of them."""

from __future__ import annotations

import time

from .retry import SourceError


class Clock:
    """Named deadlines, each with the error to raise.

    Example:
        >>> clock = Clock()
        >>> clock.limit("answer", 10, SourceError("no answer in time"))
        >>> 9 < clock.left() <= 10
        True
    """

    def __init__(self) -> None:
        self._limits: dict[str, tuple[float, SourceError]] = {}

    def limit(self, name: str, seconds: float, error: SourceError) -> None:
        """Set or reset the limit of this name."""
        self._limits[name] = time.monotonic() + seconds, error

    def lift(self, name: str) -> None:
        """Remove a limit."""
        self._limits.pop(name, None)

    def left(self) -> float:
        """Return the seconds until the first limit.

        Raises:
            SourceError: A limit has passed; the error is that limit's.
        """
        at, error = min(self._limits.values(), key=lambda limit: limit[0])
        seconds = at - time.monotonic()
        if seconds <= 0:
            raise error
        return seconds
