"""An optimizer and a learning rate schedule that Keras lacks."""

import math

import keras
from keras import ops

from cbam_keras import _private


@keras.saving.register_keras_serializable(package="cbam_keras")
class MomentumSGD(keras.optimizers.Optimizer):
    """SGD with momentum that adds the weight decay to the gradient.

    It is `torch.optim.SGD`, that of published recipes for PyTorch:

        m = momentum * m + (gradient + l2_decay * w)
        w = w - learning_rate * m

    `keras.optimizers.SGD(weight_decay=)` subtracts the decay from the
    variable without momentum, so the same value decays less by a factor of
    about `1 - momentum`, and keeps the learning rate in the buffer.
    """

    def __init__(
        self,
        learning_rate=0.1,
        momentum=0.9,
        l2_decay=0.0,
        name="momentum_sgd",
        **kwargs,
    ):
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        self.momentum = momentum
        self.l2_decay = l2_decay

    def build(self, variables):
        if not self.built:
            super().build(variables)
            self.momentums = self.add_optimizer_variables(variables, "momentum")

    def update_step(self, gradient, variable, learning_rate):
        momentum = self.momentums[_private.index_of(self, variable)]
        gradient = ops.cast(gradient, variable.dtype)
        decayed = ops.add(gradient, ops.multiply(variable, self.l2_decay))
        moved = ops.add(ops.multiply(momentum, self.momentum), decayed)
        self.assign(momentum, moved)
        learning_rate = ops.cast(learning_rate, variable.dtype)
        self.assign_sub(variable, ops.multiply(moved, learning_rate))

    def get_config(self):
        config = super().get_config()
        config.update(momentum=self.momentum, l2_decay=self.l2_decay)
        return config


@keras.saving.register_keras_serializable(package="cbam_keras")
class WarmupCosineDecay(keras.optimizers.schedules.CosineDecay):
    """`keras.optimizers.schedules.CosineDecay` with a warm-up, without `cond`.

    The arguments and learning rates are the same. Under TensorFlow, AdamW
    computes the rate once for every variable. TensorFlow merges equal
    expressions, but not equal branches, which are also slow to trace.
    """

    def __call__(self, step):
        step = ops.cast(step, "float32")
        # Where there is no warm-up, its rate is not taken, but computed.
        warmed_up = step / max(self.warmup_steps, 1)
        decayed = ops.clip((step - self.warmup_steps) / self.decay_steps, 0, 1)
        rising = self.initial_learning_rate + warmed_up * (
            self.warmup_target - self.initial_learning_rate
        )
        factor = 0.5 * (1 + ops.cos(math.pi * decayed))
        falling = self.warmup_target * (self.alpha + (1 - self.alpha) * factor)
        return ops.where(step < self.warmup_steps, rising, falling)
