"""Counts of parameters and multiply-accumulates, against other counts."""

import functools
import math
import re

import keras
import numpy as np
import pytest
from keras import layers, ops
from layer_checks import output, random_input

from cbam_keras import (
    CBAM,
    VARIANTS,
    ChannelAttention,
    SpatialAttention,
    SqueezeExcite,
    models,
)
from cbam_keras.profiling import profile_model


class Counted:
    """Stands in for a number, and counts the products it is part of."""

    products = 0

    def __mul__(self, other):
        Counted.products += 1
        return self

    def __add__(self, other):
        return self

    __rmul__, __radd__ = __mul__, __add__


def products(function, *shapes):
    """Returns how often `function` multiplies, given arrays of `shapes`."""
    Counted.products = 0
    function(*(np.full(shape, Counted(), dtype=object) for shape in shapes))
    return Counted.products


def convolve(x, kernel, stride=1, dilation=1, groups=1, padding="valid"):
    """Convolves one sample `(*space, C)` by `(*taps, C / groups, filters)`."""
    rank = x.ndim - 1
    reach = [dilation * (taps - 1) + 1 for taps in kernel.shape[:rank]]
    if padding == "same":
        lengths = [-(-n // stride) for n in x.shape[:rank]]
        around = [
            max((length - 1) * stride + r - n, 0)
            for length, r, n in zip(lengths, reach, x.shape, strict=False)
        ]
        x = np.pad(x, [*((n // 2, n - n // 2) for n in around), (0, 0)])
    if padding == "causal":
        x = np.pad(x, [(reach[0] - 1, 0), (0, 0)])
    size = [(n - r) // stride + 1 for n, r in zip(x.shape, reach, strict=False)]
    pairs = list(
        zip(np.split(x, groups, -1), np.split(kernel, groups, -1), strict=True)
    )
    rows = []
    for position in np.ndindex(*size):
        window = tuple(
            slice(stride * p, stride * p + r, dilation)
            for p, r in zip(position, reach, strict=True)
        )
        rows += [np.tensordot(part[window], k, rank + 1) for part, k in pairs]
    return np.concatenate(rows).reshape(*size, kernel.shape[-1])


def depthwise(x, kernel, **options):
    channels = x.shape[-1]
    kernel = kernel.reshape(*kernel.shape[:-2], 1, -1)
    return convolve(x, kernel, groups=channels, **options)


def separable(x, kernel, pointwise, **options):
    return convolve(depthwise(x, kernel, **options), pointwise)


def spread(x, kernel, stride=1):
    """Adds the kernel `(*taps, filters, C)` up around each position of `x`."""
    taps, filters = kernel.shape[: x.ndim - 1], kernel.shape[-2]
    size = [
        stride * (n - 1) + k for n, k in zip(x.shape[:-1], taps, strict=True)
    ]
    y = np.zeros((*size, filters), x.dtype)
    for position in np.ndindex(*x.shape[:-1]):
        window = tuple(
            slice(stride * p, stride * p + k)
            for p, k in zip(position, taps, strict=True)
        )
        y[window] += np.tensordot(kernel, x[position], 1)
    return y


def each_step(function):
    return lambda x, *kernels: np.stack(
        [function(step, *kernels) for step in x]
    )


def dense(x, kernel):
    return np.tensordot(x, kernel, 1)


def einsum(equation):
    return lambda x, kernel: np.einsum(equation, x[None], kernel)[0]


def made(kind, *args, **options):
    return functools.partial(kind, *args, use_bias=False, **options)


def case(name, make, shape, function, **options):
    function = functools.partial(function, **options) if options else function
    return pytest.param(make, shape, function, id=name)


SAME = {"padding": "same"}
# Layers with a data format, the shape of one sample, and what they compute.
CONVOLUTIONS = [
    case("1d", made(layers.Conv1D, 4, 3), (9, 5), convolve),
    case(
        "1d-causal",
        made(layers.Conv1D, 4, 3, padding="causal", dilation_rate=2),
        (9, 5),
        convolve,
        dilation=2,
        padding="causal",
    ),
    case("2d", made(layers.Conv2D, 4, (3, 2)), (7, 5, 6), convolve),
    case("2d-1x1", made(layers.Conv2D, 4, 1), (7, 5, 6), convolve),
    case(
        "2d-same",
        made(layers.Conv2D, 4, 3, **SAME),
        (7, 5, 6),
        convolve,
        **SAME,
    ),
    case(
        "2d-same-strides",
        made(layers.Conv2D, 4, 3, strides=2, **SAME),
        (8, 5, 6),
        convolve,
        stride=2,
        **SAME,
    ),
    case(
        "2d-strides",
        made(layers.Conv2D, 4, 3, strides=2),
        (8, 5, 6),
        convolve,
        stride=2,
    ),
    case(
        "2d-dilation",
        made(layers.Conv2D, 4, 3, dilation_rate=2),
        (8, 7, 6),
        convolve,
        dilation=2,
    ),
    case(
        "2d-groups",
        made(layers.Conv2D, 4, 3, groups=2, **SAME),
        (7, 5, 6),
        convolve,
        groups=2,
        **SAME,
    ),
    case(
        "3d", made(layers.Conv3D, 4, 2, **SAME), (4, 5, 3, 2), convolve, **SAME
    ),
    case(
        "3d-strides",
        made(layers.Conv3D, 4, 3, strides=2),
        (6, 5, 4, 2),
        convolve,
        stride=2,
    ),
    case("depthwise-1d", made(layers.DepthwiseConv1D, 3), (9, 5), depthwise),
    case(
        "depthwise-1d-multiplier",
        made(layers.DepthwiseConv1D, 3, depth_multiplier=2, **SAME),
        (9, 5),
        depthwise,
        **SAME,
    ),
    case(
        "depthwise-2d",
        made(layers.DepthwiseConv2D, 3, **SAME),
        (7, 5, 6),
        depthwise,
        **SAME,
    ),
    case(
        "depthwise-2d-multiplier-strides",
        made(layers.DepthwiseConv2D, 3, strides=2, depth_multiplier=3),
        (7, 5, 6),
        depthwise,
        stride=2,
    ),
    case(
        "separable-1d",
        made(layers.SeparableConv1D, 4, 3, depth_multiplier=2),
        (9, 5),
        separable,
    ),
    case(
        "separable-2d",
        made(layers.SeparableConv2D, 4, 3, **SAME),
        (7, 5, 6),
        separable,
        **SAME,
    ),
    case(
        "separable-2d-multiplier-strides",
        made(layers.SeparableConv2D, 4, 3, strides=2, depth_multiplier=2),
        (7, 5, 6),
        separable,
        stride=2,
    ),
    case("transposed-1d", made(layers.Conv1DTranspose, 4, 3), (5, 3), spread),
    case(
        "transposed-2d",
        made(layers.Conv2DTranspose, 4, (3, 2), strides=2),
        (4, 3, 5),
        spread,
        stride=2,
    ),
    case(
        "transposed-3d",
        made(layers.Conv3DTranspose, 2, 2, strides=2),
        (2, 3, 4, 5),
        spread,
        stride=2,
    ),
]
PRODUCTS = [
    *(
        case(
            f"dense-rank-{len(shape) + 1}", made(layers.Dense, 6), shape, dense
        )
        for shape in [(5,), (3, 5), (2, 3, 5)]
    ),
    *(
        case(
            equation,
            functools.partial(layers.EinsumDense, equation, output_shape),
            shape,
            einsum(equation),
        )
        for equation, output_shape, shape in [
            ("ab,bc->ac", 4, (5,)),
            ("abc,cd->abd", (None, 4), (3, 5)),
            ("abc,cde->abde", (3, 4, 2), (3, 5)),
            ("abcd,cde->abe", (3, 6), (3, 4, 5)),
            ("abc,bd->adc", (6, 5), (3, 5)),
            ("abc,bcd->abd", (3, 4), (3, 5)),
            ("...x,xy->...y", 4, (3, 2, 5)),
            ("...bc,cd->...bd", (3, 4), (2, 3, 5)),
            ("ab...,bc->ac...", (4, 5), (3, 5)),
        ]
    ),
    case(
        "time-distributed",
        lambda: layers.TimeDistributed(layers.Conv1D(4, 3, use_bias=False)),
        (3, 7, 5),
        each_step(convolve),
    ),
    case(
        "time-distributed-twice",
        lambda: layers.TimeDistributed(
            layers.TimeDistributed(layers.Dense(4, use_bias=False))
        ),
        (3, 2, 5),
        dense,
    ),
    case(
        "time-distributed-model",
        lambda: layers.TimeDistributed(
            keras.Sequential(
                [
                    keras.Input((7, 5)),
                    layers.SeparableConv1D(4, 3, use_bias=False),
                    layers.Dropout(0.5),
                    layers.BatchNormalization(center=False, scale=False),
                ]
            )
        ),
        (3, 7, 5),
        each_step(separable),
    ),
    case(
        "spectral-normalization",
        lambda: layers.SpectralNormalization(
            layers.Conv2D(4, 3, use_bias=False)
        ),
        (7, 5, 6),
        convolve,
    ),
]


def model_of(*parts, shape):
    return keras.Sequential([keras.Input(shape), *parts], name="model")


def profile_of(layer, shape):
    return profile_model(model_of(layer, shape=shape))


def channels_first(shape):
    return (shape[-1], *shape[:-1])


@pytest.mark.parametrize("make, shape, function", CONVOLUTIONS + PRODUCTS)
def test_macs_equal_the_products_of_the_definition(make, shape, function):
    layer = make()
    (row,) = profile_of(layer, shape).rows
    sizes = [weight.shape for weight in layer.trainable_weights]
    assert row.macs == products(function, shape, *sizes)
    assert row.parameters == sum(map(math.prod, sizes))
    assert row.kind == type(layer).__name__


# Without this, the test above could count a definition of something else.
@pytest.mark.parametrize("make, shape, function", CONVOLUTIONS + PRODUCTS)
def test_the_definition_is_what_the_layer_computes(make, shape, function):
    layer = make()
    x = random_input((1, *shape))
    found = output(layer, x)[0]
    kernels = [ops.convert_to_numpy(w) for w in layer.trainable_weights]
    # Sums of at most 162 products of numbers around 1, in float32; the batch
    # normalization of a fresh layer divides by the root of 1.001.
    np.testing.assert_allclose(
        found, function(x[0], *kernels), rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("make, shape, function", CONVOLUTIONS)
def test_channels_first_counts_alike(make, shape, function):
    layer = make(data_format="channels_first")
    found = profile_of(layer, channels_first(shape))
    sizes = [weight.shape for weight in layer.trainable_weights]
    assert found.macs == products(function, shape, *sizes)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_padding_crops_no_products_of_a_transposed_convolution(rank):
    kind = (
        layers.Conv1DTranspose,
        layers.Conv2DTranspose,
        layers.Conv3DTranspose,
    )[rank - 1]
    shape = (*(4, 3, 5)[:rank], 6)
    found = profile_of(kind(2, 3, strides=2, padding="same"), shape)
    kernel = (3,) * rank + (2, 6)
    assert found.macs == products(
        functools.partial(spread, stride=2), shape, kernel
    )


def torch_convolution(rank, transposed=False, **options):
    def call(functional, x, kernel):
        name = f"conv_transpose{rank}d" if transposed else f"conv{rank}d"
        return getattr(functional, name)(x, kernel, **options)

    return call


# PyTorch's own counter as the judge: FLOPs, two for each MAC.
@pytest.mark.parametrize(
    "make, shape, kernel, function",
    [
        (made(layers.Conv1D, 4, 3), (9, 6), (4, 6, 3), torch_convolution(1)),
        (
            made(layers.Conv2D, 8, 3, strides=2, groups=2),
            (9, 7, 6),
            (8, 3, 3, 3),
            torch_convolution(2, stride=2, groups=2),
        ),
        (
            made(layers.Conv2D, 8, 3, dilation_rate=2, padding="same"),
            (9, 7, 6),
            (8, 6, 3, 3),
            torch_convolution(2, dilation=2, padding="same"),
        ),
        (
            made(layers.DepthwiseConv2D, 3, depth_multiplier=2),
            (9, 7, 6),
            (12, 1, 3, 3),
            torch_convolution(2, groups=6),
        ),
        (
            made(layers.Conv3D, 4, 2),
            (5, 4, 3, 6),
            (4, 6, 2, 2, 2),
            torch_convolution(3),
        ),
        (
            made(layers.Conv1DTranspose, 4, 3),
            (9, 6),
            (6, 4, 3),
            torch_convolution(1, True),
        ),
        (
            made(layers.Conv2DTranspose, 4, 3, strides=2, padding="same"),
            (5, 4, 6),
            (6, 4, 3, 3),
            torch_convolution(2, True, stride=2, padding=1, output_padding=1),
        ),
        (
            made(layers.Conv3DTranspose, 4, 2, strides=2),
            (5, 4, 3, 6),
            (6, 4, 2, 2, 2),
            torch_convolution(3, True, stride=2),
        ),
    ],
    ids=[
        "1d",
        "2d-strides-groups",
        "2d-same-dilation",
        "depthwise",
        "3d",
        "transposed-1d",
        "transposed-2d-same",
        "transposed-3d",
    ],
)
def test_macs_equal_pytorchs_counter(make, shape, kernel, function):
    torch = pytest.importorskip("torch", reason="PyTorch is the judge here")
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        function(
            torch.nn.functional,
            torch.zeros((1, *channels_first(shape))),
            torch.zeros(kernel),
        )
    assert 2 * profile_of(make(), shape).macs == counter.get_total_flops()


def perceptron(pools):
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
def test_channel_gates_count_the_perceptron_for_each_pool(
    make, channels, hidden, pools, space, data_format
):
    layer = make(data_format=data_format)
    shape = (*space, channels)
    if data_format == "channels_first":
        shape = channels_first(shape)
    found = profile_of(layer, shape)
    kernels = (channels, hidden), (hidden, channels)
    assert found.macs == products(perceptron(pools), (channels,), *kernels)
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
    expected = products(perceptron(pools), (24,), (24, 6), (6, 24))
    expected += products(gate(maps), shape, (3, 3, maps, 1))
    if data_format == "channels_first":
        shape = channels_first(shape)
    assert profile_of(layer, shape).attention_macs == expected


def test_biases_and_activations_cost_no_macs():
    plain, rich = (
        profile_of(layers.Conv2D(4, 3, **options), (7, 5, 6))
        for options in ({"use_bias": False}, {"activation": "gelu"})
    )
    assert rich.macs == plain.macs
    assert rich.parameters == plain.parameters + 4


@pytest.mark.parametrize(
    "kind, options, parameters",
    [
        (layers.BatchNormalization, {}, 12),
        (layers.LayerNormalization, {}, 12),
        (layers.GroupNormalization, {"groups": 2}, 12),
        (layers.RMSNormalization, {}, 6),
        (layers.PReLU, {}, 210),
        (layers.Normalization, {}, 0),
    ],
)
def test_what_only_scales_or_shifts_costs_parameters_alone(
    kind, options, parameters
):
    found = profile_of(kind(**options), (7, 5, 6))
    assert found.groups == {"other": (parameters, 0)}
    assert not found.uncounted


def test_lookups_cost_parameters_alone():
    found = profile_of(layers.Embedding(11, 4), (7,))
    assert found.groups == {"other": (44, 0)}


def test_embedding_called_in_reverse_is_not_counted():
    if not hasattr(layers, "ReversibleEmbedding"):
        pytest.skip("this Keras has no ReversibleEmbedding")
    embedding = layers.ReversibleEmbedding(11, 4, name="words")
    inputs = keras.Input((7,))
    model = keras.Model(inputs, embedding(embedding(inputs), reverse=True))
    found = profile_model(model)
    assert found.uncounted == ("words",)
    assert found.groups == {"not counted": (44, 0)}


def test_layers_without_weights_have_no_row():
    found = profile_model(
        model_of(
            layers.Dropout(0.5),
            layers.MaxPooling2D(),
            layers.Conv2D(4, 3, name="conv"),
            layers.ReLU(),
            layers.Flatten(),
            layers.Softmax(),
            shape=(8, 8, 3),
        )
    )
    assert [row.name for row in found.rows] == ["conv"]


def test_groups_add_up_to_the_totals():
    found = profile_model(
        models.ResNet(
            (1, 1),
            block="basic",
            widths=(4, 8),
            stem="small",
            stem_width=4,
            attention="cbam",
            input_shape=(8, 8, 3),
            classes=5,
        )
    )
    assert set(found.groups) == {"convolution", "dense", "attention", "other"}
    parameters, macs = map(sum, zip(*found.groups.values(), strict=True))
    assert (parameters, macs) == (found.parameters, found.macs)
    assert found.groups["dense"] == (45, 40)
    assert found.groups["attention"] == (
        found.attention_parameters,
        found.attention_macs,
    )


def test_model_without_attention_has_none():
    found = profile_of(layers.Dense(2), (3,))
    assert (found.attention_parameters, found.attention_macs) == (0, 0)


def inner(name="inner"):
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(3, 3, padding="same", name="conv")(inputs)
    return keras.Model(inputs, CBAM(3, 3, name="attention")(x), name=name)


def test_models_within_models_are_taken_apart():
    inputs = keras.Input((8, 8, 3))
    outer = keras.Model(inputs, inner()(inputs), name="outer")
    x = outer(inputs)
    outputs = layers.Dense(2, name="dense")(layers.Flatten()(x))
    found = profile_model(keras.Model(inputs, outputs))
    assert [row.name for row in found.rows] == [
        "outer/inner/conv",
        "outer/inner/attention",
        "dense",
    ]
    assert found.macs == profile_model(outer).macs + 8 * 8 * 3 * 2


def test_model_used_twice_has_its_parameters_once_and_its_macs_twice():
    model = inner()
    inputs = keras.Input((8, 8, 3))
    twice = profile_model(keras.Model(inputs, model(model(inputs))))
    once = profile_model(model)
    assert [row.name for row in twice.rows] == [
        "inner/conv",
        "inner/attention",
    ]
    assert twice.parameters == once.parameters
    assert twice.macs == 2 * once.macs


def test_shared_layer_has_the_macs_of_each_call():
    conv = layers.Conv2D(3, 3, padding="same", use_bias=False, name="conv")
    inputs = keras.Input((8, 8, 3))
    x = layers.MaxPooling2D()(conv(inputs))
    found = profile_model(keras.Model(inputs, conv(x)))
    (row,) = found.rows
    assert row.parameters == 81
    assert row.macs == 81 * (64 + 16)
    assert row.output_shape == (8, 8, 3)


def test_layer_in_two_wrappers_has_its_parameters_once():
    dense = layers.Dense(5, use_bias=False)
    inputs = keras.Input((3, 5))
    outputs = layers.TimeDistributed(dense, name="steps")(dense(inputs))
    found = profile_model(keras.Model(inputs, outputs))
    assert [row.parameters for row in found.rows] == [25, 0]
    assert [row.macs for row in found.rows] == [75, 75]


def test_axes_folded_into_the_batch_count():
    # As windowed attention does it.
    inputs = keras.Input((8, 8, 3))
    windows = ops.reshape(inputs, (-1, 4, 4, 3))
    x = layers.Conv2D(3, 3, padding="same", use_bias=False)(windows)
    x = layers.Dense(5, use_bias=False)(CBAM(1, 3)(x))
    found = profile_model(keras.Model(inputs, x))
    gates = 4 * 2 * 2 * 9 + 64 * 9 * 2
    assert [row.macs for row in found.rows] == [64 * 81, gates, 64 * 15]


def test_axes_folded_into_the_batch_count_in_time_distributed():
    inputs = keras.Input((4, 3, 5))
    x = ops.reshape(inputs, (-1, 3, 5))
    x = layers.TimeDistributed(layers.Dense(2, use_bias=False))(x)
    assert profile_model(keras.Model(inputs, x)).macs == 4 * 3 * 5 * 2


def test_frozen_layers_have_macs_and_no_trainable_parameters():
    model = inner()
    trained = profile_model(model)
    model.get_layer("conv").trainable = False
    frozen = profile_model(model)
    assert [row.parameters for row in frozen.rows] == [
        0,
        trained.attention_parameters,
    ]
    assert frozen.macs == trained.macs
    model.trainable = False
    assert profile_model(model).parameters == 0


def test_sequential_models_are_read():
    model = model_of(
        layers.Conv2D(4, 3, name="conv"),
        keras.Sequential([layers.Dense(2, name="dense")], name="head"),
        shape=(8, 8, 3),
    )
    found = profile_model(model)
    assert [row.name for row in found.rows] == ["conv", "head/dense"]
    assert found.input_shape == (8, 8, 3)
    assert found.model == "model"


@pytest.mark.parametrize(
    "shape",
    [(9, 7, 3), [9, 7, 3], tuple(np.array([9, 7, 3])), [(9, 7, 3)]],
    ids=["tuple", "list", "numpy", "list-of-one"],
)
def test_unknown_sizes_are_given(shape):
    model = model_of(layers.Conv2D(4, 3), shape=(None, None, 3))
    found = profile_model(model, shape)
    assert found.macs == 7 * 5 * 4 * 27
    assert found.rows[0].output_shape == (7, 5, 4)
    assert found.input_shape == (9, 7, 3)


def test_size_of_a_fixed_model_may_be_repeated():
    found = profile_model(inner(), (8, 8, 3))
    assert found.macs == profile_model(inner()).macs


NESTINGS = {
    "list": lambda a, b: [b, a],
    "tuple": lambda a, b: (b, a),
    "dict": lambda a, b: {"b": b, "a": a},
    "nested": lambda a, b: [{"b": b}, (a,)],
}


def two_inputs(nesting="list"):
    """Returns a model whose inputs do not stand in the order of their names."""
    a, b = (keras.Input((None, 3), name=name) for name in "ab")
    outputs = [
        layers.Dense(4, name="dense_a")(a),
        layers.Dense(5, name="dense_b")(b),
    ]
    return keras.Model(NESTINGS[nesting](a, b), outputs, name="two")


@pytest.mark.parametrize(
    "nesting, shape",
    [
        ("list", [(7, 3), (2, 3)]),
        ("list", ((7, 3), [2, 3])),
        ("list", {"a": (2, 3), "b": (7, 3)}),
        ("tuple", ((7, 3), (2, 3))),
        ("dict", {"b": (7, 3), "a": (2, 3)}),
        ("dict", {"a": [2, 3], "b": [7, 3]}),
        ("nested", [{"b": (7, 3)}, ((2, 3),)]),
        ("nested", [(7, 3), (2, 3)]),
        ("nested", {"a": (2, 3), "b": (7, 3)}),
    ],
    ids=str,
)
def test_each_input_has_its_shape(nesting, shape):
    found = profile_model(two_inputs(nesting), shape)
    macs = {row.name: row.macs for row in found.rows}
    assert macs == {"dense_a": 2 * 3 * 4, "dense_b": 7 * 3 * 5}
    assert sorted(found.input_shape) == [(2, 3), (7, 3)]


@keras.saving.register_keras_serializable(package="test_profiling")
class Scale(layers.Layer):
    def build(self, input_shape):
        self.factor = self.add_weight(shape=(input_shape[-1],))

    def call(self, inputs):
        return inputs * self.factor


@pytest.mark.parametrize(
    "make, parameters",
    [
        (lambda x: Scale(name="unknown")(x), 4),
        (lambda x: layers.LSTM(5, name="unknown")(x), 200),
        (
            lambda x: layers.MultiHeadAttention(2, 3, name="unknown")(x, x),
            3 * (4 * 6 + 6) + 6 * 4 + 4,
        ),
        (
            lambda x: layers.TimeDistributed(layers.LSTM(5), name="unknown")(
                layers.Reshape((6, 1, 4))(x)
            ),
            200,
        ),
        (
            lambda x: layers.TimeDistributed(
                model_of(layers.Dense(2), Scale(), shape=(4,)), name="unknown"
            )(x),
            4 * 2 + 2 + 2,
        ),
    ],
    ids=["custom", "lstm", "attention", "steps", "steps-of-a-model"],
)
def test_layers_of_no_known_kind_are_named(make, parameters):
    inputs = keras.Input((6, 3))
    x = layers.Dense(4, name="dense")(inputs)
    found = profile_model(keras.Model(inputs, make(x)))
    assert found.uncounted == ("unknown",)
    assert found.groups == {
        "dense": (16, 72),
        "not counted": (parameters, 0),
    }
    assert found.macs == 72
    assert "leaves out the MACs of layers that are not known: unknown" in str(
        found
    )


def test_subclassed_model_within_a_model_is_not_counted():
    class Inner(keras.Model):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.dense = layers.Dense(4)

        def call(self, inputs):
            return self.dense(inputs)

    inputs = keras.Input((3,))
    model = keras.Model(inputs, Inner(name="hidden")(inputs))
    found = profile_model(model)
    assert found.uncounted == ("hidden",)
    assert found.parameters == 16


class Forget(layers.Layer):
    """Hides the length of axis 1, as `ops.nonzero` does."""

    def compute_output_shape(self, input_shape):
        return (input_shape[0], None, *input_shape[2:])

    def call(self, inputs):
        return inputs


@pytest.mark.parametrize(
    "make",
    [
        lambda: layers.Dense(4, name="unknown"),
        lambda: layers.Conv1D(4, 3, name="unknown"),
        lambda: layers.Conv1DTranspose(4, 3, name="unknown"),
        lambda: layers.SeparableConv1D(4, 3, name="unknown"),
        lambda: layers.EinsumDense("abc,cd->abd", (None, 4), name="unknown"),
        lambda: CBAM(1, name="unknown"),
        lambda: layers.TimeDistributed(layers.Dense(4), name="unknown"),
    ],
    ids=[
        "dense",
        "conv",
        "transposed",
        "separable",
        "einsum",
        "cbam",
        "steps",
    ],
)
def test_layers_behind_an_unknown_size_are_named(make):
    found = profile_model(model_of(Forget(), make(), shape=(6, 3)))
    assert found.uncounted == ("unknown",)


@pytest.mark.parametrize(
    "make, macs",
    [
        (layers.BatchNormalization, 0),
        (lambda: ChannelAttention(hidden_units=2), 2 * 2 * 3 * 2),
    ],
    ids=["normalization", "perceptron"],
)
def test_what_does_not_depend_on_an_unknown_size_is_counted(make, macs):
    (row,) = profile_model(model_of(Forget(), make(), shape=(6, 3))).rows
    assert row.macs == macs


@pytest.mark.parametrize("order", ["known-first", "known-last"])
def test_shared_layer_with_one_unknown_call_is_named(order):
    dense = layers.Dense(3, name="dense")
    inputs = keras.Input((6, 3))
    known, unknown = inputs, Forget()(inputs)
    if order == "known-last":
        known, unknown = unknown, known
    found = profile_model(keras.Model(inputs, [dense(known), dense(unknown)]))
    assert found.uncounted == ("dense",)
    assert found.groups == {"not counted": (12, 0)}


class Called(Exception):
    pass


def test_nothing_is_run(monkeypatch):
    model = keras.Sequential([inner(), layers.Flatten(), layers.Dense(2)])
    model.build((None, 8, 8, 3))
    expected = profile_model(model)

    def refuse(self, *args, **kwargs):
        raise Called

    monkeypatch.setattr(layers.Layer, "__call__", refuse)
    monkeypatch.setattr(layers.Conv2D, "call", refuse)
    with pytest.raises(Called):
        model(np.zeros((1, 8, 8, 3)))
    assert profile_model(model) == expected


def test_model_is_left_as_it_is():
    nested = inner()
    inputs = keras.Input((None, None, 3))
    x = layers.Conv2D(3, 3, padding="same", name="conv")(inputs)
    model = keras.Model(inputs, [x, nested(keras.ops.image.resize(x, (8, 8)))])
    parts = [*model.layers, *nested.layers]
    config = model.get_config()
    conv, before = model.get_layer("conv"), nested.get_layer("conv").output
    output_before = conv.output
    profile_model(model, (9, 7, 3))
    assert [*model.layers, *nested.layers] == parts
    assert model.get_config() == config
    # `output` is an error for a layer with several calls.
    assert conv.output is output_before
    assert nested.get_layer("conv").output is before
    assert model.input_shape == (None, None, None, 3)


def test_equal_models_have_equal_profiles():
    assert profile_model(inner()) == profile_model(inner())


def trainable(model):
    return sum(math.prod(v.shape) for v in model.trainable_variables)


# The papers' multiply-adds at 224 x 224: MobileNetV2 300 M, EfficientNet-B0
# 0.39 B, ConvNeXt-T 4.5 B (4.46 in torchvision); ResNet-50 3.8 B, of which
# 3.86 are known for the stride in the first 1x1 convolution, as Keras has it.
@pytest.mark.slow
@pytest.mark.parametrize(
    "name, parameters, published, digits",
    [
        ("ResNet50", 25_583_592, 3.86, 2),
        ("MobileNetV2", 3_504_872, 0.30, 2),
        ("EfficientNetB0", 5_288_548, 0.39, 2),
        ("ConvNeXtTiny", 28_589_128, 4.46, 2),
    ],
)
def test_networks_of_keras_have_their_published_cost(
    name, parameters, published, digits
):
    model = getattr(keras.applications, name)(weights=None)
    found = profile_model(model)
    assert found.parameters == trainable(model) == parameters
    assert round(found.macs / 1e9, digits) == published
    assert not found.uncounted
    assert set(found.groups) == {"convolution", "dense", "other"}
    assert found.groups["other"][1] == 0


# Table 4 of the paper. All its rows: see test_presets.py.
@pytest.mark.parametrize(
    "attention, parameters, macs",
    [
        (None, 25_557_032, 3.858),
        (functools.partial(CBAM, **VARIANTS["official"]), 28_089_624, 3.864),
    ],
    ids=["plain", "cbam"],
)
def test_resnet50_costs_what_the_paper_prints(attention, parameters, macs):
    model = models.ResNet50(attention=attention, downsample_in="1x1")
    found = profile_model(model, (224, 224, 3))
    assert found.parameters == parameters
    assert round(found.macs / 1e9, 3) == macs


def subclassed():
    class Subclassed(keras.Model):
        def call(self, inputs):
            return inputs

    return Subclassed(name="mine")


@pytest.mark.parametrize(
    "model, error, message",
    [
        (lambda: None, TypeError, "`model` must be a functional keras.Model"),
        (
            lambda: layers.Dense(2),
            TypeError,
            "must be a functional keras.Model.*of type Dense",
        ),
        (subclassed, ValueError, '"mine" of type Subclassed, a subclassed'),
        (
            lambda: keras.Sequential([layers.Dense(2)], name="mine"),
            ValueError,
            'shape of its input.*"mine".*not built.*keras.Input',
        ),
        (
            two_inputs,
            ValueError,
            '"two" have axes of unknown size.*input_shape=None for '
            r'\(None, 3\) as "b", \(None, 3\) as "a".*Give `input_shape`',
        ),
    ],
    ids=["none", "layer", "subclassed", "not-built", "unknown-size"],
)
def test_models_that_cannot_be_counted_are_refused(model, error, message):
    with pytest.raises(error, match=message):
        profile_model(model())


@pytest.mark.parametrize(
    "own, shape",
    [
        ((8, 8, 3), (9, 8, 3)),
        ((8, 8, 3), (None, 8, 3)),
        ((8, 8, 3), (1, 8, 8, 3)),
        ((None, None, 3), (8, 8, 4)),
        ((None, None, 3), (8, 8)),
        ((None, None, 3), ()),
        ((None, None, 3), (-8, 8, 3)),
        ((None, None, 3), (0, 8, 3)),
        ((None, None, 3), (8.0, 8.0, 3.0)),
        ((None, None, 3), 8),
        ((None, None, 3), "8x8"),
        ((None, None, 3), ["8", "8", "3"]),
        ((None, None, 3), [(8, 8, 3), (8, 8, 3)]),
        ((None, None, 3), {"image": (8, 8, 3)}),
    ],
    ids=str,
)
def test_shapes_that_do_not_fit_are_refused(own, shape):
    model = model_of(layers.Conv2D(4, 3), shape=own)
    message = "`input_shape` must fit the input of the model, without the ba"
    with pytest.raises(ValueError, match=message) as raised:
        profile_model(model, shape)
    assert f"Received: input_shape={shape} for model" in str(raised.value)
    assert str(raised.value).endswith(f"takes {own}")


def test_size_that_stays_unknown_is_refused():
    model = model_of(layers.Conv2D(4, 3), shape=(None, None, 3))
    with pytest.raises(ValueError, match=r"unknown size.*\(8, None, 3\)"):
        profile_model(model, (8, None, 3))


@pytest.mark.parametrize(
    "nesting, shape",
    [
        ("list", (7, 3)),
        ("list", [(7, 3)]),
        ("list", [(7, 3), (2, 3), (2, 3)]),
        ("list", [(7, 3), (2, 4)]),
        ("list", {"a": (2, 3)}),
        ("list", {"a": (2, 3), "c": (7, 3)}),
        ("dict", {"a": (2, 3)}),
        ("dict", {"x": (2, 3), "y": (7, 3)}),
        ("dict", {"a": (2, 3), "b": (7, 3), "c": (7, 3)}),
        ("nested", [{"a": (7, 3)}, ((2, 3),)]),
    ],
    ids=str,
)
def test_wrong_number_or_names_of_shapes_are_refused(nesting, shape):
    with pytest.raises(ValueError, match='must fit.*takes .* as "b"'):
        profile_model(two_inputs(nesting), shape)


def cells(profile):
    """Returns the table that a profile prints, as rows of strings."""
    lines = str(profile).splitlines()
    return [
        [cell.strip() for cell in re.split("[│┃|]", line)[1:-1]]
        for line in lines
        if re.match("[│┃|]", line)
    ]


def test_profile_prints_rows_groups_and_total():
    model = keras.Sequential(
        [
            inner(),
            layers.BatchNormalization(name="norm"),
            Scale(name="scale"),
        ],
        name="network",
    )
    model.build((None, 8, 8, 3))
    found = profile_model(model)
    assert str(found).splitlines()[0].strip() == "network, input (8, 8, 3)"
    assert cells(found) == [
        ["layer", "kind", "output shape", "parameters", "MACs"],
        ["inner/conv", "Conv2D", "(8, 8, 3)", "84", "5,184"],
        ["inner/attention", "CBAM", "(8, 8, 3)", "28", "1,164"],
        ["norm", "BatchNormalization", "(8, 8, 3)", "6", "0"],
        ["scale", "Scale", "(8, 8, 3)", "3", "not counted"],
        ["all: convolution", "", "", "84", "5,184"],
        ["all: attention", "", "", "28", "1,164"],
        ["all: other", "", "", "6", "0"],
        ["all: not counted", "", "", "3", "?"],
        ["total", "", "", "121", "6,348"],
    ]
    assert str(found).splitlines()[-1] == (
        "The total leaves out the MACs of layers that are not known: scale"
    )


def test_profile_without_uncounted_layers_prints_no_note():
    assert "leaves out" not in str(profile_model(inner()))


def test_long_names_are_printed_whole():
    name = "a_layer_" * 20
    found = profile_of(layers.Dense(1234, name=name), (5678,))
    assert "".join(row[0] for row in cells(found)).startswith(f"layer{name}")
    assert f"{5678 * 1234:,}" in str(found)
    assert max(map(len, str(found).splitlines())) <= 120


def test_fixed_batch_is_kept_and_counted_for_one_sample():
    x = inputs = keras.Input(batch_shape=(2, 4, 4, 3))
    x = layers.Conv2D(8, 3, padding="same", use_bias=False)(x)
    model = keras.Model(inputs, layers.Dense(5)(ops.reshape(x, (2, 128))))
    found = profile_model(model)
    assert found.macs == 4 * 4 * 9 * 3 * 8 + 128 * 5


def test_variables_outside_the_graph_are_named():
    inputs = keras.Input((4,))

    class Larger(type(keras.Model(inputs, layers.Dense(2)(inputs)))):
        """A functional model with a layer that its graph does not show."""

    model = Larger(inputs, layers.Dense(3)(inputs))
    model.extra = layers.Dense(5, name="extra")
    model.extra.build((None, 4))
    found = profile_model(model)
    assert found.parameters == 15 + 25
    assert set(found.uncounted) == {"extra/kernel", "extra/bias"}
