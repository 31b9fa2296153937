"""`GateNormalization`, the batch normalization inside gates."""

import math

from keras import layers, ops

from cbam_keras.layers.pools import pool


class GateNormalization(layers.BatchNormalization):
    """Batch normalization of maps or hidden units, in their precision.

    Keras' own gives wrong second derivatives on TensorFlow, computes float64
    in float32 on JAX and PyTorch, and fails there with a mask. This layer has
    the arguments, and so the `get_config`, of Keras' `BatchNormalization`.

    Call arguments:
        inputs: Floating-point tensor of any rank, with the channels last.
        training: Boolean or `None`, whether to normalize by the batch and to
            update the moving averages.
        mask: Boolean tensor of the shape of `inputs` without the last axis, or
            `None`. Positions where it is `False` are left out of the averages.
    """

    def build(self, input_shape):
        super().build(input_shape)
        # The inputs may be of any rank.
        self.input_spec = None

    def call(self, inputs, training=None, mask=None):
        if training and self.trainable:
            mean, variance = self._batch_moments(inputs, mask)
            self._track(self.moving_mean, mean)
            self._track(self.moving_variance, variance)
        else:
            mean = self.moving_mean.value
            variance = self.moving_variance.value
        return ops.batch_normalization(
            inputs,
            mean,
            variance,
            axis=-1,
            offset=self.beta,
            scale=self.gamma,
            epsilon=self.epsilon,
        )

    def _batch_moments(self, inputs, mask):
        """Returns the batch's mean and variance, the moving ones if empty."""
        count = math.prod(ops.shape(inputs))
        if mask is not None:
            mask = ops.expand_dims(mask, -1)
            count = ops.sum(ops.cast(mask, "int32"))
        axes = tuple(range(len(inputs.shape) - 1))
        dtype = self.compute_dtype
        mean = pool(inputs, "avg", axes, dtype, mask=mask)
        squares = ops.square(inputs - mean)
        variance = pool(squares, "avg", axes, dtype, mask=mask)
        if isinstance(count, int) and count > 0:
            return mean, variance
        # Averages over nothing would be NaN, and make all weights NaN.
        mean = ops.where(count > 0, mean, self.moving_mean.value)
        variance = ops.where(count > 0, variance, self.moving_variance.value)
        return mean, variance

    def _track(self, average, value):
        """Moves a moving average towards the value of this batch."""
        value = average * self.momentum + value * (1 - self.momentum)
        average.assign(value)
