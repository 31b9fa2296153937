"""Networks and images for training: built, drawn, loaded, checked."""

import dataclasses
import functools
import re

import keras
import networks
import numpy as np
import pytest
from data_checks import arrays
from keras import layers
from networks import linear, mlp
from training_checks import KEYS, SHORT

from cbam_keras import data, study, training
from cbam_keras import layers as attention_layers
from cbam_keras.study.plans.networks import draw_values, find_drawn
from cbam_keras.study.programs.training import Recipe

pytestmark = pytest.mark.usefixtures("few_digits", "quick")


def train(networks, output, recipe=SHORT, data="mnist5k", **options):
    if callable(networks) and not isinstance(networks, keras.Model):
        networks = {"network": networks}
    return training.train(networks, data, recipe, output=output, **options)


def test_every_network_starts_from_the_seed(tmp_path):
    both = {"first": linear, "second": linear}

    def rows(seed):
        recipe = dataclasses.replace(SHORT, seed=seed)
        found = train(both, tmp_path / str(seed), recipe)
        return [[row[key] for key in KEYS] for row in found.history]

    first, second = rows(5)
    assert first == second != rows(6)[0]
    # Also what the function of a network draws by itself.
    five, six = (
        study.build_seeded(linear, dataclasses.replace(SHORT, seed=seed))
        for seed in (5, 6)
    )
    assert (five.get_weights()[0] != six.get_weights()[0]).any()


def test_a_model_given_is_trained_itself(tmp_path, capsys):
    model = linear()
    before = model.get_weights()[0]
    results = train(model, tmp_path)
    assert np.abs(model.get_weights()[0] - before).max() > 0
    assert [run.file for run in results.runs] == [
        "linear-seed0/linear-seed0.keras"
    ]
    printed = capsys.readouterr().out
    assert "linear (1 of 1), 170 parameters\n" in printed
    with pytest.raises(ValueError, match="changed: layers was '"):
        train(linear(activation=None), tmp_path)


# That of other heads is in test_study_class_weights.py.
@pytest.mark.parametrize(
    "build",
    [
        lambda: linear(layers.Softmax(), activation=None),
        lambda: keras.Sequential([keras.Input((28, 28, 1)), linear()]),
    ],
    ids=["softmax_layer", "in_a_model"],
)
def test_the_loss_is_the_cross_entropy(build):
    model = build()
    study.compile_network(model, SHORT, 2)
    images, labels = data.load("mnist5k", batch_size=None).validation
    # Small, so that no probability of the untrained network is 0.
    outputs = model(images.astype("float32") / 255)
    found = keras.ops.convert_to_numpy(model.loss(labels, outputs))
    probabilities = keras.ops.convert_to_numpy(outputs)
    chosen = probabilities[np.arange(len(labels)), labels]
    assert found == pytest.approx(-np.log(chosen).mean(), abs=1e-5)


@pytest.mark.parametrize("activation", ["sigmoid", None])
def test_a_single_value_is_measured_as_two_classes(activation):
    logits = np.array([-3, -0.5, -0.2, 0.4, 2])
    probabilities = 1 / (1 + np.exp(-logits))
    labels = np.array([0, 1, 0, 1, 1])
    outputs = probabilities if activation else logits
    outputs = outputs.astype("float32")[:, None]
    model = linear(activation=activation, classes=1)
    loss, metrics = study.loss_and_metrics(model)
    found = [each(labels, outputs) for each in (loss, *metrics)]
    entropy = -np.log(probabilities) @ labels
    entropy -= np.log(1 - probabilities) @ np.subtract(1, labels)
    # One of six pairs of the two classes is in the wrong order.
    expected = [entropy / 5, 4 / 5, 5 / 6]
    assert list(map(float, found)) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("classes", [2, 3])
def test_a_single_value_is_refused_where_it_says_nothing(tmp_path, classes):
    activation = "softmax" if classes == 2 else "sigmoid"
    network = linear(activation=activation, classes=1, shape=(12, 10, 3))
    text = rf"give {classes} values.*output_shape=\(None, 1\)"
    with pytest.raises(ValueError, match=text):
        train(network, tmp_path, data=arrays(classes=classes))


