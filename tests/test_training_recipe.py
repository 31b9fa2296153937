"""Recipes, and the optimizers and schedules that they make."""

import dataclasses
import json

import keras
import numpy as np
import pretended
import pytest
from training_checks import SHORT, linear

from cbam_keras import training
from cbam_keras.optimizers import WarmupCosineDecay
from cbam_keras.training import RECIPES, Recipe


@pytest.mark.parametrize(
    "given",
    [
        {
            "epochs": 1,
            "batch_size": 1,
            "learning_rate": 1e-9,
            "weight_decay": 0,
            "seed": 2**32 - 1,
            "mixed_precision": "bfloat16",
            "optimizer": "sgd",
            "momentum": 0,
            "schedule": "step",
            "step_epochs": 1,
            "augment": ("crop", "flip"),
            "image_size": (96, 128),
        },
        {"momentum": 0.99, "mixed_precision": "float16", "image_size": 224},
    ],
    ids=["lowest", "others"],
)
def test_recipe_takes_values_in_range(given):
    recipe = dataclasses.asdict(Recipe(**given))
    assert {name: recipe[name] for name in given} == given


def test_values_become_plain_ones():
    recipe = Recipe(
        epochs=np.int64(2),
        momentum=np.float32(0.5),
        augment="flip",
        image_size=[np.int32(8), 9],
    )
    assert [type(recipe.epochs), type(recipe.momentum)] == [int, float]
    assert recipe.augment == ("flip",)
    assert recipe.image_size == (8, 9)
    assert [type(side) for side in recipe.image_size] == [int, int]


@pytest.mark.parametrize(
    ("argument", "value", "expected"),
    [
        ("epochs", 0, "a positive integer"),
        ("epochs", 1.0, "a positive integer"),
        ("epochs", True, "a positive integer"),
        ("batch_size", None, "a positive integer"),
        ("learning_rate", 0, "a positive number"),
        ("learning_rate", float("nan"), "a positive number"),
        ("learning_rate", "0.1", "a positive number"),
        pytest.param("learning_rate", 10**400, "a positive number", id="huge"),
        ("weight_decay", -1e-4, "number"),
        ("weight_decay", False, "number"),
        ("seed", -1, "an integer from 0"),
        ("seed", 2**32, "an integer from 0"),
        ("mixed_precision", "float32", 'one of None, "float16", "bfloat16"'),
        ("optimizer", "adam", 'one of "adamw", "sgd"'),
        ("momentum", 1, "less than 1"),
        ("momentum", -0.1, "a number from 0"),
        ("schedule", "linear", 'one of "cosine", "step"'),
        ("step_epochs", 0, "a positive integer"),
        ("augment", None, "a sequence of strings"),
        ("augment", ("flip", 1), "a sequence of strings"),
        ("image_size", 0, "a positive integer"),
        ("image_size", (224,), "a positive integer or two"),
    ],
)
def test_recipe_refuses_other_values(argument, value, expected):
    with pytest.raises(
        ValueError, match=f"`{argument}` must be .*{expected}"
    ) as caught:
        Recipe(**{argument: value})
    assert f"Received: {argument}={value!r}" in str(caught.value)


# Learning rates.


def rates(recipe, steps_per_epoch):
    """Returns the learning rate at each step."""
    optimizer = recipe.make_optimizer(steps_per_epoch)
    found = []
    for step in range(recipe.epochs * steps_per_epoch + 1):
        optimizer.iterations.assign(step)
        found.append(float(keras.ops.convert_to_numpy(optimizer.learning_rate)))
    return found


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_learning_rate_warms_up_and_decays(optimizer):
    found = rates(Recipe(5, learning_rate=0.02, optimizer=optimizer), 20)
    # From step 10 on, half a cosine over 90 steps.
    expected = {0: 0.1, 5: 0.55, 10: 1, 40: 0.75, 55: 0.5, 100: 0}
    # float32 keeps seven digits.
    assert [found[step] / 0.02 for step in expected] == pytest.approx(
        [*expected.values()], rel=1e-5, abs=1e-6
    )
    assert max(found) == found[10]
    assert min(found[:-1]) > 0


def test_a_few_steps_have_no_warm_up():
    assert rates(Recipe(3, learning_rate=0.02), 3)[0] == pytest.approx(0.02)


@pytest.mark.parametrize(("warmup_steps", "alpha"), [(0, 0), (4, 0.2)])
def test_the_schedule_is_that_of_keras(warmup_steps, alpha):
    arguments = {
        "initial_learning_rate": 0.01,
        "decay_steps": 6,
        "alpha": alpha,
        "warmup_target": 0.5,
        "warmup_steps": warmup_steps,
    }
    ours = WarmupCosineDecay(**arguments)
    saved = keras.saving.serialize_keras_object(ours)
    loaded = keras.saving.deserialize_keras_object(saved)
    theirs = keras.optimizers.schedules.CosineDecay(**arguments)
    for step in range(warmup_steps + 8):
        found = [float(rate(step)) for rate in (theirs, ours, loaded)]
        assert found[1] == pytest.approx(found[0], rel=1e-6, abs=1e-8)
        assert found[2] == found[1]


