"""The commands of ``antialiased-zoo`` and their arguments."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from .. import __version__
from ..errors import FetchError, OfflineError, SourcesFailedError, ZooError
from ..weights import alternatives, checkpoints, hub, manifest
from . import adapt, compare, export, plan
from .doctor import doctor
from .files import picture
from .listing import info, list_weights
from .numbers import positive
from .output import complain, modules_of_this_folder, plain_warnings, say, say_json
from .overview import Parser
from .prediction import DEFAULT, predict
from .specs import SPEC, find

OK, FAILED = 0, 1


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; see `antialiased_zoo.cli.main`."""
    options = _parser().parse_args(arguments)
    options.argv = list(sys.argv[1:] if arguments is None else arguments)
    options.is_own_process = arguments is None
    with plain_warnings(), modules_of_this_folder():
        try:
            command: Callable[[argparse.Namespace], int] = options.command
            code = command(options)
            sys.stdout.flush()  # so that a closed pipe is noticed here
            return code
        except BrokenPipeError:
            raise
        except (ZooError, OSError, ValueError, ImportError) as error:
            complain(error)
            return FAILED


def _parser() -> argparse.ArgumentParser:
    parser = Parser(__version__)

    def add(name: str, command: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        one = parser.commands.add_parser(name, help=text, description=text)
        one.set_defaults(command=command)
        return one

    one = add(
        "list",
        list_weights,
        "List weights: top-1 and crop consistency, licence, local files, alive sources.",
    )
    one.add_argument("names", nargs="*", metavar="NAME", help="networks to list; default: all")
    one.add_argument("--json", action="store_true", help="as JSON")
    one.add_argument("--markdown", action="store_true", help="published figures as the README's table")
    one = add("info", info, "Show all facts about one set of weights.")
    one.add_argument("weights", metavar="WEIGHTS", help=SPEC)
    one.add_argument("--json", action="store_true", help="as JSON")
    one = add("download", download, "Fetch weights into torch hub's folder, verified.")
    one.add_argument("weights", nargs="+", metavar="WEIGHTS", help=SPEC)
    one.add_argument("--quiet", action="store_true", help="no progress bars")
    one = add(
        "verify",
        verify,
        "Check every cached file again, converted ones against their pickles; rename those that fail.",
    )
    one.add_argument("--json", action="store_true", help="as JSON")
    one = add("doctor", doctor, "Check this machine, and whether each source of weights is alive.")
    one.add_argument("names", nargs="*", metavar="NAME", help="networks whose sources to check; default: all")
    one.add_argument("--json", action="store_true", help="as JSON")
    _add_predict(add("predict", predict, "Classify images."))
    compare.add_arguments(add("compare", compare.run, compare.HELP))
    plan.add_arguments(add("plan", plan.run, plan.HELP))
    adapt.add_arguments(add("adapt", adapt.run, adapt.HELP))
    export.add_arguments(add("export", export.run, export.HELP))
    one = add("demo", _demo, "Slide photos under two networks: how often the answer changes, and a picture.")
    one.add_argument("--photo", help="an image file for the curve; default: a cat")
    one.add_argument("--label", help="the class of the curve; default: the baseline's prediction")
    one.add_argument("--output", type=picture, default="demo.png", help="the picture to write; default: %(default)s")
    return parser


def _add_predict(one: argparse.ArgumentParser) -> None:
    one.add_argument("images", nargs="+", metavar="IMAGE")
    place = "a FILE, folder or hf-hub:OWNER/NAME"
    one.add_argument("--weights", help=f"{SPEC}; {place}; default: {DEFAULT}, which is in the package")
    one.add_argument("--model", help="network of a FILE that does not state it: NAME[:lpfK[:RECIPE]]")
    one.add_argument("--classes", type=positive, help="number of classes of a FILE for timm:NAME; others state it")
    one.add_argument("--top", type=positive, default=5, help="classes to print for each image; default: %(default)s")
    one.add_argument("--device", default="cpu", help="torch device; default: %(default)s")
    one.add_argument("--json", action="store_true", help="as JSON, one line per image")


def download(options: argparse.Namespace) -> int:
    """Fetch entries in order; a failure does not stop the others."""
    result = OK
    for entry in [find(spec) for spec in options.weights]:  # check all names before any download
        try:
            say(str(hub.fetch(entry, progress=not options.quiet)))
        except FetchError as error:
            failed = isinstance(error, (SourcesFailedError, OfflineError))
            complain(f"{error}\n{alternatives(entry)}" if failed else error)
            result = FAILED
    return result


def verify(options: argparse.Namespace) -> int:
    """Verify every cached file again and print the results."""
    verdicts = list(hub.verify(manifest.load(), checkpoints.holds_same))
    if options.json:
        say_json([{"path": str(v.path), "status": v.status, "detail": v.detail} for v in verdicts])
    else:
        for verdict in verdicts:
            say(f"{verdict.status:11} {verdict.path}  {verdict.detail}")
    return OK if all(verdict.status == "ok" for verdict in verdicts) else FAILED


def _demo(options: argparse.Namespace) -> int:
    from . import demo

    say(demo.run(options.photo, options.label, options.output))
    say(f"the curves are in {options.output}")
    return OK
