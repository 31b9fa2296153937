"""Networks whose code holds what neither weights nor configurations show.

`KINDS` has two builders for each kind. Trained one after the other, in one
process or in several, each must be what it is alone.
"""

import functools
import random

import keras
from keras import layers, ops

from cbam_keras import training

saved = keras.saving.register_keras_serializable("networks_of_users")


@saved
class OwnLoss(keras.Model):
    """A functional model whose loss depends on an attribute."""

    strength = 0.0

    def compute_loss(self, x=None, y=None, y_pred=None, *args, **kwargs):
        loss = super().compute_loss(x, y, y_pred, *args, **kwargs)
        return loss + self.strength * ops.mean(ops.square(y_pred))


@saved
class Scale(layers.Layer):
    """Scales by an attribute that no configuration holds, and no weight."""

    factor = 1.0

    def call(self, inputs):
        return inputs * self.factor


@saved
class InTraining(Scale):
    """The same, in training alone."""

    def call(self, inputs, training=None):
        return super().call(inputs) if training else inputs


@saved
class Unseeded(Scale):
    """Adds noise in training, by Keras' global generator."""

    def call(self, inputs, training=None):
        if not training:
            return inputs
        shape = ops.shape(inputs)
        return inputs + self.factor * keras.random.normal(shape)


def scaled(kind, factor):
    """Returns a layer with an attribute that was set after construction."""
    layer = kind()
    layer.factor = factor
    return layer


def classifier(*first, make=keras.Model, base=(), units=4):
    """Returns a classifier, with layers first and with frozen ones."""
    x = inputs = keras.Input((28, 28, 1))
    for layer in (layers.Rescaling(1 / 255), layers.AveragePooling2D(7)):
        x = layer(x)
    for layer in (*first, layers.Flatten(), *base):
        x = layer(x)
    x = layers.Dense(units, activation="tanh")(x)
    outputs = layers.Dense(10, activation="softmax")(x)
    return make(inputs, outputs)


def frozen(units):
    """Returns frozen layers with 5 features, the same for each seed."""
    layer = functools.partial(layers.Dense, trainable=False)
    start = keras.initializers.RandomNormal(seed=1)
    return (
        layer(units, kernel_initializer=start, activation="relu"),
        layer(5, kernel_initializer=start),
    )


def random_images(data, *, factor):
    return classifier(
        layers.RandomTranslation(factor, factor),
        layers.BatchNormalization(),
    )


def own_loss(data, *, strength):
    model = classifier(make=OwnLoss)
    model.strength = strength
    return model


def attribute(data, *, factor):
    return classifier(scaled(InTraining, factor))


def single_weights(data, *, name):
    layer = layers.Dense(3)
    model = classifier(base=[layer])
    getattr(layer, name).trainable = False
    return model


def widths(data, *, units):
    return classifier(base=frozen(units))


def base_attribute(data, *, factor):
    return classifier(scaled(Scale, factor), base=frozen(6))


def unseeded(data, *, factor):
    return classifier(scaled(Unseeded, factor))


def drawn(data, *, least):
    return classifier(scaled(InTraining, least + random.random()))


RECIPE = training.Recipe(epochs=2, batch_size=41)
FROZEN = training.Recipe(epochs=2, batch_size=41, frozen=True)


def both(build, name, *values):
    """Returns two builders of a kind, which differ in one value."""
    return [functools.partial(build, **{name: value}) for value in values]


KINDS = {
    "random image layers first": (
        RECIPE,
        both(random_images, "factor", 0.1, 0.3),
    ),
    "a loss of its own": (RECIPE, both(own_loss, "strength", 0.0, 5.0)),
    "an attribute set later": (RECIPE, both(attribute, "factor", 1.0, 0.5)),
    "single frozen weights": (
        RECIPE,
        both(single_weights, "name", "kernel", "bias"),
    ),
    "bases of other widths": (FROZEN, both(widths, "units", 6, 7)),
    "bases of other attributes": (
        FROZEN,
        both(base_attribute, "factor", 1.0, -2.0),
    ),
    "a layer without a seed": (RECIPE, both(unseeded, "factor", 0.1, 1.0)),
    "a value that is drawn": (RECIPE, both(drawn, "least", 0.0, 2.0)),
}
