"""Runs of a part of a network, to compare what it gives with a layer."""

import functools
import itertools
import math
from collections.abc import Mapping

import keras
import numpy as np
from keras import ops

from cbam_keras import _graph
from cbam_keras.explain.gradients import gradient_at

# The largest difference of outputs that are equal, relative to the largest
# output, unless float32 rounds away more.
TOLERANCE = 1e-5
# A rounding of float32, relative to what is rounded.
ROUNDING = 2.0**-23
# By so many times what random roundings change, another order of sums may
# change outputs.
SEVERAL_ROUNDINGS = 4
# A single image has more positions than windows, where the part takes any.
MANY_POSITIONS = 1200
# Brings hidden units above 100, whatever limits them.
LARGE = 400
# Weights of this size drive factors near their limits.
LIMITING = 5
# Factors of features 20 times as large stay below this, and features do not.
LARGEST_FACTOR = 6


class Values(keras.StatelessScope):
    """Scope in which variables have other values, by their ids.

    `read` are the variables that were read, also those without another value.
    What a layer assigns inside is kept apart: variables stay as they were.
    """

    def __init__(self, values: Mapping[int, object]):
        super().__init__()
        self.values = values
        self.read: dict[int, keras.Variable] = {}

    def get_current_value(self, variable):
        self.read[id(variable)] = variable
        assigned = super().get_current_value(variable)
        if assigned is None and id(variable) in self.values:
            # Layers of float64 compute in it.
            dtype = "float64" if variable.dtype == "float64" else "float32"
            return ops.cast(self.values[id(variable)], dtype)
        return assigned


