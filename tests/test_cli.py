"""The command line: what it prints, what it returns, what it refuses."""

import functools
import importlib.metadata
import json
import re
import subprocess
import sys

import numpy as np
import pytest

import cbam_keras
from cbam_keras import cli, comparison, data, models, training
from cbam_keras.layers import CBAM

OPTIONS = (
    "--model",
    "--attention",
    "--data",
    "--epochs",
    "--batch-size",
    "--learning-rate",
    "--seed",
    "--reduction-ratio",
    "--kernel-size",
    "--order",
    "--mixed-precision",
    "--output",
    "--resume",
)


def _few_digits():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (100, 28, 28)).astype("uint8")
    return images, np.repeat(np.arange(10), 10).astype("int32")


@pytest.fixture
def tiny(monkeypatch):
    """Puts few digits and a network of a few hundred parameters in place."""
    monkeypatch.setattr(data, "_digits", _few_digits)
    build = functools.partial(
        models.ResNet, (1,), block="basic", widths=(4,), stem_width=4
    )
    monkeypatch.setitem(
        comparison.NETWORKS,
        "small",
        functools.partial(comparison._network, build),
    )


@pytest.fixture
def asked(monkeypatch):
    """Returns what `compare` was called with, in place of training."""
    calls = {}

    def comparing(attentions, **options):
        calls.update(options, attentions=attentions)
        return "the table"

    monkeypatch.setattr(comparison, "compare", comparing)
    return calls


# What is printed and returned.


def test_training_prints_the_table_and_returns_0(tiny, tmp_path, capsys):
    status = cli.main(
        [
            *("train", "--data", "mnist5k", "--epochs", "1"),
            *("--batch-size", "35", "--attention", "none"),
            *("--attention", "cbam", "--reduction-ratio", "2"),
            *("--output", str(tmp_path / "run")),
        ]
    )
    printed = capsys.readouterr()
    assert status == 0
    assert printed.err == ""
    table = printed.out[printed.out.index("Results in") :]
    assert "test accuracy" in table
    assert "│ none " in table
    assert "│ cbam " in table
    assert (tmp_path / "run" / "cbam.keras").is_file()


def test_the_result_is_printed_last(asked, capsys):
    assert cli.main(["train"]) == 0
    assert capsys.readouterr().out == "the table\n"


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


@pytest.mark.parametrize("option", OPTIONS)
def test_help_of_train_names_every_option(capsys, option):
    with pytest.raises(SystemExit) as caught:
        cli.main(["train", "--help"])
    assert caught.value.code == 0
    printed = capsys.readouterr().out
    # In the usage and in the list.
    assert re.search(rf"\[{option}\b", printed)
    assert re.search(rf"\n  {option}\b", printed)


@pytest.mark.parametrize(
    "default",
    [
        "(default: small)",
        "(default: none, se and cbam)",
        "(default: cluttered_mnist)",
        f"epochs each (default: {training.Recipe().epochs})",
        f"images per step (default: {training.Recipe().batch_size})",
        f"schedule (default: {training.Recipe().learning_rate})",
        f"random (default: {training.Recipe().seed})",
        f"(default: {CBAM().reduction_ratio})",
        f"(default: {CBAM().kernel_size})",
        f"(default: {CBAM().order})",
    ],
)
def test_help_of_train_tells_defaults(capsys, monkeypatch, default):
    # So that lines are not broken.
    monkeypatch.setenv("COLUMNS", "500")
    with pytest.raises(SystemExit):
        cli.main(["train", "--help"])
    assert default in capsys.readouterr().out


# What is passed on.


def test_without_arguments_the_defaults_are_those_of_compare(asked):
    assert cli.main(["train"]) == 0
    assert asked == {
        "attentions": ("none", "se", "cbam"),
        "model": "small",
        "images": "cluttered_mnist",
        "recipe": training.Recipe(),
        "layer_options": {},
        "output": None,
        "resume": False,
    }


@pytest.mark.parametrize(
    ("arguments", "passed"),
    [
        (["--model", "resnet18"], {"model": "resnet18"}),
        (["--attention", "se"], {"attentions": ["se"]}),
        (
            ["--attention", "spatial", "--attention", "channel"],
            {"attentions": ["spatial", "channel"]},
        ),
        (["--data", "mnist5k"], {"images": "mnist5k"}),
        (["--epochs", "7"], {"recipe": training.Recipe(epochs=7)}),
        (["--batch-size", "8"], {"recipe": training.Recipe(batch_size=8)}),
        (
            ["--learning-rate", "1e-2"],
            {"recipe": training.Recipe(learning_rate=0.01)},
        ),
        (["--seed", "3"], {"recipe": training.Recipe(seed=3)}),
        (
            ["--mixed-precision"],
            {"recipe": training.Recipe(mixed_precision="float16")},
        ),
        (
            ["--mixed-precision", "bfloat16"],
            {"recipe": training.Recipe(mixed_precision="bfloat16")},
        ),
        (["--reduction-ratio", "8"], {"layer_options": {"reduction_ratio": 8}}),
        (["--kernel-size", "3"], {"layer_options": {"kernel_size": 3}}),
        (
            ["--order", "parallel"],
            {"layer_options": {"order": "parallel"}},
        ),
        (["--output", "folder"], {"output": "folder"}),
        (["--resume"], {"resume": True}),
    ],
    ids=lambda value: "_".join(value) if isinstance(value, list) else "",
)
def test_options_are_passed_on(asked, arguments, passed):
    assert cli.main(["train", *arguments]) == 0
    assert asked.items() >= passed.items()


