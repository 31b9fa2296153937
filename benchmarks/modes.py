"""How a benchmark computes: on which device, and what compiles."""

TRAINING_STEP = "forward and backward"


def gpus():
    """Returns the names of the GPUs that the backend computes on."""
    import keras

    backend = keras.config.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return [
            tf.config.experimental.get_device_details(device)["device_name"]
            for device in tf.config.list_physical_devices("GPU")
        ]
    if backend == "jax":
        import jax

        found = [x for x in jax.devices() if x.platform == "gpu"]
        return [device.device_kind for device in found]
    import torch

    count = torch.cuda.device_count()
    return [torch.cuda.get_device_name(index) for index in range(count)]


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
    weights = [variable.value for variable in variables]
    if mode == "torch":
        return torch_steps(function, weights, x, cotangent)
    return _tensorflow_steps(mode, function, weights, x, cotangent)


def _tensorflow_steps(mode, function, weights, x, cotangent):
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
        # A compiler leaves out an output that is not returned.
        gradients = tape.gradient(y, [x, *weights], output_gradients=cotangent)
        return y, gradients

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
        # A compiler leaves out an output that is not returned.
        return y, back(cotangent)

    return (
        lambda: wait(forward(x, weights)),
        lambda: wait(both(x, weights, cotangent)),
    )


def torch_steps(function, weights, x, cotangent):
    """Returns what `layer_steps` does, also of functions without Keras."""
    import torch

    watched = x.clone().requires_grad_()

    def forward():
        with torch.no_grad():
            function(x, training=False)
        wait_for_torch()

    def both():
        y = function(watched, training=True)
        torch.autograd.grad(y, [watched, *weights], cotangent)
        wait_for_torch()

    return forward, both
