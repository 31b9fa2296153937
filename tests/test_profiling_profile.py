"""Profiles of models: rows, totals, input shapes and errors."""

import functools
import math
import re

import keras
import numpy as np
import pytest
from keras import layers, ops
from profiling_checks import (
    Scale,
    model_of,
    profile_of,
)

from cbam_keras import (
    CBAM,
    VARIANTS,
    models,
)
from cbam_keras.profiling import profile_model


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
        "The total excludes the MACs of layers of unknown kinds: scale"
    )


def test_profile_without_uncounted_layers_prints_no_note():
    assert "The total excludes" not in str(profile_model(inner()))


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
