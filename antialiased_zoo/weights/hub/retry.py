"""The timeouts and retries of a download, and the error of a failed source."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

_T = TypeVar("_T")
_log = logging.getLogger(__name__)

#: HTTP statuses of transient errors.
TRANSIENT = (408, 425, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Retry:
    """The limits of one download; times are in seconds.

    Attributes:
        attempts: Number of consecutive attempts without progress before giving up a source.
        backoff: First pause between attempts; it doubles each time.
        longest_pause: A server that asks (``Retry-After``) for a longer pause is given up at once.
        connect: Timeout of a connection, including name lookup, proxy and TLS. A host that times
            out is not tried again during the same fetch, and the next host gets half the time.
        read: Timeout until the end of a response's headers, including redirects and connections;
            then for each piece of data.
        window: Time over which the speed is measured.
        slowest: Minimum speed in bytes of the file per second; a slower source is given up.
        lock: Time to wait for another process that fetches the same file.
    """

    attempts: int = 3
    backoff: float = 0.5
    longest_pause: float = 60.0
    connect: float = 5.0
    read: float = 10.0
    window: float = 20.0
    slowest: float = 1024.0
    lock: float = 1800.0

    def persist(self, what: str, attempt: Callable[[], _T], has_progressed: Callable[[], bool] = lambda: False) -> _T:
        """Call a function until it succeeds, with pauses after transient errors.

        Args:
            what: What is attempted, for the log.
            attempt: The function.
            has_progressed: Called after each failure; where it returns True, the failures are counted from one again.

        Raises:
            SourceError: The function's, if it is permanent or was the last attempt's.
        """
        failures = 0
        while True:
            try:
                return attempt()
            except SourceError as error:
                failures = 1 if has_progressed() else failures + 1
                asked = error.pause or 0.0
                if not error.transient or failures >= self.attempts or asked > self.longest_pause:
                    raise
                pause = min(max(self.backoff * 2.0 ** (failures - 1), asked), self.longest_pause)
                _log.info("%s: %s; trying again in %.1f s", what, error, pause)
            time.sleep(pause)


DEFAULT_RETRY = Retry()


class SourceError(Exception):
    """A source did not provide the file.

    Attributes:
        transient: True if the error may be transient.
        pause: Seconds that the server asked to wait.
    """

    def __init__(self, reason: str, *, transient: bool = False, pause: float | None = None) -> None:
        super().__init__(reason)
        self.transient = transient
        self.pause = pause
