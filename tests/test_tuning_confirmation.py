"""The best configurations trained again from fresh seeds, and the verdict."""

import json
import statistics
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tuning_checks
from keras import layers
from scipy import stats
from tuning_checks import Killed, answer

import cbam_keras
from cbam_keras import data, insert_attention, training, tuning
from cbam_keras.tuning import confirmation

keras_tuner = pytest.importorskip("keras_tuner")

pytestmark = pytest.mark.usefixtures("few_digits")


@pytest.fixture
def quick(quick):
    """Searches without training or testing."""
    quick.setattr(keras.Model, "evaluate", evaluate)
    return quick


def evaluate(model, *_, **__):
    """Returns a loss, and how many of 20 images the weights decide upon."""
    total = sum(float(np.abs(w).sum()) for w in model.get_weights())
    return 1.0, int(100 * total) % 20 / 20


def network(attention):
    inputs = keras.Input((28, 28, 1))
    x = layers.Conv2D(4, 3, strides=7, name="first")(inputs)
    x = layers.GlobalAveragePooling2D()(x)
    backbone = keras.Model(inputs, layers.Dense(10, activation="softmax")(x))
    if attention is None:
        return backbone
    return insert_attention(backbone, attention, after="first")


def space(**options):
    options = {"reduction_ratio": (2, 4), "kernel_size": 3, **options}
    return tuning.CBAMHyperModel(model=network, **options)


def search(output, confirm=2, **options):
    """Runs a search with 1 point of none, 2 of SE and 2 of CBAM."""
    return tuning_checks.search(
        output, hypermodel=space(), confirm=confirm, **options
    )


@pytest.fixture
def seeds_of_fit(quick):
    """Notes the seed and the split of each training."""
    pretend, found = tuning_checks.pretend, []

    def noting(model, name, images, recipe, progress, **options):
        found.append((recipe.seed, images.seed, progress.folder.parent.name))
        return pretend(model, name, images, recipe, progress, **options)

    quick.setattr(training, "fit", noting)
    return found


def test_the_best_and_the_controls_are_trained_with_fresh_seeds(
    seeds_of_fit, tmp_path
):
    found = search(tmp_path / "run", max_trials=5)
    assert [own[:2] for own in seeds_of_fit] == [(0, 0)] * 5 + [
        (seed, seed) for seed in (1, 2) for _ in range(4)
    ]
    assert [row.attention for row in found.confirmation] == [
        "none",
        "se",
        "cbam",
        "cbam",
    ]
    assert all(row.seeds == (1, 2) for row in found.confirmation)
    folders = {path.name for path in tmp_path.glob("run/confirmation/*")}
    assert folders == {"seed-1", "seed-2"}
    # The better one of two trials with SE, and both with CBAM.
    trials = {trial.number: trial for trial in found.trials}
    se = max(
        (t for t in found.trials if t.values["attention"] == "se"),
        key=lambda t: t.val_accuracy,
    )
    assert found.confirmation[1].trial == se.number
    for row in found.confirmation:
        assert trials[row.trial].values["attention"] == row.attention


def test_accuracies_are_compared_pair_by_pair(quick, tmp_path):
    found = search(tmp_path / "run", confirm=3)
    outcomes = {
        row.trial: [
            json.loads(
                (
                    found.output
                    / f"confirmation/seed-{seed}/trial_{row.trial:04d}"
                    / "outcome.json"
                ).read_text()
            )
            for seed in (1, 2, 3)
        ]
        for row in found.confirmation
    }
    plain, *others = found.confirmation
    assert plain.difference is plain.interval is None
    tested = {
        number: [own["test_accuracy"] for own in outcomes[number]]
        for number in outcomes
    }
    for row in others:
        differences = [
            mine - other
            for mine, other in zip(
                tested[row.trial], tested[plain.trial], strict=True
            )
        ]
        mean = statistics.fmean(differences)
        reach = stats.t.ppf(0.975, 2) * statistics.stdev(differences) / 3**0.5
        assert row.difference == pytest.approx(mean, abs=1e-6)
        assert row.interval == pytest.approx(
            (mean - reach, mean + reach), abs=1e-6
        )
        assert row.test_accuracy == pytest.approx(
            statistics.fmean(tested[row.trial]), abs=1e-6
        )
    # Chosen by the validation accuracy of these trainings alone.
    cbam = [row for row in others if row.attention == "cbam"]
    chosen = max(
        cbam,
        key=lambda row: statistics.fmean(
            own["val_accuracy"] for own in outcomes[row.trial]
        ),
    )
    assert found.best_options == chosen.options
    row = chosen.compared
    assert found.verdict == (
        "Chosen by validation accuracy, "
        f"{training.judge(row.network, row.measured, 'none')}."
    )
    assert row.network in str(found)


