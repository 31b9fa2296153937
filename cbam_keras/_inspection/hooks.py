"""Standing beside the calls of operations while a model runs.

So a model runs as Keras runs it, whatever it is made of, with masks, mixed
precision and models within models, and without being copied.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any


@contextlib.contextmanager
def hooked(
    watchers: Mapping[Any, Callable[..., Any]], operations: Iterable[Any]
) -> Iterator[None]:
    """Has each call of some operations go through a function meanwhile.

    Args:
        watchers: Mapping of operations (layers, or functions of
            `keras.ops` in a graph) to functions that take the operation's
            own `call` and its arguments, and return the outputs.
        operations: All operations of the model.
    """
    before = []
    try:
        for operation, watcher in watchers.items():
            for name in _ways(operation):
                before.append((operation, name, vars(operation).get(name)))
                call = _through(watcher, getattr(operation, name))
                setattr(operation, name, call)
        for operation in operations:
            if getattr(operation, "_remat_mode", None) is not None:
                # Keras would run it again for the gradient, apart from all
                # that was seen of it.
                before.append((operation, "_remat_mode", operation._remat_mode))
                operation._remat_mode = None
        yield
    finally:
        for operation, name, value in before:
            if value is not None:
                setattr(operation, name, value)
            elif name in vars(operation):
                delattr(operation, name)


def _ways(operation):
    """Returns the names of the methods that Keras runs an operation by."""
    quantized = getattr(operation, "quantization_mode", None) is not None
    return ["call", "quantized_call"] if quantized else ["call"]


def _through(watcher, call):
    def watched(*args, **kwargs):
        return watcher(call, *args, **kwargs)

    return watched
