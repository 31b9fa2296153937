"""Values of the spatial gate against formulas and the authors' code."""

import numpy as np
import pytest
from layer_checks import built, output, random_input, to_numpy
from numpy_reference import batch_norm, sigmoid, spatial_logits

from cbam_keras import SpatialAttention

pytestmark = pytest.mark.every_backend


def logits_of(layer, x, **options):
    pool_kernel = None
    if layer.pool_kernel is not None:
        pool_kernel = to_numpy(layer.pool_kernel).astype("float64")
    return spatial_logits(
        x.astype("float64"),
        to_numpy(layer.kernel).astype("float64"),
        pools=layer.pool_types,
        pool_kernel=pool_kernel,
        **options,
    )


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    "pools",
    [("avg", "max"), ("max", "avg"), ("lp", "lse"), ("avg", "max", "conv")],
    ids="-".join,
)
def test_equals_numpy_for_choices_of_pools(pools):
    layer = built(SpatialAttention(pool_types=pools, dtype="float64"))
    x = random_input(dtype="float64")
    gate = sigmoid(logits_of(layer, x))
    np.testing.assert_allclose(
        to_numpy(layer.attention_map(x)), gate, rtol=0, atol=1e-12
    )
    np.testing.assert_allclose(output(layer, x), x * gate, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "shape, kernel_size",
    [
        ((2, 9, 16), 3),
        ((2, 7, 5, 16), 1),
        # Wider than the map.
        ((2, 7, 5, 16), 9),
        ((2, 4, 3, 5, 16), 5),
    ],
)
def test_equals_numpy_in_every_rank_and_size(shape, kernel_size):
    layer = built(SpatialAttention(kernel_size), shape)
    x = random_input(shape)
    np.testing.assert_allclose(
        output(layer, x), x * sigmoid(logits_of(layer, x)), atol=1e-5
    )


def test_dilation_spreads_the_kernel():
    layer = built(SpatialAttention(3, dilation_rate=2))
    x = random_input()
    logits = logits_of(layer, x, dilation=2)
    np.testing.assert_allclose(output(layer, x), x * sigmoid(logits), atol=1e-5)


def test_bias_is_added():
    layer = built(SpatialAttention(use_bias=True))
    x = random_input()
    logits = logits_of(layer, x, bias=to_numpy(layer.bias).astype("float64"))
    np.testing.assert_allclose(output(layer, x), x * sigmoid(logits), atol=1e-5)


def test_attention_map_is_channels_first_where_the_data_are():
    layer = SpatialAttention(data_format="channels_first")
    assert layer.attention_map(random_input((2, 16, 7, 5))).shape == (
        2,
        1,
        7,
        5,
    )


def values_of(norm):
    return [
        to_numpy(variable).astype("float64")
        for variable in (
            norm.gamma,
            norm.beta,
            norm.moving_mean,
            norm.moving_variance,
        )
    ]


def test_batch_norm_uses_moving_statistics_in_inference():
    layer = built(SpatialAttention(batch_norm=True))
    assert layer.batch_norm.epsilon == 1e-5
    x = random_input()
    logits = batch_norm(logits_of(layer, x), *values_of(layer.batch_norm))
    np.testing.assert_allclose(output(layer, x), x * sigmoid(logits), atol=1e-5)


def test_batch_norm_uses_and_tracks_the_batch_in_training():
    layer = built(SpatialAttention(batch_norm=True))
    norm = layer.batch_norm
    x = random_input()
    logits = logits_of(layer, x)
    gamma, beta, old_mean, old_variance = values_of(norm)
    result = output(layer, x, training=True)
    normalized = batch_norm(logits, gamma, beta, logits.mean(), logits.var())
    np.testing.assert_allclose(result, x * sigmoid(normalized), atol=1e-4)
    np.testing.assert_allclose(
        to_numpy(norm.moving_mean),
        0.99 * old_mean + 0.01 * logits.mean(),
        rtol=1e-5,
    )
    np.testing.assert_allclose(
        to_numpy(norm.moving_variance),
        0.99 * old_variance + 0.01 * logits.var(),
        rtol=1e-4,
    )


def test_kernel_shape_follows_rank_and_pools():
    layer = SpatialAttention(5, pool_types=("avg", "max", "lse"))
    layer.build((None, 3, 4, 5, 16))
    assert layer.kernel.shape == (5, 5, 5, 3, 1)
    assert layer.bias is layer.batch_norm is layer.pool_kernel is None
