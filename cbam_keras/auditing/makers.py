"""Copies of the layer under audit, which itself is left as it is."""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import keras

# Returns a layer for a number of channels, with some arguments changed.
Make = Callable[..., keras.layers.Layer]


@dataclasses.dataclass(frozen=True)
class Maker:
    """Makes copies of a layer.

    Attributes:
        make: Function of the channel count and of changed arguments.
        arguments: Dictionary of the arguments that can be changed and their
            values.
        instance: The layer as it was given, or `None` if a callable was.
        problem: The error because of which its configuration makes no copy,
            or `None`.
    """

    make: Make
    arguments: dict[str, Any]
    instance: keras.layers.Layer | None = None
    problem: Exception | None = None


def maker_of(layer: Any) -> Maker:
    """Returns what makes copies of a layer, or layers of a callable."""
    if isinstance(layer, keras.layers.Layer):
        return _of_layer(layer)
    if not callable(layer):
        raise TypeError(
            "`layer` must be a keras layer or a callable that takes the "
            "number of channels and returns one. Received: "
            f"layer={layer!r} of type {type(layer).__name__}"
        )
    signature = _signature(layer)
    # A class that needs no argument finds the channels when it is built.
    alone = inspect.isclass(layer) and _binds(signature)
    if not alone and not _binds(signature, 32):
        raise TypeError(
            "A `layer` that is callable must take the number of channels, as "
            f"f(channels). Received: layer={layer!r} with the arguments "
            f"{signature}. Give a function such as lambda channels: "
            "MyCBAM(channels, ratio=8)"
        )

    def make(channels, **changes):
        made = layer(**changes) if alone else layer(channels, **changes)
        if not isinstance(made, keras.layers.Layer):
            raise TypeError(
                "A `layer` that is callable must return a keras layer. "
                f"Received: {made!r} from layer={layer!r}"
            )
        return made

    return Maker(make, _defaults(signature))


def copied(layer: keras.layers.Layer, **changes: Any) -> keras.layers.Layer:
    """Returns a layer of the same configuration, without the weights."""
    if isinstance(layer, keras.Model) and not changes:
        return keras.models.clone_model(layer)
    config = layer.get_config()
    if "dtype" in config:
        config["dtype"] = keras.config.dtype_policy().name
    return type(layer).from_config({**config, **changes})


def changeable(layer: keras.layers.Layer) -> dict[str, Any]:
    """Returns the arguments of a layer's constructor and their values."""
    try:
        config = layer.get_config()
    except Exception:
        # Reported by the check of the configuration.
        return {}
    signature = _signature(type(layer))
    given = {
        name: config[name] for name in signature.parameters if name in config
    }
    # What Keras records by itself lacks arguments that were not given.
    return {**_defaults(signature), **given} if _recorded(layer) else given


def forgotten(layer: keras.layers.Layer) -> list[str]:
    """Returns the constructor's arguments that `get_config` leaves out."""
    if _recorded(layer):
        return []
    config = layer.get_config()
    parameters = _signature(type(layer)).parameters.values()
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return [
        parameter.name
        for parameter in parameters
        if parameter.kind not in kinds and parameter.name not in config
    ]


def _recorded(layer):
    """Returns whether Keras alone makes the configuration."""
    return type(layer).get_config is keras.layers.Layer.get_config


def _of_layer(layer):
    try:
        copied(layer)
    except Exception as error:
        # Without a copy, the layer itself is run, which does not change it.
        return Maker(lambda channels: layer, {}, layer, error)

    def make(channels, **changes):
        return copied(layer, **changes)

    return Maker(make, changeable(layer), layer)


def _signature(layer):
    """Returns the signature of a callable, of a class that of `__init__`."""
    if not inspect.isclass(layer):
        return inspect.signature(layer)
    # Up to Python 3.11.3, that of the class is that of `Layer.__new__`.
    signature = inspect.signature(layer.__init__)
    return signature.replace(parameters=[*signature.parameters.values()][1:])


def _binds(signature, *arguments):
    try:
        signature.bind(*arguments)
    except TypeError:
        return False
    return True


def _defaults(signature):
    return {
        name: parameter.default
        for name, parameter in signature.parameters.items()
        if parameter.default is not parameter.empty
    }
