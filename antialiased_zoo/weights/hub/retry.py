"""How long to wait for what, and why a source was given up."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Patience:
    """How long to wait for what. All in seconds, but for the counts.

    Attributes:
        attempts: tries in a row without progress before a source is given up.
        backoff: first pause between them; each next one is twice as long.
        longest_pause: a server that asks (``Retry-After``) for more than this is given up at once.
        connect: for a connection to be made.
        read: for the next byte to arrive.
        window: over which the speed is looked at.
        slowest: bytes per second below which a source is given up.
        lock: for another process that fetches the same file.
    """

    attempts: int = 4
    backoff: float = 0.5
    longest_pause: float = 60.0
    connect: float = 10.0
    read: float = 20.0
    window: float = 30.0
    slowest: float = 1024.0
    lock: float = 1800.0

    def pause(self, error: SourceError, failures: int) -> float | None:
        """Return how long to wait after so many failures in a row, or ``None`` to give the source up."""
        asked = error.pause or 0.0
        if not error.heals or failures >= self.attempts or asked > self.longest_pause:
            return None
        return min(max(self.backoff * 2.0 ** (failures - 1), asked), self.longest_pause)


class SourceError(Exception):
    """One source did not give the file.

    Attributes:
        heals: whether trying again may help.
        pause: seconds that the server asked to wait.
    """

    def __init__(self, reason: str, *, heals: bool = False, pause: float | None = None) -> None:
        super().__init__(reason)
        self.heals = heals
        self.pause = pause
