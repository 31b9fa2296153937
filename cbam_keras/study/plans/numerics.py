"""Settings of Keras and of the backend that change what is computed."""

import functools
from collections.abc import Callable, Mapping

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
    return {name: read() for name, (read, _) in _settings().items()}


def set_numerics(values: Mapping[str, object]) -> None:
    """Sets what `read_numerics` has returned, in this process or another."""
    settings = _settings()
    for name, value in values.items():
        _, write = settings[name]
        write(value)


def _settings() -> dict[str, tuple[Callable[[], object], Callable]]:
    """Returns the functions that read and write each setting."""
    config, name = keras.config, keras.backend.backend()
    settings = {
        each: (getattr(config, each), getattr(config, f"set_{each}"))
        for each in OF_KERAS
    }
    backend = _checks.require(name, extra=name)
    if name == "jax":
        config = backend.config
        return settings | {
            each: (
                functools.partial(getattr, config, each),
                functools.partial(config.update, each),
            )
            for each in OF_JAX
        }
    if name == "torch":
        read = backend.get_float32_matmul_precision
        write = backend.set_float32_matmul_precision
        return settings | {"float32_matmul_precision": (read, write)}
    config = backend.config.experimental
    read = config.tensor_float_32_execution_enabled
    write = config.enable_tensor_float_32_execution
    return settings | {"tensor_float_32": (read, write)}