def test_the_chosen_layer_is_given_as_code(quick, tmp_path):
    found = search(tmp_path / "run", confirm=1)
    layer = eval(found.code, {"cbam_keras": cbam_keras})
    assert isinstance(layer, cbam_keras.CBAM)
    assert layer.kernel_size == 3
    assert layer.identity_init
    assert layer.reduction_ratio == found.best_options["reduction_ratio"]
    assert found.code in str(found)


def test_without_confirmation_the_best_trial_with_attention_is_given(
    quick, tmp_path
):
    found = search(tmp_path / "run", confirm=0)
    assert found.confirmation == ()
    assert "no evidence for or against attention" in found.verdict
    best = max(
        (t for t in found.trials if t.values["attention"] != "none"),
        key=lambda t: t.val_accuracy,
    )
    ratio = best.values["reduction_ratio"]
    assert found.best_options["reduction_ratio"] == ratio
    assert not (tmp_path / "run/confirmation").exists()


def test_one_seed_tells_no_interval(quick, tmp_path):
    found = search(tmp_path / "run", confirm=1)
    assert "one seed, which tells nothing about chance" in found.verdict
    assert all(row.interval is None for row in found.confirmation)
    assert found.confirmation[1].difference is not None


def test_each_configuration_keeps_its_learning_rate(seeds_of_fit, tmp_path):
    rates = {}

    def noting(model, name, images, recipe, progress, **options):
        schedule = model.optimizer.get_config()["learning_rate"]
        number = progress.folder.parent.name
        rate = schedule["config"]["warmup_target"]
        rates.setdefault(number, set()).add(rate)
        return tuning_checks.pretend(
            model, name, images, recipe, progress, **options
        )

    seeds_of_fit.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "fit", noting)
        found = tuning_checks.search(
            tmp_path / "run",
            hypermodel=space(learning_rate=(0.01, 0.02)),
            confirm=1,
            max_trials=6,
        )
    assert rates == {
        f"trial_{trial.number:04d}": {trial.values["learning_rate"]}
        for trial in found.trials
    }


# Resuming.


def test_a_search_that_dies_again_and_again_is_confirmed_as_one_that_does_not(
    quick, tmp_path
):
    options = {"max_trials": 3, "confirm": 1}
    whole = search(tmp_path / "whole", **options)
    broken = None
    for _ in range(40):
        with quick.context() as patch:
            tuning_checks.kill_at(patch, 7)
            try:
                broken = search(tmp_path / "broken", **options)
                break
            except Killed:
                continue
    assert answer(broken) == answer(whole)
    assert names(broken.output) == names(whole.output)


def names(folder):
    return sorted(path.relative_to(folder) for path in folder.rglob("*"))


@pytest.mark.parametrize("count", range(1, 8))
def test_a_confirmation_may_die_at_any_file(quick, tmp_path, count):
    options = {"max_trials": 2}
    search(tmp_path / "whole", confirm=0, **options)
    search(tmp_path / "broken", confirm=0, **options)
    whole = search(tmp_path / "whole", confirm=1, **options)
    with quick.context() as patch:
        tuning_checks.kill_at(patch, count)
        with pytest.raises(Killed):
            search(tmp_path / "broken", confirm=1, **options)
    broken = search(tmp_path / "broken", confirm=1, **options)
    assert answer(broken) == answer(whole)
    assert names(broken.output) == names(whole.output)


