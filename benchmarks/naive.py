"""The baselines of the benchmarks: CBAM as tutorials write it."""

from keras import layers, ops

from cbam_keras import CBAM, SpatialAttention, SqueezeExcite


class NaiveCBAM(layers.Layer):
    """Computes what `CBAM` does, each formula by an operation of its own.

    A plain Keras layer of shared `Dense` and `Conv2D` children, for
    `channels_last` alone. It is what one gets by writing down the formulas.
    `test_the_naive_layer_computes_what_ours_does` shows that it is an equal.
    """

    def __init__(self, reduction_ratio=16, **kwargs):
        super().__init__(**kwargs)
        self.reduction_ratio = reduction_ratio

    def build(self, input_shape):
        channels = input_shape[-1]
        hidden = channels // self.reduction_ratio
        policy = self.dtype_policy
        self.squeeze = layers.Dense(hidden, activation="relu", dtype=policy)
        self.excite = layers.Dense(channels, dtype=policy)
        self.conv = layers.Conv2D(
            1,
            7,
            padding="same",
            use_bias=False,
            activation="sigmoid",
            dtype=policy,
        )
        self.squeeze.build((None, channels))
        self.excite.build((None, hidden))
        self.conv.build((None, None, None, 2))

    def call(self, inputs):
        average = ops.mean(inputs, axis=(1, 2), keepdims=True)
        maximum = ops.max(inputs, axis=(1, 2), keepdims=True)
        logits = self.excite(self.squeeze(average))
        logits = logits + self.excite(self.squeeze(maximum))
        x = inputs * ops.sigmoid(logits)
        average = ops.mean(x, axis=-1, keepdims=True)
        maximum = ops.max(x, axis=-1, keepdims=True)
        return x * self.conv(ops.concatenate([average, maximum], axis=-1))


class FunctionalCBAM(layers.Layer):
    """Adds CBAM to a network as Keras' own layers, as pasted functions do.

    It is no layer of the network, but builders call it like one.
    """

    def __init__(self, reduction_ratio=16, **kwargs):
        super().__init__(**kwargs)
        self.reduction_ratio = reduction_ratio

    def __call__(self, x):
        channels = x.shape[-1]
        hidden = channels // self.reduction_ratio
        squeeze = layers.Dense(hidden, activation="relu")
        excite = layers.Dense(channels)
        logits = [
            excite(squeeze(layers.Reshape((1, 1, channels))(pool()(x))))
            for pool in (layers.GlobalAveragePooling2D, layers.GlobalMaxPool2D)
        ]
        gate = layers.Activation("sigmoid")(layers.Add()(logits))
        x = layers.Multiply()([x, gate])
        pooled = [
            layers.Lambda(pool, output_shape=(*x.shape[1:-1], 1))(x)
            for pool in (
                lambda x: ops.mean(x, axis=-1, keepdims=True),
                lambda x: ops.max(x, axis=-1, keepdims=True),
            )
        ]
        conv = layers.Conv2D(
            1, 7, padding="same", use_bias=False, activation="sigmoid"
        )
        return layers.Multiply()([x, conv(layers.Concatenate()(pooled))])


# Builders of networks take these as `attention=`.
ARMS = {
    "none": None,
    "se": SqueezeExcite,
    "spatial": SpatialAttention,
    "cbam": CBAM,
    "naive": NaiveCBAM,
    "functional": FunctionalCBAM,
}
