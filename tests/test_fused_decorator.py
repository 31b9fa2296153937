"""`fused` leaves a layer's `call` what it was, to Keras and to subclasses."""

import inspect

import keras
import numpy as np
import pytest
from layer_checks import built, every_layer, output, random_input, to_numpy

from cbam_keras import CBAM, ChannelAttention, SpatialAttention

SHAPE = (2, 6, 4, 16)


@every_layer
def test_signature_and_name_are_kept(layer_class):
    assert str(inspect.signature(layer_class.call)) == (
        "(self, inputs, training=None, mask=None)"
    )
    assert layer_class.call.__name__ == "call"
    assert layer_class.call.__module__.startswith("cbam_keras.layers.")


@pytest.mark.parametrize(
    "layer_class, training, dtype",
    [
        (CBAM, True, "float64"),
        (CBAM, False, "uint8"),
        (ChannelAttention, None, "int32"),
        (SpatialAttention, True, "uint8"),
    ],
)
def test_call_takes_arrays_of_any_dtype(layer_class, training, dtype):
    layer = built(layer_class(), SHAPE)
    values = np.abs(10 * random_input(SHAPE)).astype(dtype)
    found = layer.call(values, training=training)
    expected = output(layer, values.astype("float32"), training=training)
    assert keras.backend.standardize_dtype(found.dtype) == "float32"
    np.testing.assert_allclose(to_numpy(found), expected, atol=1e-5)


def test_symbolic_inputs_stay_symbolic():
    found = built(CBAM(4, 3), SHAPE).call(
        keras.KerasTensor((None, 6, 4, 16)), training=True
    )
    assert isinstance(found, keras.KerasTensor)
    assert tuple(found.shape) == (None, 6, 4, 16)


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


@pytest.mark.parametrize(
    "layer_class, change, training",
    [
        (Shifted, lambda y: y + 1.0, True),
        (Doubled, lambda y: 2.0 * y, True),
        (Doubled, lambda y: 2.0 * y, False),
    ],
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
