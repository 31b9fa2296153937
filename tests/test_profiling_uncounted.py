"""What costs parameters alone, and layers that cannot be counted."""

import keras
import pytest
from keras import layers, ops
from profiling_checks import Forget, Scale, model_of, profile_of

from cbam_keras import CBAM, ChannelAttention
from cbam_keras.profiling import profile_model


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