# Mistakes of the user's.


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "mnist"], '`images` must be one of "cluttered_mnist"'),
        (["--kernel-size", "4"], "`kernel_size` must be an odd positive"),
        (
            ["--attention", "se", "--kernel-size", "3"],
            "`kernel_size` must be an argument of one of the attention",
        ),
        (
            ["--attention", "se", "--attention", "se"],
            "`attention` must be one or several of",
        ),
        (["--epochs", "0"], "`epochs` must be a positive integer"),
        (["--batch-size", "-1"], "`batch_size` must be a positive integer"),
        (["--learning-rate", "nan"], "`learning_rate` must be a positive"),
        (["--seed", "-1"], "`seed` must be an integer from 0"),
        (["--reduction-ratio", "0"], "`reduction_ratio` must be a positive"),
        (["--seed", str(2**32)], "`seed` must be an integer from 0"),
        (["--output", "file/run"], "`output` must be a folder that can be"),
        (["--output", "file"], "`output` must be a folder that can be"),
        (["--output", "full"], "`output` must be a new or empty folder"),
        (
            ["--output", "full", "--resume"],
            "`output` must be a new or empty folder",
        ),
        (["--output", "damaged", "--resume"], "results.json is damaged"),
        (["--output", "damaged"], "which holds a run, resume=False"),
    ],
    ids=[
        "unknown_data",
        "even_kernel",
        "kernel_for_se",
        "attention_twice",
        "no_epochs",
        "negative_batch",
        "no_number",
        "negative_seed",
        "ratio_of_0",
        "huge_seed",
        "output_below_a_file",
        "output_is_a_file",
        "output_not_empty",
        "nothing_to_resume",
        "damaged_run",
        "run_without_resume",
    ],
)
def test_a_mistake_is_told_in_one_line(
    tiny, tmp_path, monkeypatch, capsys, arguments, message
):
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "results.json").write_text("{")
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith("cbam-keras train: error: ")
    assert message in line
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("module", "extra"),
    [("mlxtend.data", "data"), ("matplotlib.figure", "plot")],
    ids=["data", "plot"],
)
def test_a_missing_package_is_told_in_one_line(
    monkeypatch, tmp_path, capsys, module, extra
):
    monkeypatch.setitem(sys.modules, module, None)
    status = cli.main(["train", "--output", str(tmp_path / "run")])
    assert status == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f'pip install "cbam_keras[{extra}]"' in line
    assert not (tmp_path / "run").exists()


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
    assert "interrupted" in line
    assert "--resume" in line


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


def test_table_prints_the_rows_asked_for(capsys):
    assert cli.main(["table", "resnet18-cbam"]) == 0
    out = capsys.readouterr().out
    assert re.search(
        r"ResNet18 .*CBAM .*11\.78 .*11\.78 .*1\.815 .*1\.815", out
    )
    assert "ResNet50" not in out


def test_table_prints_markdown_and_json(capsys):
    assert cli.main(["table", "resnet18", "--markdown"]) == 0
    assert "| ResNet18 | none " in capsys.readouterr().out
    assert cli.main(["table", "resnet18", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["parameters"] == 11_689_512


def test_table_writes_files(tmp_path):
    output = tmp_path / "new" / "folder"
    assert cli.main(["table", "resnet18", "--output", str(output)]) == 0
    assert sorted(path.name for path in output.iterdir()) == [
        "tables.json",
        "tables.md",
    ]
    assert json.loads((output / "tables.json").read_text())[0]["equal"]
    assert "11.69" in (output / "tables.md").read_text()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["resnet19"], 'Did you mean "resnet101"|Did you mean "resnet18"'),
        (["resnet18", "--output", "/dev/null/x"], "can be written to"),
    ],
)
def test_table_refuses_in_one_line(arguments, message, capsys):
    assert cli.main(["table", *arguments]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("cbam-keras table: error: ")
    assert re.search(message, line)


def test_reader_may_leave_early():
    code = "from cbam_keras.cli import main; main(['table', 'resnet18'])"
    command = f'"{sys.executable}" -c "{code}" | true'
    done = subprocess.run(
        command, shell=True, capture_output=True, text=True, check=True
    )
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr
