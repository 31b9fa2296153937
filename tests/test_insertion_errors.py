"""Errors and warnings of `insert_attention`."""

import keras
import numpy as np
import pytest
from insertion_checks import (
    Blocks,
    assert_predicts_the_same,
    block,
    body_model,
    conv,
    data_for,
    network,
    register,
    small,
    stem,
    vary,
    vgg_with_one_activation,
)
from keras import layers

from cbam_keras.insertion import insert_attention


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3)

    def call(self, x):
        return self.dense(x)


class OwnCall(type(small())):
    """A functional model that does not compute its graph."""

    def call(self, inputs, training=None, mask=None):
        return 2.0 * super().call(inputs, training=training, mask=mask)


def own_call():
    model = small()
    return OwnCall(model.input, model.output)


def two_bodies():
    left = body_model("left", 3, lambda x: conv(4, "conv")(x))
    right = body_model("right", 4, lambda x: conv(4, "conv")(x))
    return network(lambda inputs: right(left(inputs)))


def mlp():
    inputs = keras.Input((4,))
    x = layers.Dense(8, name="hidden")(inputs)
    return keras.Model(inputs, layers.Dense(2)(x), name="mlp")


def with_head():
    inputs = keras.Input((8, 8, 3))
    x = conv(4, "conv")(inputs)
    y = layers.Dense(3, name="dense")(layers.Flatten(name="flat")(x))
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, [layers.Dense(2, name="end")(x), y])


@register
class Halves(layers.Layer):
    def call(self, inputs):
        return inputs / 2.0, inputs / 3.0


def two_outputs():
    def body(inputs):
        one, two = Halves(name="halves")(stem(inputs))
        return layers.Add()([one, two])

    return network(body)


def one_activation():
    return network(vgg_with_one_activation)


class NoConfig(layers.Layer):
    """Keras cannot save it: it has no `get_config`."""

    def __init__(self, function, **kwargs):
        super().__init__(**kwargs)
        self.function = function

    def call(self, inputs):
        return self.function(inputs)


class LosingConfig(Blocks):
    def get_config(self):
        config = super().get_config()
        del config["depth"]
        return config


class WrongConfig(Blocks):
    def get_config(self):
        return {**super().get_config(), "width": 3}


def with_layer(layer):
    return network(lambda inputs: block(layer(stem(inputs))))


def no_config():
    return with_layer(NoConfig(lambda x: x, name="odd"))


def losing_config():
    return with_layer(LosingConfig(depth=3, name="odd"))


def wrong_config():
    return with_layer(WrongConfig(name="odd"))


def outside_variable():
    model = small()
    model.temperature = model.add_weight((1,), name="temperature")
    return model


def inserted():
    return insert_attention(small())


class Widening(layers.Conv2D):
    """Changes the number of channels, unlike attention."""

    def __init__(self, name=None):
        super().__init__(5, 1, name=name)


