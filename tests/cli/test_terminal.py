"""The command as a person meets it: help in groups, 80 columns, colours for terminals alone."""

import contextlib
import io
import re
import sys

import pytest
from tqdm.auto import tqdm

from antialiased_zoo import cli
from antialiased_zoo.cli import overview
from antialiased_zoo.cli.command import _parser

COLOUR = re.compile(r"\x1b\[\d+m")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """What a terminal gets."""
    monkeypatch.setattr(sys, "stdout", Terminal())
    with contextlib.suppress(SystemExit):  # as --help ends
        assert cli.main(arguments) == 0
    return sys.stdout.getvalue()


def test_help_has_every_command_in_a_group_and_fits_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    for name in _parser().commands.choices:
        assert sum(line.startswith(f"  {name:10}") for line in lines) == 1
        assert any(name in names for names in overview.GROUPS.values())
    assert "More" not in lines
    assert [line for line in lines if line in overview.GROUPS] == list(overview.GROUPS)


@pytest.mark.parametrize("words", [words for words, _ in overview.EXAMPLES])
def test_the_examples_are_understood(words: str) -> None:
    assert callable(_parser().parse_args(words.split()).command)


def test_the_list_fits_80_columns_and_marks_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) < 80
    assert not COLOUR.search("\n".join(lines))
    (default,) = [line for line in lines if line.startswith("resnet50:lpf4:finetuned")]
    assert default.split() == ["resnet50:lpf4:finetuned*~", "77.41", "91.32", "CC-BY-NC-SA-4.0", "no", "?"]
    assert any(line.startswith("resnet50:lpf4:scratch~ ") for line in lines)
    assert len({line.index("CC-") for line in lines if "CC-" in line} | {lines[0].index("licence")}) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="no colours there")
@pytest.mark.parametrize("arguments", [["--help"], ["list", "efficientnet_lite0"]])
def test_colours_are_for_terminals_without_no_color(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured = shown(arguments, monkeypatch)
    assert COLOUR.search(coloured)
    for name, value in (("NO_COLOR", "1"), ("TERM", "dumb")):
        with monkeypatch.context() as changed:
            changed.setenv(name, value)
            assert shown(arguments, changed) == COLOUR.sub("", coloured)


def test_without_streams_nothing_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a service, under pythonw and after ``>&-``; the exit code tells."""
    monkeypatch.setattr(sys, "stdout", None)
    assert cli.main(["list", "resnet18"]) == 0
    output = io.StringIO()
    monkeypatch.setattr(sys, "stdout", output)
    monkeypatch.setattr(sys, "stderr", None)
    assert cli.main(["info", "resnet1"]) == 1
    assert output.getvalue() == ""


def test_without_streams_bars_and_prints_go_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bar raised an error, and print(file=None) writes to standard output."""

    def run(_: object) -> int:
        print("a step", file=sys.stderr)
        return sum(tqdm([1, 2], disable=None))

    monkeypatch.setattr("antialiased_zoo.cli.command.run", run)
    output = io.StringIO()
    monkeypatch.setattr(sys, "stdout", output)
    monkeypatch.setattr(sys, "stderr", None)
    assert cli.main([]) == 3
    assert (output.getvalue(), sys.stderr) == ("", None)
