"""Recipes, their optimizers and schedules, and the epoch that they test."""

import math

import keras
import numpy as np
import pytest
from networks import linear

from cbam_keras import study
from cbam_keras.optimizers import WarmupCosineDecay
from cbam_keras.study.files.checkpoints import select_epoch
from cbam_keras.study.plans.measures import Measure
from cbam_keras.study.programs.training import RECIPES, Recipe


def test_recipe_makes_values_plain():
    recipe = Recipe(
        epochs=np.int64(1),
        seed=2**32 - 1,
        momentum=np.float32(0),
        augment="flip",
        image_size=[np.int32(8), 9],
    )
    assert [type(recipe.epochs), type(recipe.momentum)] == [int, float]
    assert recipe.augment == ("flip",)
    assert recipe.image_size == (8, 9)
    assert type(recipe.image_size[0]) is int


def rates(recipe, steps_per_epoch):
    """Returns the learning rate at each step."""
    optimizer = recipe.make_optimizer(steps_per_epoch)
    found = []
    for step in range(recipe.epochs * steps_per_epoch + 1):
        optimizer.iterations.assign(step)
        found.append(float(keras.ops.convert_to_numpy(optimizer.learning_rate)))
    return found


def test_learning_rate_warms_up_and_decays():
    found = rates(Recipe(5, learning_rate=0.02), 20)
    # From step 10 on, half a cosine over 90 steps.
    expected = {0: 0.1, 5: 0.55, 10: 1, 40: 0.75, 55: 0.5, 100: 0}
    # float32 keeps seven digits.
    assert [found[step] / 0.02 for step in expected] == pytest.approx(
        [*expected.values()], rel=1e-5, abs=1e-6
    )
    assert max(found) == found[10]
    assert min(found[:-1]) > 0
    # A few steps have no warm-up.
    assert rates(Recipe(3, learning_rate=0.02), 3)[0] == pytest.approx(0.02)


def test_two_stages_have_schedules_of_their_own():
    recipe = RECIPES["fine-tuning"]
    assert recipe.total_epochs == 2 + 4
    one, two = recipe.stages
    assert [one.stages, two.stages] == [(one,), (two,)]
    assert (one.epochs, two.epochs) == (2, 4)
    # Both end at zero.
    for stage, highest in ((one, 1e-3), (two, 1e-4)):
        found = rates(stage, 5)
        assert max(found) == pytest.approx(highest)
        assert found[-1] == pytest.approx(0, abs=1e-10)


def test_the_schedule_is_that_of_keras():
    arguments = {
        "initial_learning_rate": 0.01,
        "decay_steps": 6,
        "alpha": 0.2,
        "warmup_target": 0.5,
        "warmup_steps": 4,
    }
    ours = WarmupCosineDecay(**arguments)
    saved = keras.saving.serialize_keras_object(ours)
    loaded = keras.saving.deserialize_keras_object(saved)
    theirs = keras.optimizers.schedules.CosineDecay(**arguments)
    for step in range(12):
        found = [float(rate(step)) for rate in (theirs, ours, loaded)]
        assert found[1] == pytest.approx(found[0], rel=1e-6, abs=1e-8)
        assert found[2] == found[1]


