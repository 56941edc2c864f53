"""What the scripts share: how each ends, in one line or none, and the names of networks among its arguments."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from antialiased_zoo.cli.output import plain_warnings
from antialiased_zoo.errors import ZooError
from antialiased_zoo.zoo import find_architecture


def run_script(main: Callable[..., Any], *arguments: Any) -> NoReturn:
    """Run a script's main function and end the process with what it returns, 130 after Ctrl-C.

    Warnings are shown without their line of code.
    MODULE:CALLABLE may be in the current folder, which Python searches only for ``python -m``.
    """
    name = Path(sys.argv[0]).name
    sys.path.insert(0, os.getcwd())
    try:
        with plain_warnings():
            code = main(*arguments)
        sys.stdout.flush()  # so that a closed pipe is noticed here
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.stdout = None  # so that the interpreter does not flush it at exit
        sys.exit(141)
    except (ZooError, ValueError, OSError, ImportError) as error:
        sys.exit(f"{name}: {error}")
    sys.exit(code)


def network_name(text: str) -> str:
    """The ``type=`` of an argument that names a network of the zoo."""
    try:
        find_architecture(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text
