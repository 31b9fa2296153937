"""One network without and with attention, under equal conditions."""

import dataclasses
import inspect
import json
import math
import re
import shlex

import keras
import networks
import numpy as np
import pytest
from training_checks import SHORT

from cbam_keras import cli, comparison, data, training
from cbam_keras.comparison import plan
from cbam_keras.models import by_name

pytestmark = pytest.mark.usefixtures("few_digits")


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compared")
    with pytest.MonkeyPatch.context() as patch:
        networks.replace_tiny(patch.setitem)
        patch.chdir(folder)
        results = comparison.compare(
            images="mnist5k",
            recipe=SHORT,
            layer_options={"reduction_ratio": 2, "kernel_size": 3},
        )
    return dataclasses.replace(results, output=folder / results.output)


def test_compare_trains_none_se_and_cbam(compared):
    assert [run.network for run in compared.runs] == ["none", "se", "cbam"]
    assert [run.file for run in compared.runs] == [
        "none.keras",
        "se.keras",
        "cbam.keras",
    ]


def test_compare_writes_below_runs(compared):
    assert compared.output.parts[-2:] == ("runs", "train-mnist5k-tiny")
    assert (compared.output / "results.json").is_file()


@pytest.mark.parametrize(
    ("network", "kind", "options"),
    [
        ("se", "SqueezeExcite", {"reduction_ratio": 2}),
        ("cbam", "CBAM", {"reduction_ratio": 2, "kernel_size": 3}),
    ],
    ids=["se", "cbam"],
)
def test_each_layer_gets_the_options_it_takes(compared, network, kind, options):
    model = keras.saving.load_model(compared.output / f"{network}.keras")
    layer = model.get_layer("stage1_block1_attention")
    assert type(layer).__name__ == kind
    assert layer.get_config().items() >= options.items()


@pytest.mark.parametrize(
    ("model", "given", "name", "expected"),
    [
        ("tiny", {}, "cbam", {"identity_init": True, "reduction_ratio": 4}),
        ("tiny", {}, "cbam", {"spatial_batch_norm": True}),
        ("tiny", {}, "se", {"identity_init": True, "reduction_ratio": 4}),
        ("tiny", {}, "spatial", {"identity_init": True, "batch_norm": True}),
        (
            "resnet18",
            {},
            "cbam",
            {"identity_init": True, "reduction_ratio": 16},
        ),
        (
            "tiny",
            {"identity_init": False, "reduction_ratio": 8},
            "cbam",
            {"identity_init": False, "spatial_batch_norm": False},
        ),
    ],
)
def test_layers_start_as_the_identity_unless_told(model, given, name, expected):
    made, options = plan.attention_layers(["none", name], model, given)
    assert made["none"] is None
    layer = made[name](name="attention")
    assert layer.get_config().items() >= expected.items()
    # What is written to the run is what the layers got.
    assert layer.get_config().items() >= options.items()


def test_none_has_no_attention(compared):
    model = keras.saving.load_model(compared.output / "none.keras")
    names = [layer.name for layer in model.layers]
    assert not any("attention" in name for name in names)


def test_networks_of_a_comparison_scale_their_images(compared):
    model = keras.saving.load_model(compared.output / "none.keras")
    assert model.get_layer("rescale").scale == pytest.approx(1 / 255)


def test_compare_writes_its_settings(compared):
    content = json.loads((compared.output / "results.json").read_text())
    settings = content["settings"]
    assert settings["model"] == "tiny"
    assert settings["layer_options"] == {
        "identity_init": True,
        "spatial_batch_norm": True,
        "reduction_ratio": 2,
        "kernel_size": 3,
    }
    assert settings["networks"] == ["none", "se", "cbam"]


def test_compare_resumes(compared, monkeypatch):
    networks.replace_tiny(monkeypatch.setitem)
    call = {
        "images": "mnist5k",
        "recipe": SHORT,
        "output": compared.output,
    }
    options = {"reduction_ratio": 2, "kernel_size": 3}
    again = comparison.compare(**call, layer_options=options)
    assert dataclasses.replace(again, command=compared.command) == compared
    with pytest.raises(ValueError, match="layer_options.kernel_size was 3"):
        comparison.compare(**call, layer_options={**options, "kernel_size": 5})


