"""Lets source for Keras 2 run on Keras 3, where both compute the same.

For the process that reads source alone: it changes modules of Keras.
"""

import functools
import importlib
import inspect
import re
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import keras

NEEDS = "needs Keras 2's "
# Where names are now that were in modules such as `keras.layers.core`.
PLACES = ("layers", "models", "utils", "optimizers", "callbacks", "backend")
MODULES = ("core", "convolutional", "normalization", "pooling", "wrappers")
# Functions of `keras.backend` that return no tensor.
PURE = ("int_shape", "ndim", "dtype", "is_keras_tensor", "is_sparse")


def needs(name: str) -> str:
    """Returns the reason why something of Keras 2 is not looked into."""
    return f"{NEEDS}`{name}`"


class Old(ModuleType):
    """A module that Keras 3 lacks; its names are found where they are now."""

    def __getattr__(self, name):
        for place in (keras, *(getattr(keras, x) for x in PLACES)):
            if hasattr(place, name) and name[:2] != "__":
                return getattr(place, name)
        raise AttributeError(needs(f"{self.__name__}.{name}"))


class Shape(tuple):
    """The shape of a symbolic tensor, with what TensorFlow's have."""

    def as_list(self) -> list[int | None]:
        """Returns the sizes."""
        return list(self)


def find_module(name: str) -> Any:
    """Returns a module of Keras, TensorFlow or NumPy by its old or new path."""
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
            by_id = dict(zip(map(id, tensors), values, strict=True))
            args_of, kwargs_of = keras.tree.map_structure(
                lambda x: by_id.get(id(x), x), (args, kwargs)
            )
            return function(*args_of, **kwargs_of)

        layer = keras.layers.Lambda(run)
        layer.given = [x for x in given if isinstance(x, keras.Variable)]
        return layer(tensors)

    return call


def install() -> list[str]:
    """Lets this process run source for Keras 2, and use no files.

    A newer Keras or TensorFlow may lack a name that one of these changes needs.
    The others are made all the same: most source needs none of them.

    Returns:
        List of strings, the changes that could not be made, in words.
    """
    changes = [
        ("shapes of symbolic tensors with `as_list`", _change_shapes),
        ("modules such as `keras.layers.core`", _add_modules),
        ("layers with a number of units such as 4.0", _change_units),
        ("networks of `keras.applications` without files", _drop_files),
    ]
    if keras.backend.backend() == "tensorflow":
        changes += [
            ("eager `tf.function`s", _run_eagerly),
            ("`get_shape` of symbolic tensors", _add_get_shape),
            ("functions of `tf.keras.backend`", _change_backend),
            ("functions of TensorFlow on symbolic tensors", _add_dispatcher),
        ]
    failed = []
    for words, change in changes:
        try:
            change()
        # What is gone is an attribute, a module, or an argument.
        except (AttributeError, ImportError, KeyError, TypeError):
            failed.append(words)
    return failed


def _change_shapes():
    given = keras.KerasTensor.shape.fget
    shape = property(lambda self: Shape(given(self)))
    for name in ("shape", "_keras_shape", "keras_shape", "_shape_val"):
        setattr(keras.KerasTensor, name, shape)


def _add_modules():
    for name in MODULES:
        setattr(keras.layers, name, Old(f"keras.layers.{name}"))


def _change_units():
    for layer in (keras.layers.Dense, keras.layers.Conv1D, keras.layers.Conv2D):
        layer.__init__ = _with_whole_units(layer.__init__)


def _drop_files():
    """Lets networks of `keras.applications` keep random weights."""
    keras.Model.load_weights = lambda self, *args, **kwargs: None
    files = sys.modules[keras.utils.get_file.__module__]
    setattr(files, "get_file", lambda *args, **kwargs: "")  # noqa: B010


def _run_eagerly():
    import tensorflow as tf

    # What is traced would keep values of weights.
    tf.config.run_functions_eagerly(True)


def _add_get_shape():
    keras.KerasTensor.get_shape = lambda self: self.shape


def _change_backend():
    import tensorflow as tf

    for name, function in [*vars(tf.keras.backend).items()]:
        if inspect.isfunction(function) and name[0] != "_":
            new = function if name in PURE else on_symbols(function)
            setattr(tf.keras.backend, name, new)
            setattr(keras.backend, name, new)


def _add_dispatcher():
    import tensorflow as tf

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


def _with_whole_units(inner):
    """Returns a constructor that takes 4.0 units as 4, as Keras 2 did."""

    def whole(value):
        return int(value) if isinstance(value, float) else value

    @functools.wraps(inner)
    def init(self, *args, **kwargs):
        values = {name: whole(x) for name, x in kwargs.items()}
        inner(self, *map(whole, args), **values)

    # Keras reads the names of arguments.
    init.__signature__ = inspect.signature(inner)
    return init
