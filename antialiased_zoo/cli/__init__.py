"""The command ``antialiased-zoo``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; Ctrl-C and a closed output (``| head``) end it without a traceback.

    Args:
        arguments: The arguments. Default: those of the process.

    Returns:
        0 on success, 1 on failure (with a message on standard error), 2 for invalid arguments, 130
        after Ctrl-C, 141 if the output is closed.
    """
    try:
        from .command import run

        return run(arguments)
    except KeyboardInterrupt:
        print("interrupted; the same command resumes its downloads, and adapt its training", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stdout = None  # so that the interpreter does not flush it at exit
        return 141
