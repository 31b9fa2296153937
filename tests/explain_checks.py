"""Networks to explain, and what Grad-CAM of them is by its definition."""

import keras
import networks
import numpy as np
from insertion_checks import conv, vary
from keras import layers


def images(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


# Of two channels for three classes.
WEIGHTS = np.array([[1.0, -2.0, 0.5], [0.5, 1.0, -1.0]], "float32")
POOLS = {
    1: layers.GlobalAveragePooling1D,
    2: layers.GlobalAveragePooling2D,
    3: layers.GlobalAveragePooling3D,
}


def linear_network(weights, size=(6, 4), of=keras.activations.linear):
    """A network whose class scores are weighed means `of` its channels.

    Its features are its images, so the Grad-CAM of a class is, by the
    definition, what is above 0 of the channels weighed by `weights` of it.
    """
    weights = np.asarray(weights, "float32")
    inputs = keras.Input((*size, len(weights)))
    x = layers.Activation("linear", name="features")(inputs)
    x = POOLS[len(size)]()(of(x))
    outputs = layers.Dense(weights.shape[1], use_bias=False, name="out")(x)
    model = keras.Model(inputs, outputs)
    model.get_layer("out").set_weights([weights])
    return model


def tiny(attention="cbam", **options):
    """A residual network with attention in both of its blocks."""
    options = {"classifier_activation": None, **options}
    return vary(networks.resnet((1, 1), attention=attention, **options))


def normalized(heat):
    """Returns heat maps cut off at 0, each divided by its maximum."""
    heat = np.maximum(heat, 0)
    peak = heat.max(axis=tuple(range(1, heat.ndim)), keepdims=True)
    return heat / np.where(peak == 0, 1, peak)


def model_ending_in(end):
    """Returns a classifier of given weights that ends in `end(logits)`."""
    inputs = keras.Input((6, 4, 2))
    x = layers.GlobalAveragePooling2D()(conv(3, "conv")(inputs))
    return vary(keras.Model(inputs, end(x)))


def dense_head(**options):
    return layers.Dense(5, name="out", **options)
