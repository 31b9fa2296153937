"""Masks: positions that are masked do not change the others."""

import keras
import numpy as np
import pytest
from layer_checks import assert_close, built, gradients, random_input, to_numpy

from cbam_keras import (
    BAM,
    CBAM,
    SCSE,
    ChannelAttention,
    CoordinateAttention,
    EfficientChannelAttention,
    GlobalContext,
    SimAM,
    SpatialAttention,
    SqueezeExcite,
    TripletAttention,
)

every_backend = pytest.mark.every_backend
LENGTH, PADDED, CHANNELS = 6, 32, 16

LAYERS = {
    "cbam": (CBAM, {}),
    "spatial-first": (
        CBAM,
        {"order": "spatial_first", "spatial_pool_types": "conv"},
    ),
    "parallel": (CBAM, {"order": "parallel", "spatial_batch_norm": True}),
    "lp-lse": (ChannelAttention, {"pool_types": ("lp", "lse")}),
    "se": (SqueezeExcite, {}),
    "spatial": (SpatialAttention, {"pool_types": ("lse", "max")}),
    "batch-norm": (SpatialAttention, {"batch_norm": True}),
    "eca": (EfficientChannelAttention, {}),
    "simam": (SimAM, {}),
    "bam": (BAM, {"dilation_rate": 1}),
    "scse": (SCSE, {}),
    "gc": (GlobalContext, {}),
}
# One has batch normalization, one the rarest pools, one a softmax.
DISTINCT = "parallel", "lp-lse", "gc"


class Masked(keras.layers.Layer):
    """Calls a layer with a mask, which is no argument."""

    def __init__(self, layer, mask):
        super().__init__()
        self.layer, self.mask = layer, mask
        self.built = True

    def call(self, inputs, training=None):
        return self.layer(inputs, training=training, mask=self.mask)


def padded(x, value=100.0):
    x = np.pad(x, ((0, 0), (0, PADDED - LENGTH), (0, 0)), constant_values=value)
    mask = np.arange(PADDED) < LENGTH
    return x, np.broadcast_to(mask, x.shape[:2])


@pytest.mark.parametrize(
    "name, training",
    [
        *((name, False) for name in LAYERS),
        # Inference uses fewer of the same operations.
        *(
            pytest.param(name, True, marks=[every_backend] * (name in DISTINCT))
            for name in LAYERS
        ),
    ],
)
def test_a_padded_sequence_gives_what_the_sequence_gives(name, training):
    layer_class, options = LAYERS[name]
    layers = [
        built(layer_class(**options), (None, None, CHANNELS)) for _ in range(2)
    ]
    x = random_input((3, LENGTH, CHANNELS))
    y = to_numpy(layers[0](x[:2], training=training))
    # All of the third is masked.
    x, mask = padded(x)
    mask = mask & [[True], [True], [False]]
    # A batch that is masked altogether leaves the moving averages.
    layers[1](x, training=training, mask=np.zeros_like(mask))
    y_padded = to_numpy(layers[1](x, training=training, mask=mask))
    assert_close(y_padded[:2, :LENGTH], y, 1e-6)
    assert np.isfinite(y_padded).all()
    # Moving averages too.
    for a, b in zip(*(layer.get_weights() for layer in layers), strict=True):
        assert_close(a, b, 1e-6)
    weighting = random_input(x.shape, seed=1)
    found = gradients(Masked(layers[1], mask), x, weighting)
    assert all(np.isfinite(gradient).all() for gradient in found)


@pytest.mark.parametrize("kind", ["max", "lse"])
def test_what_is_masked_is_less_than_any_feature(kind):
    layer = ChannelAttention(
        4, pool_types=kind, activation=None, gate_activation=None
    )
    layer = built(layer, (None, None, CHANNELS))
    x = random_input((2, LENGTH, CHANNELS)) - 1e6
    y, mask = padded(x)
    expected = layer.attention_map(x)
    assert_close(layer.attention_map(y, mask=mask), expected, rtol=1e-5)
    # Where all is masked, the pool is that of a single 0.
    none = layer.attention_map(y, mask=np.zeros_like(mask))
    zero = layer.attention_map(np.zeros_like(x[:, :1]))
    assert_close(none, zero, rtol=1e-5)


@every_backend
def test_a_model_passes_its_mask_on():
    inputs = keras.Input((None, CHANNELS))
    outputs = CBAM(4)(keras.layers.Masking()(inputs))
    pooled = keras.layers.GlobalAveragePooling1D()(outputs)
    model = keras.Model(inputs, pooled)
    x = random_input((2, LENGTH, CHANNELS))
    assert_close(model(padded(x, 0.0)[0]), model(x), 1e-6)


@pytest.mark.parametrize(
    "layer_class, data_format",
    [
        (CBAM, "channels_last"),
        (CBAM, "channels_first"),
        (CoordinateAttention, "channels_last"),
        (TripletAttention, "channels_first"),
        (BAM, "channels_last"),
    ],
)
def test_images_take_the_mask_of_their_positions(layer_class, data_format):
    first = data_format == "channels_first"
    channels = (CHANNELS, None, None) if first else (None, None, CHANNELS)
    layer = built(layer_class(3, data_format=data_format), (None, *channels))
    x = random_input((2, 5, 4, CHANNELS))
    wide = np.pad(x, ((0, 0), (0, 0), (0, 3), (0, 0)), constant_values=9.0)
    mask = np.broadcast_to(np.arange(7) < 4, (2, 5, 7))

    def called(x, **options):
        x = np.moveaxis(x, -1, 1) if first else x
        y = to_numpy(layer(x, **options))
        return np.moveaxis(y, 1, -1) if first else y

    for training in False, True:
        y = called(wide, mask=mask, training=training)
        expected = called(x, training=training)
        assert_close(y[:, :, :4], expected, rtol=1e-5, atol=1e-5)
    # A mask of the first axes holds for whole rows.
    y = called(wide, mask=np.arange(5) < np.array([[5], [2]]))
    assert_close(y[1, :2], called(wide[1:, :2])[0], rtol=1e-6, atol=1e-6)
