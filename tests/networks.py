"""Tiny networks, which build and compile quickly."""

import contextlib
import functools

import keras
from keras import layers

from cbam_keras import models
from cbam_keras.models import by_name


def linear(*after, activation="softmax", shape=(28, 28, 1), classes=10):
    """Returns a classifier of 170 parameters."""
    inputs = keras.Input(shape)
    head = layers.Dense(classes, activation=activation)
    return keras.Model(inputs, pooled(inputs, head, *after), name="linear")


def mlp(units=2, **options):
    """Returns a classifier with one hidden layer, of `options`."""
    inputs = keras.Input((28, 28, 1))
    hidden = layers.Dense(units, **options)
    outputs = pooled(inputs, hidden, layers.Dense(10, activation="softmax"))
    return keras.Model(inputs, outputs, name="mlp")


def pooled(x, *following):
    """Applies layers to images of a seventh of the height and width."""
    for layer in (
        layers.Rescaling(1 / 255),
        layers.AveragePooling2D(7),
        layers.Flatten(),
        *following,
    ):
        x = layer(x)
    return x


def resnet(depths=(1,), **options):
    """Returns a residual network, by default without attention."""
    return models.ResNet(
        depths,
        **{
            "block": "basic",
            "widths": (4, 8, 8, 8)[: len(depths)],
            "stem_width": 4,
            "stem": "small",
            "input_shape": (8, 8, 3),
            "classes": 5,
            **options,
        },
    )


def application(weights, input_tensor, **options):
    """Returns a network as those of `keras.applications` are built."""
    x = layers.Conv2D(4, 3, strides=2, padding="same", name="conv")(
        input_tensor
    )
    x = layers.BatchNormalization(name="bn")(x)
    return keras.Model(keras.utils.get_source_inputs(input_tensor), x)


@contextlib.contextmanager
def without_values():
    """Weights of networks built inside have shapes only, which is quick."""
    with keras.StatelessScope(initialize_variables=False):
        yield
    keras.utils.clear_session(free_memory=False)


def replace_tiny(setitem=dict.__setitem__, depths=(1,), stem="small"):
    """Makes the network named "tiny" one of a few hundred parameters."""
    options = {"block": "basic", "widths": [4] * len(depths)}
    build = functools.partial(models.ResNet, depths, **options, stem_width=4)
    network = functools.partial(by_name._build_network, build, stem=stem)
    setitem(by_name.NETWORKS, "tiny", network)
