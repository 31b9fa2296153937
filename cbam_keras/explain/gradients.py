"""The gradient of a number with respect to something computed on the way.

The one place with a branch per backend.
"""

from collections.abc import Callable
from typing import Any

import keras

# Given a function to send the intermediate tensor through, computes on and
# returns a scalar and that tensor.
Run = Callable[[Callable[[Any], Any]], tuple[Any, Any]]


def gradient_at(run: Run, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """Returns an intermediate tensor and the gradient at it.

    Args:
        run: Function that takes a function, sends a tensor through it, goes
            on with what that returns, and returns a scalar and that.
        shape: Shape of the tensor.

    Returns:
        Tuple of the tensor and the gradient of the scalar, of one shape.
    """
    return _BACKENDS[keras.config.backend()](run, shape)


def _tensorflow(run, shape):
    import tensorflow as tf

    with tf.GradientTape(watch_accessed_variables=False) as tape:

        def through(x):
            # A tensor of its own: a layer may hand on what it was given.
            x = tf.identity(x)
            tape.watch(x)
            return x

        score, tensor = run(through)
    return tensor, tape.gradient(score, tensor, unconnected_gradients="zero")


def _jax(run, shape):
    import jax

    def score_with(difference):
        return run(lambda x: x + difference.astype(x.dtype))

    # What is assigned on the way stays here, as tracers must not get out.
    with keras.StatelessScope():
        gradient, tensor = jax.grad(score_with, has_aux=True)(
            jax.numpy.zeros(shape)
        )
    return tensor, gradient


def _torch(run, shape):
    import torch

    def through(x):
        # Nothing before this needs to be kept for going back.
        torch.set_grad_enabled(True)
        return x.detach().requires_grad_()

    with torch.no_grad():
        score, tensor = run(through)
    if not score.requires_grad:
        return tensor, torch.zeros_like(tensor)
    (gradient,) = torch.autograd.grad(
        score, tensor, allow_unused=True, materialize_grads=True
    )
    return tensor, gradient


_BACKENDS = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