def test_a_sigmoid_of_several_classes_is_warned_of():
    network = linear(activation="sigmoid", classes=3, shape=(12, 10, 3))
    with pytest.warns(UserWarning, match="sigmoid of 3 values.*softmax"):
        study.check_network(network, data.load(arrays(classes=3)))


# Fingerprints, by which a resumed run knows its networks.


@keras.saving.register_keras_serializable("tests")
class Subclassed(keras.Model):
    """A model whose configuration holds none of its layers."""

    activation = "relu"

    def __init__(self, units, **options):
        super().__init__(**options)
        self.units = units
        self.hidden = layers.Dense(units, activation=self.activation)

    def build(self, shape):
        self.hidden.build(shape)

    def call(self, inputs):
        return self.hidden(inputs)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable("tests")
def doubled(x):
    return 2 * x


def sequence(*inner):
    """Returns a function that puts layers behind an input, in a model."""

    def build():
        inputs = x = keras.Input((3, 4))
        for make in inner:
            x = make()(x)
        return keras.Model(inputs, x)

    return build


def subclassed():
    model = Subclassed(3)
    model.build((None, 4))
    return model


def nested():
    x = keras.Input((4,))
    inner = keras.Model(x, layers.Dense(3)(x) + 1)
    outer = keras.Input((4,), name="x")
    flat = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    joined = keras.ops.concatenate([inner(outer), flat(outer), inner(outer)])
    return keras.Model({"x": outer}, joined)


SAME = {
    "wrapped": sequence(lambda: layers.TimeDistributed(layers.Dense(2))),
    "bidirectional": sequence(lambda: layers.Bidirectional(layers.GRU(2))),
    "cells": sequence(lambda: layers.RNN([layers.LSTMCell(2)] * 2)),
    "function": sequence(lambda: layers.Dense(2, activation=doubled)),
    "policy": sequence(lambda: layers.Dense(2, dtype="mixed_bfloat16")),
    "sequential": linear,
    "nested": nested,
    "subclassed": subclassed,
}


@pytest.mark.parametrize("name", SAME)
def test_a_network_built_twice_has_one_fingerprint(name):
    first = study.fingerprint(SAME[name]())
    # Automatic names go on counting.
    model = SAME[name]()
    assert study.fingerprint(model) == first
    model.compile("adam", "mse")
    assert study.fingerprint(model) == first


def connected(connect, classes=2):
    """Returns a model of three layers, by how they are connected."""
    inputs = keras.Input((4,))
    a = layers.Dense(4)(inputs)
    b = layers.Dense(4)(inputs)
    c = layers.Dense(4)(b)
    return keras.Model(inputs, layers.Dense(classes)(connect(a, b, c)))


def two_inputs(turned):
    x, y = keras.Input((4,)), keras.Input((4,))
    outputs = layers.Dense(2)(x) - layers.Dense(3)(y)[:, :2]
    return keras.Model([y, x] if turned else [x, y], outputs)


def shared(is_shared):
    """Returns a model that calls one layer twice, or two layers."""
    inputs = keras.Input((4,))
    first, second = layers.Dense(4), layers.Dense(4)
    x = first(inputs)
    return keras.Model(inputs, (first if is_shared else second)(x))


