"""Attention as it is pasted into networks, in functions and classes.

`x` are features with `CHANNELS` channels, last.
"""

import functools

import keras
import numpy as np
from keras import layers, ops

CHANNELS = 12


def rank_of(x):
    return len(x.shape) - 2


def positions(x):
    return tuple(range(1, len(x.shape) - 1))


def pooled(x, kind, form):
    """Returns one number per channel, `(B, 1, 1, C)` or `(B, C)`."""
    name = {"avg": "Average", "max": "Max"}[kind]
    reduce = {"avg": ops.mean, "max": ops.max}[kind]
    if form == "layers":
        layer = getattr(layers, f"Global{name}Pooling{rank_of(x)}D")()
        return layers.Reshape((*(1 for _ in positions(x)), x.shape[-1]))(
            layer(x)
        )
    if form == "flat":
        return getattr(layers, f"Global{name}Pooling{rank_of(x)}D")()(x)
    if form == "lambda":
        return layers.Lambda(
            lambda y: reduce(y, axis=positions(y), keepdims=True)
        )(x)
    return reduce(x, axis=positions(x), keepdims=True)


def mlp(x, hidden, bias=True, activation="relu", unit="dense", norm=False):
    """Returns the functions of an MLP, without an activation at its end."""
    make = functools.partial(layers.Dense, use_bias=bias)
    if unit == "conv":
        conv = getattr(layers, f"Conv{rank_of(x)}D")
        make = functools.partial(conv, kernel_size=1, use_bias=bias)
    parts = [make(hidden)]
    if norm:
        parts.append(layers.BatchNormalization())
    parts += [layers.Activation(activation), make(x.shape[-1])]
    return keras.Sequential(parts) if unit == "sequential" else parts


def run(parts, x):
    for part in parts if isinstance(parts, list) else [parts]:
        x = part(x)
    return x


def channel(
    x,
    hidden=3,
    pools=("avg", "max"),
    form="layers",
    gate="sigmoid",
    join="logits",
    multiply=layers.multiply,
    **options,
):
    parts = mlp(x, hidden, **options)
    activate = layers.Activation(gate)
    logits = [run(parts, pooled(x, kind, form)) for kind in pools]
    if join == "gates":
        logits = [activate(y) for y in logits]
    y = layers.add(logits) if len(logits) > 1 else logits[0]
    y = y if join == "gates" else activate(y)
    if form == "flat":
        y = layers.Reshape((*(1 for _ in positions(x)), x.shape[-1]))(y)
    return multiply([x, y])


def spatial_map(
    x, size=7, pools=("avg", "max"), bias=False, norm=False, filters=1, **kw
):
    gate, axis = kw.pop("gate", "sigmoid"), kw.pop("axis", -1)
    reduce = {"avg": ops.mean, "max": ops.max}
    maps = [reduce[kind](x, axis=axis, keepdims=True) for kind in pools]
    y = layers.Concatenate()(maps) if len(maps) > 1 else maps[0]
    conv = getattr(layers, f"Conv{rank_of(x)}D")
    y = conv(filters, size, padding="same", use_bias=bias, **kw)(y)
    if norm:
        y = layers.BatchNormalization()(y)
    return layers.Activation(gate)(y)


def spatial(x, multiply=layers.multiply, **options):
    return multiply([x, spatial_map(x, **options)])


def both(x, spatial_options=(), **options):
    return spatial(channel(x, **options), **dict(spatial_options))


def unrefined(x):
    return layers.multiply([channel(x), spatial_map(x)])


def coordinate(x, hidden=8):
    height, width = x.shape[1:3]
    rows = ops.mean(x, axis=2, keepdims=True)
    columns = ops.mean(x, axis=1, keepdims=True)
    y = layers.Concatenate(axis=1)([rows, layers.Permute((2, 1, 3))(columns)])
    y = layers.BatchNormalization()(layers.Conv2D(hidden, 1)(y))
    rows, columns = ops.split(ops.hard_swish(y), [height], axis=1)
    gates = [
        layers.Conv2D(x.shape[-1], 1, activation="sigmoid")(z)
        for z in (rows, layers.Permute((2, 1, 3))(columns))
    ]
    return x * gates[0] * gates[1]


def squeezes(x):
    """Returns the sum of the gates of channels and of positions."""
    mapped = layers.Conv2D(1, 1, activation="sigmoid")(x)
    gated = channel(x, 6, ("avg",))
    return layers.Add()([gated, layers.Multiply()([x, mapped])])


