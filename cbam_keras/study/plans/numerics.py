"""Settings of Keras and of the backend that change what is computed."""

from collections.abc import Mapping

import keras

from cbam_keras import _checks

OF_KERAS = ("floatx", "epsilon", "image_data_format", "dtype_policy")
OF_JAX = (
    "jax_enable_x64",
    "jax_default_matmul_precision",
    "jax_default_prng_impl",
    "jax_threefry_partitionable",
    "jax_numpy_dtype_promotion",
)


def read_numerics() -> dict[str, object]:
    """Returns the settings, by name, as they are now."""
    values = {name: getattr(keras.config, name)() for name in OF_KERAS}
    name, backend = _backend()
    if name == "jax":
        return values | {x: getattr(backend.config, x) for x in OF_JAX}
    if name == "torch":
        value = backend.get_float32_matmul_precision()
        return values | {"float32_matmul_precision": value}
    value = backend.config.experimental.tensor_float_32_execution_enabled()
    return values | {"tensor_float_32": value}


def set_numerics(values: Mapping[str, object]) -> None:
    """Sets what `read_numerics` has returned, in this process or another."""
    _, backend = _backend()
    for name, value in values.items():
        if name in OF_KERAS:
            getattr(keras.config, f"set_{name}")(value)
        elif name in OF_JAX:
            backend.config.update(name, value)
        elif name == "float32_matmul_precision":
            backend.set_float32_matmul_precision(value)
        else:
            experimental = backend.config.experimental
            experimental.enable_tensor_float_32_execution(value)


def _backend():
    name = keras.backend.backend()
    return name, _checks.require(name, extra=name)
