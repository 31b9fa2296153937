"""The gradient of a scalar at an intermediate tensor, on each backend."""

from collections.abc import Callable

import keras

from cbam_keras._graph import Tensor


def gradient_at(
    run: Callable[[Callable[[Tensor], Tensor]], tuple[Tensor, Tensor]],
    shape: tuple[int, ...],
) -> tuple[Tensor, Tensor]:
    """Returns an intermediate tensor and the gradient of a scalar at it.

    `run` takes a function `watch`, replaces the tensor `x`, of `shape`, by
    `watch(x)`, and returns the scalar computed from that, and `watch(x)`.
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