def efficient(x):
    y = layers.Reshape((x.shape[-1], 1))(layers.GlobalAveragePooling2D()(x))
    y = layers.Conv1D(1, 3, padding="same", use_bias=False)(y)
    y = layers.Reshape((1, 1, x.shape[-1]))(y)
    return x * layers.Activation("sigmoid")(y)


def without_parameters(x):
    n = x.shape[1] * x.shape[2] - 1
    d = ops.square(x - ops.mean(x, axis=(1, 2), keepdims=True))
    v = ops.sum(d, axis=(1, 2), keepdims=True) / n
    return x * ops.sigmoid(d / (4 * (v + 1e-4)) + 0.5)


@keras.saving.register_keras_serializable(package="pasted")
class Channel(layers.Layer):
    def __init__(self, channels=CHANNELS, ratio=4, two=False, **kwargs):
        super().__init__(**kwargs)
        self.channels, self.ratio, self.two = channels, ratio, two
        self.fc1 = layers.Dense(channels // ratio, activation="relu")
        self.fc2 = layers.Dense(channels)

    def build(self, shape):
        self.fc1.build((None, shape[-1]))
        self.fc2.build((None, shape[-1] // self.ratio))

    def call(self, x):
        reduced = (f(x, axis=positions(x)) for f in (ops.mean, ops.max))
        first, second = (self.fc2(self.fc1(y)) for y in reduced)
        if self.two:
            y = ops.sigmoid(first) + ops.sigmoid(second)
        else:
            y = ops.sigmoid(first + second)
        return x * ops.expand_dims(y, positions(x))

    def get_config(self):
        own = {"channels": self.channels, "ratio": self.ratio, "two": self.two}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package="pasted")
class Spatial(layers.Layer):
    def build(self, shape):
        conv = getattr(layers, f"Conv{len(shape) - 2}D")
        self.conv = conv(1, 7, padding="same", activation="sigmoid")
        self.conv.build((*shape[:-1], 2))

    def call(self, x):
        maps = [f(x, axis=-1, keepdims=True) for f in (ops.max, ops.mean)]
        return x * self.conv(ops.concatenate(maps, axis=-1))

    def compute_output_shape(self, shape):
        return shape


@keras.saving.register_keras_serializable(package="pasted")
class Both(layers.Layer):
    def __init__(self, filters=CHANNELS, two=False, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.channel, self.spatial = Channel(filters, 4, two), Spatial()

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

    def __init__(self, units):
        super().__init__()
        self.units = units

    def build(self, shape):
        c = shape[-1]
        self.w1 = self.add_weight(shape=(c, self.units), name="w1")
        self.w2 = self.add_weight(shape=(self.units, c), name="w2")

    def call(self, x):
        y = ops.mean(x, axis=(1, 2), keepdims=True)
        return x * ops.sigmoid(ops.relu(y @ self.w1) @ self.w2)


class OfTensorFlow(Channel):
    def call(self, x):
        import tensorflow as tf

        reduced = (f(x, axis=[1, 2]) for f in (tf.reduce_mean, tf.reduce_max))
        y = tf.sigmoid(sum(self.fc2(self.fc1(y)) for y in reduced))
        return tf.multiply(x, y[:, None, None, :])


class Wrapped(layers.Layer):
    """A layer of ours in a class of somebody else."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def call(self, x):
        return self.inner(x)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.block, self.gate = layers.Conv2D(CHANNELS, 3), Both()
        self.head = layers.GlobalMaxPooling2D()

    def call(self, x):
        return self.head(self.gate(self.block(x)))


def attend(x, activation):
    return x * layers.Activation(activation)(x)


def network(gate, shape=(8, 9, 3), seed=0):
    """Returns a classifier with features that go through `gate`."""
    inputs = keras.Input(shape)
    conv = getattr(layers, f"Conv{min(len(shape) - 1, 3)}D")
    make = conv(CHANNELS, 3, padding="same", name="stem")
    x = layers.TimeDistributed(make)(inputs) if len(shape) > 4 else make(inputs)
    x = layers.ReLU(name="relu")(x)
    y = gate(x)
    y = layers.Flatten()(layers.Activation("tanh", name="after")(y))
    model = keras.Model(inputs, layers.Dense(3, name="predictions")(y))
    vary(model, seed)
    return model


def vary(model, seed=0):
    generator = np.random.default_rng(seed)
    for variable in model.variables:
        if "float" in variable.dtype:
            scale = 0.5 if len(variable.shape) < 2 else 0.1
            noise = generator.normal(size=variable.shape) * scale
            value = keras.ops.convert_to_numpy(variable)
            if "variance" in variable.name:
                noise = np.abs(noise)
            variable.assign(value + noise)
