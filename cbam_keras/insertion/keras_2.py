"""Lets source for Keras 2 run on Keras 3, where both compute the same.

For the process that reads source alone: it changes modules of Keras.
"""

import functools
import importlib
import inspect
import re
from collections.abc import Callable
from types import ModuleType
from typing import Any

import keras

# Modules that Keras 2 had, `keras.layers.core`, have their names here now.
PLACES = ("layers", "models", "utils", "optimizers", "callbacks", "backend")
# Functions of `keras.backend` that return no tensor.
PLAIN = ("int_shape", "ndim", "dtype", "is_keras_tensor", "is_sparse")


def needs(name: str) -> str:
    """Returns the reason why something of Keras 2 is not looked into."""
    return f"needs Keras 2's `{name}`"


class Old(ModuleType):
    """A module that Keras 3 lacks; its names are found where they are now."""

    def __getattr__(self, name):
        for place in (keras, *(getattr(keras, x) for x in PLACES)):
            if hasattr(place, name) and not name.startswith("__"):
                return getattr(place, name)
        raise AttributeError(needs(f"{self.__name__}.{name}"))


def find_module(name: str) -> Any:
    """Returns a module of Keras, TensorFlow or NumPy by its path, old or new.

    Raises:
        ImportError: If there is none.
    """
    # `tf.keras` is Keras. What TensorFlow keeps privately is an older one.
    name = re.sub(r"^tensorflow\.(python\.)?keras\b", "keras", name)
    try:
        return importlib.import_module(name)
    except ImportError:
        if not name.startswith("keras."):
            raise
        return Old(name)


def on_symbols(function: Callable) -> Callable:
    """Returns a function of tensors that takes symbolic ones, too."""

    @functools.wraps(function)
    def call(*args, **kwargs):
        given = keras.tree.flatten((args, kwargs))
        tensors = [x for x in given if keras.utils.is_keras_tensor(x)]
        if not tensors:
            return function(*args, **kwargs)

        def run(values):
            values = values if isinstance(values, list) else [values]
            pairs = zip(map(id, tensors), values, strict=True)
            by_id = dict(pairs)
            given = keras.tree.map_structure(
                lambda x: by_id.get(id(x), x), (args, kwargs)
            )
            return function(*given[0], **given[1])

        layer = keras.layers.Lambda(run)
        layer.given = [x for x in given if isinstance(x, keras.Variable)]
        return layer(tensors if len(tensors) > 1 else tensors[0])

    return call


class Shape(tuple):
    """The shape of a symbolic tensor, with what TensorFlow's have."""

    def as_list(self) -> list[int | None]:
        """Returns the sizes."""
        return list(self)


def _with_whole_units(inner):
    """Returns a constructor that takes 4.0 units as 4, as Keras 2 did."""

    @functools.wraps(inner)
    def init(self, *args, **kwargs):
        given = inspect.signature(inner).bind(self, *args, **kwargs)
        for name in {"units", "filters"} & given.arguments.keys():
            given.arguments[name] = int(given.arguments[name])
        inner(*given.args, **given.kwargs)

    # Keras reads the names of arguments.
    init.__signature__ = inspect.signature(inner)
    return init


def install() -> None:
    """Lets this process run source for Keras 2, and use no files."""
    _leave_files(keras.applications)
    keras.Model.load_weights = lambda self, *args, **kwargs: None
    given = keras.KerasTensor.shape.fget
    keras.KerasTensor.shape = property(lambda self: Shape(given(self)))
    for name in ("_keras_shape", "keras_shape"):
        setattr(keras.KerasTensor, name, keras.KerasTensor.shape)
    for layer in (keras.layers.Dense, keras.layers.Conv1D, keras.layers.Conv2D):
        layer.__init__ = _with_whole_units(layer.__init__)
    if keras.backend.backend() != "tensorflow":
        return
    import tensorflow as tf

    _leave_files(tf.keras.applications)
    backend = tf.keras.backend
    for name, function in [*vars(backend).items()]:
        if inspect.isfunction(function) and name[0] != "_":
            new = function if name in PLAIN else on_symbols(function)
            for module in (backend, keras.backend):
                setattr(module, name, new)
    keras.KerasTensor.get_shape = lambda self: self.shape

    class Dispatcher(tf.__internal__.dispatch.GlobalOpDispatcher):
        """Gives functions of TensorFlow symbolic tensors, as Keras 2 did."""

        def handle(self, op, args, kwargs):
            given = keras.tree.flatten((args, kwargs))
            if not any(map(keras.utils.is_keras_tensor, given)):
                return self.NOT_SUPPORTED
            name = op.__name__
            if name in ("multiply", "sigmoid", "add"):
                return getattr(keras.ops, name)(*args, **kwargs)
            return on_symbols(op)(*args, **kwargs)

    Dispatcher().register()


def _leave_files(module):
    """Makes networks of a module, and of those in it, without weights."""
    for name, value in [*vars(module).items()]:
        if inspect.ismodule(value) and name[0] != "_":
            _leave_files(value)
        elif inspect.isfunction(value) and name[0].isupper():
            setattr(module, name, _without_files(value))


def _without_files(builder):
    """Returns a builder of networks that ignores `weights`."""

    @functools.wraps(builder)
    def build(*args, **kwargs):
        given = inspect.signature(builder).bind(*args, **kwargs)
        given.arguments["weights"] = None
        return builder(*given.args, **given.kwargs)

    return build