DIFFERENT = {
    "connections": lambda is_one: connected(
        lambda a, b, c: layers.Add()([c, a if is_one else c])
    ),
    "order of arguments": lambda is_one: connected(
        lambda a, b, c: a - c if is_one else c - a
    ),
    "order of inputs": two_inputs,
    "sharing": shared,
    "initializer": lambda is_one: mlp(
        kernel_initializer="he_uniform" if is_one else "he_normal"
    ),
    "policy": lambda is_one: sequence(
        lambda: layers.Dense(2, dtype="float32" if is_one else "mixed_bfloat16")
    )(),
    "operation": lambda is_one: connected(
        lambda a, b, c: a + c if is_one else a * c
    ),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_another_network_has_another_fingerprint(name):
    first, second = (DIFFERENT[name](is_one) for is_one in (True, False))
    assert study.fingerprint(first) != study.fingerprint(second)


def test_other_code_of_a_model_is_another_network(monkeypatch):
    first = study.fingerprint(subclassed())
    monkeypatch.setattr(Subclassed, "activation", "tanh")
    assert study.fingerprint(subclassed()) != first


def unfit(model, shape, output):
    """Returns the arguments of a test with a network, and the message."""
    text = f"input_shape=(None, {shape}), output_shape=(None, {output})"
    return model, ValueError, re.escape(text)


unknown = keras.Sequential([layers.Flatten(), layers.Dense(10)])


@pytest.mark.parametrize(
    ("networks", "error", "message"),
    [
        ([linear], TypeError, "a keras.Model or a mapping"),
        (lambda: None, TypeError, "must return a keras.Model"),
        (lambda: unknown, ValueError, "functional or Sequential"),
        unfit(lambda: linear(shape=(32, 28, 1)), "32, 28, 1", "10"),
        unfit(lambda: linear(classes=9), "28, 28, 1", "9"),
    ],
)
def test_wrong_networks_are_refused(tmp_path, networks, error, message):
    with pytest.raises(error, match=message):
        train(networks, tmp_path)
    # Another network may be written there.
    assert not list(tmp_path.rglob("*.keras"))


LOADED = Recipe(1, 7, seed=3, augment=("flip",), image_size=(6, 5))


def test_the_recipe_and_data_options_decide_how_images_are_loaded():
    task = study.Classification(arrays(), validation_fraction=0.5)
    images = task.load(LOADED)
    assert (images.batch_size, images.seed, images.augment) == (7, 3, ("flip",))
    assert images.image_shape == (6, 5, 3)
    assert images.sizes == {"train": 25, "validation": 30, "test": 15}


LOAD = functools.partial(data.load, "cluttered_mnist")


@pytest.mark.parametrize(
    ("images", "options", "error", "message"),
    [
        (
            arrays,
            {"batch_size": 1},
            TypeError,
            "no argument `batch_size`",
        ),
        (
            functools.partial(LOAD, batch_size=None),
            {},
            ValueError,
            "must come in batches",
        ),
        (
            functools.partial(LOAD, boxes=True),
            {},
            ValueError,
            "labels only.*boxes=True",
        ),
        (LOAD, {"download": True}, ValueError, "must be left out for lo"),
    ],
)
def test_images_and_options_that_do_not_fit_are_refused(
    images, options, error, message
):
    with pytest.raises(error, match=message):
        study.Classification(images(), **options)
    with pytest.raises(TypeError, match="`data` must be the name of a dataset"):
        study.Classification(arrays()[0])


# Networks of one seed share the initial values of the layers they share.


def builder(attention):
    name = f"with_{attention}"
    return networks.resnet((1, 1), attention=attention, name=name)


def unnamed(attention):
    """A user's function, whose layers Keras numbers through the process."""
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3)(inputs)
    if attention:
        x = attention_layers.CBAM(reduction_ratio=2)(x)
    x = layers.Conv2D(4, 3)(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(3)(x))


def kernels(model):
    """The kernels of layers that are in no gate, in their order."""
    return [
        keras.ops.convert_to_numpy(layer.kernel)
        for layer in model.layers
        if hasattr(layer, "kernel")
    ]


@pytest.mark.parametrize("build", [builder, unnamed])
def test_shared_layers_start_alike_whatever_was_built_before(build):
    starts = []
    for attention, seed in ((None, 0), ("cbam", 0), ("cbam", 1)):
        keras.utils.set_random_seed(seed)
        model = build(attention)
        draw_values(find_drawn(model), seed)
        starts.append(kernels(model))
    for plain, gated, other in zip(*starts, strict=True):
        np.testing.assert_array_equal(plain, gated)
        assert not np.array_equal(gated, other)


def test_layers_of_one_shape_start_differently():
    twice = keras.Sequential(
        [keras.Input((4,)), layers.Dense(4), layers.Dense(4)]
    )
    draw_values(find_drawn(twice), 0)
    first, second = kernels(twice)
    assert not np.array_equal(first, second)


def test_values_that_are_set_and_seeds_of_the_user_stay():
    seeded = keras.initializers.GlorotUniform(seed=3)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(4),
            layers.Dense(4, kernel_initializer=seeded),
        ]
    )
    first, _ = model.layers
    first.kernel.assign(np.arange(16.0).reshape(4, 4))
    before = [keras.ops.convert_to_numpy(weight) for weight in model.weights]
    draw_values(find_drawn(model), 0)
    for weight, values in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(
            keras.ops.convert_to_numpy(weight), values
        )
