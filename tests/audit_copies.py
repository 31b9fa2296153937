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
    hidden, filters, gate, joined = "relu", 1, staticmethod(ops.sigmoid), 1

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
        mlp = [
            layers.Dense(width, self.hidden, use_bias=bias),
            layers.Dense(channels, use_bias=bias),
        ]
        mlp[0].build((None, self.joined * channels))
        mlp[1].build((None, width))
        return mlp

    def run_mlp(self, x):
        return self.mlp[1](self.mlp[0](x))

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


class SigmoidPerBranch(Correct):
    def channel_map(self, x):
        average, maximum = map(self.run_mlp, self.pools(x))
        return ops.sigmoid(average) + ops.sigmoid(maximum)


class TwoMLPs(Correct):
    def build(self, shape):
        super().build(shape)
        self.second = self.make_mlp(shape[-1])

    def channel_map(self, x):
        average, maximum = self.pools(x)
        maximum = self.second[1](self.second[0](maximum))
        return ops.sigmoid(self.run_mlp(average) + maximum)


class AverageOnly(Correct):
    def channel_map(self, x):
        return ops.sigmoid(self.run_mlp(self.pools(x)[0]))


class ConcatenatedPools(Correct):
    joined = 2

    def channel_map(self, x):
        pooled = ops.concatenate(self.pools(x), axis=-1)
        return ops.sigmoid(self.run_mlp(pooled))


class ReluBeforeSigmoid(Correct):
    def gate(self, z):
        return ops.sigmoid(ops.relu(z))


class TanhGate(Correct):
    gate = staticmethod(ops.tanh)


class TwoConvolutions(Correct):
    filters = 4

    def build(self, shape):
        super().build(shape)
        self.last = layers.Conv2D(1, 1, use_bias=False)
        self.last.build((None, None, None, 4))

    def logits(self, x):
        return self.last(ops.relu(super().logits(x)))


class AddsInput(Correct):
    def call(self, x, training=None):
        return x + super().call(x)


class IdleRatio(Correct):
    def width(self, channels):
        return channels // 16


class RatioAsUnits(Correct):
    def width(self, channels):
        return self.options["ratio"]


class SmoothActivation(Correct):
    hidden = "gelu"


class LeakyActivation(Correct):
    def run_mlp(self, x):
        z = ops.matmul(x, self.mlp[0].kernel) + self.mlp[0].bias
        return self.mlp[1](ops.leaky_relu(z, 0.1))


class CutGradient(Correct):
    def channel_map(self, x):
        return super().channel_map(ops.stop_gradient(x))


class FixedDtype(Correct):
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
    def get_config(self):
        config = super().get_config()
        del config["ratio"]
        return config


class BuiltInCall(layers.Layer):
    """Creates new layers in every call."""

    def call(self, x):
        channels = x.shape[-1]
        mlp = keras.Sequential(
            [layers.Dense(channels // 16, "relu"), layers.Dense(channels)]
        )
        average = mlp(ops.mean(x, axis=(1, 2), keepdims=True))
        maximum = mlp(ops.max(x, axis=(1, 2), keepdims=True))
        x = x * ops.sigmoid(average + maximum)
        maps = [ops.mean(x, axis=-1, keepdims=True)]
        maps.append(ops.max(x, axis=-1, keepdims=True))
        conv = layers.Conv2D(1, 7, padding="same", activation="sigmoid")
        return x * conv(ops.concatenate(maps, axis=-1))


def with_lambda(channels, ratio=16):
    """A model whose `Lambda` layers do not load."""
    inputs = keras.Input((None, None, channels))
    mlp = [layers.Dense(channels // ratio, "relu"), layers.Dense(channels)]
    average = mlp[1](
        mlp[0](layers.GlobalAveragePooling2D(keepdims=True)(inputs))
    )
    maximum = mlp[1](mlp[0](layers.GlobalMaxPooling2D(keepdims=True)(inputs)))
    gate = layers.Activation("sigmoid")(layers.Add()([average, maximum]))
    x = layers.Multiply()([inputs, gate])
    maps = [
        layers.Lambda(lambda x: ops.mean(x, axis=-1, keepdims=True))(x),
        layers.Lambda(lambda x: ops.max(x, axis=-1, keepdims=True))(x),
    ]
    conv = layers.Conv2D(1, 7, padding="same", activation="sigmoid")
    return keras.Model(
        inputs, layers.Multiply()([x, conv(layers.Concatenate()(maps))])
    )


class Tutorial(layers.Layer):
    """A widely copied tutorial, with the mistakes that it has."""

    def __init__(self, channels, r=4, **kwargs):
        super().__init__(**kwargs)
        self.channels = channels
        self.r = r
        self.average = layers.AveragePooling2D(128)
        self.maximum = layers.MaxPooling2D(128)
        self.first = layers.Dense(channels // r, use_bias=False)
        self.second = layers.Dense(channels, use_bias=False)
        self.conv = layers.Conv2D(channels, 7, padding="same", use_bias=False)

    def build(self, shape):
        self.first.build((None, 1, 1, self.channels))
        self.second.build((None, 1, 1, self.channels // self.r))
        self.conv.build((*shape[:-1], 2))

    def call(self, x):
        pooled = [self.average(x), self.maximum(x)]
        average, maximum = [self.second(self.first(y)) for y in pooled]
        x = x * ops.relu(average + maximum)
        maps = [ops.mean(x, axis=-1, keepdims=True)]
        maps.append(ops.max(x, axis=-1, keepdims=True))
        return x * ops.sigmoid(self.conv(ops.concatenate(maps, axis=-1)))

    def get_config(self):
        return {**super().get_config(), "channels": self.channels, "r": self.r}