class Runs:
    """Features to compare a part with layers on, and what it gives of them."""

    def __init__(self, cut, data_format, shape, own=None):
        self.cut = cut
        self.data_format = data_format
        self.shape = shape
        # The axis of channels.
        self.axis = 1 if data_format == "channels_first" else len(shape) - 1
        self.channels = shape[self.axis]
        # Whether the part gives factors alone. `run` then multiplies by them;
        # until this is known, it returns what the part gives.
        self.is_alone = False
        self.values = {id(x): _graph.to_float32(x) for x in cut.variables}
        # The same for the backend, so that no run copies them.
        self._tensors = {
            key: ops.convert_to_tensor(x) for key, x in self.values.items()
        }
        self.read: dict[int, keras.Variable] = {}
        # Outputs of features and weights that are measured more than once.
        self._outputs: dict[tuple[int, int], np.ndarray] = {}
        generator = np.random.default_rng(0)
        self.generator = generator
        x = generator.normal(size=shape)
        # No value is so small that a quotient by it is inexact.
        x = np.sign(x) * (np.abs(x) + 0.1)
        # Images differ in their means, so that gates that pool positions give
        # them different factors.
        means = np.exp(generator.normal(size=shape[0]))
        self.x = x
        self.positive = np.einsum("i...,i->i...", np.abs(x), means)
        self.large = 20 * x
        side = round(MANY_POSITIONS ** (1 / (len(shape) - 2)))
        other = [size or side for size in cut.source.shape[1:]]
        features = {
            "features around 0": x,
            "features after a ReLU": np.maximum(x, 0),
            "features above 0": self.positive,
            "features 20 times as large": self.large,
            "features 1/20 as large": x / 20,
            "a single image": generator.normal(size=(1, *other)),
        }
        if own is not None:
            features["the network's own features"] = own
        # Gradients are those of the sum of outputs times these.
        self.direction = generator.normal(size=shape)
        y = self.run(x)
        # Outputs that are never negative, and stay small for large features,
        # are factors, whatever the sign of `x`.
        is_map = y.min() >= 0 and self.run(self.large).max() <= LARGEST_FACTOR
        self.is_alone = y.shape != x.shape or is_map
        # Names, other weights, features, and what the part gives.
        self.first = [
            (name, {}, x, self.run(x)) for name, x in features.items()
        ]

    def run(self, x, values=(), training=False):
        """Returns what the part gives of features, with other weights."""
        y = self._output(x, values, training)
        if not self.is_alone:
            return y
        if y.ndim == 2 and x.ndim > 2:
            # One factor for each channel, without axes of positions.
            sizes = [1] * x.ndim
            sizes[0], sizes[self.axis] = y.shape
            y = y.reshape(sizes)
        return np.float32(x) * np.broadcast_to(y, x.shape)

    def _output(self, x, values, training):
        """Returns what the part gives as an array, of some runs a kept one."""
        is_kept = not training and self._is_kept(x, values)
        # Both objects live as long as the probes: their ids are theirs alone.
        key = id(x), id(values) if values else 0
        if is_kept and key in self._outputs:
            return self._outputs[key]
        y = self._call(x, values, training)
        y = ops.convert_to_numpy(ops.stop_gradient(y))
        if is_kept:
            self._outputs[key] = y
        return y

    def _is_kept(self, x, values):
        """Returns whether several measurements run features with weights."""
        # Before weights are drawn, the part's own are all there are: they are
        # not drawn here, which would change all that is drawn afterwards.
        drawn = vars(self).get("_several", ())
        is_known = not values or any(values is y for y in drawn)
        features = (self.x, self.positive, self.large)
        return is_known and any(x is y for y in features)

    def _call(self, x, values=(), training=False):
        with Values({**self._tensors, **dict(values)}) as scope:
            x = ops.convert_to_tensor(x, "float32")
            y = self.cut.runner(x, training=training)
        self.read |= scope.read
        return y

    @functools.cached_property
    def is_random(self):
        """Whether two calls in inference differ."""
        # The second call goes on with the random state of the first.
        with Values(self.values):
            first = _run(self.cut.runner, self.x)
            second = _run(self.cut.runner, self.x)
        return not np.array_equal(first, second)

    @functools.cached_property
    def mixes_images(self):
        """Whether what it gives of an image depends on the others."""
        alone = self.run(self.x[:1])
        return difference_of(self.run(self.x)[:1], alone) > 100 * TOLERANCE

    @functools.cached_property
    def untracked(self):
        """How many weights are read and belong to no layer."""
        known = {id(x) for x in self.cut.variables}
        unknown = [x for key, x in self.read.items() if key not in known]
        return sum("float" in x.dtype for x in unknown)

    @functools.cached_property
    def others(self):
        """Probes with other weights, as in `first`.

        With large weights, factors come near their limits. With large hidden
        units, they do not, and activations show that differ above 100 alone.
        """
        values = self._other_values(1)
        probes = [("other weights", values, self.positive)]
        for x in (self.x, self.positive, -self.positive):
            probes.append(("large weights", self._other_values(LIMITING), x))
        large = LARGE * self.positive
        # One kernel in turn is as much smaller as features are larger: what
        # comes after it is as before, and hidden units before it are large.
        for key, value in values.items():
            if value.ndim > 1:
                changed = {**values, key: value / LARGE}
                probes.append(("large hidden units", changed, large))
        if self._norms:
            changed = {
                key: self.generator.uniform(0.1, 1.5, self.values[key].shape)
                for key in self._norms
            }
            probes.append(("other averages", changed, self.x))
        # A part without weights has no others.
        if not values:
            return []
        return [
            (name, changed, x, self.run(x, changed))
            for name, changed, x in probes
        ]

    def _other_values(self, scale=1, signs=None):
        """Returns random values of weights, but for batch normalization.

        `signs` are those of whole kernels, one after another; those of numbers
        in a kernel are left to chance where it is `None` or 0.
        """
        values = {}
        signs = itertools.cycle(signs or [0])
        for key, value in self.values.items():
            if key in self._norms:
                continue
            is_kernel = value.ndim > 1
            # Sums of a kernel's products are as large as features; biases
            # are half as large.
            size = math.prod(value.shape[:-1]) if is_kernel else 4
            noise = self.generator.normal(size=value.shape) * scale
            sign = next(signs) if is_kernel else 0
            if sign:
                noise = sign * np.abs(noise)
            values[key] = (noise / math.sqrt(size)).astype("float32")
        return values

    @functools.cached_property
    def _norms(self):
        """The ids of weights of batch normalization.

        They are in the order of all weights, so that random numbers go to the
        same weights in each process.
        """
        norms = {id(x) for norm in self.cut.norms for x in norm.variables}
        return [key for key in self.values if key in norms]

    @functools.cached_property
    def _several(self):
        """Weights: its own, others, and some that no ReLU makes 0.

        Kernels of the last have no number below 0.
        """
        return {}, self._other_values(), self._other_values(signs=[1])

    def compare(self, layer, set_weights):
        """Compares the outputs of a layer, and its gradients.

        `set_weights` gives the layer weights of the part. Returns how many
        probes are equal, the name of the next (empty if all are), and the
        largest relative difference with the part's own weights.
        """
        set_weights(self.values)
        largest = 0.0
        probes = [*self.first, *self.others]
        for count, (name, values, x, y) in enumerate(probes):
            if values:
                set_weights({**self.values, **values})
            difference = difference_of(y, _run(layer, x))
            if not self._is_rounding(difference, x, y, values):
                return count, name, largest
            if not values:
                largest = max(largest, difference)
        if not self.is_alone:
            set_weights(self.values)
            gradients = [self._gradient(f, self.x) for f in (self._call, layer)]
            # Gradients add more terms than outputs.
            if not difference_of(*gradients) <= 10 * TOLERANCE:
                return len(probes), "gradients", largest
        return len(probes) + 1, "", largest

    def _is_rounding(self, difference, x, y, values=()):
        """Returns whether rounding of float32 explains a difference."""
        # Neither what is equal anyway nor what no rounding explains (such as
        # NaN) needs a measurement.
        if not TOLERANCE < difference < 100 * TOLERANCE:
            return difference <= TOLERANCE
        # As if each product of a sum had been rounded.
        several = [self._rounded(x), self._rounded(x)]
        values = {**self.values, **dict(values)}
        differences = []
        for rounded in several:
            weights = {k: self._rounded(v) for k, v in values.items()}
            moved = self.run(rounded, weights)
            differences.append(difference_of(y, moved))
        return difference <= SEVERAL_ROUNDINGS * max(differences)

    def _rounded(self, x):
        """Returns values with random roundings of float32."""
        noise = self.generator.normal(size=np.shape(x))
        return (x * (1 + ROUNDING * noise)).astype("float32")

    def _gradient(self, function, x):
        """Returns the gradient of a weighted sum of outputs."""

        def run(watch):
            given = watch(ops.convert_to_tensor(x, "float32"))
            y = ops.cast(function(given), "float32")
            weights = np.resize(self.direction, tuple(y.shape))
            return ops.sum(ops.multiply(y, weights.astype("float32"))), given

        return ops.convert_to_numpy(gradient_at(run, x.shape)[1])


def _run(function, x):
    x = ops.convert_to_tensor(x, "float32")
    return ops.convert_to_numpy(ops.stop_gradient(function(x)))


def difference_of(expected, y):
    """Returns the largest difference, relative to the largest value."""
    largest = max(np.abs(expected).max(), 1e-30)
    return float(np.abs(expected - y).max() / largest)
