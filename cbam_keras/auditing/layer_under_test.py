"""The layer under test: copies of it, run with weights of our choice."""

import contextlib
import dataclasses
import functools
import inspect
import math
from collections.abc import Callable

import keras
import numpy as np
from keras import ops

BATCH = 4
# The size of the features: an odd number of positions and large enough for a
# window of 11.
SIZE = (15, 13)


@dataclasses.dataclass(frozen=True)
class LayerFactory:
    """Makes copies of a layer, which itself is left as it is.

    `call` takes the number of channels, and values in place of those in
    `arguments`. `instance` is the layer if `audit` received one.
    """

    call: Callable[..., keras.Layer]
    arguments: dict[str, object]
    instance: keras.Layer | None = None

    def make(self, channels: int, **changes: object) -> keras.Layer:
        """Returns a copy for features of so many channels."""
        if set(changes) <= set(self.arguments):
            return self.call(channels, **changes)
        # The function that makes it does not take this argument.
        return copy_of(self.call(channels), **changes)

    @property
    def ratio(self) -> int | None:
        """The reduction ratio, if that is an argument."""
        values = [v for k, v in self.arguments.items() if is_ratio(k)]
        return next((x for x in values if type(x) is int and x > 0), None)


class LayerUnderTest:
    """A copy of a layer that is run with weights of our choice.

    Of its `weights`, moving statistics excluded, `kernels` are the indices of
    those with several axes, and `gates` those of the `"channel"` and the
    `"spatial"` gate. A gate is at rest while its kernels are 0, and
    `unobservable` if it cannot be seen while the other is, because that is 0
    then. `residual` is 1 if the layer adds its input to the product, else 0.
    """

    def __init__(
        self,
        factory: LayerFactory,
        shape: tuple[int, int, int],
        **changes: object,
    ):
        self.factory, self.shape = factory, shape
        self.layer = layer = factory.make(shape[-1], **changes)
        data_format = getattr(layer, "data_format", None)
        self.channels_first = data_format == "channels_first"
        self.x = features(*shape)
        self.residual = 0.0
        # What features are multiplied by while both gates are at rest.
        self.factor_at_rest = 1.0
        self.gates: dict[str, list[int]] = {}
        self.unobservable: list[str] = []
        if not layer.built:
            layer(self.to_tensor(self.x))
        self.weights = [
            weight
            for weight in layer.weights
            if keras.backend.is_float_dtype(weight.dtype)
            and "moving_" not in weight.path
        ]
        self.starts = [_constant_start(weight) for weight in self.weights]
        self.kernels = [
            i
            for i, weight in enumerate(self.weights)
            if sum(size > 1 for size in weight.shape) > 1
            or (weight.ndim > 1 and self.starts[i] is None)
        ]

    def random_weights(self, seed=0, biases=False):
        """Returns random kernels, and with `biases` all weights random."""
        rng = np.random.default_rng(100 + seed)
        values = []
        for i, weight in enumerate(self.weights):
            value = rng.normal(size=tuple(weight.shape))
            if i not in self.kernels:
                value = 0.4 * biases * value + (self.starts[i] or 0)
            elif has_window(weight):
                value *= 0.7 / math.sqrt(math.prod(weight.shape[:-1]))
            else:
                # The same for both dense layers, whichever way they are stored.
                value *= 0.7 / math.prod(weight.shape) ** 0.25
            values.append(value.astype("float32"))
        return values

    def call(self, x, weights, training=False):
        """Returns the output tensor, given weights as tensors or arrays."""
        state = list(zip(self.weights, weights, strict=True))
        with keras.StatelessScope(state_mapping=state):
            return self.layer(x, training=training)

    def output(self, x, weights, training=False):
        """Returns the output as a float32 array `(B, H, W, C)`."""
        return self.to_array(self.call(self.to_tensor(x), weights, training))

    def factors(self, x, weights):
        """Returns what the input is multiplied by, `(B, H, W, C)`."""
        return (self.output(x, weights).astype("float64") / x) - self.residual

    def map(self, gate, x, weights):
        """Returns the map of a gate, `(B, H, W, C)`, NaN where unknown.

        It is 1 where the gate is at rest, unless it is 0 there.
        """
        other = "spatial" if gate == "channel" else "channel"
        factors = self.factors(x, scaled(weights, self.gates[other]))
        if gate not in self.unobservable:
            return factors / (self.factor_at_rest or 1.0)
        if gate == "channel":
            return np.full(x.shape, np.nan)
        # Of features that have passed the channel gate.
        channel = self.factors(x, scaled(weights, self.gates["spatial"]))
        channel = np.where(np.abs(channel) < 1e-2, np.nan, channel)
        return self.factors(x, weights) / channel

    def is_same_with(self, **change):
        """Returns whether another value of an argument gives the same."""
        weights = self.random_weights(biases=True)
        other = LayerUnderTest(self.factory, self.shape, **change)
        return same(other.output(self.x, weights), self.output(self.x, weights))

    def to_tensor(self, x):
        x = np.moveaxis(x, -1, 1) if self.channels_first else x
        return ops.convert_to_tensor(
            np.ascontiguousarray(x), dtype=self.layer.compute_dtype
        )

    def to_array(self, y):
        y = ops.convert_to_numpy(ops.cast(y, "float32"))
        return np.moveaxis(y, 1, -1) if self.channels_first else y