def test_more_seeds_and_more_trials_train_only_what_is_missing(
    seeds_of_fit, tmp_path
):
    search(tmp_path / "run", confirm=1, max_trials=3)
    seeds_of_fit.clear()
    few = search(tmp_path / "run", confirm=2, max_trials=3)
    assert [own[0] for own in seeds_of_fit] == [2] * 3
    seeds_of_fit.clear()
    more = search(tmp_path / "run", confirm=2, max_trials=5)
    # The rest of the trials, and what is now among the best, with each seed.
    new = {row.trial for row in more.confirmation} - {
        row.trial for row in few.confirmation
    }
    assert [own[0] for own in seeds_of_fit] == [
        0,
        0,
        *[1] * len(new),
        *[2] * len(new),
    ]
    assert answer(more) == answer(
        search(tmp_path / "whole", confirm=2, max_trials=5)
    )
    seeds_of_fit.clear()
    fewer = search(tmp_path / "run", confirm=1, max_trials=5)
    assert seeds_of_fit == []
    assert fewer.confirmation[0].seeds == (1,)


def test_a_confirmed_search_returns_its_results_at_once(quick, tmp_path):
    whole = search(tmp_path / "run")

    def never(*_, **__):
        raise AssertionError("Nothing is left to do.")

    quick.setattr(training, "fit", never)
    quick.setattr(keras.Model, "evaluate", never)
    before = times(whole.output)
    assert search(tmp_path / "run") == whole
    assert times(whole.output) == before


