"""Learning rates that each run chooses, and networks that need a higher one."""

import dataclasses
import shutil

import keras
import numpy as np
import pytest
from folder_checks import Killed, at_files, weights
from keras import layers

from cbam_keras import comparison, models, report, study, training, tuning
from cbam_keras.study.files import checkpoints, rates
from cbam_keras.study.plans.measures import TEST_ACCURACY, Measure
from cbam_keras.study.results import learning

pytestmark = pytest.mark.usefixtures("eagerly")

RATES = (0.001, 0.02, 0.4)


def points():
    """Returns vectors of two classes, which a line divides but for noise."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(150, 5)).astype("float32")
    noise = rng.normal(size=150)
    return x, (x[:, 0] - x[:, 1] + 0.4 * noise > 0).astype(int)


def line(data):
    inputs = keras.Input((5,))
    outputs = layers.Dense(2, activation="softmax")(inputs)
    return keras.Model(inputs, outputs)


def planned(rate=RATES, *, seeds=(0, 1), variants=("line",), **options):
    return study.Study(
        study.Classification(points()),
        [study.Variant(name, line) for name in variants],
        seeds=seeds,
        recipe=training.Recipe(
            epochs=2, batch_size=60, learning_rate=rate, **options
        ),
    )


@pytest.fixture(scope="module")
def chosen(eagerly, tmp_path_factory):
    return study.run(planned(), tmp_path_factory.mktemp("chosen"))


def test_each_run_keeps_the_rate_that_validates_best(chosen):
    frame = chosen.learning_rates
    assert [*frame.columns] == [
        *("variant", "seed", "fold", "learning_rate", "validation", "chosen")
    ]
    for (variant, seed), group in frame.groupby(["variant", "seed"]):
        assert {*RATES} <= {*group["learning_rate"]}
        (best,) = group[group["chosen"]].to_dict("records")
        assert best["validation"] == group["validation"].max()
        (outcome,) = [
            x for x in chosen.runs if (x.variant, x.seed) == (variant, seed)
        ]
        assert outcome.learning_rate == best["learning_rate"]
        assert outcome.val_accuracy == best["validation"]


def test_only_the_chosen_network_is_tested(chosen):
    assert all("test_accuracy" in x.metrics for x in chosen.runs)
    assert chosen.candidates
    for candidate in chosen.candidates:
        assert "test_accuracy" not in candidate.metrics
        name = f"{candidate.variant}-{candidate.run.name}"
        files = [x.name for x in (chosen.output / name).iterdir()]
        assert files == ["state.json"]


def test_a_chosen_network_is_the_one_of_its_rate_alone(chosen, tmp_path):
    outcome = chosen.runs[-1]
    alone = planned(outcome.learning_rate, seeds=(outcome.seed,))
    study.run(alone, tmp_path)
    name = f"{outcome.variant}-seed{outcome.seed}"
    assert weights(chosen.output / name) == weights(tmp_path / name)


@pytest.mark.parametrize(
    ("folder", "file"),
    [
        ("line@0.02-seed0", "epoch-2.keras"),
        pytest.param(
            *("line-seed0", "state.json"), marks=pytest.mark.exhaustive
        ),
    ],
)
def test_a_killed_choice_ends_as_an_unbroken_one(
    folder, file, chosen, tmp_path
):
    def kill(count, source):
        if source.parent.name == folder and source.name.endswith(file):
            raise Killed

    plan = planned(seeds=(0,))
    with pytest.raises(Killed), at_files(tmp_path, kill):
        study.run(plan, tmp_path)
    results = study.run(plan, tmp_path)
    name = "line-seed0"
    assert weights(tmp_path / name) == weights(chosen.output / name)
    frame = chosen.learning_rates
    expected = frame[frame["seed"] == 0].reset_index(drop=True)
    assert results.learning_rates.equals(expected)


def test_a_deleted_network_is_chosen_again(chosen, tmp_path):
    shutil.copytree(chosen.output, tmp_path / "run")
    shutil.rmtree(tmp_path / "run/line-seed1")
    again = study.run(planned(), tmp_path / "run")
    assert weights(tmp_path / "run") == weights(chosen.output)
    assert again.learning_rates.equals(chosen.learning_rates)


@pytest.mark.exhaustive
def test_workers_choose_in_folds_as_one_process(tmp_path):
    plan = dataclasses.replace(planned(), folds=2, seeds=(0,))
    one, two = (
        study.run(plan, tmp_path / str(count), workers=count)
        for count in (1, 2)
    )
    assert one.learning_rates.equals(two.learning_rates)
    assert weights(one.output) == weights(two.output)


def test_a_variant_keeps_a_rate_of_its_own(tmp_path):
    plan = planned()
    own = dataclasses.replace(plan.variants[0], learning_rate=0.1)
    plan = dataclasses.replace(plan, variants=[own], seeds=(0,))
    results = study.run(plan, tmp_path)
    assert results.learning_rates.empty
    assert [x.learning_rate for x in results.runs] == [None]


def test_candidates_are_counted_before_they_are_trained():
    estimate = study.estimate(planned())
    assert estimate.trainings == 2 * len(RATES)
    assert "at 3 learning rates" in str(estimate)


def test_a_page_says_how_often_each_rate_was_chosen(chosen):
    page = report.write(chosen.output).read_text()
    assert "Learning rates" in page
    assert "at 3 learning rates" in page
    table = learning.rates_table(chosen)
    counts = [int(row["chosen"].split()[0]) for row in table.rows]
    assert sum(counts) == len(chosen.runs)


# The choice.


def outcome(rate, *, loss=0.5, **metrics):
    """Returns how a training at a learning rate has ended."""
    return study.Outcome(
        "none",
        0,
        "finished",
        metrics=metrics,
        learning_rate=rate,
        history=[{"loss": 1.0}, {"loss": loss}],
    )


@pytest.mark.parametrize(
    ("validated", "best"),
    [
        ([(0.7, 0.5), (0.8, 0.9), (0.6, 0.1)], 2),
        # Of equal ones, the lower loss, then the lower rate.
        ([(0.8, 0.5), (0.8, 0.4), (0.6, 0.1)], 2),
        ([(0.6, 0.5), (0.8, 0.4), (0.8, 0.4)], 2),
    ],
)
def test_the_best_validation_result_is_chosen(validated, best):
    outcomes = [
        outcome(float(rate), val_accuracy=accuracy, val_loss=loss)
        for rate, (accuracy, loss) in enumerate(validated, 1)
    ]
    assert rates.choose_rate(outcomes, TEST_ACCURACY).learning_rate == best
    reverse = rates.choose_rate(outcomes[::-1], TEST_ACCURACY)
    assert reverse.learning_rate == best


def test_a_lower_error_is_chosen_and_a_diverged_network_never():
    measure = Measure("mae", lower_is_better=True)
    outcomes = [outcome(0.1, val_mae=2.0), outcome(0.2, val_mae=1.5)]
    diverged = dataclasses.replace(outcome(0.3), status="diverged")
    chosen = rates.choose_rate([*outcomes, diverged], measure)
    assert chosen.learning_rate == 0.2
    assert rates.choose_rate([diverged], measure) is diverged
    failed = dataclasses.replace(outcome(0.4), status="error")
    assert rates.choose_rate([*outcomes, failed], measure) is failed


@pytest.mark.parametrize(
    ("validated", "best"),
    [
        # The measure itself, where all have it.
        ([{"auc": 0.8, "accuracy": 0.9}, {"auc": 0.9, "accuracy": 0.8}], 2),
        # One is not a finite number, and the accuracies are compared, although
        # the loss of the other is lower.
        ([{"auc": None, "accuracy": 0.9}, {"auc": 0.9, "accuracy": 0.8}], 1),
        ([{"accuracy": 0.8}, {"accuracy": 0.9}], 2),
        ([{}, {}], 2),
    ],
)
def test_epochs_and_rates_are_compared_by_the_same_numbers(validated, best):
    every = [
        {f"val_{name}": value for name, value in values.items()}
        | {"val_loss": loss}
        for values, loss in zip(validated, (0.5, 0.4), strict=True)
    ]
    measure = Measure("auc")
    outcomes = [outcome(float(i), **x) for i, x in enumerate(every, 1)]
    assert rates.choose_rate(outcomes, measure).learning_rate == best
    history = [{"epoch": i, "loss": 1.0, **x} for i, x in enumerate(every, 1)]
    assert checkpoints.best_epoch(history, measure) == best


@pytest.mark.parametrize(
    ("several", "best", "beyond"),
    [
        ((0.001, 0.003, 0.01, 0.03), 0.03, 0.09),
        ((0.001, 0.003, 0.01, 0.03), 0.001, 0.00033),
        ((0.001, 0.003, 0.01, 0.03), 0.01, None),
        ((0.01, 0.1), 0.1, 1.0),
    ],
)
def test_the_next_rate_is_beyond_an_edge(several, best, beyond):
    assert rates.rate_beyond(several, best) == beyond


# Whether networks had finished learning.


def behind_a_frozen_layer(start):
    """Returns a function that builds a line, which starts in a direction."""

    def build(data):
        inputs = keras.Input((5,))
        frozen = layers.Dense(5, kernel_initializer="identity")
        frozen.trainable = False
        head = layers.Dense(2, activation="softmax")
        model = keras.Model(inputs, head(frozen(inputs)))
        kernel = np.zeros((5, 2), "float32")
        kernel[:2] = [[-start, start], [start, -start]]
        head.set_weights([kernel, np.zeros(2, "float32")])
        return model

    return build


def compared(starts, **options):
    """Plans networks of which one that starts wrongly needs a high rate."""
    plan = planned(0.15, frozen=True, seeds=(0,), **options)
    variants = [
        study.Variant(name, behind_a_frozen_layer(start))
        for name, start in starts.items()
    ]
    first, *_ = starts
    return dataclasses.replace(plan, variants=variants, baseline=first)


def test_a_network_that_a_higher_rate_helps_had_not_finished(tmp_path):
    results = study.run(compared({"slow": -0.5, "quick": 0.5}), tmp_path)
    assert [x.variant for x in results.candidates] == ["slow@0.45"]
    assert (
        '"slow" is undertrained: it had not finished learning, '
        in results.verdict
    )
    assert (
        "recipe=training.Recipe(learning_rate=(0.15, 0.45, 1))"
        in results.verdict
    )
    # It is no network that a run has chosen.
    assert results.learning_rates.empty
    assert study.Results.read(tmp_path).verdict == results.verdict


def test_networks_that_learn_alike_are_not_named(tmp_path):
    results = study.run(compared({"one": 0.5, "other": 0.6}), tmp_path)
    assert not results.candidates
    assert "undertrained" not in results.verdict


def test_without_features_a_slow_network_may_not_have_finished(tmp_path):
    plan = compared({"slow": -0.5, "quick": 0.5}, cache=False)
    results = study.run(plan, tmp_path)
    assert not results.candidates
    difference, remark = results.verdict.split('"slow" may be undertrained (')
    assert "Differences from slow cannot be judged" in difference
    assert "recipe=training.Recipe(learning_rate=(0.15, 0.45, 1))." in remark


def test_what_the_command_has_trained_is_checked_by_the_command(tmp_path):
    plan = compared({"slow": -0.5, "quick": 0.5}, cache=False)
    verdict = study.run(plan, tmp_path, command="cbam-keras train").verdict
    assert "Check with --learning-rate 0.15 0.45 1." in verdict
    assert "Recipe" not in verdict


@pytest.mark.parametrize(
    ("after", "is_named"),
    [
        # A standard error of 100 images at 80% is 4 points.
        ({"val_accuracy": 0.85}, True),
        ({"val_accuracy": 0.83}, False),
        ({"val_accuracy": 0.8, "loss": 0.2}, True),
        ({"val_accuracy": 0.79, "loss": 0.2}, False),
        ({"val_accuracy": 0.8, "loss": 0.3}, False),
    ],
)
def test_a_gain_or_half_the_loss_decides(after, is_named):
    before = outcome(0.1, val_accuracy=0.8)
    after = outcome(0.3, **after)
    named = learning.had_not_finished(before, after, TEST_ACCURACY, 100)
    assert named == is_named


def test_only_networks_with_one_rate_and_a_high_loss_are_asked():
    first, second, third = (
        dataclasses.replace(outcome(None, loss=loss), variant=name)
        for name, loss in (("a", 1.0), ("b", 0.4), ("c", 0.55))
    )
    assert learning.find_slow([first, second, third]) == {"a": 2.5}
    has_chosen = dataclasses.replace(first, learning_rate=0.1)
    assert learning.find_slow([has_chosen, second, third]) == {}


@pytest.mark.parametrize("accuracy", [0.98, 0.995])
def test_a_network_that_has_learned_its_images_is_not_asked(accuracy):
    first, second = (
        dataclasses.replace(
            outcome(None, loss=loss),
            variant=name,
            history=({"loss": loss, "accuracy": accuracy},),
        )
        for name, loss in (("a", 0.02), ("b", 0.01))
    )
    named = learning.find_slow([first, second])
    assert named == ({"a": 2.0} if accuracy == 0.98 else {})


# Refused.


def test_several_rates_are_refused_where_nothing_chooses():
    recipe = training.Recipe(learning_rate=RATES)
    for call in (
        lambda: training.train({}, recipe=recipe),
        lambda: tuning.Search(recipe=recipe),
    ):
        with pytest.raises(ValueError, match="must be one number for"):
            call()


def test_rates_need_validation_data():
    class Unvalidated(study.Classification):
        def load(self, recipe, folds=None, fold=0):
            data = super().load(recipe, folds, fold)
            return dataclasses.replace(data, validation=None)

    plan = dataclasses.replace(planned(), task=Unvalidated(points()))
    with pytest.raises(ValueError, match="Several learning rates need valid"):
        study.estimate(plan)


@pytest.mark.parametrize("rate", [(), (0.1, 0.1), (0.1, -1), "0.1", (0.1, "x")])
def test_rates_that_are_none_are_refused(rate):
    with pytest.raises(ValueError, match="`learning_rate` must be"):
        training.Recipe(learning_rate=rate)


def test_names_of_variants_have_no_sign_of_a_rate():
    variant = study.Variant("a@0.1", line)
    with pytest.raises(ValueError, match='must have names without "@"'):
        study.Study(study.Classification(points()), [variant])


def test_rates_are_plain_and_in_order():
    recipe = training.Recipe(learning_rate=[np.float32(0.5), 0.25])
    assert recipe.learning_rate == (0.25, 0.5)
    assert training.Recipe(learning_rate=[0.1]).learning_rate == 0.1


# Controls of the size.


@pytest.mark.parametrize(
    "model",
    ["tiny", pytest.param("mobilenet", marks=pytest.mark.exhaustive)],
)
def test_controls_have_as_many_parameters_and_no_more_than_needed(model):
    names = "none", "se", "cbam", "wider", "hidden"
    plan = comparison.plan(names, model=model, data="mnist5k", seeds=1)
    data = plan.load(plan.runs[0])
    sizes = {
        x.name: sum(np.prod(v.shape) for v in x.build(data).trainable_weights)
        for x in plan.variants
    }
    most = max(sizes[x] for x in ("none", "se", "cbam"))
    make = {"wider": models.wider_network, "hidden": models.hidden_network}
    for name in ("wider", "hidden"):
        assert sizes[name] >= most
        build = plan.variants[names.index(name)].build
        (size,) = build.args[-1].values()
        smaller = make[name](model, None, False, data, size - 1)
        assert sum(np.prod(v.shape) for v in smaller.trainable_weights) < most


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (["none", "wider"], {}, "with attention whose number of"),
        (
            ["cbam", "wider"],
            {"model": lambda attention: None},
            "needs the name of a network",
        ),
        (
            ["cbam", "wider"],
            {"model": "EfficientNetLite0", "weights": "imagenet"},
            'the width of its weights: use "hidden"',
        ),
        (
            ["cbam", "hidden"],
            {"model": "unet-tiny"},
            'which a U-Net is not: use "wider"',
        ),
    ],
)
def test_controls_that_a_network_lacks_are_refused(names, options, message):
    with pytest.raises(ValueError, match=message):
        comparison.plan(names, data="mnist5k", seeds=1, **options)


def test_rates_are_not_chosen_by_another_measure():
    class Other(study.Classification):
        metrics = ("loss", "val_accuracy")
        measures = (Measure("test_psnr", "PSNR"),)

    with pytest.raises(ValueError, match='"val_psnr" or "val_loss"'):
        dataclasses.replace(planned(), task=Other(points()))
