"""The best configurations trained again from fresh seeds, and the verdict."""

import dataclasses
import json
import statistics

import keras
import networks
import numpy as np
import pytest
import tuning_checks
from keras import layers
from scipy import stats
from tuning_checks import ONE, THREE

import cbam_keras
from cbam_keras import data, insert_attention, training, tuning

keras_tuner = pytest.importorskip("keras_tuner")

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
    options = {"reduction_ratio": (2, 4), "kernel_size": 3, **options}
    return tuning.CBAMHyperModel(model=network, **options)


def search(output, *arguments, confirm=2, **options):
    options = {"hypermodel": space(), **options}
    return tuning_checks.search(output, *arguments, confirm=confirm, **options)


@pytest.fixture(scope="module")
def confirmed(few_digits, tmp_path_factory):
    """A search of five trials, confirmed with two seeds."""
    with pytest.MonkeyPatch.context() as patch:
        tuning_checks.without_training(patch)
        return search(tmp_path_factory.mktemp("c") / "run")


@pytest.fixture
def trained(quick):
    """Notes weights and validation images that each training begins with."""
    noted, fit = [], keras.Model.fit

    def noting(model, *arguments, validation_data, **options):
        weights = sum(float(np.abs(w).sum()) for w in model.get_weights())
        images = keras.ops.convert_to_numpy(next(iter(validation_data))[0])
        noted.append((round(weights, 4), float(images.sum())))
        return fit(
            model, *arguments, validation_data=validation_data, **options
        )

    quick.setattr(keras.Model, "fit", noting)
    return noted


def test_the_best_and_the_controls_are_confirmed(confirmed):
    kinds = [row.attention for row in confirmed.confirmation]
    assert kinds == ["none", "se", "cbam", "cbam"]
    assert all(row.seeds == (1, 2) for row in confirmed.confirmation)
    trials = {trial.number: trial for trial in confirmed.trials}
    for row in confirmed.confirmation:
        assert trials[row.trial].values["attention"] == row.attention
    # The better one of two trials with SE.
    se = [t for t in confirmed.trials if t.values["attention"] == "se"]
    best = max(se, key=lambda trial: (trial.val_accuracy, -trial.val_loss))
    assert confirmed.confirmation[1].trial == best.number


@pytest.mark.parametrize("given", ["name", "loaded"])
def test_fresh_seeds_decide_weights_and_split(trained, tmp_path, given):
    images = "mnist5k"
    if given == "loaded":
        # Images that are loaded keep their split.
        images = data.load("mnist5k", batch_size=35, seed=7)
    tuning.search(
        space(attention="none"),
        images,
        ONE,
        output=tmp_path / "run",
        confirm=2,
    )
    weights, splits = zip(*trained, strict=True)
    assert len(set(weights)) == 3
    assert len(set(splits)) == (3 if given == "name" else 1)


def test_accuracies_are_compared_pair_by_pair(confirmed):
    plain, *others = confirmed.confirmation
    assert plain.difference is plain.interval is None
    base = plain.compared.test_accuracies
    for row in others:
        own = row.compared.test_accuracies
        differences = [a - b for a, b in zip(own, base, strict=True)]
        mean = statistics.fmean(differences)
        reach = stats.t.ppf(0.975, 1) * statistics.stdev(differences) / 2**0.5
        assert row.difference == pytest.approx(mean, abs=1e-6)
        assert row.interval == pytest.approx((mean - reach, mean + reach))
        assert row.test_accuracy == pytest.approx(statistics.fmean(own))


def test_the_best_by_validation_is_judged_by_its_test_accuracy(quick, tmp_path):
    def numbers(model, *key):
        """The worst in validation is the best in testing."""
        gates = [x for x in model.layers if isinstance(x, cbam_keras.CBAM)]
        better = 0.1 if gates and gates[0].reduction_ratio == 4 else 0.0
        return 1.0, 0.5 + (-better if "test" in key else better)

    quick.setattr("pretended.numbers", numbers)
    hypermodel = space(attention=("none", "cbam"))
    found = search(tmp_path / "run", hypermodel=hypermodel, confirm=1)
    assert found.best_options["reduction_ratio"] == 4
    _, *rows = found.confirmation
    (chosen,) = [row for row in rows if row.options["reduction_ratio"] == 4]
    assert chosen.test_accuracy == pytest.approx(0.4)
    assert chosen.difference == pytest.approx(-0.1)
    assert chosen.interval is None
    assert "one seed, which tells nothing about chance" in found.verdict
    row = chosen.compared
    clause = training.judge(row.network, row.measured, "none")
    assert found.verdict == f"Chosen by validation accuracy, {clause}."
    # The line makes the very layer.
    layer = eval(found.code, {"cbam_keras": cbam_keras})
    config = layer.get_config()
    assert found.best_options.items() <= config.items()


