"""Private names of Keras, KerasTuner and TensorFlow, one function each.

Libraries may rename them without notice. Where one is gone that nothing can
replace, an error names the version of the library. The other functions return
what makes this package slower or less careful, but not wrong.

Names that concern only the fused operations are in `layers/_fused/private.py`.
"""

import sys
from collections.abc import Sequence
from typing import Any

import keras

# Tensors of a backend, symbolic ones, hyperparameters of an optional package.
Tensor = Any


def call_of(tensor: keras.KerasTensor) -> Any:
    """Returns which call returned a symbolic tensor.

    It has the attributes `operation` and `node_index`. Keras (as of 3.15) has
    no public way from a tensor to its call.
    """
    return _read(tensor, "_keras_history")


def calls_of(operation: keras.Operation) -> Sequence[Any]:
    """Returns the nodes of an operation, one for each of its symbolic calls."""
    return _read(operation, "_inbound_nodes")


def layers_in(
    layer: keras.Layer, *, include_self: bool = True, recursive: bool = True
) -> list[keras.Layer]:
    """Returns a layer and the layers inside it, outer ones first.

    `keras.Model.layers` is public, but lists neither the layers of layers nor
    those of a layer that is not a model.
    """
    flatten = _read(layer, "_flatten_layers")
    return list(flatten(include_self=include_self, recursive=recursive))


def index_of(
    optimizer: keras.optimizers.Optimizer, variable: keras.Variable
) -> int:
    """Returns the place of a variable among those an optimizer trains."""
    return _read(optimizer, "_get_variable_index")(variable)


def name_in_scopes(hyperparameters: Any, name: str) -> str:
    """Returns the name of a hyperparameter with those of its name scopes."""
    return _read(hyperparameters, "_get_name", "keras_tuner")(name)


def without_rematerialization() -> dict[str, None]:
    """Returns the attributes of a layer that is not run again for gradients."""
    return {"_remat_mode": None}


def mask_of(tensor: Tensor) -> Tensor | None:
    """Returns the mask that Keras has attached to a tensor, if any."""
    return getattr(tensor, "_keras_mask", None)


def output_shape_of(layer: keras.layers.Lambda) -> Any:
    """Returns the `output_shape` that a `Lambda` layer was given, if any.

    Where it is missing, Keras infers the shape.
    """
    return getattr(layer, "_output_shape", None)


def file_group_of(store: Any) -> Any:
    """Returns the group of an HDF5 file that a layer is loaded from, if any."""
    return getattr(store, "_h5_entry_group", None)


def gradients_of_tensorflow() -> dict[str, object]:
    """Returns the gradients that TensorFlow has registered, by name.

    Where it is gone, the dictionary is empty, and memory grows.
    """
    operations = sys.modules.get("tensorflow.python.framework.ops")
    registry = getattr(operations, "gradient_registry", None)
    return getattr(registry, "_registry", {})


def counts_of_names() -> dict[str, int]:
    """Returns how many objects Keras has numbered, by the start of a name.

    Where it is gone, layers of later networks have higher numbers.
    """
    module = sys.modules.get("keras.src.backend.common.global_state")
    tracker = getattr(module, "GLOBAL_STATE_TRACKER", None)
    return getattr(tracker, "object_name_uids", {})


def _read(value: object, name: str, library: str = "keras") -> Any:
    """Returns a private attribute, or raises an error with the version."""
    try:
        return getattr(value, name)
    except AttributeError as error:
        kind = type(value)
        version = sys.modules[library].__version__
        raise RuntimeError(
            f"cbam_keras reads `{name}`, a private name of {library}, which "
            f"{version} does not have. Received: an object of class "
            f"{kind.__module__}.{kind.__qualname__}. Install an older version "
            f"of {library}, or a newer one of cbam_keras"
        ) from error
