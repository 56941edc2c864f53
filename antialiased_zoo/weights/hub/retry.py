"""How long to wait for what, how often to try again, and why a source was given up."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Retry:
    """Limits of one download. All in seconds, but for the counts.

    Attributes:
        attempts: Tries in a row without progress before a source is given up, whatever the cause.
        backoff: First pause between them; each next one is twice as long.
        longest_pause: A server that asks (``Retry-After``) for more than this is given up at once.
        connect: For a connection, with name lookup, proxy and TLS. A host that does not answer in
            time is not asked again during the same fetch, and the next host gets half of the time.
        read: For the whole header of an answer, redirects and connections included; then for each
            next data.
        window: Over which the speed is looked at.
        slowest: Bytes of the file per second below which a source is given up.
        lock: For another process that fetches the same file.
    """

    attempts: int = 3
    backoff: float = 0.5
    longest_pause: float = 60.0
    connect: float = 5.0
    read: float = 10.0
    window: float = 20.0
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
        heals: Whether trying again may help.
        pause: Seconds that the server asked to wait.
    """

    def __init__(self, reason: str, *, heals: bool = False, pause: float | None = None) -> None:
        super().__init__(reason)
        self.heals = heals
        self.pause = pause
