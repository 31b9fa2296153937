"""Dunnett's test (1955): several networks and one baseline, equal seeds.

The deviation is estimated over all networks, with seeds as blocks: few seeds
find more than by a test for each, if all have the same deviation.
https://doi.org/10.1080/01621459.1955.10501294
"""

import dataclasses
import functools
import math
import statistics
from collections.abc import Mapping

import numpy as np

from cbam_keras import _checks
from cbam_keras.study.statistics import (
    BY_CHANCE,
    ROUNDING,
    Measured,
    standard_error,
)


def estimates(degrees: int) -> np.ndarray:
    """Returns estimates of a deviation of one, and weights of quadrature."""
    stats = _checks.require("scipy.stats", extra="plot")
    x, weights = np.polynomial.legendre.leggauss(100)
    ends = stats.chi2.ppf([1e-13, 1 - 1e-13], degrees)
    low, high = np.log(ends / degrees) / 2
    s = np.exp(low + (x + 1) * (high - low) / 2)
    density = stats.chi2.pdf(s**2 * degrees, degrees) * degrees * s**2
    return np.stack([s, density * weights * (high - low)])


def tail(critical: float, comparisons: int, degrees: int) -> float:
    """Returns how likely the largest of several |t| exceeds a value.

    They have the correlation 1/2: given the baseline and the estimate s of the
    deviation they are independent, and quadrature integrates over both.
    """
    stats = _checks.require("scipy.stats", extra="plot")
    x, weights = np.polynomial.legendre.leggauss(100)
    s, of_s = estimates(degrees)
    reach = math.sqrt(2) * critical * s[:, None]
    # The baseline is within nine standard deviations.
    inside = stats.norm.cdf(9 * x + reach) - stats.norm.cdf(9 * x - reach)
    of_baseline = inside**comparisons @ (stats.norm.pdf(9 * x) * 9 * weights)
    return min(max(1 - float(of_s @ of_baseline), 0), 1)


@functools.cache
def critical_value(comparisons: int, degrees: int) -> float:
    """Returns the |t| that the largest of several exceeds in 5 %."""
    optimize = _checks.require("scipy.optimize", extra="plot")

    def excess(t):
        return tail(t, comparisons, degrees) - BY_CHANCE

    return float(optimize.brentq(excess, 0, 1e4))


def compare(
    compared: Mapping[str, Measured],
    values: Mapping[str, Mapping[int, float]],
    baseline: str | None,
    folds: int | None = None,
) -> dict[str, Measured]:
    """Returns networks with simultaneous intervals and adjusted p-values.

    `compared` are their differences with the seeds that all share, `values`
    the values of all by seed.
    """
    others = [x for x in compared if compared[x].difference is not None]
    table, result = _table_of(values), dict(compared)
    seeds, by_name = table.shape[1], dict(zip(values, table, strict=True))
    if baseline is None or not others or seeds < 2:
        return result
    degrees = len(others) * (seeds - 1)
    variance = 2 * np.sum(_residuals(table) ** 2) / degrees
    overlap = 0 if folds is None else 1 / (folds - 1)
    for name in others:
        changes = (by_name[name] - by_name[baseline]).tolist()
        mean, total = statistics.fmean(changes), compared[name].standard_error
        # The rest comes from drawing the images, which all seeds share.
        drawing = (total or 0) ** 2 - standard_error(changes, folds) ** 2
        error = math.sqrt(variance * (1 / seeds + overlap) + max(drawing, 0))
        half = critical_value(len(others), degrees) * error
        interval, p_value = None, None
        if half > ROUNDING:
            interval = mean - half, mean + half
            p_value = tail(abs(mean) / error, len(others), degrees)
        result[name] = dataclasses.replace(
            compared[name],
            interval=interval,
            p_value=p_value,
            standard_error=error,
        )
    return result


def describe_deviations(values: Mapping[str, Mapping[int, float]]) -> str:
    """Returns a sentence if deviations differ by more than chance, or nothing.

    By Brown and Forsythe's test of residuals, which those of two networks or
    two seeds do not allow: they are equal.
    """
    deviations = _residuals(_table_of(values))
    if min(deviations.shape) < 3 or np.abs(deviations).max() <= ROUNDING:
        return ""
    stats = _checks.require("scipy.stats", extra="plot")
    p_value = stats.levene(*deviations, center="median").pvalue
    if p_value >= BY_CHANCE:
        return ""
    return (
        f" The deviations differ by more than chance (p = {p_value:.2g} by "
        "Brown and Forsythe's test): Dunnett's test may claim too much."
    )


def _table_of(values):
    """Returns a row per network that has values, of the seeds of all."""
    by_name = [by_seed for by_seed in values.values() if by_seed]
    shared = sorted(set.intersection(*map(set, by_name))) if by_name else []
    return np.array([[row[seed] for seed in shared] for row in by_name])


def _residuals(table):
    """Returns what neither networks nor seeds explain."""
    if not table.size:
        return np.zeros((0, 0))
    table = table - table.mean(axis=1, keepdims=True)
    return table - table.mean(axis=0)
