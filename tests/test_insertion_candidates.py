"""Places chosen by `after`; errors and warnings of `insert_attention`."""

import re

import keras
import networks
import pytest
from insertion_checks import (
    Blocks,
    assert_predicts_the_same,
    attention_of,
    block,
    body_model,
    conv,
    data_for,
    network,
    ours,
    paths,
    small,
    stem,
    subclassed,
    vary,
    wrapped_subclassed,
)
from keras import layers, ops

from cbam_keras.insertion import insert_attention


@pytest.fixture(scope="module")
def model():
    inner_inputs = keras.Input((8, 8, 8))
    x = conv(8, "conv3")(conv(8, "conv2")(inner_inputs))
    inner = keras.Model(inner_inputs, x, name="body")

    def body(inputs):
        x = conv(8, "conv10")(conv(8, "conv1")(inputs))
        return conv(8, "conv4")(inner(x))

    return vary(network(body))


ALL = ["conv1", "conv10", "body/conv2", "body/conv3", "conv4"]


@pytest.mark.parametrize(
    "after, places",
    [
        # A name is that layer alone, though it begins another one.
        ("conv1", ["conv1"]),
        ("conv2", ["body/conv2"]),
        ("body", ["body"]),
        # Anything else is a regular expression.
        ("^conv1", ["conv1", "conv10"]),
        ("conv[24]$", ["body/conv2", "conv4"]),
        (re.compile("body/"), ["body/conv2", "body/conv3"]),
        (["body/conv3", "conv1"], ["body/conv3", "conv1"]),
        (lambda layer: isinstance(layer, layers.Conv2D), ALL),
    ],
)
def test_after_finds_layers(model, after, places):
    found = insert_attention(model, after=after, dry_run=True)
    assert sorted(paths(found)) == sorted(places)


def test_more_attention_needs_after():
    once = insert_attention(vary(ours()))
    with pytest.raises(ValueError, match="stage1_block1_bn3_attention"):
        insert_attention(once)
    twice = insert_attention(once, "spatial", after="attention$")
    assert len(attention_of(twice)) == 4
    assert_predicts_the_same(twice, once, data_for(once))


class Own(keras.Model):
    def train_step(self, data):
        return {}


def two_bodies():
    left = body_model("left", 3, lambda x: conv(4, "conv")(x))
    right = body_model("right", 4, lambda x: conv(4, "conv")(x))
    return network(lambda inputs: right(left(inputs)))


class NoConfig(layers.Identity):
    def __init__(self, function, **kwargs):
        super().__init__(**kwargs)


def test_attention_goes_into_wrapped_models_and_after_them():
    image = keras.Input((8, 8, 3))
    # No step at the size of the image is on all ways.
    sides = [
        conv(8, name, strides=2)(conv(8, f"{name}_conv")(image))
        for name in ("left", "right")
    ]
    x = layers.Concatenate(name="both")(sides)
    frame = keras.Model(image, conv(4, "last")(x), name="frame")
    inputs = keras.Input((7, 8, 8, 3))
    x = layers.TimeDistributed(frame, name="frames")(inputs)
    model = keras.Model(inputs, layers.GlobalAveragePooling3D()(x))
    places = insert_attention(model, dry_run=True)
    assert paths(places) == ["frames/right_conv", "frames/last"]
    (place,) = insert_attention(model, after="frames", dry_run=True)
    assert place.shape == (None, 7, 4, 4, 4)


class LosingConfig(Blocks):
    def get_config(self):
        config = super().get_config()
        del config["depth"]
        return config


def with_layer(make, *args, **options):
    return lambda: network(
        lambda inputs: block(make(*args, name="odd", **options)(stem(inputs)))
    )


def outside_variable():
    model = small()
    model.temperature = model.add_weight((1,), name="temperature")
    return model


def frames():
    each = conv(4, "conv", data_format="channels_first")
    inputs = keras.Input((7, 3, 8, 6))
    return keras.Model(inputs, layers.TimeDistributed(each)(inputs))


def moved_out_of_sight():
    inputs = keras.Input((8, 6, 4))
    moved = layers.Lambda(lambda x: ops.moveaxis(x, -1, 1), name="moved")
    return keras.Model(inputs, moved(conv(4, "conv")(inputs)))


