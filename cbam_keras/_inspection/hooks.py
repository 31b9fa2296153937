"""Hooks around the layers of a model while it runs.

The model runs unchanged, so this works for any Keras model: with masks, mixed
precision and nested models, and without a copy.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any


@contextlib.contextmanager
def hooked(
    hooks: Mapping[Any, Callable[..., Any]], operations: Iterable[Any]
) -> Iterator[None]:
    """Context in which calls of some operations go through hooks.

    Args:
        hooks: Mapping of operations (layers, or functions of `keras.ops` in
            a graph) to functions that take the operation's own `call` and
            its arguments, and return the outputs.
        operations: All operations of the model.
    """
    replaced = []
    try:
        for operation, hook in hooks.items():
            for name in _call_methods(operation):
                replaced.append((operation, name, vars(operation).get(name)))
                setattr(operation, name, _bind(hook, getattr(operation, name)))
        for operation in operations:
            if getattr(operation, "_remat_mode", None) is not None:
                # With rematerialization Keras would run it a second time for
                # the gradient, apart from what the hook recorded.
                replaced.append(
                    (operation, "_remat_mode", operation._remat_mode)
                )
                operation._remat_mode = None
        yield
    finally:
        for operation, name, value in replaced:
            if value is not None:
                setattr(operation, name, value)
            elif name in vars(operation):
                delattr(operation, name)


def _call_methods(operation):
    """Returns the names of the methods by which Keras runs an operation."""
    quantized = getattr(operation, "quantization_mode", None) is not None
    return ["call", "quantized_call"] if quantized else ["call"]


def _bind(hook, call):
    def hooked_call(*args, **kwargs):
        return hook(call, *args, **kwargs)

    return hooked_call
