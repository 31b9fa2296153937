"""`fused` leaves a layer's `call` what it was, to Keras and to subclasses."""

import inspect

import keras
import numpy as np
import pytest
from layer_checks import (
    built,
    fused_calls,
    output,
    random_input,
    single_operations,
    to_numpy,
)

from cbam_keras import CBAM, ChannelAttention, SpatialAttention, SqueezeExcite

pytestmark = pytest.mark.every_backend

SHAPE = (2, 6, 4, 16)
LAYERS = [CBAM, ChannelAttention, SpatialAttention, SqueezeExcite]
every_layer = pytest.mark.parametrize("layer_class", LAYERS)


@every_layer
def test_signature_and_name_are_kept(layer_class):
    assert str(inspect.signature(layer_class.call)) == (
        "(self, inputs, training=None)"
    )
    assert layer_class.call.__name__ == "call"
    assert layer_class.call.__module__.startswith("cbam_keras.layers.")


@pytest.mark.parametrize(
    "layer_class", [ChannelAttention, SpatialAttention, SqueezeExcite]
)
def test_the_decorated_function_is_the_formula(layer_class):
    layer, x = built(layer_class(), SHAPE), random_input(SHAPE)
    x = keras.ops.convert_to_tensor(x)
    formula = layer_class.call.__wrapped__(layer, x, training=True)
    expected = to_numpy(x) * to_numpy(layer.attention_map(x, training=True))
    np.testing.assert_allclose(to_numpy(formula), expected, atol=1e-6)


@every_layer
@pytest.mark.parametrize("training", [True, False, None])
def test_call_takes_arrays_of_any_dtype(layer_class, training):
    layer, x = built(layer_class(), SHAPE), 10 * random_input(SHAPE)
    for dtype in ("float64", "int32", "uint8"):
        values = np.abs(x).astype(dtype)
        found = layer.call(values, training=training)
        expected = output(layer, values.astype("float32"), training=training)
        assert keras.backend.standardize_dtype(found.dtype) == "float32"
        np.testing.assert_allclose(to_numpy(found), expected, atol=1e-5)


class Shifted(ChannelAttention):
    def call(self, inputs, training=None):
        return super().call(inputs, training=training) + 1.0


class ShiftedGate(CBAM):
    def build(self, input_shape):
        super().build(input_shape)
        self.channel_attention = Shifted(4, name="channel_attention")
        self.channel_attention.build(input_shape)


class Doubled(CBAM):
    def call(self, inputs, training=None):
        return 2.0 * super().call(inputs, training=training)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "layer_class, change",
    [(Shifted, lambda y: y + 1.0), (Doubled, lambda y: 2.0 * y)],
)
def test_a_subclass_may_call_what_it_overrides(layer_class, change, training):
    layer = built(layer_class(4), SHAPE)
    parent = layer_class.__base__(4)
    parent.build(SHAPE)
    parent.set_weights(layer.get_weights())
    x = random_input(SHAPE)
    np.testing.assert_allclose(
        output(layer, x, training=training),
        change(output(parent, x, training=training)),
        atol=1e-5,
    )


def test_the_call_of_a_gate_in_a_module_may_be_overridden():
    layer, x = built(ShiftedGate(4, 3), SHAPE), random_input(SHAPE)
    gates = layer.channel_attention, layer.spatial_attention
    shifted = x * to_numpy(gates[0].attention_map(x)) + 1.0
    expected = shifted * to_numpy(gates[1].attention_map(shifted))
    found = output(layer, x, training=True)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="AutoGraph is TensorFlow's"
)
@pytest.mark.parametrize("order", ["channel_first", "parallel"])
def test_autograph_leaves_the_call_as_it_is(order):
    import tensorflow as tf

    layer, x = built(CBAM(4, 3, order=order), SHAPE), random_input(SHAPE)

    @tf.function(autograph=True)
    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            # Both the layer, and its method without Keras around it.
            y = layer(x, training=True) + layer.call(x, training=True)
        return tape.gradient(y, x)

    with fused_calls() as calls:
        found = gradient(tf.constant(x))
    assert len(calls) == 2
    with single_operations(), tf.GradientTape() as tape:
        x = tf.constant(x)
        tape.watch(x)
        y = 2.0 * layer(x, training=True)
    np.testing.assert_allclose(found, tape.gradient(y, x), atol=1e-5)
