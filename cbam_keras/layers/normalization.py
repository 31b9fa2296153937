"""`GateNormalization`, the batch normalization inside of gates."""

import math

from keras import layers, ops

from cbam_keras.layers.pools import pool


class GateNormalization(layers.BatchNormalization):
    """Batch normalization of maps or hidden units, in their precision.

    Keras' own gives wrong second derivatives on TensorFlow, and fails for masks
    and float64 on JAX and PyTorch.
    """

    def build(self, input_shape):
        super().build(input_shape)
        # The inputs may be of any rank.
        self.input_spec = None

    def call(self, inputs, training=None, mask=None):
        mean, variance = self.moving_mean.value, self.moving_variance.value
        if training and self.trainable:
            mean, variance = self._batch_moments(inputs, mask)
            self._track(self.moving_mean, mean)
            self._track(self.moving_variance, variance)
        options = {"offset": self.beta, "scale": self.gamma}
        return ops.batch_normalization(
            inputs, mean, variance, axis=-1, epsilon=self.epsilon, **options
        )

    def _batch_moments(self, inputs, mask):
        """Returns mean and variance, or the moving ones of an empty batch."""
        count = math.prod(ops.shape(inputs))
        if mask is not None:
            mask = ops.expand_dims(mask, -1)
            count = ops.sum(ops.cast(mask, "int32"))
        axes = tuple(range(len(inputs.shape) - 1))
        options = {"axis": axes, "dtype": self.compute_dtype, "mask": mask}
        mean = pool(inputs, "avg", **options)
        variance = pool(ops.square(inputs - mean), "avg", **options)
        if isinstance(count, int) and count > 0:
            return mean, variance
        mean = ops.where(count > 0, mean, self.moving_mean.value)
        moving = self.moving_variance.value
        return mean, ops.where(count > 0, variance, moving)

    def _track(self, average, value):
        value = average * self.momentum + value * (1 - self.momentum)
        average.assign(value)
