"""Standing beside the calls of operations while a model runs.

So a model runs as Keras runs it, whatever it is made of, with masks, mixed
precision and models within models, and without being copied.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any


@contextlib.contextmanager
def watching(watchers: Mapping[Any, Callable[..., Any]]) -> Iterator[None]:
    """Has each call of some operations go through a function meanwhile.

    Args:
        watchers: Mapping of operations (layers, or functions of
            `keras.ops` in a graph) to functions that take the operation's
            own `call` and its arguments, and return the outputs.
    """
    before = {operation: vars(operation).get("call") for operation in watchers}
    try:
        for operation, watcher in watchers.items():
            operation.call = _through(watcher, operation.call)
        yield
    finally:
        for operation, call in before.items():
            if call is not None:
                operation.call = call
            elif "call" in vars(operation):
                del operation.call


def _through(watcher, call):
    def watched(*args, **kwargs):
        return watcher(call, *args, **kwargs)

    return watched