def _constant_start(weight):
    """Returns the initial value of a weight if it is constant, or `None`."""
    values = ops.convert_to_numpy(ops.cast(weight, "float32"))
    if "gamma" in weight.path:
        # It may start at 0, where the layer starts as the identity.
        return 1.0
    return float(values.flat[0]) if values.size and not np.ptp(values) else None


def has_window(weight) -> bool:
    """Returns whether a kernel is one of a convolution over positions."""
    return math.prod(weight.shape[:-2]) > 1


def features(height: int, width: int, channels: int) -> np.ndarray:
    """Returns random features `(B, H, W, C)` of both signs, without zeros."""
    rng = np.random.default_rng(0)
    shape = (BATCH, height, width, channels)
    of_channel, of_position = (BATCH, 1, 1, channels), (BATCH, height, width, 1)
    # Averages and maxima differ between channels and between positions, also
    # in sign, so that the ReLU of a small MLP is not 0 for all of them.
    positive = rng.uniform(-0.7, 1.4, of_channel) > rng.random(shape)
    x = np.where(positive, 1, -1) * rng.uniform(0.5, 2, shape)
    x = x * rng.uniform(0.5, 1.5, of_channel)
    return (x * rng.uniform(0.5, 1.5, of_position)).astype("float32")


def scaled(weights, indices, factor=0.0):
    """Returns weights of which some are multiplied by a factor."""
    return [
        weight * np.float32(factor) if i in indices else weight
        for i, weight in enumerate(weights)
    ]


def same(a, b):
    """Returns whether arrays are equal, up to 1 % of the variation of `b`."""
    # Half of it is left for accelerators that multiply in lower precision.
    return bool(np.abs(a - b).max(initial=0) <= 1e-2 * max(np.std(b), 1e-3))


def factory_for(layer: object) -> LayerFactory:
    """Returns a factory for a layer, a class of layers or a function."""
    if isinstance(layer, keras.Layer):

        def copy(channels, **changes):
            return copy_of(layer, **changes)

        return LayerFactory(copy, arguments_of(layer), layer)
    if not callable(layer):
        raise TypeError(
            "`layer` must be a keras layer, or a callable that takes the "
            "number of channels and returns one, as lambda channels: "
            "MyCBAM(channels, ratio=8), or that takes a tensor and returns "
            f"one. Received: layer={layer!r}"
        )
    parameters = _parameters(layer)
    defaults = {
        name: parameter.default
        for name, parameter in parameters.items()
        if parameter.default is not parameter.empty
    }
    # A class that needs no argument finds the channels when it is built.
    alone = inspect.isclass(layer) and len(defaults) == len(parameters)

    def call(channels, **changes):
        try:
            result = layer(**changes) if alone else layer(channels, **changes)
        except Exception:
            # It may be a function of a tensor.
            inputs = keras.Input((None, None, channels))
            with contextlib.suppress(Exception):
                return keras.Model(inputs, layer(inputs, **changes))
            raise
        if not isinstance(result, keras.Layer):
            raise TypeError(f"it returns {result!r} in place of a keras layer")
        return result

    return LayerFactory(call, defaults)


def copy_of(layer: keras.Layer, **changes: object) -> keras.Layer:
    """Returns a layer of the same configuration, without the weights."""
    if isinstance(layer, keras.Model) and not changes:
        return keras.models.clone_model(layer)
    config = layer.get_config()
    if "dtype" in config:
        config["dtype"] = keras.config.dtype_policy().name
    return type(layer).from_config({**config, **changes})


def arguments_of(layer: keras.Layer) -> dict[str, object]:
    """Returns the arguments of a layer's constructor and their values."""
    try:
        config = layer.get_config()
    except Exception:
        # Reported when the layer is saved.
        return {}
    names = _parameters(type(layer))
    return {name: config[name] for name in names if name in config}


def missing_arguments(layer: keras.Layer) -> list[str]:
    """Returns the constructor's arguments that `get_config` leaves out."""
    # What Keras records by itself lacks arguments that were not given.
    recorded = type(layer).get_config is keras.layers.Layer.get_config
    if isinstance(layer, keras.Model) or recorded:
        return []
    config = layer.get_config()
    return [name for name in _parameters(type(layer)) if name not in config]


def _parameters(layer):
    """Returns the named parameters of a callable, of a class of `__init__`."""
    if inspect.isclass(layer):
        # Up to Python 3.11.3, its signature is that of `Layer.__new__`.
        layer = functools.partial(layer.__init__, None)
    return {
        name: parameter
        for name, parameter in inspect.signature(layer).parameters.items()
        if parameter.kind
        not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    }


def is_ratio(name: str) -> bool:
    """Returns whether an argument is a reduction ratio, by its name."""
    return "ratio" in name or "reduction" in name or name == "r"


def widths(channels: int, ratio: float) -> dict[str, int]:
    """Returns the widths that `C / r` may mean, by the rounding."""
    # A ratio below 1 is the fraction itself.
    quotient = channels / ratio if ratio >= 1 else channels * ratio
    return {
        "truncated": max(1, int(quotient)),
        "rounded": max(1, int(quotient + 0.5)),
        "rounded up": max(1, math.ceil(quotient)),
    }
