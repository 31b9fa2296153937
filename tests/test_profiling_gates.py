"""Multiply-accumulates of attention gates, against their formulas."""

import functools
import math

import numpy as np
import pytest
from profiling_checks import channels_first, convolve, products, profile_of

from cbam_keras import (
    CBAM,
    VARIANTS,
    ChannelAttention,
    SpatialAttention,
    SqueezeExcite,
)


def mlp(pools):
    # The pools take no product; each gives one number per channel.
    return lambda v, squeeze, excite: [
        v @ squeeze @ excite for _ in range(pools)
    ]


@pytest.mark.parametrize(
    "make, channels, hidden, pools",
    [
        (functools.partial(ChannelAttention, 4), 24, 6, 2),
        (functools.partial(ChannelAttention, 16), 24, 2, 2),
        (functools.partial(ChannelAttention, 16), 4, 1, 2),
        (functools.partial(ChannelAttention, 4, use_bias=False), 24, 6, 2),
        (functools.partial(ChannelAttention, 4, hidden_units=5), 24, 5, 2),
        (functools.partial(ChannelAttention, 4, pool_types="max"), 24, 6, 1),
        (
            functools.partial(
                ChannelAttention, 4, pool_types=("avg", "lp", "lse")
            ),
            24,
            6,
            3,
        ),
        (functools.partial(SqueezeExcite, 4), 24, 6, 1),
        (functools.partial(SqueezeExcite, hidden_units=7), 24, 7, 1),
    ],
    ids=[
        "r-4",
        "rounded-up",
        "at-least-1",
        "no-bias",
        "hidden-units",
        "max",
        "three-pools",
        "se",
        "se-hidden-units",
    ],
)
@pytest.mark.parametrize("space", [(7,), (7, 5), (4, 5, 3)], ids=str)
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_channel_gates_count_the_mlp_for_each_pool(
    make, channels, hidden, pools, space, data_format
):
    layer = make(data_format=data_format)
    shape = (*space, channels)
    if data_format == "channels_first":
        shape = channels_first(shape)
    found = profile_of(layer, shape)
    kernels = (channels, hidden), (hidden, channels)
    assert found.macs == products(mlp(pools), (channels,), *kernels)
    assert found.attention_macs == found.macs
    biases = (channels + hidden) * layer.use_bias
    assert found.parameters == 2 * channels * hidden + biases


def gate(pools, dilation=1):
    """Returns what a spatial gate multiplies, `x` being the feature map."""

    def call(x, kernel, pool_kernel=None):
        maps = [x[..., :1]] * pools
        if pool_kernel is not None:
            maps.append(np.tensordot(x, pool_kernel, 1))
        maps = np.concatenate(maps, axis=-1)
        return convolve(maps, kernel, dilation=dilation, padding="same")

    return call


SPATIAL = [
    ({}, 7, 2, False),
    ({"kernel_size": 3}, 3, 2, False),
    ({"kernel_size": 1}, 1, 2, False),
    ({"kernel_size": 3, "dilation_rate": 2}, 3, 2, False),
    ({"kernel_size": 3, "use_bias": True, "batch_norm": True}, 3, 2, False),
    ({"kernel_size": 3, "pool_types": "lse"}, 3, 1, False),
    ({"kernel_size": 3, "pool_types": ("max", "avg", "lp")}, 3, 3, False),
    ({"kernel_size": 3, "pool_types": "conv"}, 3, 0, True),
    ({"kernel_size": 3, "pool_types": ("max", "conv")}, 3, 1, True),
]


@pytest.mark.parametrize(
    "options, side, pools, learned", SPATIAL, ids=lambda value: str(value)
)
@pytest.mark.parametrize("space", [(9,), (7, 5), (2, 3, 4)], ids=str)
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_spatial_gates_count_their_convolutions(
    options, side, pools, learned, space, data_format
):
    shape = (*space, 6)
    sizes = [(side,) * len(space) + (pools + learned, 1)]
    sizes += [(6, 1)] * learned
    expected = products(
        gate(pools, options.get("dilation_rate", 1)), shape, *sizes
    )
    layer = SpatialAttention(data_format=data_format, **options)
    if data_format == "channels_first":
        shape = channels_first(shape)
    found = profile_of(layer, shape)
    assert found.macs == found.attention_macs == expected
    others = 3 if "batch_norm" in options else 0
    assert found.parameters == sum(map(math.prod, sizes)) + others


@pytest.mark.parametrize(
    "options, pools, maps",
    [
        ({}, 2, 2),
        ({"order": "spatial_first"}, 2, 2),
        ({"order": "parallel"}, 2, 2),
        ({"channel_pool_types": "avg"}, 1, 2),
        ({"spatial_pool_types": ("max",)}, 2, 1),
        (VARIANTS["official"], 2, 2),
    ],
    ids=str,
)
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_cbam_counts_both_gates(options, pools, maps, data_format):
    layer = CBAM(4, 3, data_format=data_format, **options)
    shape = (7, 5, 24)
    expected = products(mlp(pools), (24,), (24, 6), (6, 24))
    expected += products(gate(maps), shape, (3, 3, maps, 1))
    if data_format == "channels_first":
        shape = channels_first(shape)
    assert profile_of(layer, shape).attention_macs == expected
