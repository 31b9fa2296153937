"""What all commands share: help with examples, lists, --quiet, completion."""

import shlex
import sys
import types

import pytest

from cbam_keras import _terminal, ablation, cli, comparison, tuning
from cbam_keras.cli import command

COMMANDS = ["train", "tune", "ablate", "table", "explain", "detect"]


def helped(capsys, *arguments):
    with pytest.raises(SystemExit) as caught:
        cli.main([*arguments, "--help"])
    assert caught.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("name", [None, *COMMANDS])
def test_help_ends_with_examples_that_parse(capsys, name):
    printed = helped(capsys, *[name] if name else [])
    lines = printed.split("\nexamples:\n")[1].split("\n\n")[0].splitlines()
    assert lines
    for line in lines:
        program, *given = shlex.split(line.split(" > ")[0])
        assert program == "cbam-keras"
        assert name in (None, given[0])
        if "--help" not in given:
            command._parser().parse_args(given)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_tells_no_default_of_flags(capsys, name):
    printed = helped(capsys, name)
    for text in ("(default: False)", "(default: None)", "(default: [])"):
        assert text not in printed


LISTS = [
    ("train", "--attention", ["se", "cbam"]),
    ("tune", "--attention", ["se", "cbam"]),
    ("tune", "--kernel-size", ["3", "7"]),
    ("ablate", "--tables", ["1", "3"]),
    ("train", "--augment", ["flip", "crop"]),
]


@pytest.mark.parametrize(("name", "option", "values"), LISTS)
def test_lists_are_given_at_once_or_one_by_one(name, option, values):
    parse = command._parser().parse_args
    at_once = parse([name, option, *values])
    one_by_one = parse([name, *(x for v in values for x in (option, v))])
    key = option.strip("-").replace("-", "_")
    assert getattr(at_once, key) == getattr(one_by_one, key)
    assert [str(x) for x in getattr(at_once, key)] == values


def _working(*arguments, **options):
    print("progress")
    assert _terminal._hidden.get()
    return "the result"


@pytest.mark.parametrize(
    ("name", "module", "function"),
    [
        ("train", comparison, "compare"),
        ("tune", tuning, "search"),
        ("ablate", ablation, "run"),
    ],
)
def test_quiet_prints_the_result_alone(
    monkeypatch, capsys, name, module, function
):
    monkeypatch.setattr(module, function, _working)
    monkeypatch.setattr(
        f"cbam_keras.cli.{name}._complete", lambda *_: None, raising=False
    )
    assert cli.main([name, "--quiet"]) == 0
    assert capsys.readouterr() == ("the result\n", "")


def test_quiet_training_shows_no_epochs(tiny, tmp_path, capsys):
    status = cli.main(
        [
            *("train", "--quiet", "--data", "mnist5k", "--epochs", "1"),
            *("--batch-size", "35", "--attention", "none"),
            *("--output", str(tmp_path / "run"), "--no-report"),
        ]
    )
    printed = capsys.readouterr()
    assert status == 0
    assert printed.err == ""
    assert "loss" not in printed.out
    assert "test accuracy" in printed.out


def test_completion_needs_its_package(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "shtab", None)
    with pytest.raises(SystemExit) as caught:
        cli.main(["--print-completion", "bash"])
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert 'pip install "cbam_keras[completion]"' in line


def test_completion_knows_options_and_paths(capsys, monkeypatch):
    seen = {}

    def complete(parser, shell):
        seen.update(parser=parser, shell=shell)
        return "a script"

    shtab = types.SimpleNamespace(FILE="files", complete=complete)
    monkeypatch.setitem(sys.modules, "shtab", shtab)
    with pytest.raises(SystemExit) as caught:
        cli.main(["--print-completion", "zsh"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == "a script\n"
    assert seen["shell"] == "zsh"
    arguments = {
        action.dest: action
        for action in seen["parser"].commands["explain"]._actions
    }
    assert arguments["paths"].complete == "files"
    assert arguments["output"].complete == "files"
    assert not hasattr(arguments["method"], "complete")


def test_the_real_package_completes(capsys):
    pytest.importorskip("shtab", reason="not installed")
    with pytest.raises(SystemExit):
        cli.main(["--print-completion", "bash"])
    assert "--attention" in capsys.readouterr().out