def test_results_print_and_read_as_json(confirmed):
    text = str(confirmed)
    for part in (
        "mean over seeds 1, 2",
        confirmed.confirmation[2].compared.network,
        confirmed.verdict,
        f"To use it: {confirmed.code}",
    ):
        assert part in text
    content = json.loads(confirmed.json())
    none, *others = content["trials"]
    assert (none["attention"], none["reduction_ratio"]) == ("none", None)
    assert none["score"] == confirmed.trials[0].val_accuracy
    for own in others:
        assert own["reduction_ratio"] in (2, 4)
        assert own["kernel_size"] == (3 if own["attention"] == "cbam" else None)
    first, *rest = content["confirmation"]
    assert first["difference"] is first["interval"] is None
    for own, row in zip(rest, confirmed.confirmation[1:], strict=True):
        assert own["reduction_ratio"] == row.options["reduction_ratio"]
        assert own["seeds"] == [1, 2]
        assert own["test_accuracy"] == row.test_accuracy
        assert own["interval"] == list(row.interval)
    assert content["verdict"] == confirmed.verdict
    assert content["code"] == confirmed.code


def test_each_configuration_keeps_its_learning_rate(quick, tmp_path):
    rates, fit = [], keras.Model.fit

    def noting(model, *arguments, **options):
        schedule = model.optimizer.get_config()["learning_rate"]
        rates.append(schedule["config"]["warmup_target"])
        return fit(model, *arguments, **options)

    quick.setattr(keras.Model, "fit", noting)
    hypermodel = space(attention="none", learning_rate=(0.01, 0.02))
    found = search(tmp_path / "run", hypermodel=hypermodel, confirm=1)
    by_number = {t.number: t.values["learning_rate"] for t in found.trials}
    again = [by_number[row.trial] for row in found.confirmation]
    assert rates == [*by_number.values(), *again]


# What cannot be compared.


def test_a_configuration_that_fails_is_left_out_and_named(quick, tmp_path):
    fit, fitted = keras.Model.fit, []

    def failing(model, *arguments, **options):
        fitted.append(model)
        # After three trials and three trainings with seed 1.
        gates = [x for x in model.layers if isinstance(x, cbam_keras.CBAM)]
        if len(fitted) > 6 and gates and gates[0].reduction_ratio == 4:
            raise ZeroDivisionError("by zero")
        return fit(model, *arguments, **options)

    quick.setattr(keras.Model, "fit", failing)
    hypermodel = space(attention=("none", "cbam"))
    found = search(tmp_path / "run", hypermodel=hypermodel)
    rows = [row.options.get("reduction_ratio") for row in found.confirmation]
    assert rows == [None, 2]
    assert "is left out: with seed 2 its training ended as error" in (
        found.verdict
    )


def test_a_space_of_one_point_has_nothing_to_choose(quick, tmp_path):
    found = search(
        tmp_path / "run",
        recipe=dataclasses.replace(ONE, seed=2**32 - 1),
        hypermodel=space(attention="cbam", reduction_ratio=2),
        confirm=1,
    )
    assert len(found.trials) == 1
    assert "No network without attention was confirmed" in found.verdict
    assert "there was nothing to choose" in found.verdict
    assert found.code.startswith("cbam_keras.CBAM(")
    # Seeds are numbers below 2**32.
    assert found.confirmation[0].seeds == (0,)


def test_without_attention_in_the_space_there_is_no_layer(quick, tmp_path):
    found = search(
        tmp_path / "run", hypermodel=space(attention="none"), confirm=1
    )
    assert "No network with attention was confirmed" in found.verdict
    assert (found.best_options, found.code) == ({}, "")


def test_networks_of_ones_own_are_confirmed_without_a_verdict(quick, tmp_path):
    found = tuning_checks.search(tmp_path / "run", max_trials=4, confirm=1)
    ranked = sorted(found.trials, key=lambda t: (-t.val_accuracy, t.val_loss))
    assert [(row.trial, row.options) for row in found.confirmation] == [
        (trial.number, trial.values) for trial in ranked[:2]
    ]
    assert (found.verdict, found.code) == ("", "")
    json.loads(found.json())


def test_attention_of_ones_own_may_be_a_boolean(quick, tmp_path):
    def build(hp):
        return networks.mlp(3 if hp.Boolean("attention", default=True) else 2)

    found = tuning_checks.search(tmp_path / "run", hypermodel=build, confirm=1)
    kinds = [row.attention for row in found.confirmation]
    assert kinds == [False, True]
    assert "Chosen by validation accuracy" in found.verdict


def test_values_that_hyperband_tries_twice_are_confirmed_once(quick, tmp_path):
    # The first trial, of the defaults, is the best.
    tuning_checks.score(quick, lambda model: 1 / model.layers[-2].units)
    found = tuning_checks.search(
        tmp_path / "run",
        "hyperband",
        THREE,
        hypermodel=lambda hp: networks.mlp(hp.Int("units", 2, 12)),
        confirm=1,
    )
    assert [t.values["units"] for t in found.trials].count(2) == 2
    first, second = (row.options["units"] for row in found.confirmation)
    assert first == 2 < second
