"""How definitions of source are called: with features, and usual arguments."""

import functools
import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras

from cbam_keras.recognition.source.definitions import (
    Definition,
    Unknown,
    Used,
)

# Features of 32 channels in ranks 4, 3 and 5, others for gates that name their
# sizes, and images of a network.
SHAPES = [
    (12, 10, 32),
    (12, 32),
    (6, 5, 4, 32),
    (12, 12, 32),
    (12, 10, 64),
    (12, 10, 128),
]
IMAGE_SHAPES = [(64, 64, 3), (224, 224, 3), (64, 8), (16, 16, 16, 1)]
# Values of arguments that have no default, by patterns of their names.
TYPICAL: dict[str, Any] = {
    r".*r.tio|r|red|.*reduction.*|squeeze.*": 8,
    r".*(channel|filter|unit|plane|feature).*|inter.*|ch|c|n?f|.*dim|k": 32,
    r"inr?|out": 32,
    r"kernel.*|k_?size|ks": 7,
    r".*name|prefix|scope": "gate",
    r".*(classes|labels)|n_?class": 4,
    r"strides?|dilation.*|.*depth|stage|i|index|n": 1,
    r"padding": "same",
    r"act(ivation)?": "relu",
    r".*drop.*|rate": 0.0,
    r"training|mask|weights|.*regularizer": None,
    r"block": "a",
    r"h|height": 12,
    r"w|width": 10,
    r".*bias|include_top|is_?[a-z].*|use_.*": True,
    r".*_(id|idx|no|num)|id|idx": 1,
}
# The first argument of a function of features, and another tensor, in whose
# place the same features are, or some at half the size with other channels.
_NO_NUMBER = "(?!.*(shape|size|dim|name|channel|filter|unit))"
FIRST_TENSORS = re.compile(
    f"x|y|ip|net|fm|z|u|{_NO_NUMBER}.*(input|tensor|feature|layer|inp|map).*",
    re.I,
)
OTHER_TENSORS = re.compile(
    f"g|s|x|{_NO_NUMBER}.*(input|tensor|inp_|_map|gating|skip|hidden|query).*",
    re.I,
)
SAME_FEATURES = object()
# Methods that use a model, and are not run.
USES = (
    "fit",
    "evaluate",
    "predict",
    "train_on_batch",
    "test_on_batch",
    "predict_on_batch",
    "save",
    "save_weights",
    "export",
)
# A call of a definition, with what it was given and gave.
Call = tuple[Any, tuple, dict, Any]


def stop_uses() -> None:
    """Lets functions of this process that use a model hand it over instead."""

    def make(name):
        def stop(self, *args, **kwargs):
            raise Used(self, name)

        return stop

    for name in USES:
        setattr(keras.Model, name, make(name))


def symbols_in(values: Any) -> list[keras.KerasTensor]:
    """Returns the symbolic tensors in a structure."""
    flat = keras.tree.flatten(values)
    return [x for x in flat if keras.utils.is_keras_tensor(x)]


def is_layer(value: Any) -> bool:
    """Returns whether a value is a class of layers."""
    return inspect.isclass(value) and issubclass(value, keras.layers.Layer)


def recorded(value: Any, calls: list[Call]) -> Any:
    """Returns a function or layer class that adds its symbolic calls to a list.

    Anything else is returned as it is.
    """
    if not (is_layer(value) or inspect.isfunction(value)):
        return value
    inner = value.__call__ if is_layer(value) else value

    @functools.wraps(inner)
    def call(*args, **kwargs):
        outputs = inner(*args, **kwargs)
        called = call
        if is_layer(value):
            called, *args = args
            if type(called) is not value:
                # A subclass counts its own calls.
                return outputs
        if symbols_in((args, kwargs)) and symbols_in(outputs):
            calls.append((called, tuple(args), kwargs, outputs))
        return outputs

    if not is_layer(value):
        return call
    value.__call__ = call
    return value


def build_model(builder: Callable[..., Any], calls: list[Call]) -> keras.Model:
    """Returns the model that a function builds, of images it takes.

    Calls on the way to no model are removed from `calls`.

    Raises:
        Exception: What the function raises for the first images.
    """
    problem: Exception | None = None
    count = len(calls)
    for shape in IMAGE_SHAPES:
        usual = usual_arguments(shape)
        try:
            model = builder(**arguments_for(builder, 0, usual))
            if isinstance(model, keras.Model):
                return model
        except Used as stop:
            return stop.model
        # It may raise anything.
        except Exception as error:
            problem = problem or error
        del calls[count:]
    raise problem or Unknown("builds no model")


