"""The best configurations trained again from fresh seeds, and the verdict."""

import dataclasses
import pickle
import types
from unittest import mock

import keras
import numpy as np
import pretended
import pytest
import tuning_checks
from keras import layers
from tuning_checks import ONE

import cbam_keras
from cbam_keras import insert_attention, report, study, tuning
from cbam_keras.report import looking
from cbam_keras.tuning import choice

keras_tuner = pytest.importorskip("keras_tuner")
stats = pytest.importorskip("scipy.stats", reason="intervals need SciPy")

pytestmark = pytest.mark.usefixtures("few_digits")


def network(attention):
    inputs = keras.Input((28, 28, 1))
    x = layers.Conv2D(4, 3, strides=7, name="first")(inputs)
    x = layers.GlobalAveragePooling2D()(x)
    backbone = keras.Model(inputs, layers.Dense(10, activation="softmax")(x))
    if attention is None:
        return backbone
    return insert_attention(backbone, attention, after="first")


def space(**options):
    """Returns 1 point of none, 2 of SE and 2 of CBAM."""
    # Of others these would be refused.
    if "cbam" in options.get("attention", ("cbam",)):
        options = {"reduction_ratio": (2, 4), "kernel_size": 3, **options}
    return tuning.CBAMHyperModel(model=network, **options)


def search(output, hypermodel=None, confirm=1, **options):
    hypermodel = hypermodel or space()
    return tuning_checks.search(
        output / "run", hypermodel=hypermodel, confirm=confirm, **options
    )


@pytest.fixture(scope="module")
def confirmed(few_digits, tmp_path_factory):
    """A search of five trials, confirmed with two seeds."""
    with pytest.MonkeyPatch.context() as patch:
        pretended.install(patch)
        return search(tmp_path_factory.mktemp("c"), confirm=2)


def test_no_attention_and_the_winner_alone_are_trained_again(confirmed):
    none, winner = confirmed.confirmation
    assert none.attention == "none" != winner.attention
    assert none.seeds == winner.seeds == (1, 2)
    again = study.Results.read(confirmed.output / "confirmation")
    assert len(again.outcomes) == 4
    numbers = [x.number for x in choice.to_confirm(confirmed)]
    assert numbers == [none.trial, winner.trial]


def test_the_confirmation_is_announced_before_it_trains(
    few_digits, tmp_path, capsys, monkeypatch
):
    pretended.install(monkeypatch)
    search(tmp_path, confirm=2)
    (line,) = [
        x
        for x in capsys.readouterr().out.splitlines()
        if x.startswith("Confirmation: ")
    ]
    assert line.startswith("Confirmation: none and ")
    assert line.endswith(" with 2 new seeds, 4 training runs left")
    # Nothing is left to train.
    search(tmp_path, confirm=2)
    assert "Confirmation" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("trials", "measured", "numbers"),
    [
        # A standard error of 0.9 is 0.03 with 100 images.
        (["cbam .90 9", "cbam .88 5", "none .87 1", "se .86 2"], 100, [2, 1]),
        (["cbam .90 9", "cbam .88 5", "none .87 1"], 1000, [2, 0]),
        (["none .95 1", "cbam .90 9", "se .88 5"], 100, [0, 2]),
        (["cbam .90 9", "cbam .89 9 7", "none .87 1"], 100, [2, 1]),
        # Equal cost: Hyperband tries values for several numbers of epochs.
        (["cbam .90 9", "none .89 1", "cbam .89 9", "none .8 1"], 100, [1, 0]),
        # No multiply-accumulates are known of some layers.
        (["cbam .90 -", "cbam .88 9", "cbam .88 10 7"], 100, [2]),
        (["none .90 9", "none .80 1"], 100, [0]),
        # Another score than a fraction of the images, whose standard error
        # over four folds is 0.012, or not known.
        (["cbam 5 9", "cbam 4.99 1", "cbam 4.98 0"], (5.03, 5, 5, 4.97), [1]),
        (["cbam 5 9", "cbam 4.5 1", "cbam 5 3"], (5,), [2]),
    ],
)
def test_of_trials_within_a_standard_error_the_cheapest_is_confirmed(
    trials, measured, numbers
):
    ranked = [
        types.SimpleNamespace(
            values={"attention": kind},
            variant=None,
            score=float(score),
            macs=None if macs == "-" else int(macs),
            parameters=int(*parameters or [8]),
        )
        for kind, score, macs, *parameters in map(str.split, trials)
    ]
    is_fraction = isinstance(measured, int)
    key = "val_accuracy" if is_fraction else "val_auc"
    results = types.SimpleNamespace(
        ranked=ranked,
        measures=[study.Measure(key)],
        planned_runs=(),
        images_of=lambda runs, split: measured,
        values=lambda variant, key: dict(
            enumerate(() if is_fraction else measured)
        ),
    )
    again = choice.to_confirm(results)
    assert [ranked.index(trial) for trial in again] == numbers


