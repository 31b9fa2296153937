"""The gradient of a scalar at an intermediate tensor, on each backend."""

from collections.abc import Callable
from typing import Any

import keras

# Takes a function `watch`, passes the intermediate tensor through it, and
# returns a scalar computed from the result, and the result.
Run = Callable[[Callable[[Any], Any]], tuple[Any, Any]]


def gradient_at(run: Run, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """Returns an intermediate tensor and the gradient at it.

    Args:
        run: Function that takes a function `watch`, replaces an
            intermediate tensor `x` by `watch(x)`, computes a scalar from
            that, and returns the scalar and `watch(x)`.
        shape: Shape of the tensor.

    Returns:
        Tuple of the tensor and the gradient of the scalar at it, both of
        `shape`.
    """
    return _BACKENDS[keras.config.backend()](run, shape)


def _tensorflow(run, shape):
    import tensorflow as tf

    with tf.GradientTape(watch_accessed_variables=False) as tape:

        def watch(x):
            # A new tensor, since a layer may return its input.
            x = tf.identity(x)
            tape.watch(x)
            return x

        score, tensor = run(watch)
    return tensor, tape.gradient(score, tensor, unconnected_gradients="zero")


def _jax(run, shape):
    import jax

    def score_with(difference):
        return run(lambda x: x + difference.astype(x.dtype))

    # Assignments stay in this scope, since tracers must not leak.
    with keras.StatelessScope():
        gradient, tensor = jax.grad(score_with, has_aux=True)(
            jax.numpy.zeros(shape)
        )
    return tensor, gradient


def _torch(run, shape):
    import torch

    def watch(x):
        # The backward pass ends here: no gradients are kept before.
        torch.set_grad_enabled(True)
        return x.detach().requires_grad_()

    with torch.no_grad():
        score, tensor = run(watch)
    if not score.requires_grad:
        return tensor, torch.zeros_like(tensor)
    (gradient,) = torch.autograd.grad(
        score, tensor, allow_unused=True, materialize_grads=True
    )
    return tensor, gradient


_BACKENDS = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
