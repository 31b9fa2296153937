"""Recipes, and the optimizers and schedules that they make."""

import dataclasses
import subprocess
import sys

import keras
import numpy as np
import pytest
from training_checks import SMALL, linear

from cbam_keras import training
from cbam_keras.optimizers import WarmupCosineDecay
from cbam_keras.training import RECIPES, Recipe, networks


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("epochs", 1),
        ("batch_size", 1),
        ("learning_rate", 1),
        ("learning_rate", 1e-9),
        ("weight_decay", 0),
        ("weight_decay", 0.5),
        ("seed", 2**32 - 1),
        ("mixed_precision", None),
        ("mixed_precision", "float16"),
        ("mixed_precision", "bfloat16"),
        ("optimizer", "adamw"),
        ("optimizer", "sgd"),
        ("momentum", 0),
        ("momentum", 0.99),
        ("schedule", "cosine"),
        ("schedule", "step"),
        ("step_epochs", 1),
        ("augment", ()),
        ("augment", ("crop", "flip")),
        ("image_size", None),
        ("image_size", 224),
        ("image_size", (96, 128)),
    ],
)
def test_recipe_takes_values_in_range(argument, value):
    assert getattr(Recipe(**{argument: value}), argument) == value


@pytest.mark.parametrize(
    ("argument", "value", "expected"),
    [
        ("epochs", 0, "a positive integer"),
        ("epochs", -1, "a positive integer"),
        ("epochs", 1.0, "a positive integer"),
        ("epochs", True, "a positive integer"),
        ("epochs", "5", "a positive integer"),
        ("batch_size", 0, "a positive integer"),
        ("batch_size", None, "a positive integer"),
        ("learning_rate", 0, "a positive number"),
        ("learning_rate", -0.1, "a positive number"),
        ("learning_rate", float("nan"), "a positive number"),
        ("learning_rate", float("inf"), "a positive number"),
        ("learning_rate", True, "a positive number"),
        ("learning_rate", "0.1", "a positive number"),
        pytest.param("learning_rate", 10**400, "a positive number", id="huge"),
        ("weight_decay", -1e-4, "number"),
        ("weight_decay", None, "number"),
        ("weight_decay", float("nan"), "number"),
        ("weight_decay", False, "number"),
        ("seed", -1, "an integer from 0"),
        ("seed", 0.0, "an integer from 0"),
        ("seed", 2**32, "an integer from 0"),
        ("mixed_precision", "float32", 'one of None, "float16", "bfloat16"'),
        ("mixed_precision", "mixed_float16", 'one of None, "float16"'),
        ("mixed_precision", True, 'one of None, "float16"'),
        ("optimizer", "adam", 'one of "adamw", "sgd"'),
        ("optimizer", None, 'one of "adamw", "sgd"'),
        ("momentum", 1, "less than 1"),
        ("momentum", -0.1, "a number from 0"),
        ("momentum", None, "a number from 0"),
        ("schedule", "linear", 'one of "cosine", "step"'),
        ("step_epochs", 0, "a positive integer"),
        ("augment", None, "a sequence of strings"),
        ("augment", 5, "a sequence of strings"),
        ("augment", ("flip", 1), "a sequence of strings"),
        ("image_size", 0, "a positive integer"),
        ("image_size", "224", "a positive integer"),
        ("image_size", (224,), "a positive integer or two"),
        pytest.param(
            "image_size",
            (1, 2, 3),
            "a positive integer or two",
            id="three_sizes",
        ),
    ],
)
def test_recipe_refuses_other_values(argument, value, expected):
    with pytest.raises(
        ValueError, match=f"`{argument}` must be .*{expected}"
    ) as caught:
        Recipe(**{argument: value})
    assert f"Received: {argument}={value!r}" in str(caught.value)


def _learning_rate(optimizer, step):
    optimizer.iterations.assign(step)
    return float(keras.ops.convert_to_numpy(optimizer.learning_rate))


@pytest.mark.every_backend
@pytest.mark.parametrize(
    ("step", "part"),
    [
        (0, 0.1),
        (5, 0.55),
        (10, 1),
        # From there half a cosine over 90 steps.
        (40, 0.75),
        (55, 0.5),
        (100, 0),
    ],
    ids=["start", "warm_up", "peak", "third", "half", "end"],
)
def test_learning_rate_warms_up_and_decays(step, part):
    recipe = Recipe(epochs=5, learning_rate=0.02)
    optimizer = recipe.make_optimizer(steps_per_epoch=20)
    # float32 keeps seven digits.
    assert _learning_rate(optimizer, step) == pytest.approx(
        part * 0.02, rel=1e-5, abs=1e-8
    )


