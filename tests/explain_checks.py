"""Networks to explain, and what Grad-CAM of them is by its definition."""

import keras
import networks
import numpy as np
from insertion_checks import conv, vary
from keras import layers
from layer_checks import to_numpy


def images(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


POOLS = {
    1: layers.GlobalAveragePooling1D,
    2: layers.GlobalAveragePooling2D,
    3: layers.GlobalAveragePooling3D,
}


def linear_network(weights, size=(6, 4)):
    """A network whose class scores are weighed means of its channels.

    Its features are its images, so the Grad-CAM of a class is, by the
    definition, what is above 0 of the channels weighed by `weights` of it.
    """
    weights = np.asarray(weights, "float32")
    inputs = keras.Input((*size, len(weights)))
    x = layers.Activation("linear", name="features")(inputs)
    x = POOLS[len(size)]()(x)
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


@keras.saving.register_keras_serializable(package="tests")
class Offset(layers.Layer):
    """Adds a number to each feature, by which a gradient can be measured."""

    def build(self, shape):
        self.offset = self.add_weight(
            name="offset", shape=(1, *shape[1:]), initializer="zeros"
        )

    def call(self, inputs):
        return inputs + self.offset


def measured_gradient(model, image, class_index, step=1e-4):
    """Returns what a class score gains by each feature of layer "offset"."""
    offset = model.get_layer("offset").offset
    gradient = np.zeros(offset.shape)
    for place in np.ndindex(*offset.shape):
        scores = []
        for sign in (1, -1):
            moved = np.zeros(offset.shape)
            moved[place] = sign * step
            offset.assign(moved)
            scores.append(to_numpy(model(image))[0, class_index])
        gradient[place] = (scores[0] - scores[1]) / (2 * step)
    offset.assign(np.zeros(offset.shape))
    return gradient


def model_ending_in(end):
    """Returns a classifier of given weights that ends in `end(logits)`."""
    inputs = keras.Input((6, 4, 2))
    x = layers.GlobalAveragePooling2D()(conv(3, "conv")(inputs))
    return vary(keras.Model(inputs, end(x)))


def dense_head(**options):
    return layers.Dense(5, name="out", **options)
