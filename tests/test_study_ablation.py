"""`ablation`: its networks, rows, files and tables, and what it refuses."""

import dataclasses
import itertools
import json

import keras
import numpy as np
import pretended
import pytest
from keras import layers
from study_checks import made
from training_checks import SHORT

from cbam_keras import ablation, comparison, data, plotting, presets, study
from cbam_keras.layers import ATTENTION

pytest.importorskip("matplotlib", reason="figures need matplotlib")
pytest.importorskip("scipy.stats", reason="intervals need SciPy")

SEEDS = (5, 0)
NAMES = ("none", "se", "cbam")


def tiny(attention, classes=10):
    """Returns a network that compiles quickly."""
    inputs = keras.Input((28, 28, 1))
    x = layers.AveragePooling2D(7)(layers.Rescaling(1 / 255)(inputs))
    x = layers.Conv2D(4, 1)(x)
    if attention is not None:
        x = attention(name="attention")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(classes, "softmax")(x))


def evaluate(model, *arguments, **options):
    # As Keras does: in float32.
    found = pretended.evaluate(model, return_dict=True)
    return {name: float(np.float32(value)) for name, value in found.items()}


@pytest.fixture(scope="module", autouse=True)
def pretending(few_digits):
    """Trains nothing, and puts the network above in the place of "tiny"."""
    with pytest.MonkeyPatch.context() as patch:
        pretended.install(patch)
        patch.setattr(keras.Model, "evaluate", evaluate)
        networks = comparison.NETWORKS
        patch.setitem(networks, "tiny", lambda _, attention: tiny(attention))
        yield