@pytest.mark.parametrize(
    ("validation", "best", "ending"),
    [
        ((0.8, 0.9), 1, "."),
        ((0.9, 0.9), 1, "."),
        (
            (0.9, 0.8),
            0,
            ". With new seeds, the validation score is better without "
            "attention.",
        ),
    ],
)
def test_a_verdict_is_on_one_comparison_whatever_validates_best(
    confirmed, validation, best, ending
):
    gains = np.array([0.01, 0.02, 0.03, 0.02, 0.01, 0.03])
    measured = study.Measured.of([*gains], [*gains])
    rows = [
        dataclasses.replace(row, **vars(measured), validation=value)
        for row, value in zip(confirmed.confirmation, validation, strict=True)
    ]
    found = dataclasses.replace(confirmed, confirmation=tuple(rows))
    assert choice.choose_setting(found)[0].number == rows[best].trial
    low, high = stats.t.interval(0.95, 5, 2, 100 * stats.sem(gains))
    label = rows[1].label
    assert choice.search_verdict(found, "") == (
        f"Chosen by validation accuracy: {label}. {label} improved test "
        "accuracy by 2.00 percentage points over the network without "
        "attention (95% CI "
        f"{low:.2f} to {high:.2f}; 6 seeds){ending}"
    )
    # No attention has failed.
    found = dataclasses.replace(found, confirmation=(rows[1],))
    assert choice.search_verdict(found, "").endswith(
        "attention improves accuracy."
    )


@pytest.mark.parametrize(
    ("winner", "ending"),
    [
        (
            "none",
            " With new seeds, the validation score is better without "
            "attention.",
        ),
        ("cbam", ""),
    ],
)
def test_best_means_what_validates_best_when_trained_again(
    quick, tmp_path, winner, ending
):
    fitted = []

    def kind_of(model):
        gates = [x for x in model.layers if isinstance(x, cbam_keras.CBAM)]
        return "cbam" if gates else "none"

    def numbers(model, *key):
        """Of the two trials, and in testing, the other one is better."""
        others = len(fitted) <= 2 or "test" in key
        # The last seed has the lowest loss.
        loss = 1 / (1 + len(fitted))
        return loss, 0.7 if (kind_of(model) == winner) != others else 0.4

    tuning_checks.before_fit(quick, lambda model, _: fitted.append(model))
    quick.setattr("pretended.numbers", numbers)
    hypermodel = space(attention=("none", "cbam"), reduction_ratio=4)
    found = search(tmp_path, hypermodel, confirm=2)
    assert found.best.values["attention"] == winner
    assert found.best.val_accuracy == 0.4
    assert found.test_accuracy == pytest.approx(0.4)
    none, cbam = found.confirmation
    assert cbam.difference == pytest.approx(-0.3 if winner == "cbam" else 0.3)
    assert cbam.options["kernel_size"] == 3
    best = keras.saving.load_model(found.output / "best.keras")
    assert kind_of(best) == winner
    described = found.choice["best_network"]
    assert (described["seed"], described["val_accuracy"]) == (2, 0.7)
    said = study.verdict({cbam.label: cbam}, "none")
    chosen = f"Chosen by validation accuracy: {cbam.label}. {said}{ending}"
    assert found.verdict == chosen
    # The line makes the very layer.
    config = {}
    if found.code:
        layer = eval(found.code, {"cbam_keras": cbam_keras})
        config = layer.get_config()
    assert found.best_options.items() <= config.items()
    assert bool(found.best_options) == (winner == "cbam")
    assert f"best.keras: {winner}" in str(found)


