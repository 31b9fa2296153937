"""`train` and `tune`: what they plan, print and report."""

import dataclasses
import inspect
import json
import re
import sys

import keras_tuner
import pretended
import pytest

from _cbam_keras_command import options, parser
from cbam_keras import (
    cli,
    data,
    layers,
    report,
    study,
    training,
    tuning,
)
from cbam_keras.cli.command import AT_A_TIME, PLANS
from cbam_keras.layers import CBAM
from cbam_keras.models import losses
from cbam_keras.report import looking
from cbam_keras.study import comparison
from cbam_keras.study.results.results import read_results

RUNS = {
    "train": (comparison, "compare"),
    "tune": (tuning, "search"),
}
RECIPE = comparison.default_recipe("tiny")
FINE_TUNING = training.RECIPES["fine-tuning"]
# Options that have the names of arguments of a plan.
OF_ALL = (
    "--model small --folds 3 --epochs 7 --batch-size 5 --patience 2 "
    "--class-weight sqrt --measure auc "
    "--image-size 16 "
)
LINES = (
    "train --data d.csv --image-folder a --image-column b --label-column c "
    "--split-column d --group-column e "
    "--learning-rate 0.1 --reduction-ratio 8 --kernel-size 5 "
    "--instead-of se",
    "train --data cifar10 --download --data-dir a --seeds 2",
    "tune --data . --pattern {class}/** --max-trials 5 --confirm 4",
)
SPACE = {
    "--attention cbam keras.layers:ReLU": {"attention": {"cbam", "ReLU"}},
    "--reduction-ratio 2 4": {"reduction_ratio": {2, 4}},
    "--kernel-size 5": {"kernel_size": {5}},
    "--stages last 1,2": {"stages": {"last", "1,2"}},
}
# Longer than the name of a file may be.
LONG = "x" * 300


def planned(line):
    """Returns the plan of a command line, which is not run."""
    given = parser.parse(line.split())
    return PLANS[given.command](given)


def described(plan):
    """Returns the arguments and options that a plan was made with."""
    if isinstance(plan, tuning.Search):
        found, task = vars(plan) | vars(plan.hypermodel), plan.trial_task
    else:
        found = {**vars(plan), **plan.settings, **plan.variants[-1].describe()}
        found["seeds"], task = len(plan.seeds), plan.task
    images = {"data": task.data, "measure": task.score, **task.options}
    return {**found, **vars(plan.recipe), **images}