VALUE_ERRORS = [
    (Subclassed, {}, "a subclassed model: its layers are called in Python"),
    (own_call, {}, "of type OwnCall, a subclassed model"),
    (
        lambda: keras.Sequential([layers.Conv2D(4, 3)]),
        {},
        r"which is not built. Begin it with keras.Input\(shape\)",
    ),
    (
        small,
        {"after": "blok_bn2"},
        "after='blok_bn2', which finds none. Did you mean \"block_bn2\", ",
    ),
    (
        small,
        {"after": "xyz"},
        r"which finds none. Layers that can take attention \(9\): \"stem_conv",
    ),
    (small, {"after": "bn["}, r"which is not one \(unterminated character"),
    (
        small,
        {"after": ["block_bn2", "block_bn3"]},
        'which finds none. Did you mean "block_bn2", "block_bn1"',
    ),
    (small, {"after": ["^block"]}, "which finds none"),
    (small, {"after": lambda layer: False}, "which finds none"),
    (
        two_bodies,
        {"after": ["conv"]},
        '"conv" may be "left/conv", "right/conv"',
    ),
    (with_head, {"after": "pool"}, r'finds "pool" with .* shape \(None, 4\)'),
    (with_head, {"after": "flat"}, r"shape \(None, 256\)"),
    (
        with_head,
        {"after": ["conv", "dense"]},
        r'shape \(None, 3\)\. Layers that can take attention \(1\): "conv"',
    ),
    (
        two_outputs,
        {"after": "halves"},
        r"shape \(None, 8, 8, 8\), \(None, 8, 8, 8\)",
    ),
    (
        one_activation,
        {"after": "relu"},
        r"shape \(None, 8, 8, 4\), \(None, 4, 4, 8\)",
    ),
    (
        inserted,
        {"after": "block_bn2"},
        'named "block_bn2_attention". Received: .*been inserted there before',
    ),
    (small, {"attention": None}, "must say what to insert. .*attention=None"),
    (small, {"attention": "cbamm"}, 'Did you mean "cbam"'),
    (
        small,
        {"attention": Widening, "identity": False},
        r"\(None, 8, 8, 8\) after layer \"block_bn2\" into \(None, 8, 8, 5\)",
    ),
    (
        small,
        {"attention": layers.LayerNormalization},
        "gives a LayerNormalization. Pass identity=False",
    ),
    (no_config, {}, '"odd" of class NoConfig must be clonable from its'),
    (
        wrong_config,
        {},
        '"odd" of class WrongConfig must (?s:.)*Give the class a',
    ),
    (losing_config, {}, r"one without .*kernel\" of shape \(3, 3, 8, 8\)"),
    (outside_variable, {}, 'with 1 others: "network/temperature"'),
    (mlp, {}, 'model "mlp", which has no convolution .* has no layer that'),
]
TYPE_ERRORS = [
    (lambda: "ResNet50", {}, "`model` must be a functional keras.Model"),
    (lambda: layers.Dense(3), {}, "of type Dense"),
    (small, {"after": 5}, "Received: after=5"),
    (small, {"after": []}, r"Received: after=\[\]"),
    (small, {"after": layers.ReLU()}, "Received: after=<ReLU"),
    (small, {"after": ["block_bn2", 3]}, r"Received: after=\['block_bn2', 3"),
    (small, {"attention": 3}, "`attention` must be None, a name"),
    (small, {"identity": 1}, "`identity` must be"),
    (small, {"dry_run": "yes"}, "`dry_run` must be"),
]


@pytest.mark.parametrize(
    "build, options, message",
    VALUE_ERRORS,
    ids=[message[:40] for _, _, message in VALUE_ERRORS],
)
def test_wrong_values_are_named(build, options, message):
    model = build()
    with pytest.raises(ValueError, match=message):
        insert_attention(model, **options)


@pytest.mark.parametrize(
    "build, options, message",
    TYPE_ERRORS,
    ids=[message[:40] for _, _, message in TYPE_ERRORS],
)
def test_wrong_kinds_are_named(build, options, message):
    model = build()
    with pytest.raises(TypeError, match=message):
        insert_attention(model, **options)


# `pytest.warns` gives every warning a place that setup.cfg can't ignore.
of_numpy = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)


@of_numpy
def test_compiled_model_warns_to_compile_again():
    old = vary(small())
    old.compile("adam", loss="mse", metrics=["mae"])
    x = data_for(old)
    old.fit(x, np.ones((3, 5)), verbose=0)
    with pytest.warns(UserWarning, match="is compiled, the new model is not"):
        new = insert_attention(old)
    assert not new.compiled
    assert_predicts_the_same(new, old, x)


@of_numpy
def test_lost_preprocessor_is_warned_of():
    old = small()
    old.preprocessor = layers.Rescaling(1 / 255)
    with pytest.warns(UserWarning, match="preprocesses its input, the new"):
        insert_attention(old)


def test_no_preprocessor_needs_no_warning():
    old = small()
    old.preprocessor = None
    insert_attention(old)


class OwnStep(type(small())):
    """A functional model with its own training step."""

    def train_step(self, *args):
        return super().train_step(*args)


@of_numpy
def test_lost_training_step_is_warned_of():
    plain = small()
    old = OwnStep(plain.input, plain.output)
    with pytest.warns(UserWarning, match="a OwnStep with its own train_step"):
        insert_attention(old)


def test_layer_shared_through_a_wrapper_is_refused():
    shared = layers.Conv2D(4, 3, padding="same", name="shared")
    image, video = keras.Input((8, 8, 3)), keras.Input((2, 8, 8, 3))
    frames = layers.TimeDistributed(shared, name="frames")(video)
    old = keras.Model([image, video], [shared(image), frames])
    with pytest.raises(ValueError, match="which layer .* shares with another"):
        insert_attention(old, after="shared")


def test_candidates_are_all_listed():
    with pytest.raises(ValueError) as error:
        insert_attention(small(), after="nothing")
    listed = str(error.value).split("Layers that can take attention")[1]
    names = ["stem_conv", "stem_relu", "block_conv1", "block_bn1"]
    names += ["block_relu1", "block_conv2", "block_bn2", "block_add"]
    assert all(f'"{name}"' in listed for name in names)
    assert '"predictions"' not in listed
