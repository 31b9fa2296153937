"""How a benchmark computes: its backend, and whether XLA compiles.

Imported before Keras, whose backend it tells.
"""

import argparse
import os
import pathlib

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
    # Of a mode that does not exist, the script's own parser complains.
    known = backend in ("tensorflow", "jax", "torch")
    return backend if known else "tensorflow"


def parser(description, repeats):
    """Returns a parser of what all scripts take."""
    from cbam_keras import _bench_command

    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--mode",
        required=True,
        choices=_bench_command.MODES,
        help="the backend, and for TensorFlow whether XLA compiles",
    )
    parser.add_argument(
        "--repeats", type=int, default=repeats, help="of each measurement"
    )
    parser.add_argument(
        "--output", type=pathlib.Path, default=pathlib.Path("runs/bench")
    )
    return parser


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


def layer_steps(mode, function, variables, x, slope):
    """Returns two functions that compute once: forward, and also backward.

    Args:
        mode: String, one of `MODES`.
        function: Function of a tensor and of `training`, as a layer is.
        variables: The variables of which gradients are wanted.
        x: Array, the input.
        slope: Array of the shape of the output, the gradient of it.
    """
    if mode == "jax":
        return _jax_steps(function, variables, x, slope)
    if mode == "torch":
        return _torch_steps(function, variables, x, slope)
    return _tensorflow_steps(mode, function, variables, x, slope)


def _tensorflow_steps(mode, function, variables, x, slope):
    import tensorflow as tf

    # It takes the functions of several shapes for one that is traced anew.
    tf.get_logger().setLevel("ERROR")
    compiled = tf.function(
        jit_compile=mode == "tensorflow-xla", autograph=False
    )

    @compiled
    def forward(x):
        return function(x, training=False)

    @compiled
    def both(x, slope):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x, training=True)
        wanted = [x, *(variable.value for variable in variables)]
        # With the output, which a compiler else leaves out.
        return y, tape.gradient(y, wanted, output_gradients=slope)

    return lambda: wait(forward(x)), lambda: wait(both(x, slope))


def _jax_steps(function, variables, x, slope):
    import jax
    import keras

    weights = [variable.value for variable in variables]

    def run(x, weights, training):
        values = list(zip(variables, weights, strict=True))
        with keras.StatelessScope(values):
            return function(x, training=training)

    forward = jax.jit(lambda x, weights: run(x, weights, False))

    @jax.jit
    def both(x, weights, slope):
        y, back = jax.vjp(lambda *given: run(*given, True), x, weights)
        # With the output, which a compiler else leaves out.
        return y, back(slope)

    return (
        lambda: wait(forward(x, weights)),
        lambda: wait(both(x, weights, slope)),
    )


def _torch_steps(function, variables, x, slope):
    import torch

    watched = x.clone().requires_grad_()
    wanted = [watched, *(variable.value for variable in variables)]

    def forward():
        with torch.no_grad():
            wait(function(x, training=False))

    def both():
        y = function(watched, training=True)
        wait(torch.autograd.grad(y, wanted, slope))

    return forward, both
