"""The command ``antialiased-zoo``."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; Ctrl-C and a closed output (``| head``) end it without a traceback.

    Args:
        arguments: The arguments. Default: those of the process.

    Returns:
        0 on success, 1 on failure (with a message on standard error), 2 for invalid arguments, 130
        after Ctrl-C, 141 if the output is closed.
    """
    with _streams():
        try:
            from .command import run

            return run(arguments)
        except KeyboardInterrupt:
            print("interrupted; the same command resumes its downloads, and adapt its training", file=sys.stderr)
            return 130
        except BrokenPipeError:
            sys.stdout = None  # so that the interpreter does not flush it at exit
            return 141


@contextlib.contextmanager
def _streams() -> Iterator[None]:
    """Writes to nowhere what has no stream: it is None in a service, under pythonw and after ``>&-``."""
    with contextlib.ExitStack() as stack:
        redirects = ((sys.stdout, contextlib.redirect_stdout), (sys.stderr, contextlib.redirect_stderr))
        for stream, redirect in redirects:
            if stream is None:
                stack.enter_context(redirect(stack.enter_context(open(os.devnull, "w", encoding="utf-8"))))
        yield