def times(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_overwriting_leaves_nothing_of_a_confirmation(quick, tmp_path):
    search(tmp_path / "run", confirm=2, max_trials=2)
    options = {"confirm": 1, "max_trials": 1}
    found = search(tmp_path / "run", overwrite=True, **options)
    whole = search(tmp_path / "whole", **options)
    assert answer(found) == answer(whole)
    assert names(tmp_path / "run") == names(tmp_path / "whole")


def test_other_gates_are_another_search(quick, tmp_path):
    search(tmp_path / "run", confirm=0, max_trials=1)
    with pytest.raises(ValueError, match="identity_init was True, is False"):
        tuning_checks.search(
            tmp_path / "run",
            hypermodel=space(identity_init=False),
            max_trials=1,
        )


# What cannot be compared.


def test_a_configuration_that_fails_is_left_out_and_named(quick, tmp_path):
    def failing(model, name, images, recipe, progress, **options):
        if recipe.seed == 2 and any("se" == n for n in kinds(model)):
            raise ZeroDivisionError("by zero")
        return tuning_checks.pretend(
            model, name, images, recipe, progress, **options
        )

    def kinds(model):
        squeeze = cbam_keras.SqueezeExcite
        return ["se" for x in model.layers if isinstance(x, squeeze)]

    quick.setattr(training, "fit", failing)
    found = search(tmp_path / "run")
    assert [row.attention for row in found.confirmation] == [
        "none",
        "cbam",
        "cbam",
    ]
    assert "is left out: with seed 2 its training ended as error" in (
        found.verdict
    )


def test_a_space_of_one_point_has_nothing_to_choose(quick, tmp_path):
    found = tuning_checks.search(
        tmp_path / "run",
        hypermodel=space(attention="cbam", reduction_ratio=2),
        confirm=2,
    )
    assert len(found.trials) == 1
    assert "No network without attention was confirmed" in found.verdict
    assert "there was nothing to choose" in found.verdict
    assert found.code.startswith("cbam_keras.CBAM(")


def test_without_attention_in_the_space_there_is_no_layer(quick, tmp_path):
    found = tuning_checks.search(
        tmp_path / "run", hypermodel=space(attention="none"), confirm=1
    )
    assert "No network with attention was confirmed" in found.verdict
    assert (found.best_options, found.code) == ({}, "")


def test_networks_of_ones_own_are_confirmed_without_a_verdict(quick, tmp_path):
    found = tuning_checks.search(tmp_path / "run", confirm=1)
    ranked = sorted(found.trials, key=lambda t: (-t.val_accuracy, t.val_loss))
    assert [row.trial for row in found.confirmation] == [
        trial.number for trial in ranked[:2]
    ]
    assert [row.options for row in found.confirmation] == [
        trial.values for trial in ranked[:2]
    ]
    assert (found.verdict, found.code) == ("", "")
    json.loads(found.json())


def test_loaded_images_keep_their_split(seeds_of_fit, tmp_path):
    images = data.load("mnist5k", batch_size=35, seed=7)
    tuning.search(
        space(),
        images,
        tuning_checks.TWO,
        output=tmp_path / "run",
        max_trials=2,
        confirm=2,
    )
    assert [own[:2] for own in seeds_of_fit] == [
        *[(0, 7)] * 2,
        *[(1, 7)] * 2,
        *[(2, 7)] * 2,
    ]


def finished(number, accuracy, outcome="finished", **values):
    return SimpleNamespace(
        number=number,
        values=values,
        outcome=outcome,
        val_accuracy=accuracy,
        val_loss=1.0,
        parameters=1,
    )


@pytest.mark.parametrize(
    "trials, numbers",
    [
        # Controls first, though they are not the best.
        (
            [
                finished(1, 0.5, attention="none"),
                finished(2, 0.6, attention="se", reduction_ratio=2),
                finished(3, 0.7, attention="se", reduction_ratio=4),
                finished(4, 0.8, attention="cbam", kernel_size=3),
                finished(5, 0.9, attention="spatial", kernel_size=3),
                finished(6, 0.7, attention="cbam", kernel_size=5),
            ],
            [1, 3, 5, 4],
        ),
        # Hyperband tries the same values again for more epochs.
        (
            [
                finished(1, 0.5, attention="cbam", kernel_size=3),
                finished(2, 0.6, attention="cbam", kernel_size=3),
            ],
            [2],
        ),
        (
            [
                finished(1, 0.5, attention=False),
                finished(2, None, "error", attention=True),
                finished(3, 0.4, attention=True),
            ],
            [1, 3],
        ),
        ([finished(n, n / 10, units=n) for n in (1, 2, 3)], [3, 2]),
    ],
    ids=["controls", "repeated", "boolean", "foreign"],
)
def test_these_are_confirmed(trials, numbers):
    found = [trial.number for trial in confirmation.to_confirm(tuple(trials))]
    assert found == numbers


def test_seeds_of_a_confirmation_are_others_than_that_of_the_search():
    assert confirmation.fresh_seeds(5, 3) == (6, 7, 8)
    assert confirmation.fresh_seeds(2**32 - 2, 2) == (2**32 - 1, 0)


def test_results_as_json(quick, tmp_path):
    found = search(tmp_path / "run")
    content = json.loads(found.json())
    none, *others = content["trials"]
    assert (none["attention"], none["reduction_ratio"]) == ("none", None)
    assert none["score"] == found.trials[0].val_accuracy
    for own in others:
        assert own["reduction_ratio"] in (2, 4)
        assert own["kernel_size"] == (3 if own["attention"] == "cbam" else None)
    first, *rest = content["confirmation"]
    assert first["difference"] is first["interval"] is None
    for own, row in zip(rest, found.confirmation[1:], strict=True):
        assert own["reduction_ratio"] == row.options["reduction_ratio"]
        assert own["seeds"] == [1, 2]
        assert own["test_accuracy"] == row.test_accuracy
        assert own["interval"] == list(row.interval)
    assert content["verdict"] == found.verdict
    assert content["code"] == found.code
