"""Multiply-accumulates of each kind of layer, against other counts."""

import functools
import math

import keras
import numpy as np
import pytest
from keras import layers, ops
from layer_checks import output, random_input
from profiling_checks import (
    Forget,
    Scale,
    channels_first,
    convolve,
    depthwise,
    model_of,
    products,
    profile_of,
    separable,
    spread,
)

from cbam_keras import (
    CBAM,
    VARIANTS,
    ChannelAttention,
    SpatialAttention,
    SqueezeExcite,
)
from cbam_keras.profiling import profile_model


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
@pytest.mark.needs_torch
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
    torch = pytest.importorskip(
        "torch", reason="PyTorch gives the expected values"
    )
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        function(
            torch.nn.functional,
            torch.zeros((1, *channels_first(shape))),
            torch.zeros(kernel),
        )
    assert 2 * profile_of(make(), shape).macs == counter.get_total_flops()


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
def test_layers_of_unknown_kinds_are_named(make, parameters):
    inputs = keras.Input((6, 3))
    x = layers.Dense(4, name="dense")(inputs)
    found = profile_model(keras.Model(inputs, make(x)))
    assert found.uncounted == ("unknown",)
    assert found.groups == {
        "dense": (16, 72),
        "not counted": (parameters, 0),
    }
    assert found.macs == 72
    assert "excludes the MACs of layers of unknown kinds: unknown" in str(found)


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
    ids=["normalization", "mlp"],
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