@pytest.mark.parametrize("line", LINES)
def test_an_option_reaches_the_argument_of_its_name(
    tmp_path, monkeypatch, line
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d.csv").touch()
    words = f"{line} {OF_ALL}".split()
    given, found = parser.parse(words), described(planned(" ".join(words)))
    for option in (word for word in words if word.startswith("--")):
        name = re.sub("^--(no-)?", "", option).replace("-", "_")
        expected = getattr(given, name)
        if name == "learning_rate":
            # The command takes several.
            (expected,) = expected
        assert found[name] == expected, name


def test_options_make_the_search_space():
    hypermodel = planned(" ".join(["tune", *SPACE])).hypermodel
    hp = keras_tuner.HyperParameters()
    hypermodel.attention_for(hp)
    found = {own.name: set(own.values) for own in hp.space}
    for option, values in SPACE.items():
        assert found.items() >= values.items(), option


NET = "--model MobileNetV2 --weights imagenet"


@pytest.mark.parametrize(
    ("line", "recipe"),
    [
        ("train", dataclasses.replace(RECIPE, epochs=2)),
        ("train --data crowded_mnist", RECIPE),
        ("tune --data .", comparison.default_recipe("tiny", None, ".")),
        (
            "train --data crowded_mnist --model json:dumps",
            comparison.default_recipe(None),
        ),
        (
            "train --data . --epochs 3 --augment flip crop",
            dataclasses.replace(RECIPE, epochs=3, augment=("flip", "crop")),
        ),
        (
            "train --data crowded_mnist --augment flip",
            dataclasses.replace(RECIPE, augment=("flip",)),
        ),
        (f"train {NET}", FINE_TUNING),
        (f"tune {NET}", FINE_TUNING),
        (f"tune {NET} --recipe default", training.Recipe()),
        ("train --recipe small_images", training.RECIPES["small_images"]),
    ],
)
def test_the_recipe_suits_the_network_and_the_data(line, recipe):
    assert planned(line).recipe == recipe


@pytest.mark.parametrize(
    "line, seeds",
    [
        ("train", (0, 1, 2, 3, 4)),
        ("train --seeds 1", (0,)),
        ("train --data mnist5k --folds 3", (0,)),
    ],
)
def test_by_default_there_are_five_seeds(line, seeds):
    assert planned(line).seeds == seeds


def test_functions_of_the_user_are_found(tmp_path, monkeypatch):
    (tmp_path / "mine_for_cli.py").write_text("def build(x):\n    return x\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    ours = planned("tune --model mine_for_cli:build").hypermodel
    assert ours.model("it") == "it"


@pytest.mark.parametrize(
    ("listed", "names"),
    [
        (options.ATTENTION, ("none", *layers.ATTENTION, "all")),
        (options.AUGMENTATIONS, data.AUGMENTATIONS),
        (options.NETWORKS, comparison.NETWORKS),
        (options.MEASURES, ("accuracy", study.ACCURACY, *study.MEASURES)),
        (options.SCORES, losses.SCORES),
        (options.RECIPES, training.RECIPES),
    ],
)
def test_options_take_the_names_that_there_are(listed, names):
    assert listed == tuple(names)


@pytest.mark.parametrize("command", RUNS)
def test_defaults_are_those_of_the_functions(capsys, monkeypatch, command):
    # So that lines are not broken.
    monkeypatch.setenv("COLUMNS", "500")
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    printed = capsys.readouterr().out
    expected = {
        parameter.name: parameter.default
        for function in (getattr(*RUNS[command]), study.run)
        for parameter in inspect.signature(function).parameters.values()
    }
    expected |= vars(RECIPE) | CBAM().get_config()
    del expected["output"]
    # What the help says where the function has `None`, or the network decides.
    expected |= {"unfreeze": "all", "threshold": 0.5, "seeds": 5}
    expected |= {"image_size": "no", "reduction_ratio": 4, "workers": 2}
    found = re.findall(r"--(\S+) .*\(default: ([^ ,;)]+)", printed)
    compared = [
        (name, value, str(expected[name.replace("-", "_")]))
        for name, value in found
        if name.replace("-", "_") in expected
    ]
    assert len(compared) > 3
    assert not [x for x in compared if x[1] != x[2]]


# What is printed.


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train --attention json:Gate", "no attribute 'Gate'"),
        ("tune --model nowhere:build", "No module named 'nowhere'"),
        ("tune --model ../x:y", "a function. Received: model='../x:y'"),
        ("train --attention json:", "class. Received: attention='json:'"),
        ("train --attention json:dumps", "dumps() missing 1 required"),
        (f"train --epochs {10**20}", "`epochs` must be at most 2,147,483,647"),
        (f"train --kernel-size {10**20 + 1}", "`kernel_size` must be at most"),
        (f"train --data mnist5k --output {LONG}", "(File name too long)"),
        (
            "train --scheduler file.json",
            "or its scheduler file. Received: sched",
        ),
        (
            "tune --attention none se --kernel-size 3",
            "`kernel_size` must be left out with the layers none, se",
        ),
    ],
)
def test_a_mistake_is_reported_in_one_line(
    tmp_path, monkeypatch, capsys, line, message
):
    monkeypatch.chdir(tmp_path)
    # That of no scheduler.
    (tmp_path / "file.json").write_text("{}")
    assert cli.main(line.split()) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (error,) = printed.err.splitlines()
    assert error.startswith(f"cbam-keras {line.split()[0]}: error: ")
    assert message in error
    assert [path.name for path in tmp_path.iterdir()] == ["file.json"]


def test_a_folder_that_is_refused_is_drawn(tmp_path, capsys):
    for name in ("cat/day", "dog/night"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "0.png").touch()
    assert cli.main(["train", "--data", str(tmp_path)]) == 2
    drawing = "    cat/  1 image\n        day/  1 image\n    dog/  1 image\n"
    assert drawing in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "module", "advice"),
    [
        ("train", "jinja2", "pip install jinja2 (or this package with its "),
        ("tune", "keras_tuner", "`tune`"),
    ],
)
def test_a_missing_package_is_reported_before_any_work(
    monkeypatch, tmp_path, capsys, command, module, advice
):
    monkeypatch.setitem(sys.modules, module, None)
    assert cli.main([*command.split(), "--output", str(tmp_path / "run")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert advice in line
    assert not (tmp_path / "run").exists()


# The report.


@pytest.fixture
def drawn(tiny, monkeypatch):
    """Trains nothing, and returns which networks are drawn."""
    calls = []

    def draw(folder, content, **_):
        results = read_results(folder, content)
        calls.append([*results.networks()])

    pretended.install(monkeypatch)
    monkeypatch.setattr(looking, "draw_explanations", draw)
    return calls


def run(command, output, *options):
    given = ["--data", "mnist5k", "--epochs", "1", "--batch-size", "35"]
    given += ["--seeds", "1"] * (command == "train")
    return cli.main([command, *given, "--output", str(output), *options])


def test_a_command_prints_what_it_is_asked_for(drawn, tmp_path, capsys):
    output, few = tmp_path / "run", ["--attention", "none", "se"]
    assert run("train", output, *few, "--dry-run", "--json") == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["trainings"] == 2
    assert "images of 10 classes" in printed.err and not output.exists()
    few.append("--no-report")
    assert run("train", output, *few, "--json") == 0
    printed, results = capsys.readouterr(), study.Results.read(output)
    assert printed.out == f"{results.json()}\n"
    assert "images of 10 classes" in printed.err
    assert run("train", output, *few) == 0
    printed = capsys.readouterr()
    assert str(results).lstrip() in printed.out and printed.err == ""


def test_the_report_shows_the_networks_of_the_first_seed(
    drawn, tmp_path, capsys
):
    output = tmp_path / "run"
    options = ["--attention", "none", "se", "--seeds", "2"]
    assert run("train", output, *options, "--no-report") == 0
    assert not (output / "report.html").exists() and not drawn
    capsys.readouterr()
    assert run("train", output, *options) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    table = printed.out[printed.out.index("Results in") :]
    assert table.index("│ none ") < table.index("│ se ")
    assert table.endswith(f"\nReport in {output / 'report.html'}\n")
    assert drawn == [["none", "se"]]
    content = json.loads((output / "results.json").read_text())
    # As it was given, but for how to treat what is there.
    assert content["command"] == (
        "cbam-keras train --data mnist5k --epochs 1 --batch-size 35 "
        f"--seeds 1 --output {output} --attention none se --seeds 2"
    )
    assert (output / "report.html").exists()


def test_the_report_of_a_search_shows_its_best_network(drawn, tmp_path):
    options = ["--attention", "none", "--confirm", "0", "--json"]
    assert run("tune", tmp_path, *options) == 0
    assert drawn == [["best"]]


@pytest.mark.parametrize(
    ("options", "expected"),
    [([], 3), (["--workers", "1"], 1), (["--model", "small"], 1)],
)
def test_small_networks_are_trained_side_by_side(
    options, expected, tmp_path, monkeypatch
):
    def train(planned, output, *, workers, **options):
        raise RuntimeError(f"{workers} at a time")

    monkeypatch.setitem(AT_A_TIME, "tiny", 3)
    monkeypatch.setattr(study, "run", train)
    with pytest.raises(RuntimeError, match=f"^{expected} at a time"):
        run("train", tmp_path, "--attention", "none", *options)


# Keras' own, which `pytest.warns` would show again.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_report_that_fails_is_a_warning(drawn, tmp_path, monkeypatch, capsys):
    def failing(*_, **__):
        raise TypeError("no feature map")

    monkeypatch.setattr(looking, "draw_explanations", failing)
    with pytest.warns(UserWarning, match="no heat maps or masks: no feature"):
        assert run("train", tmp_path, "--attention", "none") == 0
    monkeypatch.setattr(report, "write", failing)
    assert "Report in" in capsys.readouterr().out
    with pytest.warns(UserWarning, match=r"not written \(TypeError: no feat"):
        assert run("train", tmp_path, "--attention", "none") == 0
    assert "Report in" not in capsys.readouterr().out