@pytest.mark.parametrize(
    ("epochs", "steps"), [(1, 1), (3, 3), (5, 20)], ids=["one", "few", "many"]
)
def test_learning_rate_never_passes_its_peak(epochs, steps):
    recipe = Recipe(epochs=epochs, learning_rate=0.02)
    optimizer = recipe.make_optimizer(steps)
    rates = [_learning_rate(optimizer, i) for i in range(epochs * steps)]
    assert max(rates) == pytest.approx(0.02, rel=1e-5)
    assert min(rates) > 0


def test_a_few_steps_have_no_warm_up():
    optimizer = Recipe(epochs=3, learning_rate=0.02).make_optimizer(3)
    assert _learning_rate(optimizer, 0) == pytest.approx(0.02, rel=1e-5)


@pytest.mark.parametrize("alpha", [0, 0.2])
@pytest.mark.parametrize("warmup_steps", [0, 4])
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
        rates = [float(rate(step)) for rate in (theirs, ours, loaded)]
        assert rates[1] == pytest.approx(rates[0], rel=1e-6, abs=1e-8)
        assert rates[2] == rates[1]


@pytest.mark.every_backend
@pytest.mark.parametrize("weight_decay", [0, 0.01])
def test_the_optimizer_is_adam_with_decoupled_decay(weight_decay):
    optimizer = Recipe(weight_decay=weight_decay).make_optimizer(10)
    assert isinstance(optimizer, keras.optimizers.AdamW)
    assert optimizer.weight_decay == weight_decay


def test_numbers_of_numpy_become_plain_ones():
    recipe = Recipe(
        epochs=np.int64(2),
        momentum=np.float32(0.5),
        augment=["flip"],
        image_size=[np.int32(8), 9],
    )
    reported = dataclasses.asdict(recipe)
    assert [type(reported[name]) for name in ("epochs", "momentum")] == [
        int,
        float,
    ]
    assert reported["augment"] == ("flip",)
    assert reported["image_size"] == (8, 9)
    assert [type(side) for side in reported["image_size"]] == [int, int]


def test_one_name_of_augmentation_needs_no_tuple():
    assert Recipe(augment="flip").augment == ("flip",)


# The step schedule and SGD, as PyTorch has them.


@pytest.mark.parametrize(
    ("epochs", "step_epochs", "steps"),
    [(90, 30, 2), (7, 2, 3), (4, 1, 1), (3, 30, 2), (30, 30, 1)],
    ids=["imagenet", "odd", "every_epoch", "before_any", "one_period"],
)
def test_the_step_schedule_divides_by_ten(epochs, step_epochs, steps):
    recipe = Recipe(
        epochs=epochs,
        learning_rate=0.1,
        schedule="step",
        step_epochs=step_epochs,
    )
    optimizer = recipe.make_optimizer(steps)
    rates = [_learning_rate(optimizer, i) for i in range(epochs * steps)]
    expected = [
        0.1 * 0.1 ** (epoch // step_epochs)
        for epoch in range(epochs)
        for _ in range(steps)
    ]
    assert rates == pytest.approx(expected, rel=1e-5)


def _gradients():
    """Returns gradients of a matrix and a vector, for eight steps."""
    rng = np.random.default_rng(1)
    return [
        [rng.normal(size=(3, 4)).astype("float32") for _ in range(8)],
        [rng.normal(size=(5,)).astype("float32") for _ in range(8)],
    ]


def _start():
    rng = np.random.default_rng(2)
    return [
        rng.normal(size=(3, 4)).astype("float32"),
        rng.normal(size=(5,)).astype("float32"),
    ]


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


def _positions(optimizer):
    """Returns the variables after each step."""
    variables = [keras.Variable(value) for value in _start()]
    positions = []
    for gradients in zip(*_gradients(), strict=True):
        optimizer.apply(
            [keras.ops.convert_to_tensor(value) for value in gradients],
            variables,
        )
        positions.append(
            [keras.ops.convert_to_numpy(variable) for variable in variables]
        )
    return positions


def _assert_equal(positions, expected):
    for step, others in zip(positions, expected, strict=True):
        for value, other in zip(step, others, strict=True):
            # Eight steps in float32.
            np.testing.assert_allclose(value, other, atol=1e-5)


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
    weights = [value.astype("float64") for value in _start()]
    buffers = [0, 0]
    for step, gradients in enumerate(zip(*_gradients(), strict=True)):
        rate = 0.2 if step < 4 else 0.02
        buffers = [
            0.9 * buffer + gradient + 0.05 * weight
            for buffer, gradient, weight in zip(
                buffers, gradients, weights, strict=True
            )
        ]
        weights = [
            weight - rate * buffer
            for weight, buffer in zip(weights, buffers, strict=True)
        ]
        expected.append(weights)
    _assert_equal(_positions(optimizer), expected)


@pytest.mark.needs_torch
@pytest.mark.every_backend
def test_sgd_is_that_of_pytorch():
    torch = pytest.importorskip("torch")
    weights = [torch.nn.Parameter(torch.tensor(value)) for value in _start()]
    optimizer = torch.optim.SGD(
        weights, lr=0.2, momentum=0.9, weight_decay=0.05
    )
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2)
    expected = []
    for step, gradients in enumerate(zip(*_gradients(), strict=True)):
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = torch.tensor(gradient)
        optimizer.step()
        if step % 2 == 1:
            schedule.step()
        expected.append([weight.detach().numpy().copy() for weight in weights])
    _assert_equal(_positions(STEPS.make_optimizer(2)), expected)