@pytest.mark.parametrize(
    ("epochs", "step_epochs", "steps"), [(7, 2, 3), (3, 30, 2)]
)
def test_the_step_schedule_divides_by_ten(epochs, step_epochs, steps):
    recipe = Recipe(
        epochs, learning_rate=0.1, schedule="step", step_epochs=step_epochs
    )
    every = np.repeat(np.arange(epochs), steps)
    expected = 0.1 * 0.1 ** (every // step_epochs)
    assert rates(recipe, steps)[:-1] == pytest.approx(expected, rel=1e-5)


# Two epochs of two steps at each of two learning rates.
STEPS = Recipe(
    epochs=4,
    learning_rate=0.2,
    weight_decay=0.05,
    optimizer="sgd",
    momentum=0.8,
    schedule="step",
    step_epochs=2,
)


@pytest.mark.every_backend
@pytest.mark.parametrize("scaled", [False, True], ids=["plain", "loss_scale"])
def test_sgd_is_that_of_the_formula(scaled):
    if scaled and keras.backend.backend() == "jax":
        pytest.skip("Keras scales losses within compiled steps alone on JAX")
    made = STEPS.make_optimizer(steps_per_epoch=2)
    # As a checkpoint brings it back.
    optimizer = type(made).from_config(made.get_config())
    if scaled:
        optimizer = keras.optimizers.LossScaleOptimizer(
            optimizer, initial_scale=1.0
        )
    rng = np.random.default_rng(1)
    # A matrix and a vector, and their gradients.
    weights = [rng.normal(size=(3, 4)), rng.normal(size=5)]
    variables = [keras.Variable(value, dtype="float32") for value in weights]
    buffers = [0, 0]
    for step in range(8):
        values = [rng.normal(size=(3, 4)), rng.normal(size=5)]
        given = [keras.ops.convert_to_tensor(v, "float32") for v in values]
        optimizer.apply(given, variables)
        rate = 0.2 if step < 4 else 0.02
        for i, gradient in enumerate(values):
            buffers[i] = 0.8 * buffers[i] + gradient + 0.05 * weights[i]
            weights[i] = weights[i] - rate * buffers[i]
            # Eight steps in float32.
            np.testing.assert_allclose(
                keras.ops.convert_to_numpy(variables[i]), weights[i], atol=1e-5
            )


def test_weight_decay_is_adams_own():
    adam = Recipe(weight_decay=0.01).make_optimizer(10)
    assert isinstance(adam, keras.optimizers.AdamW)
    assert adam.weight_decay == 0.01


@pytest.mark.parametrize("name", [None, "small_images"])
def test_a_recipe_by_name_is_that_recipe(name):
    task = study.Classification("mnist5k")
    variant = study.Variant("linear", linear)
    planned = study.Study(task, [variant], recipe=name)
    assert planned.recipe == RECIPES[name or "default"]
    assert RECIPES["default"] == Recipe()


# Which epoch of a training is tested.


ACCURACY = Measure("test_accuracy")
ERROR = math.sqrt(0.9 * 0.1 / 200)
CASES = {
    "within a standard error": (Recipe(), 0.9 - ERROR + 1e-9, 3),
    "beyond a standard error": (Recipe(), 0.9 - ERROR - 1e-9, 2),
    "steps": (Recipe(schedule="step"), 0.899, 2),
    "patience": (Recipe(patience=1), 0.899, 2),
    "the last is the best": (Recipe(schedule="step"), 0.901, 3),
}


def history_of(key, *values):
    return [
        {"epoch": epoch, key: value, "val_loss": 1.0}
        for epoch, value in enumerate(values, 1)
    ]


@pytest.mark.parametrize("case", CASES)
def test_the_last_epoch_is_tested_unless_it_is_clearly_worse(case):
    recipe, last, epoch = CASES[case]
    history = history_of("val_accuracy", 0.5, 0.9, last)
    reason = "last epoch" if epoch == 3 else "best val_accuracy"
    assert select_epoch(history, recipe, ACCURACY, 200) == (epoch, reason)


def test_patience_selects_by_the_measure_in_its_direction():
    history = history_of("val_rmse", 3.0, 2.0, 2.5)
    for row, accuracy in zip(history, (0.9, 0.5, 0.6), strict=True):
        row["val_accuracy"] = accuracy
    recipe = Recipe(patience=1)
    lower = Measure("test_rmse", lower_is_better=True)
    assert select_epoch(history, recipe, lower, 200) == (2, "best val_rmse")
    higher = Measure("test_rmse")
    assert select_epoch(history, recipe, higher, 200) == (1, "best val_rmse")
    # The history lacks this one.
    other = Measure("test_auc")
    assert select_epoch(history, recipe, other, 200) == (
        1,
        "best val_accuracy",
    )


def test_without_validation_the_last_epoch_is_tested():
    history = [{"epoch": 1, "loss": 1.0}, {"epoch": 2, "loss": 2.0}]
    for recipe in (Recipe(), Recipe(patience=1), Recipe(schedule="step")):
        assert select_epoch(history, recipe, ACCURACY, 0) == (2, "last epoch")
