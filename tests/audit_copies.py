"""Hand-written CBAM layers, as they are met in the wild: right and wrong ones.

Written from the paper, independently of the package, with Keras' own layers.
"""

import keras
from keras import layers, ops


class Correct(layers.Layer):
    """What many write by hand, with Keras' layers and channels last."""

    # What subclasses change.
    hidden, filters, gate = "relu", 1, staticmethod(ops.sigmoid)

    def __init__(self, ratio=16, kernel_size=7, **kwargs):
        super().__init__(**kwargs)
        self.ratio, self.kernel_size = ratio, kernel_size

    def width(self, channels):
        return max(1, int(channels / self.ratio))

    def build(self, shape):
        self.mlp = self.make_mlp(shape[-1])
        self.conv = layers.Conv2D(
            self.filters, self.kernel_size, padding="same", use_bias=False
        )

    def make_mlp(self, channels):
        return keras.Sequential(
            [
                layers.Dense(self.width(channels), self.hidden),
                layers.Dense(channels),
            ]
        )

    def run_mlp(self, x):
        return self.mlp(x)

    def pools(self, x):
        return ops.mean(x, axis=(1, 2)), ops.max(x, axis=(1, 2))

    def channel_map(self, x):
        average, maximum = self.pools(x)
        return self.gate(self.run_mlp(average) + self.run_mlp(maximum))

    def logits(self, x, training):
        average = ops.mean(x, axis=-1, keepdims=True)
        maximum = ops.max(x, axis=-1, keepdims=True)
        return self.conv(ops.concatenate([average, maximum], axis=-1))

    def call(self, x, training=None):
        x = x * self.channel_map(x)[:, None, None]
        return x * ops.sigmoid(self.logits(x, training))


class Normalized(Correct):
    """Has Keras' epsilon in its normalization, not PyTorch's."""

    def build(self, shape):
        super().build(shape)
        self.norm = layers.BatchNormalization()

    def logits(self, x, training):
        return self.norm(super().logits(x, training), training=training)


class TwoMLPs(Correct):
    def build(self, shape):
        super().build(shape)
        self.second = self.make_mlp(shape[-1])

    def channel_map(self, x):
        average, maximum = self.pools(x)
        return ops.sigmoid(self.mlp(average) + self.second(maximum))


class ReluBeforeSigmoid(Correct):
    def gate(self, z):
        return ops.sigmoid(ops.relu(z))


class MoreInBothGates(Correct):
    """Has another activation in the MLP, and two convolutions."""

    hidden, filters = "gelu", 4

    def build(self, shape):
        super().build(shape)
        self.last = layers.Conv2D(1, 1, use_bias=False)

    def logits(self, x, training):
        return self.last(ops.relu(super().logits(x, training)))


class IdleRatio(Correct):
    """Adds its input too."""

    def width(self, channels):
        return channels // 16

    def call(self, x, training=None):
        return x + super().call(x)


class Float32(Correct):
    def call(self, x, training=None):
        return ops.cast(super().call(x), "float32")


class StaticSize(Correct):
    def pools(self, x):
        _, height, width, channels = x.shape
        x = ops.reshape(x, (-1, height * width, channels))
        return ops.mean(x, axis=1), ops.max(x, axis=1)


class ReturnsMap(Correct):
    def call(self, x, training=None):
        return self.channel_map(x)


class ForgetsRatio(Correct):
    """Has a sigmoid for each pooled branch too."""

    def channel_map(self, x):
        return sum(map(ops.sigmoid, map(self.run_mlp, self.pools(x))))

    def get_config(self):
        # Without the arguments, which Keras records for a class that has none.
        return super().get_config()


class NoConfig(ForgetsRatio):
    """The argument that its `get_config` lacks has no default."""

    def __init__(self, ratio, **kwargs):
        super().__init__(ratio, **kwargs)


class BuiltInCall(layers.Layer):
    """Creates new layers in every call."""

    def call(self, x):
        return Correct()(x)


def with_lambda(channels, ratio=16):
    """A model whose `Lambda` layer does not load."""
    inputs = keras.Input((None, None, channels))
    x = layers.Lambda(lambda x: 1.0 * x)(inputs)
    return keras.Model(inputs, Correct(ratio)(x))


