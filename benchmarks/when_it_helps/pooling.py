"""Pools gains of several sources, and says what a new comparison would gain.

    python -m benchmarks.when_it_helps coverage   # simulates it

A source has several effects, which share images, recipes and often the network
without attention. They are not independent, so intervals are by source: the
jackknife leaves out one source after the other.
"""

import collections
import dataclasses
from collections.abc import Iterable

import numpy as np

from cbam_keras import _checks

# A mean of fewer sources has an interval that says next to nothing.
LEAST_SOURCES = 5
# Of fewer sources, none may decide on the sign of the mean.
MANY_SOURCES = 10
SIMULATIONS = 300


@dataclasses.dataclass(frozen=True)
class Effect:
    """One effect of a source: a gain in points, and its variance."""

    source: str
    gain: float
    variance: float


@dataclasses.dataclass(frozen=True)
class Pooled:
    """A mean gain, its 95% confidence interval, and that of a new gain.

    Attributes:
        effects: Integer, how many effects are pooled.
        sources: Integer, from how many sources.
        mean: The mean gain, with random effects.
        low: Lower limit of its 95% confidence interval, by source.
        high: Upper limit of it.
        new_low: Lower limit of the 95% prediction interval: the gain of a
            comparison of a new source, before its own sampling error.
        new_high: Upper limit of it.
        spread: The standard deviation of the true effects.
        without: The mean gain without each source.
    """

    effects: int
    sources: int
    mean: float
    low: float
    high: float
    new_low: float
    new_high: float
    spread: float
    without: dict[str, float]

    @property
    def deciding_sources(self) -> list[str]:
        """The sources without which the mean has the other sign."""
        return [
            source
            for source, mean in self.without.items()
            if mean * self.mean < 0
        ]

    @property
    def is_decided(self) -> bool:
        """Whether there are enough sources, and not one decides on the sign."""
        if self.sources >= MANY_SOURCES:
            return True
        return self.sources >= LEAST_SOURCES and not self.deciding_sources


def mean_and_spread(effects: Iterable[Effect]) -> tuple[float, float]:
    """Returns the mean with random effects, and Paule and Mandel's spread."""
    effects = [*effects]
    if len(effects) == 1:
        return effects[0].gain, 0.0
    # Pages need the tables, but not statsmodels.
    meta_analysis = _checks.require(
        "statsmodels.stats.meta_analysis", extra="dev"
    )
    combined = meta_analysis.combine_effects(
        np.array([effect.gain for effect in effects]),
        np.array([effect.variance for effect in effects]),
        method_re="iterated",
    )
    return float(combined.mean_effect_re), float(combined.tau2) ** 0.5


def pool(effects: Iterable[Effect]) -> Pooled:
    """Returns the pooled effect of two sources or more."""
    stats = _checks.require("scipy.stats", extra="plot")
    effects = [*effects]
    sources = [*dict.fromkeys(effect.source for effect in effects)]
    mean, spread = mean_and_spread(effects)
    without = {
        source: mean_and_spread(x for x in effects if x.source != source)[0]
        for source in sources
    }
    count = len(sources)
    squares = sum((other - mean) ** 2 for other in without.values())
    error = ((count - 1) / count * squares) ** 0.5
    half = stats.t(count - 1).ppf(0.975) * error
    # Of an effect that is not among these, as Higgins and others (2009) have
    # it: the mean is uncertain, and true effects differ.
    of_new = stats.t(max(1, count - 2)).ppf(0.975)
    of_new *= (spread**2 + error**2) ** 0.5
    return Pooled(
        effects=len(effects),
        sources=count,
        mean=mean,
        low=mean - half,
        high=mean + half,
        new_low=mean - of_new,
        new_high=mean + of_new,
        spread=spread,
        without=without,
    )


def simulate(
    sizes: Iterable[int],
    variances: Iterable[float],
    between: float,
    within: float,
    seed: int,
    count: int = SIMULATIONS,
) -> dict[str, float]:
    """Returns how often intervals cover, where sources share what they share.

    Args:
        sizes: The effects of each source.
        variances: The variance of each effect.
        between: The standard deviation of true effects between sources.
        within: That within a source.
        seed: Seed of the random numbers.
        count: How many collections of sources are drawn.
    """
    sizes = [*sizes]
    variances = np.array([*variances])
    owners = np.repeat(np.arange(len(sizes)), sizes)
    rng = np.random.default_rng(seed)
    covered = collections.Counter()
    for _ in range(count):
        true = rng.normal(0, between, len(sizes))[owners]
        true = true + rng.normal(0, within, len(owners))
        gains = true + rng.normal(0, np.sqrt(variances))
        found = pool(
            Effect(str(owner), gain, variance)
            for owner, gain, variance in zip(
                owners, gains, variances, strict=True
            )
        )
        new = rng.normal(0, between) + rng.normal(0, within)
        covered["mean"] += found.low <= 0 <= found.high
        covered["new"] += found.new_low <= new <= found.new_high
    return {name: number / count for name, number in covered.items()}
