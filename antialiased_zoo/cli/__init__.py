"""The command ``antialiased-zoo``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; Ctrl-C at any moment, and a reader that has gone (``| head``), end it without a traceback.

    Args:
        arguments: By default those of the process.

    Returns:
        0 if all went well, 1 if something failed (it is said on the standard error), 2 if the
        command was not understood, 130 after Ctrl-C, 141 if nobody reads the output any more.
    """
    try:
        from .command import run

        return run(arguments)
    except KeyboardInterrupt:
        print("interrupted; what was downloaded so far is kept, and the next call goes on from there", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stdout = None  # or the interpreter would complain when it flushes
        return 141
