"""scripts/running.py: how every script ends, and which modules it finds."""

import argparse
import sys

import pytest
import running

import antialiased_zoo as az


@pytest.fixture(autouse=True)
def script(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["scripts/mine.py"])
    monkeypatch.setattr(sys, "path", list(sys.path))


def ending(capsys, main, *arguments):
    """What a script's process ends with, and its standard error."""
    with pytest.raises(SystemExit) as end:
        running.run_script(main, *arguments)
    return end.value.code, capsys.readouterr().err


def raising(error):
    def main():
        raise error

    return main


def test_ctrl_c_is_one_line(capsys):
    assert ending(capsys, raising(KeyboardInterrupt())) == (130, "mine.py: interrupted\n")


def test_a_closed_output_says_nothing(capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    assert ending(capsys, raising(BrokenPipeError())) == (141, "")


@pytest.mark.parametrize("kind", [ValueError, FileNotFoundError, ImportError, az.errors.DivergedError])
def test_what_its_user_can_mend_is_one_line(capsys, kind):
    assert ending(capsys, raising(kind("no such thing"))) == ("mine.py: no such thing", "")


def test_a_fault_of_the_script_is_shown_whole():
    with pytest.raises(AttributeError):
        running.run_script(raising(AttributeError()))


def test_the_exit_code_is_what_main_returns(capsys):
    assert ending(capsys, lambda words: len(words), ["a", "b"]) == (2, "")
    assert ending(capsys, lambda: None) == (None, "")


def test_a_model_may_be_in_the_current_folder(capsys, monkeypatch, tmp_path):
    (tmp_path / "my_own_models.py").write_text("build = 7\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "my_own_models", raising=False)

    def main():
        import my_own_models

        return my_own_models.build

    assert ending(capsys, main) == (7, "")


def test_names_of_networks_are_checked_with_the_arguments():
    assert running.network_name("resnet18") == "resnet18"
    with pytest.raises(argparse.ArgumentTypeError, match="no network 'resnet19' in the zoo"):
        running.network_name("resnet19")


def test_all_scripts_end_in_the_same_way(request):
    for path in (request.config.rootpath / "scripts").glob("*.py"):
        _, mark, ending = path.read_text(encoding="utf-8").partition('if __name__ == "__main__":')
        assert not mark or "run_script(main" in ending, path.name