def shared_activation():
    """Returns a network that activates 4 and 5 channels by one layer."""
    act, inputs = layers.ReLU(name="act"), keras.Input((8, 8, 3))
    x = act(layers.Conv2D(4, 1)(inputs))
    return keras.Model(inputs, act(layers.Conv2D(5, 1)(x)))


WRONG = [
    (
        small,
        {"after": "blok_bn2"},
        ValueError,
        "after='blok_bn2', which finds none",
    ),
    (
        small,
        {"after": ["block_bn2", "nope"]},
        ValueError,
        "of which 'nope' finds none",
    ),
    (
        two_bodies,
        {"after": ["conv"]},
        ValueError,
        '\'conv\' may be "left/conv", "right/',
    ),
    (
        small,
        {"after": "predictions_pool"},
        ValueError,
        r'finds "predictions_pool" with .* shape \(None, 8\)',
    ),
    (
        frames,
        {"after": "time_distributed"},
        ValueError,
        r"\(None, 7, 4, 8, 6\), not a feature map with its channels first or",
    ),
    (
        moved_out_of_sight,
        {"after": "moved"},
        ValueError,
        "its channels first or last",
    ),
    (
        shared_activation,
        {"after": "act"},
        ValueError,
        r"\(None, 8, 8, 4\), \(None, 8, 8, 5\), not a feature map",
    ),
    (
        lambda: keras.Sequential(
            [keras.Input((8, 8, 3))]
            + [layers.Conv2D(3, 1, name=f"c{n}") for n in range(22)]
        ),
        {"after": "x"},
        ValueError,
        r'take attention \(22\): \.\.\., "c2", .*"c21"$',
    ),
    (
        small,
        {"after": "block_bn2", "into": "stem_conv"},
        ValueError,
        'into=\'stem_conv\', and "block_bn2" leads into "block_add"',
    ),
    (
        small,
        {"attention": None},
        ValueError,
        "must not be None. .*attention=None",
    ),
    (
        small,
        {
            "attention": lambda name: layers.Conv2D(5, 1, name=name),
            "identity": False,
        },
        ValueError,
        r"\(None, 8, 8, 8\) after layer \"block_bn2\" into \(None, 8, 8, 5\)",
    ),
    (
        small,
        {"attention": layers.LayerNormalization},
        ValueError,
        "gives a LayerNormalization. Pass identity=False",
    ),
    (
        with_layer(NoConfig, lambda x: x),
        {},
        ValueError,
        '"odd" of class NoConfig must be clonable (?s:.)*Give the class a',
    ),
    (
        with_layer(LosingConfig, depth=3),
        {},
        ValueError,
        r"kernel\" of shape \(3, 3, 8, 8\), which the clone lacks",
    ),
    (outside_variable, {}, ValueError, "with 1 others: network/temperature"),
    (
        wrapped_subclassed,
        {},
        ValueError,
        '"frames" wraps model "own".*process the inner model',
    ),
    (
        subclassed,
        {},
        ValueError,
        r'"own" of type Subclassed.*Model\(inputs, model.call\(inputs\)\)',
    ),
    (networks.mlp, {}, ValueError, 'model "mlp".* no convolution'),
    (
        lambda: "ResNet50",
        {},
        TypeError,
        "`model` must be a functional keras.Model",
    ),
]


@pytest.mark.parametrize(("build", "options", "error", "message"), WRONG)
def test_wrong_arguments_are_named(build, options, error, message):
    model = build()
    with pytest.raises(error, match=message):
        insert_attention(model, **options)


# `pytest.warns` gives every warning a place that setup.cfg can't ignore.
@pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)
def test_lost_settings_are_warned_of():
    old = small()
    old = Own(old.input, old.output)
    old.compile("adam", loss="mse", metrics=["mae"])
    old.preprocessor = layers.Rescaling(1 / 255)
    lost = "lacks what .* has: own `train_step` of Own, `compile`.*preproc"
    with pytest.warns(UserWarning, match=lost):
        new = insert_attention(old)
    assert not new.compiled
