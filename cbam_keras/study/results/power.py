"""What a study can see: the power of its comparisons."""

import bisect
import math
import statistics
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from cbam_keras import _checks
from cbam_keras.study.plans.measures import Measure
from cbam_keras.study.results.statistics import (
    BY_CHANCE,
    MIN_SEEDS,
    Measured,
    describe_runs,
    error_of_drawing,
    holm,
    verdict,
)

# The fraction of studies that is to find a difference.
POWER = 0.8
# A comparison that needs more seeds is not made by seeds.
MOST_SEEDS = 10_000
# Where power is averaged over means, which are normal.
QUANTILES = (np.arange(5_000) + 0.5) / 5_000


def power_of(
    difference: float, seeds: int, comparisons: int = 1, drawing: float = 0.0
) -> float:
    """Returns the fraction of studies that find a difference, two-sided.

    `difference` is the true one, and `drawing` the standard error of drawing
    the test images, which all seeds share; both are divided by the standard
    error of the mean over these seeds. By Holm's method a p-value is compared
    with that of the smallest, 5 % / comparisons.
    """
    special = _checks.require("scipy.special", extra="plot")
    degrees, level = seeds - 1, 1 - BY_CHANCE / comparisons / 2
    critical = special.stdtrit(degrees, level)
    means = difference + math.hypot(1, drawing) * special.ndtri(QUANTILES)
    # An estimated variance has a chi-square distribution.
    powers = special.chdtr(degrees, degrees * (means / critical) ** 2)
    powers[abs(means) < drawing * special.ndtri(level)] = 0
    return float(powers.mean())


def pooled_deviation(compared: Sequence[Measured]) -> tuple[float, int]:
    """Returns the deviation of differences over most seeds, and their number.

    With folds, it is that of independent ones with the same standard error.
    """
    seeds = max((x.pairs for x in compared), default=0)
    errors = [x.standard_error or 0 for x in compared if x.pairs == seeds]
    return math.hypot(*errors) * math.sqrt(seeds / max(len(errors), 1)), seeds


def detectable(compared: Sequence[Measured]) -> float | None:
    """Returns the smallest difference that 80 % of such studies detect.

    `None` if there are too few seeds, or if all differences are equal.
    """
    others = [x for x in compared if x.difference is not None]
    deviation, seeds = pooled_deviation(others)
    if not deviation or seeds < MIN_SEEDS:
        return None
    optimize = _checks.require("scipy.optimize", extra="plot")

    def excess(difference):
        return power_of(difference, seeds, len(others)) - POWER

    error = deviation / math.sqrt(seeds)
    return error * float(optimize.brentq(excess, 0, 1e4))


def describe_comparison(
    compared: Mapping[str, Measured],
    baseline: str,
    collapsed: Collection[str],
    labels: Mapping[str, str],
    measure: Measure,
    folds: int | None,
) -> str:
    """Returns the differences from a baseline in a sentence.

    Of networks that have `collapsed` nothing is said.
    """
    learned = {k: x for k, x in compared.items() if k not in collapsed}
    label, others = labels.get(baseline, baseline), learned.keys() - {baseline}
    if len(learned) < len(compared) and (baseline in collapsed or not others):
        return f"Nothing can be said of differences from {label}."
    text = verdict(
        {labels.get(name, name): x for name, x in learned.items()},
        label,
        measure,
        folds,
        describe_power([*learned.values()], measure, folds),
    )
    p_values = {
        name: x.p_value for name, x in learned.items() if x.p_value is not None
    }
    is_seen = not p_values or holm(p_values)
    return text if is_seen else f"No difference is seen: {text}"


def describe_epochs(epochs: Sequence[int], images: int) -> str:
    """Returns for how long networks were trained, on so many images."""
    most = max(epochs)
    words = f"Each network was trained for {_checks.count(most, 'epoch')}"
    if len(set(epochs)) > 1:
        words = f"Networks were trained for up to {most} epochs"
    return f"{words} of {images:,} images"


def describe_needed(others: Sequence[Measured], images: int) -> str:
    """Returns what would find a difference of a point, as a part of a sentence.

    `others` are compared with a baseline, on so many test images.
    """
    deviation, seeds = pooled_deviation(others)
    point, comparisons = 0.01, len(others)
    needed = deviation and count_seeds(
        deviation, point, comparisons, images=images
    )
    if needed is None:
        least = f"{count_images(point, comparisons):,} test images"
        return f"; a difference of a point takes {least}"
    if needed > seeds:
        return f"; {needed} seeds would find a difference of a point"
    return ""


def count_seeds(
    deviation: float,
    difference: float,
    comparisons: int,
    power: float = POWER,
    images: int | None = None,
) -> int | None:
    """Returns how many seeds find a difference, `None` if more than the most.

    `deviation` is that of the differences. If these are fractions of so many
    test `images`, drawing them counts.
    """
    drawing = error_of_drawing(difference, images) if images else 0.0

    def reached(seeds):
        error = deviation / math.sqrt(seeds)
        return power_of(difference / error, seeds, comparisons, drawing / error)

    counts = range(MOST_SEEDS + 1)
    seeds = bisect.bisect_left(counts, power, MIN_SEEDS, key=reached)
    return seeds if seeds <= MOST_SEEDS else None


def count_images(
    difference: float, comparisons: int, power: float = POWER
) -> int:
    """Returns how many test images it takes, however many seeds there are."""
    normal = statistics.NormalDist()
    z = normal.inv_cdf(1 - BY_CHANCE / comparisons / 2) + normal.inv_cdf(power)
    return math.ceil(z**2 * (1 - difference) / difference)


def describe_power(
    compared: Sequence[Measured], measure: Measure, folds: int | None = None
) -> str:
    """Returns what such a study would detect, as a clause, or nothing."""
    difference = detectable(compared)
    if difference is None:
        return ""
    runs = describe_runs(max(x.pairs for x in compared), folds)
    points = measure.in_points(measure.number(difference))
    return (
        f"{100 * POWER:.0f} % of studies with {runs} would detect a "
        f"difference of {points}"
    )
