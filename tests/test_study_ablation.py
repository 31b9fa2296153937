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
    first = rows[0]
    assert (first["difference"], first["interval"]) == (None, None)
    for name, row in zip(NAMES, rows, strict=True):
        runs = [run for run in ran.runs if run.variant == name]
        hits = [round(20 * run.test_accuracy) for run in runs]
        errors = [5.0 * (20 - count) for count in hits]
        # Exactly, although the accuracies are in float32.
        assert row["top1_errors"] == errors
        held = next(one for one in ran.rows if one.variant == name)
        assert held.values == tuple(error / 100 for error in errors)
        assert row["top1_error"] == pytest.approx(np.mean(errors))
        deviation = np.std(errors, ddof=1)
        assert row["top1_deviation"] == pytest.approx(deviation)
        seconds = [run.seconds_per_epoch for run in runs]
        assert row["seconds_per_epoch"] == np.median(seconds)
    for row in rows[1:]:
        difference = row["top1_error"] - first["top1_error"]
        assert row["difference"] == pytest.approx(difference)
        assert row["interval"][0] <= difference <= row["interval"][1]


def test_the_output_folder_has_all_files(ran):
    # Each network is trained once per seed.
    assert {path.name for path in ran.output.iterdir()} == {
        *("ablation.png", "history.csv", "results.json"),
        *("tables.csv", "tables.md"),
        *(f"{name}-seed{seed}.keras" for name in NAMES for seed in SEEDS),
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
def test_a_network_that_fails_with_a_seed_is_left_out(tmp_path):
    model = failing("SqueezeExcite", times=1)
    with pytest.warns(UserWarning, match='left out, "se" with seed'):
        results = run(tmp_path, model=model, tables=4, seeds=2)
    assert [row.label for row in results.rows] == ["none", "CBAM"]
    assert results.rows[1].interval is not None
    assert "Two seeds are too few" in results.markdown()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_baseline_that_fails_stays_the_baseline(tmp_path):
    with pytest.warns(UserWarning, match='left out, "none" with seed'):
        results = run(tmp_path, model=failing("None"), tables=4, seeds=3)
    first, *others = results.rows
    assert (first.label, first.mean) == ("none", None)
    assert [row.label for row in others] == ["SE", "CBAM"]
    assert not any(row.difference or row.interval for row in results.rows)
    assert results.verdict.startswith("No differences")
    assert 'differences to "none"' in results.markdown()
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
    model = keras.saving.load_model(tmp_path / "cbam.keras")
    scores = model.predict(pixels, verbose=0)
    ranks = (scores > scores[np.arange(len(classes)), classes][:, None]).sum(1)
    row = json.loads(results.json())["rows"][2]
    assert row["top5_errors"] == pytest.approx([100 * np.mean(ranks >= 5)])
    assert "top-5 error (%)" in str(results)
    assert row["network"] == "custom"


# Tables, notes and verdicts, of made-up errors in %.

NONE = (9.0, 8.0, 10.1)
SE = (9.0, 8.3, 9.5)
LOWER = (6.1, 5.0, 7.2)
HIGHER = (12.0, 11.1, 13.1)
OUTCOME = {"parameters": 25557032, "macs": 3858000000, "seconds_per_epoch": 2.0}
LABELS = {"se": "SE", "cbam": "CBAM & co", "worse": "worse_1"}


def results(tables=((4, "none se cbam worse"),), seeds=3, guess=None):
    """Returns the results of tables: numbers, and names of networks."""
    errors = {"none": NONE, "se": SE, "cbam": LOWER, "worse": HIGHER}
    errors["equal"] = NONE
    names = dict.fromkeys(" ".join(text for _, text in tables).split())
    return made(
        {
            name: {i: 1 - errors[name][i] / 100 for i in range(seeds)}
            for name in names
        },
        kind=study.ErrorTables,
        outcome=OUTCOME,
        comparisons=tuple(
            study.Comparison(
                *("none", tuple(text.split()), presets.COMPARED[number]),
                *(number, True),
            )
            for number, text in tables
        ),
        measures=ablation.MEASURES,
        data="digits_1",
        sizes={"test": 1000},
        guess=guess,
        settings={"model": "small"},
        labels=LABELS,
    )


def test_tables_have_the_form_of_the_papers():
    lines = results().markdown().splitlines()
    cells = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in lines
        if line.startswith("|")
    ]
    assert lines[0] == (
        "**Table 4: no attention, SE and CBAM, small on digits_1, 3 seeds**"
    )
    assert cells[0] == [
        "description",
        "parameters (M)",
        "GMACs",
        "top-1 error (%)",
        "difference (95 %)",
        "s / epoch",
    ]
    assert cells[2:4] == [
        ["none", "25.56", "3.858", "9.03 ± 1.05", "", "2.0"],
        ["SE", "25.56", "3.858", "8.93 ± 0.60", "-0.10 [-1.24, +1.04]", "2.0"],
    ]