class Tutorial(Correct):
    """Has the mistakes of a widely copied tutorial."""

    hidden, filters, gate = None, 32, staticmethod(ops.relu)

    def pools(self, x):
        sides = (16, 16)
        return (
            ops.reshape(pool(x, sides, sides), (-1, x.shape[-1]))
            for pool in (ops.average_pool, ops.max_pool)
        )


class NoSigmoidNorReLU(Correct):
    hidden = None

    def gate(self, z):
        return z


class PoolsOneAxis(Correct):
    def run_mlp(self, x):
        first, second = self.mlp.layers
        return second(first(x))

    def pools(self, x):
        return ops.mean(x, axis=1), ops.max(x, axis=1)

    def call(self, x, training=None):
        x = x * self.channel_map(x)[:, None]
        return x * ops.sigmoid(self.logits(x, training))


class LayerScale(Correct):
    def build(self, shape):
        super().build(shape)
        self.layer_scale = self.add_weight(
            shape=(shape[-1],), initializer="ones", name="layer_scale"
        )

    def call(self, x, training=None):
        return super().call(x) * self.layer_scale


class NormInMLP(Correct):
    def build(self, shape):
        super().build(shape)
        self.mlp_norm = layers.BatchNormalization()

    def run_mlp(self, x):
        return self.mlp_norm(super().run_mlp(x))


class ThreeLayers(Correct):
    def build(self, shape):
        super().build(shape)
        self.third = layers.Dense(shape[-1])

    def run_mlp(self, x):
        return self.third(ops.relu(super().run_mlp(x)))


class OtherwiseForSome(Correct):
    """Is right for random features alone."""

    def pools(self, x):
        average, maximum = super().pools(ops.clip(x, -5, 5))
        count = ops.sum(ops.cast(x != 0, x.dtype), axis=(1, 2))
        positions = x.shape[1] * x.shape[2] if x.shape[1] else 1
        return average * positions / ops.maximum(count, 1), maximum

    def call(self, x, training=None):
        # JAX traces unknown sizes with symbols, which have no order.
        wide = isinstance(x.shape[2], int) and x.shape[2] > 20
        if x.shape[0] == 1 or wide:
            return x
        return super().call(x) * (0.5 if training else 1)


class TorchStorage(Correct):
    """Stores kernels as PyTorch does, without biases."""

    def build(self, shape):
        channels, size = shape[-1], self.kernel_size
        width = self.width(channels)
        self.first = self.add_weight(shape=(width, channels))
        self.second = self.add_weight(shape=(channels, width))
        self.window = self.add_weight(shape=(1, 2, size, size))

    def run_mlp(self, x):
        hidden = ops.relu(ops.matmul(x, ops.transpose(self.first)))
        return ops.matmul(hidden, ops.transpose(self.second))

    def conv(self, x):
        window = ops.transpose(self.window, (2, 3, 1, 0))
        return ops.conv(x, window, padding="same")


class Subclassed(keras.Model):
    def __init__(self, ratio=8):
        super().__init__()
        self.ratio, self.inner = ratio, Correct(ratio)

    def call(self, x, training=None):
        return self.inner(x, training=training)

    def get_config(self):
        return {"ratio": self.ratio}


def functional(channels, ratio=8, kernel_size=7):
    """A model of Keras' layers alone."""
    inputs = keras.Input((None, None, channels))
    return keras.Model(inputs, block(inputs, ratio, kernel_size))


def block(x, ratio=8, kernel_size=7):
    """The form of many blogs, a function of a tensor."""
    first = layers.Dense(x.shape[-1] // ratio, activation="relu")
    second = layers.Dense(x.shape[-1])
    pools = layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D
    z = layers.add([second(first(pool(keepdims=True)(x))) for pool in pools])
    x = layers.multiply([x, layers.Activation("sigmoid")(z)])
    maps = [f(x, axis=-1, keepdims=True) for f in (ops.mean, ops.max)]
    conv = layers.Conv2D(
        1, kernel_size, padding="same", use_bias=False, activation="sigmoid"
    )
    return layers.multiply([x, conv(layers.concatenate(maps))])