def run(output, data="mnist5k", **options):
    given = {"tables": [4], "recipe": SHORT, "output": output, **options}
    return ablation.run(data, **given)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Returns the results of Table 4 with two seeds."""
    return run(tmp_path_factory.mktemp("ran"), seeds=SEEDS)


# Which networks, and which attention.


def test_tables_have_the_rows_of_the_presets():
    assert len(ablation.ABLATIONS) == 10
    rows = {**presets.PRESETS, **presets.ABLATIONS}.values()
    expected = {
        table: {
            row.name
            for row in rows
            if table in row.tables and row.network == "ResNet50"
        }
        for table in (1, 2, 3, 4)
    }
    # The channel gate alone, to which Table 2 adds spatial gates.
    expected[2].add("resnet50-channel-avg-max")
    assert expected == {
        table: {ablation.ABLATIONS[name].name for name in names}
        for table, names in ablation.TABLES.items()
    }


@pytest.mark.parametrize("identity", [True, False])
def test_networks_carry_the_attention_of_their_name(identity):
    planned = ablation.plan("mnist5k", model=tiny, identity_init=identity)
    loaded = planned.task.load(planned.recipe)
    models = {x.name: x.build(loaded) for x in planned.variants}
    assert {*models} == {*ablation.ABLATIONS}
    assert len(models.pop("none").layers) == len(tiny(None).layers)
    for name, model in models.items():
        preset = ablation.ABLATIONS[name]
        layer = model.get_layer("attention")
        options = {**preset.layer_options, "identity_init": identity}
        # The authors' variant, and with it the start of other commands.
        if preset.layer == "cbam":
            options["spatial_batch_norm"] = True
            options["spatial_batch_norm_momentum"] = 0.9 if identity else 0.99
        config = layer.get_config()
        found = {name: config[name] for name in options}
        assert type(layer) is ATTENTION[preset.layer]
        assert json.dumps(found) == json.dumps(options)


# What comes of a run.


def test_rows_have_the_errors_of_the_runs_paired_by_seed(ran):
    assert [row.label for row in ran.rows] == ["none", "SE", "CBAM"]
    assert (ran.seeds, ran.test_images) == (SEEDS, 20)
    rows = json.loads(ran.json())["rows"]
    for name, row in zip(NAMES, rows, strict=True):
        runs = [run for run in ran.runs if run.variant == name]
        # Exactly, although the accuracies are in float32.
        errors = [(20 - round(20 * run.test_accuracy)) / 20 for run in runs]
        assert (row["network"], row["values"]) == (name, errors)
        assert row["mean"] == pytest.approx(np.mean(errors))
        assert row["deviation"] == pytest.approx(np.std(errors, ddof=1))
    first, *others = rows
    assert (first["difference"], first["interval"]) == (None, None)
    for row in others:
        difference = row["mean"] - first["mean"]
        assert row["difference"] == pytest.approx(difference)
        assert row["interval"][0] <= difference <= row["interval"][1]


def test_the_output_folder_has_all_files(ran):
    # Each network is trained once per seed.
    assert {path.name for path in ran.output.iterdir()} == {
        *("ablation.png", "history.csv", "results.json", "study.json"),
        *("tables.csv", "tables.md"),
        *(f"{name}-seed{seed}" for name in NAMES for seed in SEEDS),
    }
    for name, text in (("md", ran.markdown()), ("csv", ran.csv())):
        written = (ran.output / f"tables.{name}").read_text("utf-8")
        assert written.strip() == text.strip()
    content = json.loads((ran.output / "results.json").read_text())
    assert [table["number"] for table in content["comparisons"]] == [4]


def failing(broken, times=9):
    """Returns a function that so many times cannot build this network."""
    numbers = itertools.count()

    def model(attention):
        if broken in str(attention) and next(numbers) < times:
            raise ZeroDivisionError
        return tiny(attention)

    return model


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_baseline_that_fails_stays_the_baseline(tmp_path):
    with pytest.warns(UserWarning, match='left out, "none" with seed'):
        results = run(tmp_path, model=failing("None"), tables=4, seeds=3)
    first, *others = results.rows
    assert (first.label, first.mean) == ("none", None)
    assert [row.label for row in others] == ["SE", "CBAM"]
    assert not any(row.difference or row.interval for row in results.rows)
    assert 'No differences: "none" and' in results.verdict
    assert results.to_dataframe()["difference"].isna().all()
    (axes,) = plotting.plot_ablation(results).axes
    assert "mean of the baseline" not in axes.get_legend_handles_labels()[1]


def test_more_than_ten_classes_have_a_top_5_error(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(12), 10)
    images = rng.integers(0, 256, (120, 28, 28, 1)).astype("uint8")
    results = run(
        *(tmp_path, (images, labels)),
        model=lambda attention: tiny(attention, classes=12),
        seeds=1,
    )
    pixels, classes = data.load((images, labels), batch_size=None).test
    model = keras.saving.load_model(tmp_path / "cbam-seed0/cbam-seed0.keras")
    scores = model.predict(pixels, verbose=0)
    ranks = (scores > scores[np.arange(len(classes)), classes][:, None]).sum(1)
    (outcome,) = [x for x in results.runs if x.variant == "cbam"]
    error = outcome.metrics["top5_error"]
    assert error == pytest.approx(np.mean(ranks >= 5))
    assert (
        results.tables()[0].rows[2]["top-5 error (%)"] == f"{100 * error:.2f}"
    )


def test_each_table_has_its_title_and_a_verdict_of_its_own(ran):
    errors = {"none": 0.09, "se": 0.08, "cbam": 0.06}
    found = made(
        {
            name: {seed: error + seed / 1000 for seed in range(3)}
            for name, error in errors.items()
        },
        comparisons=(
            study.Comparison("none", NAMES, "all", 4),
            study.Comparison("se", NAMES[1:], "gates", 5),
        ),
        measures=ablation.ERRORS,
        sizes={"test": 1000},
        labels={"cbam": "CBAM & co"},
    )
    first, second = found.tables()
    assert first.title == "Table 4: all: Networks, mean over 3 seeds"
    # No network has a top-5 error.
    assert first.note.endswith("A lower top-1 error is better.")
    assert second.rows[1] == {
        "network": "CBAM & co",
        "parameters": "9,000",
        "top-1 error (%)": "6.10 \N{PLUS-MINUS SIGN} 0.10",
        'difference to "se"': "-2.00 [-2.87, -1.13]",
        "s / epoch": "1.0",
    }
    frame = found.to_dataframe()
    assert [*frame["table"]] == [4, 4, 4, 5, 5]
    one, two = found.verdict.split(" Table 5: gates: ")
    assert one.startswith("Table 4: all: ") and "2 comparisons by Holm" in one
    assert two.startswith("CBAM & co is better than se by 2.00 points of top-1")
    guessed = dataclasses.replace(found, guess=0.95).verdict
    assert guessed == found.verdict


# Mistakes.


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"tables": [5]}, ValueError, "`tables` must be .*tables=.5."),
        ({"tables": []}, ValueError, "`tables` must be one or several"),
        ({"model": 3}, TypeError, "`model` must be the name of a network or"),
        ({"model": lambda x: tiny(x, 7)}, ValueError, "give 10 values"),
    ],
)
def test_mistakes_are_refused_before_any_work(
    tmp_path, options, error, message
):
    with pytest.raises(error, match=message):
        run(tmp_path, **options)
    assert not any(tmp_path.rglob("*.keras"))
