"""How a benchmark computes: its backend, and whether XLA compiles.

Imported before Keras, since it determines the backend.
"""

import argparse
import os

# Messages of no use here, and all of a GPU's memory taken in advance, so that
# two frameworks could not be measured in one process.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

TRAINING_STEP = "forward and backward"


def backend_of(arguments):
    """Returns the backend of the `--mode` on a command line."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--mode", default="")
    mode = parser.parse_known_args(arguments)[0].mode
    backend = mode.partition("-")[0]
    # The script's own parser rejects a mode that does not exist.
    known = backend in ("tensorflow", "jax", "torch")
    return backend if known else "tensorflow"


def on_gpu():
    """Returns whether the backend computes on a GPU."""
    import keras

    backend = keras.config.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return bool(tf.config.list_physical_devices("GPU"))
    if backend == "jax":
        import jax

        return jax.default_backend() == "gpu"
    import torch

    return torch.cuda.is_available()


def wait(values):
    """Returns when the backend has computed the values."""
    import keras

    backend = keras.config.backend()
    if backend == "jax":
        import jax

        jax.block_until_ready(values)
    elif backend == "torch":
        wait_for_torch()
    else:
        import tensorflow as tf

        # There is no other way to wait than to fetch what is computed.
        first = tf.nest.flatten(values)[0]
        first[(0,) * len(first.shape)].numpy()


def wait_for_torch():
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def layer_steps(mode, function, variables, x, cotangent):
    """Returns two functions that compute once: forward, and also backward.

    Args:
        mode: String, one of `arguments.MODES`.
        function: Function of a tensor and of `training`, as a layer is.
        variables: The variables of which gradients are wanted.
        x: Array, the input.
        cotangent: Array of the shape of the output, its gradient.
    """
    if mode == "jax":
        return _jax_steps(function, variables, x, cotangent)
    if mode == "torch":
        return _torch_steps(function, variables, x, cotangent)
    return _tensorflow_steps(mode, function, variables, x, cotangent)


def _tensorflow_steps(mode, function, variables, x, cotangent):
    import tensorflow as tf

    # TensorFlow takes the functions of several shapes for one retraced.
    tf.get_logger().setLevel("ERROR")
    compiled = tf.function(
        jit_compile=mode == "tensorflow-xla", autograph=False
    )

    @compiled
    def forward(x):
        return function(x, training=False)

    @compiled
    def both(x, cotangent):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x, training=True)
        wanted = [x, *(variable.value for variable in variables)]
        # With the output, which a compiler else leaves out.
        return y, tape.gradient(y, wanted, output_gradients=cotangent)

    return lambda: wait(forward(x)), lambda: wait(both(x, cotangent))


def _jax_steps(function, variables, x, cotangent):
    import jax
    import keras

    weights = [variable.value for variable in variables]

    def run(x, weights, training):
        values = list(zip(variables, weights, strict=True))
        with keras.StatelessScope(values):
            return function(x, training=training)

    forward = jax.jit(lambda x, weights: run(x, weights, False))

    @jax.jit
    def both(x, weights, cotangent):
        y, back = jax.vjp(lambda *given: run(*given, True), x, weights)
        # With the output, which a compiler else leaves out.
        return y, back(cotangent)

    return (
        lambda: wait(forward(x, weights)),
        lambda: wait(both(x, weights, cotangent)),
    )


def _torch_steps(function, variables, x, cotangent):
    import torch

    watched = x.clone().requires_grad_()
    wanted = [watched, *(variable.value for variable in variables)]

    def forward():
        with torch.no_grad():
            wait(function(x, training=False))

    def both():
        y = function(watched, training=True)
        wait(torch.autograd.grad(y, wanted, cotangent))

    return forward, both