@pytest.mark.every_backend
def test_sgd_decays_every_trainable_variable():
    recipe = Recipe(
        optimizer="sgd", learning_rate=0.5, weight_decay=0.1, schedule="step"
    )
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.BatchNormalization()]
    )
    optimizer = recipe.make_optimizer(1)
    zeros = [keras.ops.zeros(v.shape) for v in model.trainable_variables]
    optimizer.apply(zeros, model.trainable_variables)
    # Scale, from 1, and offset, from 0; nothing is excepted.
    scale, offset = model.layers[0].get_weights()[:2]
    assert scale == pytest.approx(np.full(3, 0.95))
    assert offset == pytest.approx(np.zeros(3))


def test_sgd_with_the_cosine_warms_up():
    recipe = Recipe(optimizer="sgd", learning_rate=0.1, epochs=5)
    optimizer = recipe.make_optimizer(20)
    assert _learning_rate(optimizer, 0) == pytest.approx(0.01)
    assert _learning_rate(optimizer, 10) == pytest.approx(0.1)


def _compiled(precision=None):
    recipe = dataclasses.replace(STEPS, mixed_precision=precision)
    model = networks.build_seeded(linear, recipe)
    networks.compile_network(model, recipe, 2)
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (8, 28, 28, 1)).astype("float32")
    labels = np.arange(8)

    def train(model):
        model.fit(images, labels, shuffle=False, verbose=0)
        return model.get_weights()

    return model, train


@pytest.mark.every_backend
@pytest.mark.parametrize("precision", [None, "float16", "bfloat16"])
def test_sgd_continues_from_a_file_as_it_would_have(tmp_path, precision):
    model, train = _compiled(precision)
    train(model)
    model.save(tmp_path / "model.keras")
    expected = train(model)
    weights = train(keras.saving.load_model(tmp_path / "model.keras"))
    for value, other in zip(weights, expected, strict=True):
        # Runs of one program, to the rounding of a second compilation.
        np.testing.assert_allclose(value, other, atol=1e-6)


LOAD = "import keras, cbam_keras, sys; keras.saving.load_model(sys.argv[1])"


@pytest.mark.every_backend
@pytest.mark.slow
def test_a_network_trained_by_sgd_loads_with_the_package_alone(tmp_path):
    model, train = _compiled()
    train(model)
    model.save(tmp_path / "model.keras")
    subprocess.run(
        [sys.executable, "-c", LOAD, tmp_path / "model.keras"], check=True
    )


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


def test_the_default_recipe_is_the_default():
    assert RECIPES["default"] == Recipe()


def test_an_unknown_recipe_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(
        ValueError,
        match='`recipe` must be one of "default", "imagenet", "small_images"'
        ".*recipe='imagenett'. Did you mean \"imagenet\"",
    ):
        training.train(linear(), "mnist5k", "imagenett", output=tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_a_recipe_by_name_is_that_recipe(tmp_path, few_digits, monkeypatch):
    monkeypatch.setitem(RECIPES, "default", SMALL)
    by_name = training.train(
        {"linear": linear}, "mnist5k", "default", output=tmp_path / "name"
    )
    given = training.train(
        {"linear": linear}, "mnist5k", SMALL, output=tmp_path / "given"
    )
    assert [row["loss"] for row in by_name.history] == pytest.approx(
        [row["loss"] for row in given.history], abs=1e-6
    )