def test_a_folder_is_read_as_what_its_search_returned(confirmed):
    found = study.Results.read(confirmed.output)
    assert found == confirmed
    assert (found.json(), str(found)) == (confirmed.json(), str(confirmed))


def test_a_ranking_has_results_of_its_trials_and_of_its_confirmation(confirmed):
    trials = study.Results.of(
        confirmed.output, study.read_content(confirmed.output)
    )
    assert type(trials) is study.Results
    assert confirmed.history == trials.history
    assert confirmed.runs == trials.runs
    assert [row.mean for row in confirmed.rows] == [x.mean for x in trials.rows]
    rows = [row.mean for row in confirmed.confirmation]
    assert [row.mean for row in confirmed.retrained.rows] == rows
    assert type(confirmed.retrained) is study.Results
    assert pickle.loads(pickle.dumps(confirmed)) == confirmed


# What cannot be compared.


def test_a_configuration_that_fails_is_left_out_and_named(quick, tmp_path):
    tuning_checks.score(quick, lambda model: 0.6)
    # The second of those confirmed, after three trials.
    tuning_checks.fail(quick, lambda number: number == 5)
    hypermodel = space(attention=("none", "cbam"))
    with tuning_checks.warned("A network is left out"):
        found = search(tmp_path, hypermodel)
    assert [row.attention for row in found.confirmation] == ["none"]
    assert found.best.values == {"attention": "none"}
    assert found.verdict.startswith("No network with attention was retrained")


def test_a_space_of_one_point_has_nothing_to_choose(quick, tmp_path):
    hypermodel = space(attention="cbam", reduction_ratio=4)
    recipe = dataclasses.replace(ONE, seed=2**32 - 1)
    found = search(tmp_path, hypermodel, recipe=recipe)
    assert "No network without attention was retrained" in found.verdict
    assert found.code.startswith("cbam_keras.CBAM(")
    # Seeds are numbers below 2**32.
    assert found.confirmation[0].seeds == (0,)


def test_a_search_may_find_that_no_network_learns(quick, tmp_path):
    quick.setattr("pretended.numbers", lambda *key: (2.3, 0.1))
    hypermodel = space(attention=("none", "cbam"), reduction_ratio=4)
    found = search(tmp_path, hypermodel, confirm=2)
    assert found.confirmation[1].difference == 0
    assert found.verdict.startswith("No network is better than chance")


def test_without_confirmation_the_best_trial_is_taken(quick, tmp_path):
    hypermodel = space(attention="spatial", kernel_size=(3, 5))
    found = search(tmp_path, hypermodel, confirm=0)
    best = max(found.trials, key=lambda trial: trial.val_accuracy)
    assert found.best == best
    assert found.best_options["kernel_size"] == best.values["kernel_size"]
    assert found.code.startswith("cbam_keras.SpatialAttention(")
    assert "optimistically biased" in found.verdict
    # Trials are not tested.
    assert found.test_accuracy is None


# Folds.


def test_trials_are_means_over_folds_and_new_seeds_divide_anew(quick, tmp_path):
    found = search(tmp_path, space(reduction_ratio=4), confirm=2, folds=2)
    for trial in found.trials:
        runs = [x for x in found.outcomes if x.variant == trial.variant]
        assert [x.run for x in runs] == [(0, 0), (0, 1)]
        scores = [run.val_accuracy for run in runs]
        assert trial.score == pytest.approx(np.mean(scores))
    none, winner = found.confirmation
    assert none.seeds == winner.seeds == (1, 1, 2, 2)
    differences = np.subtract(winner.values, none.values)
    error = differences.std(ddof=1) * np.sqrt(1 / 4 + 1 / 1)
    interval = stats.t.interval(0.95, 3, differences.mean(), error)
    assert winner.interval == pytest.approx(interval)
    assert "; 2 folds x 2 seeds)" in found.verdict
    # It is explained on the test images of its fold.
    with mock.patch.object(looking, "_draw_heat") as draw:
        report.write(found.output, draw=True)
    (*_, explained, _), _ = draw.call_args
    best = found.choice["best_network"]
    assert explained["seed"] == best["seed"]
    assert explained["fold"] == best["fold"]
