"""Attention as it is pasted into networks, in functions and classes.

`x` are features with `CHANNELS` channels, last.
"""

import functools

import keras
from insertion_checks import vary
from keras import layers, ops

CHANNELS = 12


def positions(x):
    return tuple(range(1, len(x.shape) - 1))


def of_rank(name, x):
    """Returns the layer of Keras for as many positions as `x` has."""
    return getattr(layers, f"{name}{len(positions(x))}D")


def pooled(x, kind="avg", form="ops"):
    """Returns one number per channel, `(B, 1, 1, C)`."""
    reduce = {"avg": ops.mean, "max": ops.max}[kind]
    if form == "layers":
        name = {"avg": "Average", "max": "Max"}[kind]
        return of_rank(f"Global{name}Pooling", x)(keepdims=True)(x)
    reduce = functools.partial(reduce, axis=positions(x), keepdims=True)
    return layers.Lambda(reduce)(x) if form == "lambda" else reduce(x)


def mlp(x, hidden, bias=True, activation="relu", unit="dense", norm=None):
    """Returns the functions of an MLP, without an activation at its end."""
    dense, options = layers.Dense, {"use_bias": bias}
    if unit == "conv":
        dense, options["kernel_size"] = layers.Conv2D, 1
    parts = [dense(hidden, **options)]
    if norm:
        parts.append(layers.BatchNormalization(epsilon=norm))
    parts += [layers.Activation(activation), dense(x.shape[-1], **options)]
    return keras.Sequential(parts) if unit == "sequential" else parts


def run(parts, x):
    for part in parts if isinstance(parts, list) else [parts]:
        x = part(x)
    return x


def gated(x, *parts):
    return x * run([*parts], pooled(x))


def channel(
    x,
    hidden=3,
    pools=("avg", "max"),
    form="layers",
    gate="sigmoid",
    join="logits",
    **options,
):
    parts = mlp(x, hidden, **options)
    activate = layers.Activation(gate)
    logits = [run(parts, pooled(x, kind, form)) for kind in pools]
    if join != "logits":
        logits = [activate(y) for y in logits]
    y = layers.add(logits) if len(logits) > 1 else logits[0]
    y = y if join == "gates" else activate(y)
    return layers.multiply([x, y])


def spatial_map(x, size=7, pools=("avg", "max"), bias=False, norm=None, **kw):
    reduce = {"avg": ops.mean, "max": ops.max}
    maps = [reduce[kind](x, axis=-1, keepdims=True) for kind in pools]
    y = layers.Concatenate()(maps) if len(maps) > 1 else maps[0]
    conv = of_rank("Conv", x)
    y = conv(1, size, padding="same", use_bias=bias, **kw)(y)
    if norm:
        y = layers.BatchNormalization(epsilon=norm)(y)
    return layers.Activation("sigmoid")(y)


def spatial(x, **options):
    return layers.multiply([x, spatial_map(x, **options)])


def both(x, spatial_options=(), **options):
    return spatial(channel(x, **options), **dict(spatial_options))


def unrefined(x):
    return layers.multiply([channel(x), spatial_map(x)])


def efficient(x):
    y = layers.Reshape((x.shape[-1], 1))(layers.GlobalAveragePooling2D()(x))
    y = layers.Conv1D(1, 3, padding="same", use_bias=False)(y)
    y = layers.Reshape((1, 1, x.shape[-1]))(y)
    return x * layers.Activation("sigmoid")(y)


@keras.saving.register_keras_serializable(package="pasted")
class Channel(layers.Layer):
    def __init__(self, channels=CHANNELS, ratio=4, **kwargs):
        super().__init__(**kwargs)
        self.channels, self.ratio = channels, ratio
        self.fc1 = layers.Dense(channels // ratio, activation="relu")
        self.fc2 = layers.Dense(channels)

    def build(self, shape):
        self.fc1.build((None, shape[-1]))
        self.fc2.build((None, shape[-1] // self.ratio))

    def call(self, x):
        reduced = (f(x, axis=positions(x)) for f in (ops.mean, ops.max))
        y = ops.sigmoid(sum(self.fc2(self.fc1(y)) for y in reduced))
        return x * ops.expand_dims(y, positions(x))

    def get_config(self):
        own = {"channels": self.channels, "ratio": self.ratio}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package="pasted")
class Spatial(layers.Layer):
    def build(self, shape):
        conv = of_rank("Conv", keras.KerasTensor(shape))
        self.conv = conv(1, 7, padding="same", activation="sigmoid")
        self.conv.build((*shape[:-1], 2))

    def call(self, x):
        maps = [f(x, axis=-1, keepdims=True) for f in (ops.max, ops.mean)]
        return x * self.conv(ops.concatenate(maps, axis=-1))

    def compute_output_shape(self, shape):
        return shape


class Normalized(Spatial):
    """Batch normalization is made before the convolution, and comes after."""

    def build(self, shape):
        self.norm = layers.BatchNormalization(epsilon=1e-5)
        super().build(shape)
        self.norm.build((*shape[:-1], 1))
        self.conv.activation = lambda y: ops.sigmoid(self.norm(y))


@keras.saving.register_keras_serializable(package="pasted")
class Both(layers.Layer):
    def __init__(self, filters=CHANNELS, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.channel, self.spatial = Channel(filters), Spatial()

    def build(self, shape):
        self.channel.build(shape)
        self.spatial.build(shape)

    def call(self, inputs):
        return self.spatial(self.channel(inputs))

    def compute_output_shape(self, shape):
        return shape

    def get_config(self):
        return {**super().get_config(), "filters": self.filters}


class Weights(layers.Layer):
    """A gate of weights of its own, without a config."""

    def build(self, shape):
        self.w1 = self.add_weight(shape=(shape[-1], 3))
        self.w2 = self.add_weight(shape=(3, shape[-1]))

    def call(self, x):
        return x * ops.sigmoid(ops.relu(pooled(x) @ self.w1) @ self.w2)


class Block(layers.Layer):
    """A residual block with a gate inside."""

    def build(self, shape):
        self.conv = layers.Conv2D(shape[-1], 3, padding="same")
        self.gate = Weights(name="gate")
        self.conv.build(shape)
        self.gate.build(shape)

    def call(self, x):
        return x + self.gate(self.conv(x))


class OfTensorFlow(Channel):
    def call(self, x):
        import tensorflow as tf

        reduced = (f(x, axis=[1, 2]) for f in (tf.reduce_mean, tf.reduce_max))
        y = tf.sigmoid(sum(self.fc2(self.fc1(y)) for y in reduced))
        return tf.multiply(x, y[:, None, None, :])


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.block, self.gate = layers.Conv2D(CHANNELS, 3), Both()
        self.head = layers.GlobalMaxPooling2D()

    def call(self, x):
        return self.head(self.gate(self.block(x)))


def network(gate, shape=(8, 9, 3)):
    """Returns a network with features that go through `gate`."""
    inputs = keras.Input(shape)
    stem = layers.Dense(CHANNELS, activation="relu", name="stem")(inputs)
    y = layers.Activation("tanh", name="after")(gate(stem))
    outputs = layers.Dense(3, name="predictions")(y)
    return vary(keras.Model(inputs, outputs))
