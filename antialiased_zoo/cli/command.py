"""The command ``antialiased-zoo``: list, info, download, verify, predict, adapt, demo."""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from .. import __version__
from ..errors import ZooError
from ..weights import Entry, manifest
from . import adapt

#: Exit codes: all went well; something asked for failed; the command was not understood; interrupted.
OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130

_SPEC = "NAME[:lpfK or :baseline[:RECIPE]], for example resnet50, resnet50:lpf3 or resnet50:lpf3:timm_bt"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: By default those of the process.

    Returns:
        0 if all went well, 1 if something failed (it is said on the standard error), 2 if the command was not
        understood, 130 after Ctrl-C.
    """
    options = _parser().parse_args(arguments)
    try:
        command: Callable[[argparse.Namespace], int] = options.command
        with warnings.catch_warnings():
            warnings.showwarning = _one_line  # a warning's line of code means nothing here
            return command(options)
    except KeyboardInterrupt:
        print("interrupted; what was downloaded so far is kept, and the next call goes on from there", file=sys.stderr)
        return INTERRUPTED
    except (ZooError, OSError, ValueError, ImportError) as error:
        print(f"antialiased-zoo: {error}", file=sys.stderr)
        return FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "antialiased-zoo", description="Shift-invariant convnets: weights, answers, a demo."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, command: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=text, description=text)
        one.set_defaults(command=command)
        return one

    one = add("list", _list, "List weights: network, filter, recipe, published figures, licence, and if they are here.")
    one.add_argument("names", nargs="*", metavar="NAME", help="networks to list; all by default")
    one.add_argument("--json", action="store_true", help="as JSON")
    one.add_argument("--markdown", action="store_true", help="published figures as the README's table")
    one = add("info", _info, "Say everything known of one set of weights.")
    one.add_argument("weights", metavar="WEIGHTS", help=_SPEC)
    one.add_argument("--json", action="store_true", help="as JSON")
    one = add("download", _download, "Fetch weights into torch hub's folder, verified.")
    one.add_argument("weights", nargs="+", metavar="WEIGHTS", help=_SPEC)
    one.add_argument("--quiet", action="store_true", help="no progress bars")
    one = add("verify", _verify, "Hash every cached file anew; move those that fail out of the way.")
    one.add_argument("--json", action="store_true", help="as JSON")
    one = add("predict", _predict, "Classify images.")
    one.add_argument("images", nargs="+", metavar="IMAGE")
    one.add_argument("--weights", default="efficientnet_lite0:lpf4", help=f"{_SPEC}; default: %(default)s")
    one.add_argument("--top", type=int, default=5, help="guesses for each image; default: %(default)s")
    one.add_argument("--device", default="cpu", help="torch device; default: %(default)s")
    one.add_argument("--json", action="store_true", help="as JSON, one line an image")
    adapt.add_arguments(add("adapt", adapt.run, adapt.HELP))
    one = add(
        "demo",
        _demo,
        "Slide photos under two networks: how often the answer changes, and a picture.",
    )
    one.add_argument("--photo", help="an image file for the curve; by default a cat")
    one.add_argument("--label", help="the class that the curve follows; by default the baseline's answer")
    one.add_argument("--output", default="demo.png", help="the picture to write; default: %(default)s")
    return parser


def _one_line(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"antialiased-zoo: {message}", file=sys.stderr)


def _find(spec: str) -> Entry:
    name, _, rest = spec.partition(":")
    size, _, recipe = rest.partition(":")
    filters = {"": 4, "baseline": None, **{f"lpf{k}": k for k in range(1, 8)}}
    if size not in filters:
        raise ValueError(f"{spec!r} is not understood: expected {_SPEC}")
    return manifest.load().find(name, filters[size], recipe or None)


def _spec(entry: Entry) -> str:
    size = "baseline" if entry.filter_size is None else f"lpf{entry.filter_size}"
    return f"{entry.model}:{size}:{entry.recipe}"


def _list(options: argparse.Namespace) -> int:
    from ..weights import hub
    from ..zoo import find_architecture

    for name in options.names:
        find_architecture(name)  # complains with the nearest names
    entries = [entry for entry in manifest.load() if not options.names or entry.model in options.names]
    if options.json:
        print(json.dumps([_facts(entry) for entry in entries], indent=1))
        return OK
    if options.markdown:
        from ..zoo import published_table

        print(published_table(manifest.load()))
        return OK
    print(f"{'weights':34} {'top-1':>6} {'crop cons.':>10}  {'licence':16} cached  default")
    for entry in entries:
        figures = [f"{entry.metrics[key]:.2f}" if key in entry.metrics else "" for key in ("acc1", "consistency_crop")]
        here = "yes" if hub.cached(entry) else "no"
        default = "default" if entry.default else ""
        licence = entry.license.name
        print(f"{_spec(entry):34} {figures[0]:>6} {figures[1]:>10}  {licence:16} {here:6}  {default}".rstrip())
    return OK


def _facts(entry: Entry) -> dict[str, Any]:
    from ..weights import hub

    facts = {name: getattr(entry, name) for name in ("model", "filter_size", "recipe", "default", "dataset")}
    facts |= {"num_classes": entry.num_classes, "classes": entry.classes, "metrics": dict(entry.metrics)}
    facts |= {"structure": dict(entry.structure), "preprocessing": asdict(entry.preprocessing)}
    facts |= {"license": asdict(entry.license), "files": [asdict(file) for file in entry.files]}
    facts |= {"citation": entry.citation, "command": entry.command}
    path = hub.cached(entry)
    return {"weights": _spec(entry), **facts, "cached": str(path) if path else None}


def _info(options: argparse.Namespace) -> int:
    facts = _facts(_find(options.weights))
    if options.json:
        print(json.dumps(facts, indent=1))
        return OK
    for name, value in facts.items():
        if value not in (None, "", {}, []):
            print(f"{name:13} {value if isinstance(value, str) else json.dumps(value)}")
    return OK


def _download(options: argparse.Namespace) -> int:
    from ..weights import hub

    for entry in [_find(spec) for spec in options.weights]:  # every name is checked before any download
        print(hub.fetch(entry, progress=not options.quiet))
    return OK


def _verify(options: argparse.Namespace) -> int:
    from ..weights import hub

    verdicts = list(hub.verify(manifest.load()))
    if options.json:
        print(json.dumps([{"path": str(v.path), "status": v.status, "detail": v.detail} for v in verdicts], indent=1))
    else:
        for verdict in verdicts:
            print(f"{verdict.status:11} {verdict.path}  {verdict.detail}")
    return OK if all(verdict.status == "ok" for verdict in verdicts) else FAILED


def _predict(options: argparse.Namespace) -> int:
    from ..evaluation import PhotoError, predict, read_photo
    from ..zoo import create_model

    if options.top < 1:
        raise ValueError(f"--top must be 1 or more, got {options.top}")
    entry = _find(options.weights)
    model = create_model(entry.model, entry.filter_size, entry.recipe).to(options.device).eval()
    result = OK
    for path in options.images:
        try:
            guesses = predict(model, entry, read_photo(path), options.top)
        except PhotoError as error:  # one bad file does not keep the others from their answers
            print(f"antialiased-zoo: {error}", file=sys.stderr)
            result = FAILED
            continue
        if options.json:
            print(json.dumps({"image": path, "predictions": [asdict(guess) for guess in guesses]}))
        else:
            print(f"{path}: " + ", ".join(f"{guess.label} {guess.probability:.3f}" for guess in guesses))
    return result


def _demo(options: argparse.Namespace) -> int:
    from . import demo

    print(demo.run(options.photo, options.label, options.output))
    print(f"the curves are in {options.output}")
    return OK


if __name__ == "__main__":
    sys.exit(main())