@pytest.mark.parametrize(
    ("model", "parameters"),
    # With a classifier of 10 classes on one grey channel and a 3x3 stem.
    [("tiny", 19810), ("small", 77754), ("resnet18", 11172810)],
)
def test_models_are_built_for_the_data(model, parameters):
    images = data.load("mnist5k")
    network = by_name.NETWORKS[model](images, None)
    assert network.input_shape == (None, 28, 28, 1)
    assert network.output_shape == (None, 10)
    assert parameters == sum(
        math.prod(weight.shape) for weight in network.trainable_weights
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attentions": ["cbm"]}, 'Did you mean "cbam"'),
        ({"attentions": []}, '"none", "cbam", "se", "channel", "spatial"'),
        ({"attentions": ["se", "se"]}, "each at most once"),
        ({"model": "resnet20"}, '`model` must be one of "tiny", "small"'),
        ({"images": "mnist5"}, 'Did you mean "mnist5k"'),
        ({"recipe": "fast"}, '`recipe` must be one of "default"'),
        (
            {"data_options": {"batch_size": 8}},
            "`batch_size` is an argument of the recipe.*'batch_size': 8",
        ),
        (
            {"data_options": {"boxes": True}},
            '`data_options` must be one of "validation_fraction"',
        ),
        (
            {"data_options": {"downlod": True}},
            'Did you mean "download"',
        ),
        (
            {"layer_options": {"kernel_size": 4}},
            "`kernel_size` must be an odd positive integer",
        ),
        (
            {"layer_options": {"reduction_ratio": 0}},
            "`reduction_ratio` must be a positive integer",
        ),
        (
            {"layer_options": {"ratio": 8}},
            "`ratio` must be an argument of one of the attention layers",
        ),
        (
            {"attentions": ["none", "se"], "layer_options": {"kernel_size": 3}},
            "`kernel_size` must be an argument.*attention=.'none', 'se'.",
        ),
        (
            {"attentions": "none", "layer_options": {"reduction_ratio": 8}},
            "`reduction_ratio` must be an argument of one of",
        ),
    ],
    ids=[
        "misspelt",
        "empty",
        "twice",
        "model",
        "images",
        "recipe",
        "option_of_the_recipe",
        "boxes",
        "misspelt_option",
        "even_kernel",
        "reduction_ratio",
        "unknown_option",
        "option_of_another",
        "option_of_none",
    ],
)
def test_compare_refuses_mistakes_before_any_work(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        comparison.compare(**options, output=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_data_options_must_be_a_mapping(tmp_path):
    with pytest.raises(TypeError, match="`data_options` must be a mapping"):
        comparison.compare(data_options=["download"], output=tmp_path / "run")


def test_recipe_and_data_options_decide_how_images_are_loaded(monkeypatch):
    given = {}

    def load(name, **options):
        given.update(options, name=name)
        raise KeyboardInterrupt

    # As the real one, whose arguments are checked.
    load.__signature__ = inspect.signature(data.load)
    monkeypatch.setattr(data, "load", load)
    with pytest.raises(KeyboardInterrupt):
        comparison.compare(
            images="somewhere/photographs",
            recipe=dataclasses.replace(training.RECIPES["imagenet"], seed=3),
            data_options={"download": True, "validation_fraction": 0.2},
        )
    assert given == {
        "name": "somewhere/photographs",
        "batch_size": 256,
        "seed": 3,
        "augment": ("random_resized_crop", "flip"),
        "image_size": 224,
        "download": True,
        "validation_fraction": 0.2,
    }


def test_arrays_are_compared_too(tmp_path, monkeypatch):
    networks.replace_tiny(monkeypatch.setitem)
    monkeypatch.chdir(tmp_path)
    images = np.zeros((40, 8, 8, 1), "uint8")
    results = comparison.compare(
        "none", images=(images, np.arange(40) % 2), recipe=SHORT
    )
    assert results.output.parts == ("runs", "train-arrays-tiny")
    model = keras.saving.load_model(results.output / "none.keras")
    assert (model.input_shape, model.output_shape) == (
        (None, 8, 8, 1),
        (None, 2),
    )


def test_the_defaults_are_those_of_the_docstring(monkeypatch):
    given = {}

    def load(name, **options):
        given.update(options, name=name)
        raise KeyboardInterrupt

    load.__signature__ = inspect.signature(data.load)
    monkeypatch.setattr(data, "load", load)
    with pytest.raises(KeyboardInterrupt):
        comparison.compare()
    assert (given["name"], given["batch_size"]) == ("crowded_mnist", 64)
    assert comparison.default_recipe("resnet18") == training.Recipe(
        epochs=2, batch_size=64
    )


# What is printed.


def test_one_seed_tells_nothing_about_chance(compared):
    none, se, cbam = compared.rows
    assert none.difference is None
    assert se.difference == se.test_accuracy - none.test_accuracy
    assert cbam.interval is None
    assert compared.seeds == (0,)
    assert "one seed tells nothing about chance" in compared.verdict
    assert "--seeds 3" in compared.verdict
    for row in (se, cbam):
        points = f"{row.network} by {100 * row.difference:+.2f}"
        assert points in compared.verdict


def test_the_command_draws_the_pictures(compared, monkeypatch, capsys):
    program, *arguments = shlex.split(compared.command)
    assert program == "cbam-keras"
    monkeypatch.chdir(compared.output.parent.parent)
    networks.replace_tiny(monkeypatch.setitem)
    assert cli.main([*arguments, "--draw", "2", "--count", "2"]) == 0
    assert "Files in runs" in capsys.readouterr().out
    assert list(compared.output.parent.glob("explain-*/grad_cam.png"))


def test_a_comparison_is_json(compared):
    content = json.loads(compared.json())
    assert content["verdict"] == compared.verdict
    assert content["seeds"] == [0]
    assert content["test_images"] == 20
    assert [row["network"] for row in content["rows"]] == ["none", "se", "cbam"]
    for row, run in zip(content["rows"], content["runs"], strict=True):
        assert row["test_accuracy"] == pytest.approx(run["test_accuracy"])
        assert run["file"] == f"{row['network']}.keras"


def test_without_none_there_is_no_difference(tmp_path, monkeypatch):
    networks.replace_tiny(monkeypatch.setitem)
    results = comparison.compare(
        ["se"], images="mnist5k", recipe=SHORT, output=tmp_path / "run"
    )
    assert results.rows[0].difference is None
    assert results.verdict.startswith("No differences:")


def test_images_without_a_name_have_no_command():
    arrays = (np.zeros((4, 8, 8, 1)), np.zeros(4))
    assert plan._data_arguments(arrays, None) is None
    assert plan._data_arguments("a folder", {"data_dir": "b"}) == [
        *("--data", "a folder"),
        *("--data-dir", "b"),
    ]
    loaded = data.load("mnist5k")
    assert plan._data_arguments(loaded, None) == ["--data", "mnist5k"]


# Several seeds.


@pytest.fixture(scope="module")
def seeded(tmp_path_factory):
    """Returns a comparison over two seeds, and the call that resumes it."""
    call = {
        "attentions": ["none", "se"],
        "images": "mnist5k",
        "recipe": SHORT,
        "seeds": [3, 0],
        "output": tmp_path_factory.mktemp("seeded") / "run",
    }
    with pytest.MonkeyPatch.context() as patch:
        networks.replace_tiny(patch.setitem)
        return comparison.compare(**call), call


def test_each_seed_has_the_result_of_a_plain_call(
    seeded, tmp_path, monkeypatch
):
    results, call = seeded
    networks.replace_tiny(monkeypatch.setitem)
    plain = comparison.compare(
        call["attentions"],
        images="mnist5k",
        recipe=dataclasses.replace(SHORT, seed=3),
        output=tmp_path / "plain",
    )
    assert [row.test_accuracies[0] for row in results.rows] == [
        row.test_accuracy for row in plain.rows
    ]
    assert plain.seeds == (3,)
    of_seed = [dict(row) for row in results.history if row["seed"] == 3]
    for own, other in zip(of_seed, plain.history, strict=True):
        assert own["val_loss"] == other["val_loss"]


def test_rows_over_seeds_are_paired(seeded):
    results, _ = seeded
    none, se = results.rows
    assert results.seeds == (3, 0)
    pairs = zip(se.test_accuracies, none.test_accuracies, strict=True)
    assert se.difference == pytest.approx(np.mean([a - b for a, b in pairs]))
    assert se.interval[0] <= se.difference <= se.interval[1]
    assert [run.file for run in results.runs] == [
        *("seed-3/none.keras", "seed-3/se.keras"),
        *("seed-0/none.keras", "seed-0/se.keras"),
    ]
    assert all((results.output / run.file).is_file() for run in results.runs)
    assert "over 2 seeds" in results.verdict
    assert str(results.output / "seed-3" / "se.keras") in results.command


def test_a_table_over_seeds_has_deviations_and_intervals(seeded):
    results, _ = seeded
    text = str(results)
    assert "2 seeds" in text
    (line,) = [line for line in text.splitlines() if line.startswith("│ se ")]
    accuracy, difference = line.split("│")[3:5]
    assert re.fullmatch(r" +\d+\.\d\d ± \d+\.\d\d ", accuracy)
    number = r"[+-]\d+\.\d\d"
    assert re.fullmatch(
        rf" +{number} points \[{number}, {number}\] ", difference
    )


def test_rows_and_verdict_are_written_at_the_end(seeded):
    results, _ = seeded
    content = json.loads((results.output / "results.json").read_text())
    assert content["kind"] == "training over seeds"
    assert content["verdict"] == results.verdict
    assert content["rows"] == json.loads(results.json())["rows"]


def test_killed_runs_over_seeds_end_with_the_same_rows(
    seeded, tmp_path, monkeypatch, interrupt_after
):
    results, call = seeded
    call = {**call, "output": tmp_path / "broken"}
    # Within the second seed.
    interrupt_after(3)
    networks.replace_tiny(monkeypatch.setitem)
    with pytest.raises(KeyboardInterrupt):
        comparison.compare(**call)
    content = json.loads((tmp_path / "broken" / "results.json").read_text())
    assert "rows" not in content
    networks.replace_tiny(monkeypatch.setitem)
    broken = comparison.compare(**call)
    assert broken.verdict == results.verdict
    for own, other in zip(broken.rows, results.rows, strict=True):
        assert own == dataclasses.replace(
            other, seconds_per_epoch=own.seconds_per_epoch
        )


def test_several_seeds_have_a_default_folder_of_their_own():
    images = data.load("mnist5k")
    for seeds, end in (((0,), "tiny"), ((0, 1), "tiny-seeds")):
        made = plan.Plan("tiny", {}, {}, images, SHORT, seeds, None)
        assert made.default_output().name == f"train-mnist5k-{end}"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"seeds": 0}, ValueError, "`seeds` must be a positive integer"),
        ({"seeds": [1, 1]}, ValueError, "different ones"),
        (
            {"seeds": 2, "distribute": training.Distribution("a:80", 2, 0)},
            ValueError,
            "Several seeds cannot be shared among processes",
        ),
    ],
    ids=["none", "twice", "processes"],
)
def test_seeds_that_cannot_be_are_refused(tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        comparison.compare(
            **{"images": "mnist5k", **options}, output=tmp_path / "run"
        )
    assert not (tmp_path / "run").exists()


def test_loaded_images_have_one_seed(tmp_path, monkeypatch):
    networks.replace_tiny(monkeypatch.setitem)
    images = data.load("mnist5k", batch_size=35)
    results = comparison.compare("none", images=images, output=tmp_path / "a")
    assert results.runs[0].best_epoch in (1, 2)
    with pytest.raises(TypeError, match="each seed splits them differently"):
        comparison.compare(
            "none", images=images, seeds=2, output=tmp_path / "b"
        )


def test_an_estimate_is_of_all_seeds_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    networks.replace_tiny(monkeypatch.setitem)
    found = comparison.estimate(
        ["none", "se"], images="mnist5k", recipe=SHORT, seeds=3
    )
    assert [cost.network for cost in found.costs] == ["none", "se"]
    assert (found.times, found.epochs) == (3, 1)
    assert not list(tmp_path.iterdir())
