"""Errors and warnings of `insert_attention`."""

import keras
import pytest
from insertion_checks import (
    Blocks,
    block,
    body_model,
    conv,
    network,
    small,
    stem,
    vgg_with_one_activation,
)
from keras import layers

from cbam_keras.insertion import insert_attention


class Subclassed(keras.Model):
    def call(self, x):
        return x


def own(method):
    """Returns a builder of a functional model with a method of its own."""

    def build():
        model = small()
        kind = type("Own", (type(model),), {method: lambda self, x: x})
        return kind(model.input, model.output)

    return build


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


class Halves(layers.Layer):
    def call(self, inputs):
        return inputs / 2.0, inputs / 3.0


def two_outputs():
    def body(inputs):
        one, two = Halves(name="halves")(stem(inputs))
        return layers.Add()([one, two])

    return network(body)


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


def with_layer(make, *args, **options):
    """Returns a builder of a network with a layer "odd"."""
    return lambda: network(
        lambda inputs: block(make(*args, name="odd", **options)(stem(inputs)))
    )


def outside_variable():
    model = small()
    model.temperature = model.add_weight((1,), name="temperature")
    return model


def shared_through_a_wrapper():
    shared = layers.Conv2D(4, 3, padding="same", name="shared")
    image, video = keras.Input((8, 8, 3)), keras.Input((2, 8, 8, 3))
    frames = layers.TimeDistributed(shared, name="frames")(video)
    return keras.Model([image, video], [shared(image), frames])


class Widening(layers.Conv2D):
    """Changes the number of channels, unlike attention."""

    def __init__(self, name=None):
        super().__init__(5, 1, name=name)


WRONG_VALUES = [
    (Subclassed, {}, "a subclassed model: its layers are called in Python"),
    (own("call"), {}, "of type Own, a subclassed model"),
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
    (small, {"after": lambda layer: False}, "which finds none"),
    (
        two_bodies,
        {"after": ["conv"]},
        '"conv" may be "left/conv", "right/conv"',
    ),
    (with_head, {"after": "pool"}, r'finds "pool" with .* shape \(None, 4\)'),
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
        lambda: network(vgg_with_one_activation),
        {"after": "relu"},
        r"shape \(None, 8, 8, 4\), \(None, 4, 4, 8\)",
    ),
    (
        lambda: insert_attention(small()),
        {"after": "block_bn2"},
        'named "block_bn2_attention". Received: .*been inserted there before',
    ),
    (small, {"attention": None}, "must say what to insert. .*attention=None"),
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
    (
        with_layer(NoConfig, lambda x: x),
        {},
        '"odd" of class NoConfig must be clonable (?s:.)*Give the class a',
    ),
    (
        with_layer(LosingConfig, depth=3),
        {},
        r"one without .*kernel\" of shape \(3, 3, 8, 8\)",
    ),
    (outside_variable, {}, 'with 1 others: "network/temperature"'),
    (
        shared_through_a_wrapper,
        {"after": "shared"},
        "which layer .* shares with another",
    ),
    (mlp, {}, 'model "mlp", which has no convolution .* has no layer that'),
]
WRONG_KINDS = [
    (lambda: "ResNet50", {}, "`model` must be a functional keras.Model"),
    (small, {"after": 5}, "Received: after=5"),
    (small, {"after": []}, r"Received: after=\[\]"),
    (small, {"after": layers.ReLU()}, "Received: after=<ReLU"),
    (small, {"after": ["block_bn2", 3]}, r"Received: after=\['block_bn2', 3"),
    (small, {"identity": 1}, "`identity` must be"),
    (small, {"dry_run": "yes"}, "`dry_run` must be"),
]


@pytest.mark.parametrize(
    "error, build, options, message",
    [
        pytest.param(error, *row, id=row[-1][:40])
        for error, rows in [
            (ValueError, WRONG_VALUES),
            (TypeError, WRONG_KINDS),
        ]
        for row in rows
    ],
)
def test_wrong_arguments_are_named(error, build, options, message):
    model = build()
    with pytest.raises(error, match=message):
        insert_attention(model, **options)


def compiled():
    model = small()
    model.compile("adam", loss="mse", metrics=["mae"])
    return model


def preprocessing():
    model = small()
    model.preprocessor = layers.Rescaling(1 / 255)
    return model


# `pytest.warns` gives every warning a place that setup.cfg can't ignore.
@pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)
@pytest.mark.parametrize(
    "build, message",
    [
        (compiled, "is compiled, the new model is not"),
        (preprocessing, "preprocesses its input, the new"),
        (own("train_step"), "a Own with its own train_step"),
    ],
)
def test_lost_settings_are_warned_of(build, message):
    old = build()
    with pytest.warns(UserWarning, match=message):
        new = insert_attention(old)
    assert not new.compiled


def test_no_preprocessor_needs_no_warning():
    old = small()
    old.preprocessor = None
    insert_attention(old)
