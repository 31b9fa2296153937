"""`cbam-keras` itself: help, errors, exit status."""

import importlib
import importlib.util
import json
import os
import pathlib
import shlex
import subprocess
import sys
import warnings
from unittest import mock

import pytest
from test_packaging import PROJECT

import cbam_keras
from _cbam_keras_command.backends import way_to_install
from _cbam_keras_command.options import DEFAULTS
from _cbam_keras_command.parser import build_parser
from cbam_keras import cli, study
from cbam_keras._terminal import say
from cbam_keras.cli.command import HANDLERS, SEARCH_RATE
from cbam_keras.study import comparison

RUNS = ["train", "tune"]
COMMANDS = [*RUNS, "check", "report"]
# As the script of the command does.
COMMAND = "import sys; from _cbam_keras_command import main; sys.exit(main())"


def printed_by(capsys, *arguments):
    """Returns what a command prints that ends at once."""
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 0
    return capsys.readouterr().out


# Help.


def test_version_and_help_are_those_of_the_package(capsys):
    assert printed_by(capsys, "--version") == f"{cbam_keras.__version__}\n"
    printed = printed_by(capsys, "--help")
    assert printed.startswith("usage: cbam-keras ")
    for command in COMMANDS:
        assert f"\n    {command} " in printed


@pytest.mark.parametrize("name", [None, *COMMANDS])
def test_help_has_examples_that_parse_and_no_defaults_of_flags(
    capsys, monkeypatch, name
):
    monkeypatch.setattr("os.path.exists", lambda path: True)
    printed = printed_by(capsys, *[name, "--help"] if name else [])
    for text in ("(default: False)", "(default: None)", "(default: [])"):
        assert text not in printed
    lines = printed.split("\nexamples:\n")[1].split("\n\n")[0].splitlines()
    assert lines
    for line in lines:
        program, *given = shlex.split(line.split(" > ")[0])
        assert program == "cbam-keras"
        if "--help" not in given:
            command = build_parser().parse_args(given).command
            assert command == given[0] and name in (None, command)


@pytest.mark.parametrize(
    ("case", "recipe"),
    [
        *((x, ("tiny", None, x)) for x in ("mnist5k", "cluttered_mnist")),
        ("other data", ("tiny", None, "photos")),
        ("--weights", ("resnet18", "imagenet", "photos")),
        ("--masks", ("resnet18", None, "photos", True)),
        ("--masks --weights", ("resnet18", "imagenet", "photos", True)),
        ("--frozen", "frozen"),
        ("--recipe default", "default"),
    ],
)
def test_the_table_of_defaults_is_that_of_the_recipes(case, recipe):
    if isinstance(recipe, str):
        recipe = study.RECIPES[recipe]
    else:
        recipe = comparison.default_recipe(*recipe)
        assert bool(recipe.least_steps) == (recipe.epochs not in (2, 3))
    epochs = f"{recipe.epochs} {recipe.batch_size}"
    if recipe.frozen_epochs:
        epochs = f"{recipe.frozen_epochs} + {epochs}"
    rates = f"{recipe.learning_rate}".strip("()").replace(",", "")
    if rates == "0.03":
        other = comparison.default_recipe("resnet18", None, "photos")
        rates = f"0.03 (tiny) or {other.learning_rate}"
    rows = [" ".join(line.split()) for line in DEFAULTS.splitlines()]
    row = f"{case} {epochs} {rates}"
    assert row in rows or f"{row} (tune: {SEARCH_RATE})" in rows


# Mistakes.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("train --zz 1", "unrecognized arguments: --zz 1 (see"),
        ("train --epochs 1.5", "invalid positive integer: '1.5'"),
        ("train --seeds 0", "argument --seeds: invalid positive integer: '0'"),
        ("tune --confirm -1", "invalid integer from 0: '-1'"),
        ("train --model net.py", "'net.py' is not one of tiny, small,"),
        ("train --attention none,cbam", "several separated by spaces"),
        ("report . --lay x", "unrecognized arguments: --lay"),
        ("report . it.png", "unrecognized arguments: it.png"),
        ("check", "the following arguments are required: PATH"),
        # What excludes each other.
        ("train --workers 2 --scheduler a", "not allowed with argument --w"),
    ],
)
def test_the_parser_tells_a_mistake_in_one_line(capsys, arguments, message):
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments.split())
    assert caught.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert message in line
    assert line.startswith("cbam-keras")
    assert line.endswith("(see --help)")


@pytest.fixture
def handle(monkeypatch):
    """Lets a function do the work of `train`."""
    return lambda work: monkeypatch.setitem(HANDLERS, "train", work)


@pytest.mark.parametrize("error", [ValueError, RuntimeError, OSError])
def test_a_bug_is_not_swallowed(handle, error):
    handle(mock.Mock(side_effect=error("a bug")))
    with pytest.raises(error, match="a bug"):
        cli.main(["train"])


