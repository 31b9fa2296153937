"""Probes: features, to measure a part of a network and compare it on."""

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
# A rounding of float32, and by how much more those of a sum may differ.
ROUNDING, SEVERAL_ROUNDINGS = 2.0**-23, 4
# Factors that differ by less, relative to the largest, are one factor.
ONE_FACTOR = 1e-4
# The sizes of positions in probes, where the part takes any.
SIZES = (6, 5, 4)
# A single image has more positions than windows, where the part takes any.
MANY_POSITIONS = 1200
# Maps of more positions are not compared where that would do with few.
MOST_POSITIONS = 256
# So often, weights are tried with which a ReLU may give 0 of all features.
SEVERAL_WEIGHTS = 8
# Brings hidden units above 100, whatever limits them.
LARGE = 400
# Weights of this size drive factors near their limits, and these to them.
LIMITING, RANGE = 5, 30
# What rounding makes of a factor of 0, and more than all sums of sigmoids give.
CLOSE_TO_0, MOST_SIGMOIDS = 0.01, 4
# As many signs of kernels are tried.
MOST_SIGNS = 18


class Values(keras.StatelessScope):
    """Scope of other values of variables, by their ids; `read` were read."""

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


class Probes:
    """Features to compare a part with layers on, and what it gives of them."""

    def __init__(self, cut, data_format, shape, own=None):
        self.cut, self.data_format, self.shape = cut, data_format, shape
        self.axis = 1 if data_format == "channels_first" else len(shape) - 1
        self.channels = shape[self.axis]
        # Whether the part gives factors alone.
        self.is_alone = False
        self.values = {id(x): _graph.to_float32(x) for x in cut.variables}
        self.read: dict[int, keras.Variable] = {}
        self.generator = generator = np.random.default_rng(0)
        x = generator.normal(size=shape)
        # No value is so small that a quotient by it is inexact.
        x = np.sign(x) * (np.abs(x) + 0.1)
        means = np.exp(generator.normal(size=shape[0]))
        self.positive = np.einsum("i...,i->i...", np.abs(x), means)
        side = round(MANY_POSITIONS ** (1 / (len(shape) - 2)))
        other = [size or side for size in cut.source.shape[1:]]
        features = {
            "features around 0": x,
            "features after a ReLU": np.maximum(x, 0),
            "features above 0": self.positive,
            "features 20 times as large": 20 * x,
            "features 1/20 as large": x / 20,
            "a single image": generator.normal(size=(1, *other)),
        }
        if own is not None:
            features["the network's own features"] = own
        self.x = x
        self.direction = generator.normal(size=shape)
        y = self.run(x)
        # Outputs of one sign, whatever that of `x`, are factors.
        is_map = y.min() >= 0 and self.run(20 * x).max() <= 2 * len(SIZES)
        self.is_alone = y.shape != x.shape or is_map
        # Names, other weights, features, and what the part gives.
        self.first = [
            (name, {}, x, self.run(x)) for name, x in features.items()
        ]

    def run(self, x, values=(), training=False):
        """Returns what the part gives of features, with other weights."""
        y = self._call(x, values, training)
        y = ops.convert_to_numpy(ops.stop_gradient(y))
        if not self.is_alone:
            return y
        if y.ndim == 2 < x.ndim:
            sizes = [1] * x.ndim
            sizes[0], sizes[self.axis] = y.shape
            y = y.reshape(sizes)
        return np.float32(x) * np.broadcast_to(y, x.shape)

    def _call(self, x, values=(), training=False):
        with Values({**self.values, **dict(values)}) as scope:
            x = ops.convert_to_tensor(x, "float32")
            y = self.cut.runner(x, training=training)
        self.read |= scope.read
        return y

    @functools.cached_property
    def is_random(self):
        """Whether two calls in inference differ."""
        # The second call goes on with the random state of the first.
        with Values(self.values):
            first, second = (_run(self.cut.runner, self.x) for _ in range(2))
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
        """Other weights, features, and what the part gives of them."""
        values = self._other_values(1)
        probes = [("other weights", values, self.positive)]
        for x in (self.x, self.positive, -self.positive):
            probes.append(("large weights", self._other_values(LIMITING), x))
        large = LARGE * self.positive
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
        probes = probes if values else []
        return [(*x, self.run(x[-1], x[1])) for x in probes]

    def _other_values(self, scale=1, signs=None):
        """Returns random weights, but for norms; kernels have these `signs`."""
        values = {}
        signs = itertools.cycle(signs or [0])
        for key, value in self.values.items():
            if key in self._norms:
                continue
            size = math.prod(value.shape[:-1]) if value.ndim > 1 else 4
            noise = self.generator.normal(size=value.shape) * scale
            if value.ndim > 1 and (sign := next(signs)):
                noise = sign * np.abs(noise)
            values[key] = (noise / math.sqrt(size)).astype("float32")
        return values

    @functools.cached_property
    def _norms(self):
        """The weights of batch normalization, by their ids."""
        norms = {id(x) for norm in self.cut.norms for x in norm.variables}
        return norms & self.values.keys()

    @functools.cached_property
    def _several(self):
        """Weights: its own, others, and some that no ReLU makes 0."""
        return {}, self._other_values(), self._other_values(signs=[1])

    def compare(self, layer, set_weights):
        """Compares a layer, which `set_weights` gives weights of the part.

        Returns how many probes are equal, the next, and the largest difference.
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
            largest = max(largest, difference * (not values))
        if not self.is_alone:
            set_weights(self.values)
            gradients = [self._gradient(f, self.x) for f in (self._call, layer)]
            # Gradients add more terms than outputs.
            if not difference_of(*gradients) <= 10 * TOLERANCE:
                return len(probes), "gradients", largest
        return len(probes) + 1, "", largest

    def _is_rounding(self, difference, x, y, values=()):
        """Returns whether float32 rounds such a difference away."""
        if not TOLERANCE < difference < 100 * TOLERANCE:
            return difference <= TOLERANCE
        # As if each product of a sum had been rounded.
        noise = [self._rounded(x), self._rounded(x)]
        values = {**self.values, **dict(values)}
        moved = (
            self.run(z, {k: self._rounded(v) for k, v in values.items()})
            for z in noise
        )
        own = max(difference_of(y, z) for z in moved)
        return difference <= SEVERAL_ROUNDINGS * own

    def _rounded(self, x):
        noise = self.generator.normal(size=np.shape(x))
        return (x * (1 + ROUNDING * noise)).astype("float32")

    def factors(self, x, values=()):
        """Returns what the part multiplies features by, channels last."""
        return np.moveaxis(self.run(x, values) / x, self.axis, -1)

    @functools.cached_property
    def known_factors(self):
        """The factors of random features."""
        return self.factors(self.x)

    def is_one(self, factors, *axes):
        """Returns whether factors do not differ along axes."""
        size = np.abs(self.known_factors).max()
        return np.ptp(factors, axis=axes).max() <= ONE_FACTOR * size

    @functools.cached_property
    def varies(self):
        """The axes along which factors differ, that of channels last."""
        several = [self.known_factors]
        # Some differ only with other weights, as behind a ReLU that gives 0.
        several += [
            self.factors(x, values)
            for values in self._several[1:]
            for x in (self.x, self.positive)
        ]
        return [
            axis
            for axis in range(1, len(self.shape))
            if not all(self.is_one(factors, axis) for factors in several)
        ]

    @property
    def is_unbounded(self):
        """Whether factors are none that a sum of sigmoids gives."""
        low, high = self.limits
        return low < -CLOSE_TO_0 or high > MOST_SIGMOIDS

    @property
    def gated(self):
        """Whether "channel", "spatial" or both get factors of their own."""
        if not self.multiplies:
            return {"channel", "spatial"}
        *sizes, _ = self.known_factors.shape[1:]
        grid = {axis for axis, size in enumerate(sizes, 1) if size > 1}
        # Factors of rows alone are those of no layer of ours.
        if 0 < len(grid.intersection(self.varies)) < len(grid):
            return set()
        axes = {"channel": {len(self.shape) - 1}, "spatial": grid}
        return {x for x in axes if axes[x].intersection(self.varies)}

    @property
    def axes(self):
        """The axes along which factors differ, in words."""
        positions = ("depth", "row", "column")[5 - len(self.shape) :]
        names = (*(positions if positions[1:] else ["step"]), "channel")
        *first, last = (names[axis - 1] for axis in self.varies)
        return " and ".join(filter(None, [", ".join(first), last]))

    @property
    def has_factors(self):
        """Whether it multiplies by factors, the same in each call."""
        return not self.is_random and self.multiplies

    def _are_equal(self, *features):
        """Returns whether features get the same factors, of several weights."""
        return all(
            self.is_one(np.stack([self.factors(x, y) for x in features]), 0)
            for y in self._several
        )

    @functools.cached_property
    def is_constant(self):
        """Whether it multiplies by factors whatever features and weights."""
        others = np.roll(self.x, 1, axis=0), self.positive, -self.positive
        return self._are_equal(self.x, *others)

    @functools.cached_property
    def is_identity(self):
        """Whether outputs are the features, whatever the weights."""
        probes = [*self.first, *self.others]
        return all(difference_of(x, y) <= TOLERANCE for *_, x, y in probes)

    @functools.cached_property
    def adds(self):
        """Whether it adds numbers of channels and of positions."""
        for values in self._several:
            added = np.moveaxis(
                self.run(self.x, values) - self.x, self.axis, -1
            )
            added = added.reshape(len(added), -1, self.channels)
            of_both = added[:, :1] + added[..., :1] - added[:, :1, :1]
            size = max(np.abs(self.x).max(), np.abs(added).max())
            if np.abs(added - of_both).max() > 1e-5 * size:
                return False
        return True

    @property
    def adds_input(self):
        """Whether it adds features to those that it scales."""
        is_sum = not self.is_alone and self.has_factors
        return is_sum and self.range[0] > 1 - ONE_FACTOR

    @functools.cached_property
    def softmax(self):
        """Over how many positions factors add up to 1, 0 if they do not."""
        pairs = zip(self.cut.source.shape[1:], self.shape[1:], strict=True)
        count = math.prod(size or small for size, small in pairs)
        total = self.known_factors.sum(tuple(range(1, len(self.shape) - 1)))
        is_softmax = np.allclose(total, 1, atol=ONE_FACTOR)
        return count // self.channels if is_softmax else 0

    @functools.cached_property
    def window(self):
        """On how many places by axis a central factor depends, `()` on all."""
        x = np.moveaxis(self.positive[:1], self.axis, -1)
        center = [size // 2 for size in x.shape[1:-1]]
        spans = []
        for axis, size in enumerate(x.shape[1:-1], 1):
            # Each image but the last has other features at one place.
            others = (i for i in range(1, x.ndim) if i != axis)
            changes = np.expand_dims(np.eye(size + 1, size), tuple(others))
            images = np.moveaxis(x * (1 + 2 * changes), -1, self.axis)
            changed = np.zeros(size, bool)
            for values in self._several:
                factors = self.factors(images, values)[(slice(None), *center)]
                change = np.abs(factors[:-1] - factors[-1]).max(-1)
                changed |= change > ONE_FACTOR * np.abs(factors).max()
            places = np.flatnonzero(changed)
            spans.append(int(np.ptp(places)) + 1 if places.size else size)
        return () if (*spans,) == x.shape[1:-1] else (*spans,)

    @functools.cached_property
    def pools(self):
        """The pools of positions that factors of channels depend on, if any."""
        x = np.moveaxis(self.positive, self.axis, -1)
        grid = tuple(range(1, x.ndim - 1))
        mean, most = x.mean(grid, keepdims=True), x.max(grid, keepdims=True)
        count = x[0, ..., 0].size
        others = (count * mean - most) / (count - 1)
        # Features that have the same pools, and differ otherwise.
        peaks = np.roll(np.where(x == most, most, others), 1, axis=1)
        same = {("avg",): mean, ("max",): most, ("avg", "max"): peaks}
        factors = [self.factors(self.positive, y) for y in self._several]
        for pools, changed in same.items():
            changed = np.moveaxis(changed + 0 * x, -1, self.axis)
            # The first that differs ends it.
            new = (self.factors(changed, values) for values in self._several)
            if all(map(_have_same_shares, factors, new)):
                return pools
        return ()

    @functools.cached_property
    def regularization(self):
        """That of SimAM with these factors."""
        for scale in (10, 1, 0.1, 0.01, 1e-3, 1e-4):
            x = np.moveaxis(scale * self.x, self.axis, -1)
            grid = tuple(range(1, x.ndim - 1))
            d = np.square(x - x.mean(grid, keepdims=True))
            variance = d.sum(grid, keepdims=True) / (d[0, ..., 0].size - 1)
            factors = np.float64(self.factors(scale * self.x))
            with np.errstate(all="ignore"):
                logits = np.log(factors / (1 - factors)) - 0.5
                several = (d / (4 * logits) - variance) / variance
            several = several[np.isfinite(several)]
            if several.size and (ratio := np.median(several)) > 1:
                return float(f"{ratio * np.median(variance):.2g}")
        return 1e-4

    @functools.cached_property
    def sign(self):
        """The sign of the smallest factor: hard gates have some that are 0."""
        several = (self._other_values(3) for _ in range(SEVERAL_WEIGHTS // 2))
        factors = [self.factors(self.positive, values) for values in several]
        return np.sign(min(x.min() for x in factors))

    @functools.cached_property
    def multiplies(self):
        """Whether each output is a factor times its input."""
        absent = self.generator.random(self.shape) < 0.1
        several = [(self.positive, values) for values in self._several]
        for x, values in [(self.x, ()), *several]:
            y = np.abs(self.run(np.where(absent, 0, x), values))
            if y[absent].max() > 1e-6 * y.max():
                return False
        return True

    @functools.cached_property
    def is_product(self):
        """Whether factors are a factor of channels by one of positions."""
        factors = self.known_factors.reshape(len(self.x), -1, self.channels)
        product = factors[:, :1] * factors[..., :1]
        atol = ONE_FACTOR * np.abs(factors).max() ** 2
        return np.allclose(factors * factors[:, :1, :1], product, atol=atol)

    @functools.cached_property
    def is_attention(self):
        """Whether it multiplies by factors that depend on other features."""
        if not self.multiplies or self.is_one(self.known_factors, 0):
            return False
        scale = np.abs(self.known_factors).max()
        # What normalizes divides by the scale of the features.
        large = 20 * self.factors(20 * self.x)
        if np.allclose(large, self.known_factors, atol=0.01 * scale):
            return False
        is_gate = self.known_factors.min() > -ONE_FACTOR * scale
        return self.is_product or is_gate and {*self.window} != {1}

    @functools.cached_property
    def range(self):
        """The smallest and largest factor that was seen."""
        factors = [
            y[is_large] / x[is_large]
            for *_, x, y in self.first
            # Quotients by the smallest are inexact.
            for is_large in [np.abs(x) > 0.01 * np.abs(x).max()]
        ]
        return _range([*factors, self.factors(LARGE * self.positive)])

    @functools.cached_property
    def limits(self):
        """The range with large weights, which no weights exceed by much."""
        kernels = sum(x.ndim > 1 for x in self.values.values())
        # Kernels of one sign keep hidden units away from 0.
        signs = [None, None, *itertools.product((1, -1), repeat=kernels)]
        factors = [
            self.factors(x, self._other_values(scale, several))
            for several in signs[:MOST_SIGNS]
            for x, scale in (
                (self.x, 1),
                (RANGE * self.x, RANGE),
                (RANGE * self.positive, RANGE),
            )
        ]
        low, high = _range(factors)
        return min(low, self.range[0]), max(high, self.range[1])

    @functools.cached_property
    def without_gradient(self):
        """How many weights get no gradient, of those to be trained."""
        return sum(
            not any(self._gets_gradient(x) for _ in range(SEVERAL_WEIGHTS))
            for x in self.cut.variables
            # Scales of float8 are overwritten.
            if x.trainable and not x.overwrite_with_gradient
        )

    def _gets_gradient(self, variable):
        values, key = self.values | self._other_values(), id(variable)

        def function(x, value):
            return self._call(x, {**values, key: value})

        gradients = (
            self._gradient(functools.partial(function, x), values[key])
            for x in (self.positive, self.x)
        )
        return any(gradient.any() for gradient in gradients)

    def _gradient(self, function, x):
        """Returns the gradient of a weighted sum of outputs."""

        def run(watch):
            given = watch(ops.convert_to_tensor(x, "float32"))
            y = ops.cast(function(given), "float32")
            weights = np.resize(self.direction, tuple(y.shape))
            return ops.sum(ops.multiply(y, weights.astype("float32"))), given

        return ops.convert_to_numpy(gradient_at(run, x.shape)[1])


def probe(cut, data_format, own=None, images=3):
    """Returns probes of few positions or its own, `None` if it takes none."""
    sizes = list(cut.source.shape[1:])
    axis = 0 if data_format == "channels_first" else len(sizes) - 1
    channels = sizes.pop(axis)
    # What has no positions or one channel has no attention.
    if channels in (None, 1) or not sizes:
        return None
    few = list(SIZES[: len(sizes)])
    true = [x or y for x, y in zip(sizes, few, strict=True)]
    # Without weights, there may be sizes in the formula.
    is_small = math.prod(true) <= MOST_POSITIONS or not cut.variables
    tries = [true] if is_small else [few, true]
    if math.prod(true) == 1:
        # Where it takes more positions, these tell what it computes.
        tries = [few]
    for positions in tries:
        positions.insert(axis, channels)
        try:
            probes = Probes(cut, data_format, (images, *positions), own)
        # A part of any network may raise anything.
        except Exception:
            if positions is tries[-1]:
                raise
            continue
        if all(np.isfinite(y).all() for *_, y in probes.first):
            return probes
    return None


def _have_same_shares(*factors):
    """Returns whether channels get equal shares of the largest factor.

    What positions get, too, is divided out so. It may be 0 of a hard sigmoid.
    """
    pair = np.stack(factors)
    most = pair.max(-1, keepdims=True)
    known = most.min(0) > 0
    shares = known * np.ptp(pair / np.maximum(most, 1e-30), axis=0)
    return known.any() and shares.max() < ONE_FACTOR


def _run(function, x):
    x = ops.convert_to_tensor(x, "float32")
    return ops.convert_to_numpy(ops.stop_gradient(function(x)))


def _range(factors):
    low = min(float(x.min()) for x in factors)
    return low, max(float(x.max()) for x in factors)


def difference_of(expected, y):
    """Returns the largest difference, relative to the largest value."""
    largest = max(np.abs(expected).max(), 1e-30)
    return float(np.abs(expected - y).max() / largest)
