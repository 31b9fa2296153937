"""The command line: what it prints, what it returns, what it refuses."""

import dataclasses
import functools
import importlib.metadata
import json
import pathlib
import re
import subprocess
import sys

import digits
import keras_tuner
import pytest

import cbam_keras
from cbam_keras import ablation, cli, comparison, models, training, tuning
from cbam_keras.layers import CBAM
from cbam_keras.models import by_name

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
    "--recipe",
    "--data-dir",
    "--manual-dir",
    "--download",
    "--image-size",
    "--augment",
    "--distribute",
    "--address",
    "--processes",
    "--process",
)


@pytest.fixture
def tiny(monkeypatch):
    """Puts few digits and a network of a few hundred parameters in place."""
    digits.replace(digits.few, monkeypatch.setattr)
    build = functools.partial(
        models.ResNet, (1,), block="basic", widths=(4,), stem_width=4
    )
    monkeypatch.setitem(
        by_name.NETWORKS,
        "small",
        functools.partial(by_name._network, build),
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
        "unless given (default: default)",
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
        "data_options": {},
        "output": None,
        "resume": False,
        "distribute": False,
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
        (
            ["--recipe", "imagenet"],
            {"recipe": training.RECIPES["imagenet"]},
        ),
        (
            ["--recipe", "imagenet", "--epochs", "2", "--batch-size", "8"],
            {
                "recipe": dataclasses.replace(
                    training.RECIPES["imagenet"], epochs=2, batch_size=8
                )
            },
        ),
        (
            ["--augment", "flip", "--augment", "crop", "--image-size", "64"],
            {
                "recipe": training.Recipe(
                    augment=("flip", "crop"), image_size=64
                )
            },
        ),
        (
            ["--download", "--data-dir", "a", "--manual-dir", "b"],
            {
                "data_options": {
                    "download": True,
                    "data_dir": "a",
                    "manual_dir": "b",
                }
            },
        ),
        (["--distribute"], {"distribute": True}),
        (
            ["--address", "a:80", "--processes", "2", "--process", "1"],
            {"distribute": training.Distribution("a:80", 2, 1)},
        ),
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
        (["--data", "mnist6k"], 'Did you mean "mnist5k"?'),
        (["--recipe", "imagnet"], 'Did you mean "imagenet"?'),
        (["--address", "a:80"], "Received: no process, processes"),
        (
            ["--address", "a", "--processes", "2", "--process", "0"],
            "`address` must be",
        ),
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
        "unknown_recipe",
        "lonely_address",
        "address_without_port",
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


# The search.


@pytest.fixture
def searched(monkeypatch):
    """Returns what `search` was called with, in place of searching."""
    calls = {}

    def search(hypermodel, images, recipe, **options):
        calls.update(
            options, hypermodel=hypermodel, images=images, recipe=recipe
        )
        return "the table"

    monkeypatch.setattr(tuning, "search", search)
    return calls


def test_tune_prints_the_result_last(searched, capsys):
    assert cli.main(["tune"]) == 0
    assert capsys.readouterr().out == "the table\n"
    assert searched["images"] == "mnist5k"
    assert searched["recipe"] == tuning.RECIPE
    assert isinstance(searched["hypermodel"], tuning.CBAMHyperModel)
    assert searched["output"] == pathlib.Path("runs/tune-mnist5k-small")
    # What is left out, `search` decides.
    assert not {"max_trials", "max_parameters", "max_macs"} & set(searched)


@pytest.mark.parametrize(
    ("arguments", "passed"),
    [
        (["--algorithm", "hyperband"], {"algorithm": "hyperband"}),
        (["--max-trials", "30"], {"max_trials": 30}),
        (["--max-parameters", "1e6"], {"max_parameters": 1e6}),
        (["--max-macs", "2e9"], {"max_macs": 2e9}),
        (["--keep", "1"], {"keep": 1}),
        (["--tensorboard"], {"tensorboard": True}),
        (["--data", "cifar10"], {"images": "cifar10"}),
        (["--download"], {"data_options": {"download": True}}),
        (
            ["--recipe", "small_images", "--epochs", "9"],
            {
                "recipe": dataclasses.replace(
                    training.RECIPES["small_images"], epochs=9
                )
            },
        ),
        (
            ["--data", "/a/flowers", "--model", "resnet18"],
            {"output": pathlib.Path("runs/tune-flowers-resnet18")},
        ),
        (["--output", "here"], {"output": "here"}),
    ],
    ids=lambda value: "_".join(value) if isinstance(value, list) else "",
)
def test_options_of_tune_are_passed_on(searched, arguments, passed):
    assert cli.main(["tune", *arguments]) == 0
    assert searched.items() >= passed.items()


@pytest.mark.parametrize(
    ("arguments", "name", "values"),
    [
        (["--attention", "none", "se"], "attention", {"none", "se"}),
        (["--reduction-ratio", "2", "4"], "reduction_ratio", {2, 4}),
        (["--kernel-size", "5"], "kernel_size", {5}),
        (["--order", "parallel"], "order", {"parallel"}),
        (
            ["--channel-pool-types", "avg", "lp+max"],
            "channel_pool_types",
            {"avg", "lp+max"},
        ),
        (["--spatial-pool-types", "conv"], "spatial_pool_types", {"conv"}),
        (["--learning-rate", "0.1", "0.2"], "learning_rate", {0.1, 0.2}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_tune_searches_what_it_is_told(searched, arguments, name, values):
    assert cli.main(["tune", *arguments]) == 0
    hp = keras_tuner.HyperParameters()
    searched["hypermodel"].declare_hyperparameters(hp)
    [dimension] = [own for own in hp.space if own.name == name]
    assert set(dimension.values) == values


def test_tune_takes_attention_in_every_stage(searched):
    assert cli.main(["tune", "--no-stages"]) == 0
    hp = keras_tuner.HyperParameters()
    searched["hypermodel"].declare_hyperparameters(hp)
    assert not [own.name for own in hp.space if "stage" in own.name]


@pytest.mark.parametrize("option", ["--hypermodel", "--model"])
def test_tune_takes_functions_of_the_users(
    searched, option, tmp_path, monkeypatch
):
    (tmp_path / "mine_for_cli.py").write_text("def build(x):\n    return x\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert cli.main(["tune", option, "mine_for_cli:build"]) == 0
    function = searched["hypermodel"]
    if option == "--model":
        function = function.model
    assert function("it") == "it"
    assert searched["output"].name == "tune-mnist5k-mine_for_cli-build"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "resnet20"], 'Did you mean "resnet50"|"resnet'),
        (["--model", "nowhere:build"], "No module named 'nowhere'"),
        (["--hypermodel", "json:build"], "no attribute 'build'"),
        (["--kernel-size", "4"], "`kernel_size` must be an odd positive"),
        (["--workers", "0"], "`workers` must be a positive integer"),
        (["--worker"], "`address` must be that of the chief"),
        (["--chief", "--address", "here"], "`address` must be host:port"),
        (["--max-trials", "0"], "`max_trials` must be a positive integer"),
        (["--max-macs", "0"], "`max_macs` must be a positive"),
        (["--data", "mnist6k"], 'Did you mean "mnist5k"?'),
    ],
    ids=lambda value: "_".join(value) if isinstance(value, list) else "",
)
def test_tune_tells_a_mistake_in_one_line(
    monkeypatch, tmp_path, capsys, arguments, message
):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["tune", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("cbam-keras tune: error: ")
    assert re.search(message, line)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments", [["--workers", "2", "--seed", "1"], ["--workers=2"]]
)
def test_workers_get_the_command_as_it_was_given(
    monkeypatch, tmp_path, arguments
):
    asked = {}

    def run_workers(command, workers, logs):
        asked.update(command=command, workers=workers, logs=logs)
        return 7

    monkeypatch.setattr(tuning, "run_workers", run_workers)
    arguments = ["tune", "--output", str(tmp_path), *arguments]
    assert cli.main(arguments) == 7
    assert asked == {
        "command": [sys.executable, "-m", "cbam_keras", *arguments],
        "workers": 2,
        "logs": tmp_path / "logs",
    }


def test_a_process_that_was_started_searches(searched, monkeypatch, tmp_path):
    monkeypatch.setattr(tuning, "end_with_starter", lambda: True)
    monkeypatch.setattr(tuning, "run_workers", None)
    cli.main(["tune", "--workers", "2", "--output", str(tmp_path)])
    assert searched["images"] == "mnist5k"


@pytest.mark.parametrize("command", ["tune", "ablate"])
def test_ctrl_c_tells_that_the_same_command_goes_on(
    monkeypatch, capsys, command
):
    module, name = {"tune": (tuning, "search"), "ablate": (ablation, "run")}[
        command
    ]
    monkeypatch.setattr(module, name, _with_a_bug(KeyboardInterrupt()))
    assert cli.main([command]) == 130
    (line,) = capsys.readouterr().err.splitlines()
    assert "the same command goes on from here" in line


def test_a_search_without_a_finished_trial_gives_1(tiny, tmp_path, capsys):
    status = cli.main(
        [
            *("tune", "--max-parameters", "1", "--max-trials", "2"),
            *("--output", str(tmp_path / "search")),
        ]
    )
    assert status == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("cbam-keras tune: error: ")
    assert "over budget" in line
    assert (tmp_path / "search" / "trials.csv").is_file()


# The ablation.


@pytest.fixture
def ablated(monkeypatch):
    """Returns what `run` was called with, in place of running."""
    calls = {}

    class Results:
        def __str__(self):
            return "the tables"

        def markdown(self):
            return "| Markdown |"

        def latex(self):
            return "LaTeX"

        def csv(self):
            return "C,S,V"

    def run(images, **options):
        calls.update(options, images=images)
        return Results()

    monkeypatch.setattr(ablation, "run", run)
    return calls


def test_ablate_passes_its_defaults(ablated, capsys):
    assert cli.main(["ablate"]) == 0
    assert capsys.readouterr().out == "the tables\n"
    assert ablated == {
        "images": "cluttered_mnist",
        "model": "small",
        "tables": [1, 2, 3, 4],
        "seeds": 3,
        "recipe": training.Recipe(),
        "data_options": {},
        "output": None,
    }


@pytest.mark.parametrize(
    ("arguments", "passed"),
    [
        (["--tables", "1", "4"], {"tables": [1, 4]}),
        (["--seeds", "5"], {"seeds": 5}),
        (["--model", "resnet18"], {"model": "resnet18"}),
        (["--data", "cifar10"], {"images": "cifar10"}),
        (["--epochs", "7"], {"recipe": training.Recipe(epochs=7)}),
        (["--output", "here"], {"output": "here"}),
    ],
    ids=lambda value: "_".join(value) if isinstance(value, list) else "",
)
def test_options_of_ablate_are_passed_on(ablated, arguments, passed):
    assert cli.main(["ablate", *arguments]) == 0
    assert ablated.items() >= passed.items()


@pytest.mark.parametrize(
    ("form", "printed"),
    [("markdown", "| Markdown |"), ("latex", "LaTeX"), ("csv", "C,S,V")],
)
def test_ablate_prints_other_forms(ablated, capsys, form, printed):
    assert cli.main(["ablate", f"--{form}"]) == 0
    assert capsys.readouterr().out == f"{printed}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tables", "5"], "`tables` must"),
        (["--seeds", "0"], "`seeds` must"),
        (["--data", "mnist6k"], 'Did you mean "mnist5k"?'),
    ],
    ids=["tables", "seeds", "data"],
)
def test_ablate_tells_a_mistake_in_one_line(
    monkeypatch, tmp_path, capsys, arguments, message
):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["ablate", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("cbam-keras ablate: error: ")
    assert message in line
    assert not list(tmp_path.iterdir())


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