@pytest.mark.parametrize(
    ("option", "error", "status", "text"),
    [
        (
            *("--overwrite", KeyboardInterrupt, 130),
            "interrupted; the same command without --overwrite resumes from "
            "here",
        ),
        ("--dry-run", KeyboardInterrupt, 130, "interrupted"),
    ],
)
def test_what_ends_a_command_is_told_in_one_line(
    handle, capsys, option, error, status, text
):
    handle(mock.Mock(side_effect=error))
    assert cli.main(["train", option]) == status
    assert capsys.readouterr().err == f"cbam-keras train: {text}\n"


# What is printed, and where.


def test_a_warning_is_one_line(handle, capsys):
    def work(options):
        # What Python prints, unless pytest collects it.
        warning = UserWarning("Few \x1b[2J steps.\nTrain longer")
        text = warnings.formatwarning(warning, UserWarning, "script.py", 8)
        sys.stderr.write(text)

    handle(work)
    assert cli.main(["train"]) == 0
    errors = capsys.readouterr().err
    assert errors == (
        "cbam-keras train: warning: Few \ufffd[2J steps. Train longer\n"
    )


def test_reader_may_leave_early(monkeypatch, handle):
    handle(lambda options: say("a table"))
    read, write = os.pipe()
    os.close(read)
    with open(write, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        assert cli.main(["train"]) == 0
        # Nor is the rest written on exit.
        print("more", flush=True)


def test_no_name_steers_the_terminal(handle, capsys):
    assert cli.main(["train", "--scheduler", "./a\x1b[2Jb"]) == 2
    printed = capsys.readouterr()
    assert "./a\ufffd[2Jb" in printed.err and "\x1b" not in printed.err
    handle(lambda options: say("a\x1b[2Jb\x9bc\td\n"))
    assert cli.main(["train"]) == 0
    assert capsys.readouterr().out == "a\ufffd[2Jb\ufffdc\td\n\n"


@pytest.mark.parametrize(
    ("ending", "encoding", "shown"),
    [("", "ascii", b"? 0\n"), ("", "utf-8", b"\xc3\x97 0\n"), (">&-", "", b"")],
)
def test_what_a_terminal_lacks_ends_no_run(ending, encoding, shown):
    code = (
        "import os, sys, _cbam_keras_command as command;"
        "command.prepare_streams();"
        "print(chr(215), os.fstat(1).st_size, flush=True)"
    )
    done = subprocess.run(
        f"{shlex.quote(sys.executable)} -c {shlex.quote(code)} {ending}",
        shell=True,
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": encoding},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, shown, b"")


# As a process.


def test_the_script_is_the_command():
    """What a whole process prints is in test_study_interrupts.py."""
    module, _, function = PROJECT["scripts"]["cbam-keras"].partition(":")
    assert hasattr(importlib.import_module(module), function)


@pytest.mark.parametrize("command", [["-m", "cbam_keras"], ["-c", COMMAND]])
def test_a_missing_backend_is_said_in_one_sentence(command, tmp_path):
    (tmp_path / "torch.py").write_text(
        "raise ModuleNotFoundError('No module', name='torch')"
    )
    environment = {"KERAS_BACKEND": "torch", "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, *command, "train"],
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    (line,) = done.stderr.splitlines()
    assert "In a clone of cbam_keras, pip install '.[torch]'" in line
    assert done.returncode == 2
    unknown = ValueError("Unable to import backend : theano")
    assert way_to_install(unknown).endswith("to one of tensorflow, jax, torch")


CHOSEN = "from _cbam_keras_command.backends import *; choose_backend(); "
CHOSEN += "print(__import__('os').environ.get('KERAS_BACKEND'))"


@pytest.mark.parametrize(
    ("there", "named", "asked", "chosen"),
    [
        (["torch"], None, None, "torch"),
        (["jax", "torch"], None, None, "jax"),
        (["jax", "torch"], "torch", None, "torch"),
        (["jax", "torch"], "torch", "jax", "jax"),
        # Keras writes this file itself, with what it takes by default.
        (["torch"], "tensorflow", None, "torch"),
        (["torch"], "numpy", None, "torch"),
        (["jax"], "numpy", None, "numpy"),
        ([], "tensorflow", None, "None"),
    ],
)
def test_a_backend_that_is_there_is_chosen(
    there, named, asked, chosen, tmp_path
):
    for name in there:
        (tmp_path / f"{name}.py").touch()
    if named:
        (tmp_path / "keras.json").write_text(json.dumps({"backend": named}))
    root = pathlib.Path(cbam_keras.__file__).parents[1]
    environment = {
        "KERAS_HOME": str(tmp_path),
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(root)]),
    }
    if asked:
        environment["KERAS_BACKEND"] = asked
    # Without the packages of this environment.
    done = subprocess.run(
        [sys.executable, "-S", "-c", CHOSEN],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == chosen, done.stderr


def test_without_any_backend_the_smallest_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    missing = ModuleNotFoundError("No module", name="tensorflow")
    text = way_to_install(missing)
    # No index has a package of this name.
    assert "In a clone of cbam_keras, install one: pip install '.[jax]'" in text
    assert "cbam_keras[" not in text
    assert text.endswith("pip install '.[jax]' (the smallest)")
