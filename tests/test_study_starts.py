"""Networks of one seed share the initial values of the layers they share."""

import keras
import networks
import numpy as np
import pytest
from keras import layers

from cbam_keras import layers as attention_layers
from cbam_keras.study.running.networks import draw, find_drawn


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
        draw(find_drawn(model), seed)
        starts.append(kernels(model))
    for plain, gated, other in zip(*starts, strict=True):
        np.testing.assert_array_equal(plain, gated)
        assert not np.array_equal(gated, other)


def test_layers_of_one_shape_start_differently():
    twice = keras.Sequential(
        [keras.Input((4,)), layers.Dense(4), layers.Dense(4)]
    )
    draw(find_drawn(twice), 0)
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
    draw(find_drawn(model), 0)
    for weight, values in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(
            keras.ops.convert_to_numpy(weight), values
        )
