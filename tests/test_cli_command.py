"""The command `cbam-keras`: help, errors, exit status."""

import importlib.metadata
import subprocess
import sys

import pytest

import cbam_keras
from cbam_keras import ablation, cli, comparison, tuning


def test_the_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"{cbam_keras.__version__}\n"


def test_help_names_the_commands(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["--help"])
    assert caught.value.code == 0
    printed = capsys.readouterr().out
    assert printed.startswith("usage: cbam-keras ")
    assert "train" in printed
    assert "--version" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "COMMAND"),
        (["fly"], "invalid choice: 'fly'"),
        (["train", "--attention", "cbm"], "invalid choice: 'cbm'"),
        (["train", "--model", "resnet20"], "invalid choice: 'resnet20'"),
        (["train", "--order", "random"], "invalid choice: 'random'"),
        (["train", "--epochs", "1.5"], "invalid int value: '1.5'"),
        (["train", "--learning-rate", "fast"], "invalid float value: 'fast'"),
        (["train", "--mixed-precision", "int8"], "invalid choice: 'int8'"),
        (["train", "--color"], "--color"),
        (["train", "--output"], "expected one argument"),
    ],
    ids=[
        "no_command",
        "unknown_command",
        "unknown_attention",
        "unknown_model",
        "unknown_order",
        "fraction_of_an_epoch",
        "rate_in_words",
        "unknown_precision",
        "unknown_option",
        "no_folder",
    ],
)
def test_the_parser_tells_a_mistake_in_one_line(capsys, arguments, message):
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert message in line
    assert line.startswith("cbam-keras")
    assert line.endswith("(see --help)")


# What is no mistake of the user's.


def _with_a_bug(error):
    def comparing(*arguments, **options):
        raise error

    return comparing


@pytest.mark.parametrize(
    "error",
    [ValueError, TypeError, ImportError, OSError, KeyError, MemoryError],
)
def test_a_bug_is_not_swallowed(monkeypatch, error):
    monkeypatch.setattr(comparison, "compare", _with_a_bug(error("a bug")))
    with pytest.raises(error, match="a bug"):
        cli.main(["train"])


def test_an_error_of_python_itself_is_not_swallowed(monkeypatch):
    monkeypatch.setattr(comparison, "compare", lambda *a, **b: int("x"))
    with pytest.raises(ValueError, match="invalid literal"):
        cli.main(["train"])


def test_ctrl_c_gives_130_and_one_line(monkeypatch, capsys):
    monkeypatch.setattr(comparison, "compare", _with_a_bug(KeyboardInterrupt()))
    assert cli.main(["train"]) == 130
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        "cbam-keras train: interrupted; the same command resumes from here"
    )


@pytest.mark.parametrize("command", ["train", "tune", "ablate"])
def test_ctrl_c_does_not_advise_to_overwrite_again(
    monkeypatch, capsys, command
):
    module, name = {
        "train": (comparison, "compare"),
        "tune": (tuning, "search"),
        "ablate": (ablation, "run"),
    }[command]
    monkeypatch.setattr(module, name, _with_a_bug(KeyboardInterrupt()))
    assert cli.main([command, "--overwrite"]) == 130
    (line,) = capsys.readouterr().err.splitlines()
    assert "the same command without --overwrite resumes from here" in line


@pytest.mark.parametrize("command", ["train", "tune", "ablate"])
def test_resume_and_overwrite_exclude_each_other(capsys, command):
    with pytest.raises(SystemExit):
        cli.main([command, "--resume", "--overwrite"])
    assert "not allowed with argument --resume" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--epoch", "1"],
        ["tune", "--work", "2"],
        ["ablate", "--seed", "1", "--over"],
        ["explain", "--lay", "x"],
        ["table", "--mark"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_options_are_not_abbreviated(capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    assert "unrecognized arguments" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["tune", "ablate"])
def test_ctrl_c_tells_that_the_same_command_resumes(
    monkeypatch, capsys, command
):
    module, name = {"tune": (tuning, "search"), "ablate": (ablation, "run")}[
        command
    ]
    monkeypatch.setattr(module, name, _with_a_bug(KeyboardInterrupt()))
    assert cli.main([command]) == 130
    (line,) = capsys.readouterr().err.splitlines()
    assert "the same command resumes from here" in line


# As a process.


def test_the_module_runs_as_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "cbam_keras", "--version"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0
    assert done.stdout == f"{cbam_keras.__version__}\n"


def test_the_console_script_is_main():
    (script,) = importlib.metadata.entry_points(
        group="console_scripts", name="cbam-keras"
    )
    assert script.load() is cli.main


def test_reader_may_leave_early():
    code = "from cbam_keras.cli import main; main(['table', 'resnet18'])"
    command = f'"{sys.executable}" -c "{code}" | true'
    done = subprocess.run(
        command, shell=True, capture_output=True, text=True, check=True
    )
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr
