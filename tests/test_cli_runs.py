"""`train`, `ablate`, `tune`: what they plan, print and report."""

import dataclasses
import json
import re
import sys

import keras
import keras_tuner
import numpy as np
import pretended
import pytest

from _cbam_keras_command import parser
from cbam_keras import (
    ablation,
    cli,
    comparison,
    report,
    study,
    training,
    tuning,
)
from cbam_keras.cli import runs

RUNS = {
    "train": (comparison, "compare"),
    "ablate": (ablation, "run"),
    "tune": (tuning, "search"),
}
RECIPE = comparison.default_recipe("tiny")
FINE_TUNING = training.RECIPES["fine-tuning"]
# Options that have the names of arguments of a plan.
OF_ALL = (
    "--model small --folds 3 --epochs 7 --batch-size 5 --patience 2 "
    "--class-weight sqrt --loss focal --measure auc --mixed-precision "
    "--no-jit-compile --image-size 16x24 --no-identity-init "
)
LINES = (
    "train --data d.csv --image-folder a --image-column b --label-column c "
    "--split-column d --group-column e --group-by f --seed 3 "
    "--learning-rate 0.1 --reduction-ratio 8 --kernel-size 5 --order parallel "
    "--instead-of se",
    "ablate --data cifar10 --download --data-dir a --manual-dir b "
    "--tables 2 3 --seeds 2 --learning-rate 0.1",
    "tune --data ./folder --no-group-by-folder --algorithm grid --max-trials 5 "
    "--confirm 4 --keep 2 --seed 3",
)
SPACE = {
    "--attention cbam keras.layers:ReLU": {"attention": {"cbam", "ReLU"}},
    "--reduction-ratio 2 4": {"reduction_ratio": {2, 4}},
    "--kernel-size 5": {"kernel_size": {5}},
    "--stages last 1,2": {"stages": {"last", "1,2"}},
    "--order parallel": {"order": {"parallel"}},
    "--channel-pool-types avg lp+max": {
        "channel_pool_types": {"avg", "lp+max"}
    },
    "--spatial-pool-types conv": {"spatial_pool_types": {"conv"}},
    "--learning-rate 0.1 0.2": {"learning_rate": {0.1, 0.2}},
}
# Longer than the name of a file may be.
LONG = "x" * 300


def planned(line):
    """Returns the plan of a command line, which is not run."""
    given = parser.parse(line.split())
    return runs.PLANS[given.command](given)


def described(plan):
    """Returns the arguments and options that a plan was made with."""
    if isinstance(plan, tuning.Search):
        found, task = vars(plan) | vars(plan.hypermodel), plan.trial_task
    else:
        found = {**vars(plan), **plan.settings, **plan.variants[-1].describe()}
        found["tables"] = [table.number for table in plan.comparisons]
        found["seeds"], task = len(plan.seeds), plan.task
    images = {"data": task.data, "measure": task.score, **task.options}
    return {**found, **vars(plan.recipe), **images}


@pytest.mark.parametrize("line", LINES)
def test_an_option_reaches_the_argument_of_its_name(line):
    words = f"{line} {OF_ALL}".split()
    given, found = parser.parse(words), described(planned(" ".join(words)))
    for option in (word for word in words if word.startswith("--")):
        name = re.sub("^--(no-)?", "", option).replace("-", "_")
        assert found[name] == getattr(given, name), name


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
        ("train", dataclasses.replace(RECIPE, epochs=3)),
        ("train --data mnist5k", RECIPE),
        ("tune --data ./a", comparison.default_recipe("tiny", None, "./a")),
        ("ablate --model json:dumps", comparison.default_recipe(None)),
        (
            "ablate --data ./a --epochs 3 --augment flip crop",
            dataclasses.replace(RECIPE, epochs=3, augment=("flip", "crop")),
        ),
        (
            "ablate --label-smoothing 0.1 --augment rotate",
            dataclasses.replace(RECIPE, loss=0.1, augment=("rotate",)),
        ),
        (f"train {NET}", FINE_TUNING),
        (f"ablate {NET}", FINE_TUNING),
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
        ("train", (0, 1, 2)),
        ("train --seed 7", (7,)),
        ("train --seeds 1", (0,)),
        ("train --data mnist5k", (0,)),
    ],
)
def test_the_first_job_has_several_seeds(line, seeds):
    assert planned(line).seeds == seeds


def test_options_say_how_a_plan_is_run():
    line = "train --output mine --workers 2 --no-report"
    given = parser.parse([*line.split(), "--overwrite"])
    assert runs.run_options(given, None) == study.RunOptions(
        "mine", overwrite=True, workers=2, command=f"cbam-keras {line}"
    )
    assert runs.run_options(parser.parse(["tune"]), None).workers is None


def test_functions_of_the_user_are_found(tmp_path, monkeypatch):
    (tmp_path / "mine_for_cli.py").write_text("def build(x):\n    return x\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    ours = planned("tune --model mine_for_cli:build").hypermodel
    assert ours.model("it") == "it"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "train --seeds 2 --seed 1",
            "counted from 0, so `seed` is for one. Received: seed=1, seeds=2",
        ),
        ("train --attention json:Gate", "no attribute 'Gate'"),
        ("tune --model nowhere:build", "No module named 'nowhere'"),
        ("tune --model ../x:y", "a function. Received: model='../x:y'"),
        ("train --attention json:", "class. Received: attention='json:'"),
        ("train --attention json:dumps", "Received: dumps, which fails (dumps"),
        (f"train --epochs {10**20}", "`epochs` must be at most 2,147,483,647"),
        (f"train --kernel-size {10**20 + 1}", "`kernel_size` must be at most"),
        ("tune --confirm -1", "`confirm` must be an integer from 0. Received"),
        (f"train --data mnist5k --output {LONG}", "(File name too long)"),
        ("train --scheduler file.json", "that it has written. Received: sched"),
        ("ablate --model mobilenetV3Small", 'Did you mean "MobileNetV3Small"'),
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


@pytest.mark.parametrize(
    ("command", "module", "advice"),
    [
        ("train", "jinja2", "pip install jinja2 (or this package with its "),
        ("tune --algorithm bayesian", "sklearn.gaussian_process", "`tune`"),
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
def explained(tiny, monkeypatch):
    """Trains nothing, and returns which networks are explained."""
    calls = []

    def explain_run(run, settings, *, output, described, **options):
        calls.append([path.stem for path in run.files])
        (output / "explain").mkdir(exist_ok=True)
        content = json.dumps({"settings": described})
        (output / "explain" / "explain.json").write_text(content)

    pretended.install(monkeypatch)
    monkeypatch.setattr(report, "explain_run", explain_run)
    return calls


def run(command, output, *options):
    given = ["--data", "mnist5k", "--epochs", "1", "--batch-size", "35"]
    return cli.main([command, *given, "--output", str(output), *options])


def test_a_command_prints_what_it_is_asked_for(explained, tmp_path, capsys):
    output, few = tmp_path / "run", ["--tables", "4", "--seeds", "1"]
    assert run("ablate", output, *few, "--dry-run", "--json") == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["trainings"] == 3
    assert "images of 10 classes" in printed.err and not output.exists()
    assert run("train", output, "--attention", "none", "--dry-run") == 0
    assert re.search(
        r"epoch\nAbout .* on this machine", capsys.readouterr().out
    )
    few.append("--no-report")
    assert run("ablate", output, *few, "--json") == 0
    printed, results = capsys.readouterr(), study.Results.read(output)
    assert printed.out == f"{results.json()}\n"
    assert "images of 10 classes" in printed.err
    for option, shown in (
        ("--markdown", results.markdown()),
        ("--csv", results.csv()),
        ("--resume", results),
    ):
        assert run("ablate", output, *few, "--quiet", option) == 0
        assert capsys.readouterr() == (f"{shown}\n".lstrip(), "")


def test_the_report_explains_the_networks_of_the_first_seed_once(
    explained, tmp_path, capsys, monkeypatch
):
    output = tmp_path / "run"
    options = ["--attention", "none", "se", "--seeds", "2", "--resume"]
    assert run("train", output, *options, "--no-report") == 0
    assert not (output / "report.html").exists() and not explained
    assert "left for 3 networks\n" in capsys.readouterr().out
    assert run("train", output, *options) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    table = printed.out[printed.out.index("Results in") :]
    assert table.index("│ none ") < table.index("│ se ")
    assert table.endswith(f"\nReport in {output / 'report.html'}\n")
    assert explained == [["none-seed0", "se-seed0"]]
    content = json.loads((output / "results.json").read_text())
    # As it was given, but for how to treat what is there.
    assert content["command"] == (
        "cbam-keras train --data mnist5k --epochs 1 --batch-size 35 "
        f"--output {output} --attention none se --seeds 2"
    )
    assert (output / "report.html").exists()
    # The same networks are not explained again, wherever they are.
    output = output.rename(tmp_path / "moved")
    assert run("train", output, *options) == 0
    assert len(explained) == 1
    assert (
        run("train", output, *options, "--attention", "cbam", "--workers", "1")
        == 0
    )
    assert len(explained) == 2


def test_networks_are_also_written_without_our_layers(
    tiny, tmp_path, monkeypatch
):
    pretended.install(monkeypatch)
    output = tmp_path / "run"
    options = ["--attention", "none", "cbam", "--no-report", "--plain"]
    assert run("train", output, *options) == 0
    images = np.random.default_rng(0).random((2, 28, 28, 1), "float32")
    for name in ("none", "cbam"):
        plain, network = (
            keras.saving.load_model(
                output / f"{name}-seed0/{name}-seed0{ending}.keras"
            )
            for ending in (".plain", "")
        )
        np.testing.assert_allclose(plain(images), network(images), rtol=1e-4)
        layers = plain._flatten_layers()
        assert not any("cbam_keras" in type(x).__module__ for x in layers)
    page = report.write(output).read_text()
    assert "Files *.plain.keras load with Keras alone" in page


def test_an_ablation_explains_as_many_networks_as_the_page_shows(
    explained, tmp_path
):
    options = ["--tables", "2", "3", "4", "--seeds", "1", "--quiet"]
    assert run("ablate", tmp_path, *options) == 0
    names = "none se cbam spatial-first parallel channel-avg-max"
    assert explained == [names.split()]
    page = (tmp_path / "report.html").read_text()
    assert "Table 4: no attention, SE and CBAM" in page


def test_a_search_explains_its_best_network(explained, tmp_path):
    options = ["--attention", "none", "--confirm", "0", "--json", "--quiet"]
    assert run("tune", tmp_path, *options) == 0
    assert explained == [["best"]]


# Keras' own, which `pytest.warns` would show again.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_report_that_fails_is_a_warning(
    explained, tmp_path, monkeypatch, capsys
):
    def failing(*_, **__):
        raise TypeError("no feature map")

    monkeypatch.setattr(report, "explain_run", failing)
    with pytest.warns(UserWarning, match="not show where it looks: no feature"):
        assert run("train", tmp_path, "--attention", "none") == 0
    monkeypatch.setattr(report, "explain_run", lambda *_, **__: None)
    monkeypatch.setattr(report, "write", failing)
    assert "Report in" in capsys.readouterr().out
    with pytest.warns(UserWarning, match=r"not written \(TypeError: no feat"):
        assert run("train", tmp_path, "--attention", "none") == 0
    assert "Report in" not in capsys.readouterr().out
