"""Probes: what a part of a network multiplies features by, measured."""

import functools
import itertools
import math

import numpy as np

from cbam_keras.recognition.runs import LARGE, TOLERANCE, Runs, difference_of

# Factors that differ by less, relative to the largest, are one factor.
ONE_FACTOR = 1e-4
# The sizes of positions in probes, where the part takes any.
SIZES = (6, 5, 4)
# Maps of more positions are not compared where that would do with few.
MOST_POSITIONS = 256
# So many weights are tried, since a ReLU may give 0 of all features with some.
SEVERAL_WEIGHTS = 8
# Weights and features of this size drive factors to their limits.
RANGE = 30
# Rounding may bring a factor of 0 this far below 0.
CLOSE_TO_0 = 0.01
# Sums of sigmoids give no larger factor.
MOST_SIGMOIDS = 4
# So many combinations of signs of kernels are tried: two that are left to
# chance, and all those of four kernels.
MOST_SIGNS = 2 + 2**4
# What our layers pool.
POOLS_OF_OURS = (("avg",), ("max",), ("avg", "max"))


class Probes(Runs):
    """The factors of a part, by which it multiplies features."""

    def factors(self, x, values=()):
        """Returns what the part multiplies features by, channels last."""
        return np.moveaxis(self.run(x, values) / x, self.axis, -1)

    @functools.cached_property
    def known_factors(self):
        """The factors of random features."""
        return self.factors(self.x)

    def is_one(self, factors, *axes):
        """Returns whether factors are one factor along axes."""
        size = np.abs(self.known_factors).max()
        return np.ptp(factors, axis=axes).max() <= ONE_FACTOR * size

    @functools.cached_property
    def varies(self):
        """The axes along which factors differ, that of channels last.

        The axis of images is none of them.
        """
        several = [self.known_factors]
        # Some differ only with other weights, as behind a ReLU that gives 0.
        for values in self._several[1:]:
            for x in (self.x, self.positive):
                several.append(self.factors(x, values))
        axes = []
        for axis in range(1, len(self.shape)):
            if not all(self.is_one(factors, axis) for factors in several):
                axes.append(axis)
        return axes

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
        several = [self._names[axis - 1] for axis in self.varies]
        if len(several) < 2:
            return "".join(several)
        return f"{', '.join(several[:-1])} and {several[-1]}"

    @property
    def _names(self):
        return {
            3: ("step", "channel"),
            4: ("row", "column", "channel"),
            5: ("depth", "row", "column", "channel"),
        }[len(self.shape)]

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
        """Whether factors are the same whatever the features and weights."""
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
            added = self.run(self.x, values) - self.x
            added = np.moveaxis(added, self.axis, -1)
            # Images, positions and channels.
            added = added.reshape(len(added), -1, self.channels)
            # A number of a channel plus one of a position is known from the
            # first channel and the first position.
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
        """Over how many places factors add up to 1, and what these are.

        It is empty if they do not.
        """
        # Positions are those of the network, where it says how many: probes
        # may have fewer.
        pairs = zip(self.cut.source.shape[1:], self.shape[1:], strict=True)
        sizes = [size or small for size, small in pairs]
        # Channels last, as those of factors.
        sizes.append(sizes.pop(self.axis - 1))
        grid = tuple(range(1, len(self.shape) - 1))
        several = {"position" if grid[1:] else "step": grid}
        several |= {self._names[axis - 1]: (axis,) for axis in self.varies}
        for name, axes in several.items():
            total = self.known_factors.sum(axes)
            if np.allclose(total, 1, atol=ONE_FACTOR):
                return math.prod(sizes[axis - 1] for axis in axes), f"{name}s"
        return ()

    @functools.cached_property
    def window(self):
        """How many places along each axis a factor of the center depends on.

        `()` if these are all.
        """
        x = np.moveaxis(self.positive[:1], self.axis, -1)
        center = [size // 2 for size in x.shape[1:-1]]
        spans = []
        for axis, size in enumerate(x.shape[1:-1], 1):
            # Each image but the last has other features at one place of the
            # axis: as many images as places, and one that is as it was.
            others = tuple(i for i in range(1, x.ndim) if i != axis)
            changes = np.expand_dims(np.eye(size + 1, size), others)
            images = np.moveaxis(x * (1 + 2 * changes), -1, self.axis)
            changed = np.zeros(size, bool)
            for values in self._several:
                factors = self.factors(images, values)[(slice(None), *center)]
                change = np.abs(factors[:-1] - factors[-1]).max(-1)
                changed |= change > ONE_FACTOR * np.abs(factors).max()
            places = np.flatnonzero(changed)
            # Places between two of a dilated kernel count. A factor of no
            # place is constant, and has no window.
            span = int(np.ptp(places)) + 1 if places.size else size
            spans.append(span)
        return () if tuple(spans) == x.shape[1:-1] else tuple(spans)

    @functools.cached_property
    def pools(self):
        """The pools of positions that factors of channels depend on, if any."""
        x = np.moveaxis(self.positive, self.axis, -1)
        same = same_pools(x, tuple(range(1, x.ndim - 1)))
        factors = [self.factors(self.positive, y) for y in self._several]
        for pools in POOLS_OF_OURS:
            changed = np.moveaxis(same[pools], -1, self.axis)
            # A generator, since the first that differs ends it.
            new = (self.factors(changed, values) for values in self._several)
            if all(map(_have_same_shares, factors, new)):
                return pools
        return ()

    @functools.cached_property
    def regularization(self):
        """The regularization of SimAM that gives these factors.

        SimAM multiplies by `sigmoid(d / (4 * (variance + regularization)) +
        0.5)`, with the squared distance `d` from the mean of the channel.
        """
        # The smaller features are, the more factors depend on it. It is exact
        # from where it exceeds the variance.
        for scale in (10, 1, 0.1, 0.01, 1e-3, 1e-4):
            x = np.moveaxis(scale * self.x, self.axis, -1)
            grid = tuple(range(1, x.ndim - 1))
            d = np.square(x - x.mean(grid, keepdims=True))
            variance = d.sum(grid, keepdims=True) / (d[0, ..., 0].size - 1)
            factors = np.float64(self.factors(scale * self.x))
            with np.errstate(all="ignore"):
                logits = np.log(factors / (1 - factors)) - 0.5
                ratios = (d / (4 * logits) - variance) / variance
            ratios = ratios[np.isfinite(ratios)]
            ratio = np.median(ratios) if ratios.size else 0
            if ratio > 1:
                # Two digits are enough of a number that somebody chose.
                return float(f"{ratio * np.median(variance):.2g}")
        # The default of SimAM.
        return 1e-4

    @functools.cached_property
    def sign(self):
        """The sign of the smallest factor, -1, 0 or 1.

        It tells a tanh, with factors below 0, and a sigmoid, with none, from
        hard gates, with some that are 0.
        """
        several = (self._other_values(3) for _ in range(SEVERAL_WEIGHTS // 2))
        factors = [self.factors(self.positive, values) for values in several]
        return np.sign(min(x.min() for x in factors))

    @functools.cached_property
    def multiplies(self):
        """Whether each output is a factor times its input."""
        # Where a feature is 0, an output is, too.
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
        # Images, positions and channels. The first channel and the first
        # position say what such a product is elsewhere.
        factors = self.known_factors.reshape(len(self.x), -1, self.channels)
        product = factors[:, :1] * factors[..., :1]
        atol = ONE_FACTOR * np.abs(factors).max() ** 2
        return np.allclose(factors * factors[:, :1, :1], product, atol=atol)

    @functools.cached_property
    def is_attention(self):
        """Whether it multiplies by factors that depend on other features."""
        if not self.multiplies:
            return False
        # With its own weights, a ReLU may give 0 of all features.
        factors = self.known_factors
        for values in self._several:
            if values:
                factors = self.factors(self.x, values)
            if not self.is_one(factors, 0):
                break
        else:
            return False
        scale = np.abs(factors).max()
        # What normalizes divides by the scale of the features.
        large = 20 * self.factors(self.large, values)
        if np.allclose(large, factors, atol=0.01 * scale):
            return False
        is_gate = factors.min() > -ONE_FACTOR * scale
        return self.is_product or is_gate and {*self.window} != {1}

    @functools.cached_property
    def range(self):
        """The smallest and largest factor that was seen."""
        factors = []
        for *_, x, y in self.first:
            # Quotients by the smallest are inexact.
            is_large = np.abs(x) > 0.01 * np.abs(x).max()
            factors.append(y[is_large] / x[is_large])
        return _range([*factors, self.factors(LARGE * self.positive)])

    @functools.cached_property
    def limits(self):
        """The range with large weights, which no weights exceed by much.

        It is measured, so that an activation of any name has its limits.
        """
        kernels = sum(x.ndim > 1 for x in self.values.values())
        # Twice, signs are left to chance. Kernels of one sign keep hidden
        # units away from 0: each combination of signs of kernels is tried.
        signs = [None, None, *itertools.product((1, -1), repeat=kernels)]
        # Features, and the size of weights.
        trials = [
            (self.x, 1),
            (RANGE * self.x, RANGE),
            (RANGE * self.positive, RANGE),
        ]
        factors = []
        for signs_of_kernels in signs[:MOST_SIGNS]:
            for x, scale in trials:
                values = self._other_values(scale, signs_of_kernels)
                factors.append(self.factors(x, values))
        low, high = _range(factors)
        return min(low, self.range[0]), max(high, self.range[1])

    @functools.cached_property
    def without_gradient(self):
        """How many weights get no gradient, of those to be trained."""
        count = 0
        for variable in self.cut.variables:
            # Scales of float8 are overwritten.
            if not variable.trainable or variable.overwrite_with_gradient:
                continue
            several = range(SEVERAL_WEIGHTS)
            if not any(self._gets_gradient(variable) for _ in several):
                count += 1
        return count

    def _gets_gradient(self, variable):
        """Returns whether a weight gets a gradient with random weights."""
        values, key = self.values | self._other_values(), id(variable)

        def function(x, value):
            return self._call(x, {**values, key: value})

        gradients = (
            self._gradient(functools.partial(function, x), values[key])
            for x in (self.positive, self.x)
        )
        return any(gradient.any() for gradient in gradients)


def probe(cut, data_format, own=None, images=3):
    """Returns the probes of a part, `None` if it takes none.

    Their positions are few, unless it takes only those that it was made for.
    What the part raises is raised where nothing else can be tried.
    """
    sizes = list(cut.source.shape[1:])
    axis = 0 if data_format == "channels_first" else len(sizes) - 1
    channels = sizes.pop(axis)
    # What has no positions or one channel has no attention.
    if channels in (None, 1) or not sizes:
        return None
    few = list(SIZES[: len(sizes)])
    true = [x or y for x, y in zip(sizes, few, strict=True)]
    # The formula of a part without weights may have sizes in it.
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


def same_pools(x, axes):
    """Returns features by the pools that they have in common with `x`.

    They differ from `x` otherwise, also in the places of their values.
    """
    mean = x.mean(axes, keepdims=True)
    most = x.max(axes, keepdims=True)
    least = x.min(axes, keepdims=True)
    count = math.prod(x.shape[axis] for axis in axes)
    # With all others at this value, an extreme leaves the mean as it is.
    below_most = (count * mean - most) / (count - 1)
    above_least = (count * mean - least) / (count - 1)
    between = np.where(x == least, least, (most + least) / 2)
    same = {
        ("avg",): mean + 0 * x,
        ("max",): most + 0 * x,
        ("avg", "max"): np.where(x == most, most, below_most),
        ("min",): least + 0 * x,
        ("avg", "min"): np.where(x == least, least, above_least),
        ("max", "min"): np.where(x == most, most, between),
    }
    return {pools: np.roll(y, 1, axes[0]) for pools, y in same.items()}


def _have_same_shares(*factors):
    """Returns whether channels get equal shares of the largest factor.

    So what positions get, too, is divided out. Where a hard sigmoid gives a
    position 0, no shares are known.
    """
    pair = np.stack(factors)
    most = pair.max(-1, keepdims=True)
    known = most.min(0) > 0
    shares = known * np.ptp(pair / np.maximum(most, 1e-30), axis=0)
    return known.any() and shares.max() < ONE_FACTOR


def _range(factors):
    """Returns the smallest and the largest number in several arrays."""
    low = min(float(x.min()) for x in factors)
    high = max(float(x.max()) for x in factors)
    return low, high
