"""Hooks around the layers of a model while it runs, of any Keras model."""

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any


@contextlib.contextmanager
def hooked(
    hooks: Mapping[Any, Callable[..., Any]], operations: Iterable[Any]
) -> Iterator[None]:
    """Context in which some operations of a model run by hooks.

    A hook takes the `call` of its operation and the arguments. `operations`
    are all of the model.
    """
    replaced = []
    try:
        for operation, hook in hooks.items():
            # Quantized layers have another method.
            quantized = getattr(operation, "quantization_mode", None)
            for name in ["call", *["quantized_call"] * bool(quantized)]:
                replaced.append((operation, name, vars(operation).get(name)))
                hooked_call = functools.partial(hook, getattr(operation, name))
                setattr(operation, name, hooked_call)
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
