"""Hand-written CBAM layers, as they are met in the wild: right and wrong ones.

Written from the paper, independently of the package, with Keras' own layers.
"""

import keras
from keras import layers, ops


class Correct(layers.Layer):
    """What many write by hand, with Keras' layers and channels last."""

    def __init__(
        self,
        ratio=16,
        kernel_size=7,
        *,
        mlp_bias=True,
        normalize=False,
        rounds=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.options = {
            "ratio": ratio,
            "kernel_size": kernel_size,
            "mlp_bias": mlp_bias,
            "normalize": normalize,
            "rounds": rounds,
        }

    def get_config(self):
        return {**super().get_config(), **self.options}

    # What subclasses change.
    hidden, filters, gate = "relu", 1, staticmethod(ops.sigmoid)

    def width(self, channels):
        by_ratio = channels / self.options["ratio"]
        return max(1, int(by_ratio + self.options["rounds"] / 2))

    def build(self, shape):
        self.mlp = self.make_mlp(shape[-1])
        self.conv = layers.Conv2D(
            self.filters,
            self.options["kernel_size"],
            padding="same",
            use_bias=False,
        )
        self.conv.build((*shape[:-1], 2))
        self.norm = None
        if self.options["normalize"]:
            self.norm = layers.BatchNormalization()
            self.norm.build((*shape[:-1], 1))

    def make_mlp(self, channels):
        width, bias = self.width(channels), self.options["mlp_bias"]
        mlp = keras.Sequential(
            [
                layers.Dense(width, self.hidden, use_bias=bias),
                layers.Dense(channels, use_bias=bias),
            ]
        )
        mlp.build((None, channels))
        return mlp

    def run_mlp(self, x):
        return self.mlp(x)

    def pools(self, x):
        return ops.mean(x, axis=(1, 2)), ops.max(x, axis=(1, 2))

    def channel_map(self, x):
        average, maximum = self.pools(x)
        return self.gate(self.run_mlp(average) + self.run_mlp(maximum))

    def logits(self, x):
        average = ops.mean(x, axis=-1, keepdims=True)
        maximum = ops.max(x, axis=-1, keepdims=True)
        return self.conv(ops.concatenate([average, maximum], axis=-1))

    def spatial_map(self, x, training=None):
        z = self.logits(x)
        if self.norm is not None:
            z = self.norm(z, training=training)
        return ops.sigmoid(z)

    def call(self, x, training=None):
        x = x * self.channel_map(x)[:, None, None]
        return x * self.spatial_map(x, training)


class TwoMLPs(Correct):
    def build(self, shape):
        super().build(shape)
        self.second = self.make_mlp(shape[-1])

    def channel_map(self, x):
        average, maximum = self.pools(x)
        maximum = self.second(maximum)
        return ops.sigmoid(self.run_mlp(average) + maximum)


class AverageOnly(Correct):
    def channel_map(self, x):
        return ops.sigmoid(self.run_mlp(self.pools(x)[0]))


class ReluBeforeSigmoid(Correct):
    def gate(self, z):
        return ops.sigmoid(ops.relu(z))


class MoreInBothGates(Correct):
    """Has another activation in the MLP, and two convolutions."""

    hidden, filters = "gelu", 4

    def build(self, shape):
        super().build(shape)
        self.last = layers.Conv2D(1, 1, use_bias=False)
        self.last.build((None, None, None, 4))

    def logits(self, x):
        return self.last(ops.relu(super().logits(x)))


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


class NoConfig(layers.Layer):
    """Its `get_config` lacks the argument, which has no default."""

    def __init__(self, ratio, **kwargs):
        super().__init__(**kwargs)
        self.inner = Correct(ratio)

    def build(self, shape):
        self.inner.build(shape)

    def call(self, x):
        return self.inner(x)

    def get_config(self):
        return super().get_config()


class ForgetsRatio(Correct):
    """Has a sigmoid for each pooled branch too."""

    def channel_map(self, x):
        return sum(map(ops.sigmoid, map(self.run_mlp, self.pools(x))))

    def get_config(self):
        config = super().get_config()
        del config["ratio"]
        return config


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
        return (
            ops.reshape(pool(x, 16), (-1, x.shape[-1]))
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

    def call(self, x, training=None):
        pools = ops.mean(x, axis=1), ops.max(x, axis=1)
        x = x * ops.sigmoid(sum(map(self.run_mlp, pools)))[:, None]
        return x * self.spatial_map(x)


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
        self.mlp_norm.build((None, shape[-1]))

    def run_mlp(self, x):
        return self.mlp_norm(super().run_mlp(x))


class ThreeLayers(Correct):
    def build(self, shape):
        super().build(shape)
        self.third = layers.Dense(shape[-1])
        self.third.build((None, shape[-1]))

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
        if x.shape[0] == 1 or (x.shape[2] or 0) > 20:
            return x
        return super().call(x) * (0.5 if training else 1)


class TorchStorage(Correct):
    """Stores kernels as PyTorch does."""

    def build(self, shape):
        channels, size = shape[-1], self.options["kernel_size"]
        width = self.width(channels)

        def weight(*shape, initializer="he_normal"):
            return self.add_weight(shape=shape, initializer=initializer)

        self.kernels = weight(width, channels), weight(channels, width)
        self.biases = [
            weight(1, n, initializer="zeros") for n in (width, channels)
        ]
        self.window = weight(1, 2, size, size)
        self.norm = None

    def run_mlp(self, x):
        first, second = map(ops.transpose, self.kernels)
        hidden = ops.relu(ops.matmul(x, first) + self.biases[0])
        return ops.matmul(hidden, second) + self.biases[1]

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
