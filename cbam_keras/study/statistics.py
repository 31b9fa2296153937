"""Networks compared over seeds: means, paired differences, a verdict."""

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence

from cbam_keras import _checks
from cbam_keras._files import Json

CONFIDENCE = 0.95
# Beyond so many seeds a difference matters to nobody.
MAX_SEEDS = 1000
# With fewer, chance makes differences alike too easily for a judgement.
MIN_SEEDS = 3


@dataclasses.dataclass(frozen=True)
class Measured:
    """One measure of a network over seeds, compared with a baseline.

    See `Row` for its attributes.
    """

    values: tuple[float, ...]
    # `None` if there are no values.
    mean: float | None
    deviation: float | None = None
    difference: float | None = None
    interval: tuple[float, float] | None = None
    seeds_to_tell: int | None = None
    pairs: int = 0

    @classmethod
    def of(
        cls,
        values: Sequence[float],
        differences: Sequence[float] | None,
        images: int | None = None,
        unit: float = 1.0,
    ) -> "Measured":
        """Returns the statistics of values, one per seed.

        `differences` are those to the baseline for the seeds that both have,
        if any. If the values are fractions (or with `unit=100` percentages)
        of so many test `images`, the deviation of the differences counts as
        at least that of drawing the images: a fraction d of n images has the
        standard deviation sqrt(d (1 - d) / n).
        """
        more: Json = {}
        if len(values) > 1:
            more["deviation"] = statistics.stdev(values)
        pairs = len(differences or ())
        if differences:
            difference = statistics.fmean(differences)
            more |= {"difference": difference, "pairs": pairs}
        if differences and pairs > 1:
            spread = statistics.stdev(differences)
            if images:
                part = min(abs(difference / unit), 1)
                drawn = unit * math.sqrt(part * (1 - part) / images)
                spread = max(spread, drawn)
            reach = _reach(spread, pairs)
            more["interval"] = (difference - reach, difference + reach)
            more["seeds_to_tell"] = _seeds_to_tell(difference, spread, pairs)
        return cls(tuple(values), statistics.fmean(values), **more)

    def mean_cell(self, digits: int = 2) -> str:
        """Returns mean and deviation in percent, for a table."""
        if self.mean is None:
            return ""
        text = f"{100 * self.mean:.{digits}f}"
        if self.deviation is None:
            return text
        return f"{text} \N{PLUS-MINUS SIGN} {100 * self.deviation:.{digits}f}"

    def difference_cell(self, digits: int = 2) -> str:
        """Returns difference and interval in percent, for a table."""
        if self.difference is None:
            return ""
        text = f"{100 * self.difference:+.{digits}f} points"
        if self.interval is None:
            return text
        low, high = (f"{100 * end:+.{digits}f}" for end in self.interval)
        return f"{text} [{low}, {high}]"


def _seeds_to_tell(difference, spread, count):
    """Returns the seeds after which the interval would exclude zero."""
    if _reach(spread, count) < abs(difference):
        return None
    more = range(count + 1, MAX_SEEDS + 1)
    enough = (n for n in more if _reach(spread, n) < abs(difference))
    return next(enough, None)


def _reach(spread, count):
    """Returns half the width of the confidence interval of a mean."""
    stats = _checks.require("scipy.stats", extra="plot")
    quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1))
    return quantile * spread / math.sqrt(count)


def verdict(
    networks: Mapping[str, Measured],
    baseline: str,
    measure: str = "test accuracy",
    digits: int = 2,
) -> str:
    """Returns how networks compare with the baseline, as a sentence."""
    others = {
        name: measured
        for name, measured in networks.items()
        if measured.difference is not None
    }
    if not others:
        return (
            f'No differences: "{baseline}" and another network are needed to '
            "measure what attention changes."
        )
    if all(measured.interval for measured in others.values()):
        clauses = [
            judge(name, measured, baseline, measure, digits)
            for name, measured in others.items()
        ]
        return "; ".join(clauses) + "."
    *changes, last = (
        f"{name} by {100 * (measured.difference or 0):+.{digits}f}"
        for name, measured in others.items()
    )
    listed = f"{', '.join(changes)} and {last}" if changes else last
    return (
        f"Compared with {baseline}, the {measure} changes with {listed} "
        "points; a single seed gives no estimate of the variation between "
        "seeds. Several seeds (--seeds 3 on the command line, seeds=3 in "
        "Python) give an interval."
    )


def judge(
    network: str,
    measured: Measured,
    baseline: str,
    measure: str = "test accuracy",
    digits: int = 2,
) -> str:
    """Returns how one network compares with the baseline, as a clause."""
    points = 100 * (measured.difference or 0)
    differs = (
        f"{network} differs from {baseline} by {points:+.{digits}f} points of "
        f"{measure}"
    )
    if measured.interval is None:
        return (
            f"{differs} with one seed, which gives no estimate of the "
            "variation between seeds"
        )
    low, high = (100 * end for end in measured.interval)
    seeds = measured.pairs or len(measured.values)
    if low == high == 0:
        return (
            f"no difference seen between {network} and {baseline} in "
            f"{measure} over {seeds} seeds"
        )
    ends = f"{low:+.{digits}f} to {high:+.{digits}f}"
    interval = f"95 % interval {ends} over {seeds} seeds"
    if low <= 0 <= high:
        more = measured.seeds_to_tell
        many = f"about {more}" if more else f"more than {MAX_SEEDS:,}"
        return (
            f"{differs}, which may be chance ({interval}; to show a "
            f"difference of this size takes {many} seeds)"
        )
    if seeds < MIN_SEEDS:
        return f"{differs} ({interval}; too few seeds to judge)"
    word = "ahead of" if points > 0 else "behind"
    return (
        f"{network} is {word} {baseline} by {abs(points):.{digits}f} points of "
        f"{measure} ({interval})"
    )
