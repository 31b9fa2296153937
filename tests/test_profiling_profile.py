"""Profiles of models: rows, totals, what is not counted, errors."""

import re

import keras
import networks
import numpy as np
import pytest
from keras import layers, ops

from cbam_keras import CBAM, ChannelAttention, profile_model


@keras.saving.register_keras_serializable(package="test_profiling")
class Scale(layers.Layer):
    def build(self, input_shape):
        self.factor = self.add_weight(shape=(input_shape[-1],))

    def call(self, inputs):
        return inputs * self.factor


class Forget(layers.Layer):
    """Hides the length of axis 1, as `ops.nonzero` does."""

    def compute_output_shape(self, input_shape):
        return (input_shape[0], None, *input_shape[2:])

    def call(self, inputs):
        return inputs


def model_of(*parts, shape):
    return keras.Sequential([keras.Input(shape), *parts], name="model")


def profile_of(layer, shape, *before):
    return profile_model(model_of(*before, layer, shape=shape))


def inner(name="inner"):
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(3, 3, padding="same", name="conv")(inputs)
    return keras.Model(inputs, CBAM(3, 3, name="attention")(x), name=name)


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
    assert (found.attention_parameters, found.attention_macs) == (0, 0)


def test_groups_add_up_to_the_totals():
    found = profile_model(networks.resnet((1, 1), attention="cbam"))
    assert set(found.groups) == {"convolution", "dense", "attention", "other"}
    parameters, macs = map(sum, zip(*found.groups.values(), strict=True))
    assert (parameters, macs) == (found.parameters, found.macs)
    assert found.groups["dense"] == (45, 40)
    assert found.groups["attention"] == (
        found.attention_parameters,
        found.attention_macs,
    )


def test_layers_of_nested_models_are_counted():
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


@pytest.mark.parametrize(
    "shape",
    [tuple(np.array([9, 7, 3])), [(9, 7, 3)]],
    ids=["numpy", "list-of-one"],
)
def test_unknown_sizes_are_given(shape):
    model = model_of(layers.Conv2D(4, 3), shape=(None, None, 3))
    found = profile_model(model, shape)
    assert found.macs == 7 * 5 * 4 * 27
    assert found.rows[0].output_shape == (7, 5, 4)
    assert found.input_shape == (9, 7, 3)


NESTINGS = {
    "list": lambda a, b: [b, a],
    "tuple": lambda a, b: (b, a),
    "dict": lambda a, b: {"b": b, "a": a},
    "nested": lambda a, b: [{"b": b}, (a,)],
}


def two_inputs(nesting="list"):
    """Returns a model whose inputs are not in the order of their names."""
    a, b = (keras.Input((None, 3), name=name) for name in "ab")
    outputs = [
        layers.Dense(4, name="dense_a")(a),
        layers.Dense(5, name="dense_b")(b),
    ]
    return keras.Model(NESTINGS[nesting](a, b), outputs, name="two")


@pytest.mark.parametrize(
    "nesting, shape",
    [
        ("list", ((7, 3), [2, 3])),
        ("list", {"a": (2, 3), "b": (7, 3)}),
        ("tuple", ((7, 3), (2, 3))),
        ("dict", {"a": [2, 3], "b": [7, 3]}),
        ("nested", [{"b": (7, 3)}, ((2, 3),)]),
        ("nested", {"a": (2, 3), "b": (7, 3)}),
    ],
    ids=str,
)
def test_each_input_has_its_shape(nesting, shape):
    found = profile_model(two_inputs(nesting), shape)
    macs = {row.name: row.macs for row in found.rows}
    assert macs == {"dense_a": 2 * 3 * 4, "dense_b": 7 * 3 * 5}
    assert sorted(found.input_shape) == [(2, 3), (7, 3)]


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


def subclassed():
    class Subclassed(keras.Model):
        def call(self, inputs):
            return inputs

    return Subclassed(name="mine")


@pytest.mark.parametrize(
    "model, error, message",
    [
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
    ids=["layer", "subclassed", "not-built", "unknown-size"],
)
def test_models_that_cannot_be_counted_are_refused(model, error, message):
    with pytest.raises(error, match=message):
        profile_model(model())


@pytest.mark.parametrize(
    "own, shape",
    [
        ((8, 8, 3), (9, 8, 3)),
        ((8, 8, 3), (None, 8, 3)),
        ((None, None, 3), (8, 8)),
        ((None, None, 3), (0, 8, 3)),
        ((None, None, 3), 8),
        ((None, None, 3), {"image": (8, 8, 3)}),
        ("list", (7, 3)),
        ("list", [(7, 3), (2, 3), (2, 3)]),
        ("list", [(7, 3), (2, 4)]),
        ("list", {"a": (2, 3), "c": (7, 3)}),
        ("dict", {"a": (2, 3)}),
        ("nested", [{"a": (7, 3)}, ((2, 3),)]),
    ],
    ids=str,
)
def test_shapes_that_do_not_fit_are_refused(own, shape):
    if isinstance(own, str):
        model = two_inputs(own)
    else:
        model = model_of(layers.Conv2D(4, 3), shape=own)
    message = "`input_shape` must fit the input of the model, without the ba"
    with pytest.raises(ValueError, match=message) as raised:
        profile_model(model, shape)
    assert f"Received: input_shape={shape} for model" in str(raised.value)
    takes = str(raised.value).partition("which takes ")[2]
    assert takes == str(own) or '(None, 3) as "b"' in takes


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
        "The total excludes the MACs of layers of unknown kinds: scale"
    )


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


def test_embedding_called_in_reverse_is_not_counted():
    if not hasattr(layers, "ReversibleEmbedding"):
        pytest.skip("this Keras has no ReversibleEmbedding")
    embedding = layers.ReversibleEmbedding(11, 4, name="words")
    inputs = keras.Input((7,))
    model = keras.Model(inputs, embedding(embedding(inputs), reverse=True))
    found = profile_model(model)
    assert found.uncounted == ("words",)
    assert found.groups == {"not counted": (44, 0)}


@pytest.mark.parametrize(
    "make, parameters",
    [
        (lambda x: Scale(name="unknown")(x), 4),
        (lambda x: layers.LSTM(5, name="unknown")(x), 200),
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
    ids=["custom", "lstm", "steps", "steps-of-a-model"],
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


def test_layers_behind_an_unknown_size_are_named():
    unknown = [
        layers.Dense(4),
        layers.Conv1D(4, 3),
        layers.Conv1DTranspose(4, 3),
        layers.SeparableConv1D(4, 3),
        layers.EinsumDense("abc,cd->abd", (None, 4)),
        CBAM(1),
        layers.TimeDistributed(layers.Dense(4)),
    ]
    # These do not depend on the size: the MLP is of pooled channels.
    known = [layers.BatchNormalization(), ChannelAttention(hidden_units=2)]
    rows = [
        profile_of(layer, (6, 3), Forget()).rows[-1]
        for layer in [*unknown, *known]
    ]
    assert [row.macs for row in rows] == [None] * 7 + [0, 2 * 2 * 3 * 2]


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