def test_the_verdict_counts_what_is_in_two_tables_once():
    found = results(((1, "none cbam"), (4, "none se cbam equal")))
    assert found.verdict.startswith(
        "1 of 3 differences to the first row of a table exclude zero over 3 "
        'seeds: "CBAM & co" (lower error). By chance alone about 0.2 would.'
    )
    one, four = str(found).split("Table 4: ")
    assert one.startswith("Table 1: channel attention, small on digits_1")
    assert "│ SE " in four and "│ SE " not in one
    assert '"worse_1" (higher error)' in results().markdown()


def test_one_seed_has_no_deviation():
    found = results(seeds=1)
    assert " -2.90 " in str(found) and "±" not in str(found)
    assert "One seed gives no estimate" in found.verdict


def test_networks_that_only_guess_have_not_learned():
    said = results(guess=0.95).verdict
    assert said.startswith("No network is better than guessing")


def test_the_data_frame_has_a_column_per_seed():
    frame = results().to_dataframe()
    assert list(frame["attention"]) == ["none", *LABELS.values()]
    seeds = [f"top1_error_seed_{number}" for number in range(3)]
    assert tuple(frame[seeds].iloc[2]) == LOWER
    row = json.loads(results().json())["rows"][2]
    ends = frame[["interval_low", "interval_high"]]
    assert list(ends.iloc[2]) == row["interval"]
    assert ends.iloc[0].isna().all()
    assert results().csv() == frame.to_csv(index=False)


def test_each_number_stands_under_its_heading():
    whole = results()
    outcomes = []
    for o in whole.outcomes:
        top5 = {"top5_accuracy": 0.9 - o.seed / 100}
        if (o.variant, o.seed) != ("se", 0):
            o = dataclasses.replace(o, metrics=o.metrics | top5)
        if o.variant == "none":
            o = dataclasses.replace(o, status="diverged", metrics={})
        outcomes.append(o)
    (table,) = whole.comparisons
    table = dataclasses.replace(table, every_seed=False)
    found = dataclasses.replace(
        whole, outcomes=tuple(outcomes), comparisons=(table,)
    )
    none, se, cbam, _ = found.tables()[0].rows
    names = "top-1 error (%)", "top-5 error (%)", "s / epoch"
    assert [none[name] for name in names] == ["", "", ""]
    assert [se[name] for name in names[1:]] == ["11.50 ± 0.71", "2.0"]
    assert cbam["top-5 error (%)"] == "11.00 ± 1.00"
    # Each seed has its column, whichever the first row or a network lacks.
    frame = found.to_dataframe()
    assert [*frame] == [*whole.to_dataframe()]
    top5 = frame[[f"top5_error_seed_{seed}" for seed in range(3)]]
    assert top5.iloc[0].isna().all() and top5.iloc[1].isna().sum() == 1
    assert [*top5.iloc[1, 1:], *top5.iloc[2]] == [11, 12, 10, 11, 12]


def test_tables_may_have_been_trained_with_different_seeds():
    whole = results(((1, "none worse"), (4, "none se cbam")))
    outcomes = [
        o for o in whole.outcomes if (o.variant, o.seed > 0) != ("worse", True)
    ]
    found = dataclasses.replace(whole, outcomes=tuple(outcomes))
    none, worse, *others = found.rows
    assert (none.values, worse.values) == ((0.09,), (0.12,))
    assert worse.difference == pytest.approx(0.03) and worse.interval is None
    assert [row.pairs for row in others] == [0, 3, 3]
    assert found.verdict.startswith("1 of 2 differences to the first row")
    first, second = found.tables()
    assert (
        "difference" in first.rows[0] and "difference (95 %)" in second.rows[0]
    )


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
    assert not any(tmp_path.iterdir())
