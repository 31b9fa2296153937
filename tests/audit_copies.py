"""Hand-written CBAM layers, as they are met in the wild: right and wrong ones.

Written from the paper, independently of the package, with Keras' own layers.
"""

import keras
from keras import layers, ops


class Correct(layers.Layer):
    """What many write by hand, with Keras' layers and channels last."""

    def __init__(self, ratio=16, kernel_size=7, **kwargs):
        super().__init__(**kwargs)
        self.ratio, self.kernel_size = ratio, kernel_size

    def build(self, shape):
        self.mlp = self.make_mlp(shape[-1])
        self.conv = layers.Conv2D(
            1, self.kernel_size, padding="same", use_bias=False
        )

    def make_mlp(self, channels):
        first = layers.Dense(channels // self.ratio, "relu")
        return keras.Sequential([first, layers.Dense(channels)])

    def gate(self, average, maximum):
        return ops.sigmoid(self.mlp(average) + self.mlp(maximum))

    def logits(self, maps):
        return self.conv(maps)

    def call(self, x):
        gate = self.gate(ops.mean(x, axis=(1, 2)), ops.max(x, axis=(1, 2)))
        x = x * gate[:, None, None]
        average = ops.mean(x, axis=-1, keepdims=True)
        maximum = ops.max(x, axis=-1, keepdims=True)
        maps = ops.concatenate([average, maximum], axis=-1)
        return x * ops.sigmoid(self.logits(maps))


class TorchStorage(Correct):
    """Stores kernels as PyTorch does, without biases."""

    def build(self, shape):
        channels, size = shape[-1], self.kernel_size
        width = channels // self.ratio
        self.first = self.add_weight(shape=(width, channels, 1, 1))
        self.second = self.add_weight(shape=(channels, width))
        self.window = self.add_weight(shape=(1, 2, size, size))

    def mlp(self, x):
        hidden = ops.relu(x @ ops.transpose(self.first[:, :, 0, 0]))
        return hidden @ ops.transpose(self.second)

    def conv(self, x):
        window = ops.transpose(self.window, (2, 3, 1, 0))
        return ops.conv(x, window, padding="same")


class Normalized(Correct):
    """Has Keras' epsilon in its normalization, not PyTorch's."""

    def build(self, shape):
        super().build(shape)
        self.norm = layers.BatchNormalization()

    def logits(self, maps):
        return self.norm(super().logits(maps))


class TwoMLPs(Correct):
    def build(self, shape):
        super().build(shape)
        self.second = self.make_mlp(shape[-1])

    def gate(self, average, maximum):
        return ops.sigmoid(self.mlp(average) + self.second(maximum))


class SigmoidOfEach(Correct):
    def gate(self, average, maximum):
        return ops.sigmoid(self.mlp(average)) + ops.sigmoid(self.mlp(maximum))


class Infinite(Correct):
    def call(self, x):
        return super().call(x) / 0.0


class ReturnsMap(Correct):
    def call(self, x):
        return self.gate(ops.mean(x, axis=(1, 2)), ops.max(x, axis=(1, 2)))


class Channels(Correct):
    """Has to be told the number of channels, and forgets the ratio."""

    def __init__(self, channels, ratio=8, **kwargs):
        super().__init__(ratio, **kwargs)
        self.channels = channels
        self.mlp = self.make_mlp(channels)

    def build(self, shape):
        self.conv = layers.Conv2D(1, 7, padding="same", use_bias=False)

    def get_config(self):
        return {**super().get_config(), "channels": self.channels}


class Subclassed(keras.Model):
    def __init__(self, ratio=8):
        super().__init__()
        self.ratio, self.inner = ratio, Correct(ratio)

    def call(self, x):
        return self.inner(x)

    def get_config(self):
        return {"ratio": self.ratio}


def functional(channels, size=None):
    """A model of Keras' layers alone."""
    inputs = keras.Input((size, size, channels))
    return keras.Model(inputs, block(inputs))


def block(x):
    """The form of many blogs, a function of a tensor."""
    first = layers.Conv2D(x.shape[-1] // 8, 1, activation="relu")
    second = layers.Conv2D(x.shape[-1], 1)
    pools = layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D
    z = layers.add([second(first(pool(keepdims=True)(x))) for pool in pools])
    x = layers.multiply([x, layers.Activation("sigmoid")(z)])
    maps = [f(x, axis=-1, keepdims=True) for f in (ops.mean, ops.max)]
    conv = layers.Conv2D(
        1, 7, padding="same", use_bias=False, activation="sigmoid"
    )
    return layers.multiply([x, conv(layers.concatenate(maps))])