def usual_arguments(shape: Sequence[int]) -> dict[str, Any]:
    """Returns values of arguments of networks of images of a shape."""
    images = {
        ".*(shape|(input|img|image)_(size|dim)).*": shape,
        ".*(height|width|rows|cols|size)|h|w": shape[0],
        ".*channels?": shape[-1],
    }
    return images | TYPICAL


def arguments_for(
    function: Callable[..., Any], skipped: int, usual: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns values of parameters that have no default, by their names."""
    arguments = {}
    for x in [*inspect.signature(function).parameters.values()][skipped:]:
        is_needed = x.kind not in (x.VAR_POSITIONAL, x.VAR_KEYWORD)
        if not is_needed or x.default is not x.empty:
            continue
        values = [v for p, v in usual.items() if re.fullmatch(p, x.name, re.I)]
        if usual is TYPICAL and OTHER_TENSORS.fullmatch(x.name):
            values = [SAME_FEATURES]
        if not values:
            raise Unknown(f"needs `{x.name}`")
        arguments[x.name] = values[0]
    return arguments


def ranks_of(definition: Definition) -> set[str]:
    """Returns the ranks of positions of layers in a definition, as digits.

    If it has none, those in its file count. Convolutions in one dimension do
    not: they may be along the channels.
    """
    every = definition.source.definitions
    several = [definition.names, set().union(*(x.names for x in every))]
    kind = re.compile("(?:[23]|Pooling1)D$")
    ranks = ({x[-2] for x in names if kind.search(x)} for names in several)
    return next(filter(None, ranks), set())


def ways_to_call(
    definition: Definition, calls: list[Call]
) -> Iterator[tuple[Callable[[], Any], tuple[int | None, ...]]]:
    """Yields functions that return a gate, and features that it may take."""
    first = SHAPES[0]
    if ranks_of(definition) == {"1"}:
        first = SHAPES[1]
    if ranks_of(definition) == {"3"}:
        first = SHAPES[2]
    for shape in sorted(SHAPES, key=lambda x: x is not first):
        yield functools.partial(_with_usual, definition.value, _same), shape
    if any(map(OTHER_TENSORS.fullmatch, definition.arguments)):
        yield functools.partial(_with_usual, definition.value, _half), first
    for called, args, kwargs, _ in calls:
        tensors = symbols_in((args, kwargs))
        if len(tensors) == 1 and args and args[0] is tensors[0]:
            make = functools.partial(_of_features, called, args[1:], kwargs)
            yield make, tensors[0].shape[1:]


def _same(x):
    return x


def _half(x):
    """Returns features at half the size, with twice the channels."""
    rank = len(x.shape) - 2
    pools = {
        1: keras.layers.AveragePooling1D,
        2: keras.layers.AveragePooling2D,
        3: keras.layers.AveragePooling3D,
    }
    small = pools[rank](2)(x)
    return keras.layers.Concatenate()([small, small])


def _with_usual(value, other):
    """Returns a layer of a class, or a function, with usual arguments.

    `other` makes the second tensor from the features.
    """
    if inspect.isclass(value):
        layer = value(**arguments_for(value, 0, TYPICAL))
        arguments = arguments_for(layer.call, 1, TYPICAL)
        if arguments:
            return _of_features(layer, (), arguments, other)
        return layer
    first = next(iter(inspect.signature(value).parameters), "")
    if FIRST_TENSORS.fullmatch(first) or OTHER_TENSORS.fullmatch(first):
        arguments = arguments_for(value, 1, TYPICAL)
        return _of_features(value, (), arguments, other)
    # It may return a function of features.
    return value(**arguments_for(value, 0, TYPICAL))


def _of_features(function, args, kwargs, other=_same):
    """Returns a function of features alone."""

    def gate(x):
        named = {
            name: other(x) if value is SAME_FEATURES else value
            for name, value in kwargs.items()
        }
        return function(x, *args, **named)

    default = type(function).__name__
    gate.__name__ = getattr(function, "__name__", default)
    return gate