@pytest.mark.parametrize(
    ("epochs", "step_epochs", "steps"),
    [(7, 2, 3), (4, 1, 1), (3, 30, 2), (30, 30, 1)],
    ids=["odd", "every_epoch", "before_any", "one_period"],
)
def test_the_step_schedule_divides_by_ten(epochs, step_epochs, steps):
    recipe = Recipe(
        epochs, learning_rate=0.1, schedule="step", step_epochs=step_epochs
    )
    assert rates(recipe, steps)[:-1] == pytest.approx(
        [
            0.1 * 0.1 ** (epoch // step_epochs)
            for epoch in range(epochs)
            for _ in range(steps)
        ],
        rel=1e-5,
    )


# Optimizers.


def test_adam_decouples_its_decay():
    optimizer = Recipe(weight_decay=0.01).make_optimizer(10)
    assert isinstance(optimizer, keras.optimizers.AdamW)
    assert optimizer.weight_decay == 0.01


def gradients():
    """Returns gradients of a matrix and a vector, for each of eight steps."""
    rng = np.random.default_rng(1)
    matrices, vectors = rng.normal(size=(8, 3, 4)), rng.normal(size=(8, 5))
    return [
        [matrix.astype("float32"), vector.astype("float32")]
        for matrix, vector in zip(matrices, vectors, strict=True)
    ]


def at_first():
    rng = np.random.default_rng(2)
    return [rng.normal(size=size).astype("float32") for size in ((3, 4), (5,))]


# Two epochs of two steps at each of two learning rates.
STEPS = Recipe(
    epochs=4,
    learning_rate=0.2,
    weight_decay=0.05,
    optimizer="sgd",
    momentum=0.9,
    schedule="step",
    step_epochs=2,
)


def assert_goes(optimizer, expected):
    """Asserts where the variables are after each step."""
    variables = [keras.Variable(value) for value in at_first()]
    for values, others in zip(gradients(), expected, strict=True):
        optimizer.apply(
            [keras.ops.convert_to_tensor(value) for value in values],
            variables,
        )
        for variable, other in zip(variables, others, strict=True):
            # Eight steps in float32.
            np.testing.assert_allclose(
                keras.ops.convert_to_numpy(variable), other, atol=1e-5
            )


@pytest.mark.every_backend
@pytest.mark.parametrize("scaled", [False, True], ids=["plain", "loss_scale"])
def test_sgd_is_that_of_the_formula(scaled):
    if scaled and keras.backend.backend() == "jax":
        pytest.skip("Keras scales losses within compiled steps alone on JAX")
    optimizer = STEPS.make_optimizer(steps_per_epoch=2)
    if scaled:
        optimizer = keras.optimizers.LossScaleOptimizer(
            optimizer, initial_scale=1.0
        )
    expected = []
    weights = [value.astype("float64") for value in at_first()]
    buffers = [0, 0]
    for step, values in enumerate(gradients()):
        rate = 0.2 if step < 4 else 0.02
        buffers = [
            0.9 * buffer + gradient + 0.05 * weight
            for buffer, gradient, weight in zip(
                buffers, values, weights, strict=True
            )
        ]
        weights = [
            weight - rate * buffer
            for weight, buffer in zip(weights, buffers, strict=True)
        ]
        expected.append(weights)
    assert_goes(optimizer, expected)


@pytest.mark.needs_torch
@pytest.mark.every_backend
def test_sgd_is_that_of_pytorch():
    torch = pytest.importorskip("torch")
    weights = [torch.nn.Parameter(torch.tensor(v)) for v in at_first()]
    optimizer = torch.optim.SGD(
        weights, lr=0.2, momentum=0.9, weight_decay=0.05
    )
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2)
    expected = []
    for step, values in enumerate(gradients()):
        for weight, gradient in zip(weights, values, strict=True):
            weight.grad = torch.tensor(gradient)
        optimizer.step()
        if step % 2 == 1:
            schedule.step()
        expected.append([weight.detach().numpy().copy() for weight in weights])
    assert_goes(STEPS.make_optimizer(2), expected)


def test_sgd_decays_every_trainable_variable():
    recipe = Recipe(
        optimizer="sgd", learning_rate=0.5, weight_decay=0.1, schedule="step"
    )
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.BatchNormalization()]
    )
    zeros = [keras.ops.zeros(v.shape) for v in model.trainable_variables]
    recipe.make_optimizer(1).apply(zeros, model.trainable_variables)
    # Scale, from 1, and offset, from 0; nothing is excepted.
    scale, offset = model.layers[0].get_weights()[:2]
    assert scale == pytest.approx(np.full(3, 0.95))
    assert offset == pytest.approx(np.zeros(3))


# Recipes by name.


def test_the_imagenet_recipe_is_that_of_the_authors():
    assert RECIPES["imagenet"] == Recipe(
        epochs=90,
        batch_size=256,
        learning_rate=0.1,
        weight_decay=1e-4,
        optimizer="sgd",
        momentum=0.9,
        schedule="step",
        step_epochs=30,
        augment=("random_resized_crop", "flip"),
        image_size=224,
    )


def test_an_unknown_recipe_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(
        ValueError,
        match='`recipe` must be one of "default", "imagenet", "small_images"'
        ".*recipe='imagenett'. Did you mean \"imagenet\"",
    ):
        training.train(linear(), "mnist5k", "imagenett", output=tmp_path / "a")
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("name", [None, "small_images"])
def test_a_recipe_by_name_is_that_recipe(
    tmp_path, few_digits, monkeypatch, name
):
    pretended.install(monkeypatch)
    assert RECIPES["default"] == Recipe()
    named = dataclasses.replace(SHORT, learning_rate=0.125)
    monkeypatch.setitem(RECIPES, name or "default", named)
    training.train({"a": linear}, "mnist5k", name, output=tmp_path)
    settings = json.loads((tmp_path / "results.json").read_text())["settings"]
    assert settings["recipe"]["learning_rate"] == 0.125
