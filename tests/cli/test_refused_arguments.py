"""Numbers and files on the command line: what is out of range, or cannot be written, is refused before any work."""

from __future__ import annotations

import argparse
import importlib
import re
from collections.abc import Iterator

import pytest

from antialiased_zoo import cli
from antialiased_zoo.cli import command

ADAPT = ["adapt", "resnet50", "--images", "photos", "--out", "out"]
INTEGER, RANGED = "expected an integer of at least ", "expected a number "
FOLDER = "expected a file in an existing folder"


@pytest.mark.parametrize(
    ("words", "option", "wrong", "expected"),
    [
        (ADAPT, "--steps", "0", INTEGER + "1"),
        (ADAPT, "--batch-size", "-1", INTEGER + "1"),
        (ADAPT, "--size", "0", INTEGER + "1"),
        (ADAPT, "--threads", "two", INTEGER + "1"),
        (ADAPT, "--reach", "0", INTEGER + "1"),
        (ADAPT, "--filter-size", "8", "expected an integer from 1 to 7"),
        (ADAPT, "--lr", "-1e-4", RANGED + "above 0"),
        (ADAPT, "--lr", "inf", RANGED + "above 0"),
        (ADAPT, "--circular", "2", RANGED + "from 0 to 1"),
        (ADAPT, "--circular", "nan", RANGED + "from 0 to 1"),
        (ADAPT, "--ema", "1", RANGED + "of at least 0 and below 1"),
        (["predict", "cat.jpg"], "--top", "0", INTEGER + "1"),
        (["predict", "cat.jpg"], "--classes", "0", INTEGER + "1"),
        (["compare", "resnet18", "resnet50", "cat.jpg"], "--shifts", "0", INTEGER + "1"),
        (["export", "resnet18", "--output", "x.onnx"], "--size", "0", INTEGER + "1"),
        (["export", "resnet18", "--output", "x.onnx"], "--tolerance", "-1", RANGED + "of at least 0"),
        (["plan", "resnet18"], "--filter-size", "0", "expected an integer from 1 to 7"),
        (["plan", "resnet18"], "--stem-stride", "0", INTEGER + "1"),
        (["plan", "resnet18"], "--input", "wide", "expected a side such as 224"),
        (["plan", "resnet18"], "--input", "3x0x8", "expected a side such as 224"),
        (["compare", "resnet18", "resnet50", "cat.jpg"], "--plot", "nowhere/a.png", FOLDER),
        (["compare", "resnet18", "resnet50", "cat.jpg"], "--plot", "a.txt", "expected a file name that ends in .png"),
        (["demo"], "--output", "nowhere/a.png", FOLDER),
        (["export", "resnet18"], "--output", "nowhere/net.onnx", FOLDER),
    ],
)
def test_what_is_out_of_range_is_refused(
    words: list[str], option: str, wrong: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([*words, f"{option}={wrong}"])
    assert ended.value.code == 2
    shown = capsys.readouterr().err
    assert f"argument {option}: {expected}" in shown
    assert shown.endswith(f", got {wrong!r}\n")


TRAIN = ["resnet50", "--filter-size", "4", "--preset", "cifar10", "--data", "d", "--out", "o"]


@pytest.mark.parametrize(
    ("name", "words", "option", "wrong"),
    [
        *(("train", TRAIN, f"--{option}", "-1") for option in ("lr", "weight-decay", "ema", "workers", "batch-size")),
        *(("train", TRAIN, option, "0") for option in ("--filter-size", "--accumulate", "--epochs")),
        *(("train", TRAIN, "--sizes", sizes) for sizes in ("64", "64x0", "64x2x3")),
        ("evaluate", ["resnet50", "--data", "d"], "--crop-pct", "1.5"),
        ("evaluate", ["resnet50", "--data", "d"], "--curve-image", "-1"),
        ("adapt", ["resnet50", "--data", "d"], "--limit", "0"),
    ],
)
def test_a_script_refuses_it_too(
    name: str, words: list[str], option: str, wrong: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(name).parse([*words, f"{option}={wrong}"])
    assert ended.value.code == 2
    assert re.search(rf"argument .*{option}.*: expected .*, got ", capsys.readouterr().err)


def arguments(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.Action]]:
    for name, one in parser.commands.choices.items():  # type: ignore[attr-defined]  # our own parser has it
        yield from ((name, action) for action in one._actions)


def test_every_number_has_a_range() -> None:
    """A plain int or float takes anything; only a seed may be anything."""
    plain = {(name, action.dest) for name, action in arguments(command._parser()) if action.type in (int, float)}
    assert plain == {("adapt", "seed")}
