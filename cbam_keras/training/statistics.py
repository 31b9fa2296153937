"""Networks compared over seeds: means, paired differences, a verdict."""

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence

from cbam_keras import _checks
from cbam_keras.training.results import Run

CONFIDENCE = 0.95
# Beyond so many seeds a difference matters to nobody.
MOST_SEEDS = 1000


@dataclasses.dataclass(frozen=True)
class Measured:
    """One measure of a network over seeds, compared with a baseline.

    Attributes:
        values: Tuple of numbers in [0, 1], one per seed.
        mean: Number, their mean.
        deviation: Number, their standard deviation (n - 1), or `None` for
            one seed.
        difference: Number, the mean over the seeds of its value minus that
            of the baseline, or `None` for the baseline.
        interval: See `Compared`.
        seeds_to_tell: See `Compared`.
    """

    values: tuple[float, ...]
    mean: float
    deviation: float | None
    difference: float | None
    interval: tuple[float, float] | None
    seeds_to_tell: int | None

    @classmethod
    def of(
        cls, values: Sequence[float], baseline: Sequence[float] | None
    ) -> "Measured":
        """Compares values with those of the baseline, paired by seed."""
        differences = None
        if baseline is not None:
            pairs = zip(values, baseline, strict=True)
            differences = [mine - other for mine, other in pairs]
        return cls(
            values=tuple(values),
            mean=statistics.fmean(values),
            deviation=deviation(values),
            difference=(
                None if differences is None else statistics.fmean(differences)
            ),
            interval=interval(differences),
            seeds_to_tell=seeds_to_tell(differences),
        )

    def mean_cell(self, digits: int = 2) -> str:
        """Returns mean and deviation in percent, for a table."""
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


@dataclasses.dataclass(frozen=True)
class Compared:
    """One network over seeds, compared with a baseline.

    Attributes:
        network: String, its name.
        parameters: Integer, its trainable parameters.
        test_accuracies: Tuple of numbers in [0, 1], one per seed.
        test_accuracy: Number in [0, 1], their mean.
        deviation: Number, their standard deviation (n - 1), or `None` for
            one seed.
        difference: Number, the mean over the seeds of its test accuracy
            minus that of the baseline, or `None` for the baseline.
        interval: Tuple of two numbers, the 95 % confidence interval of the
            difference (Student's t over the seeds), or `None` for the
            baseline and for one seed.
        seeds_to_tell: Integer, how many seeds would probably tell the
            difference from zero if it is as large as it looks; `None` where
            there is no interval, or it excludes zero, or no number up to
            1,000 would.
        validation_accuracy: Number in [0, 1], the mean over the seeds of the
            best validation accuracy.
        seconds_per_epoch: Number, the median over the seeds.
    """

    network: str
    parameters: int
    test_accuracies: tuple[float, ...]
    test_accuracy: float
    deviation: float | None
    difference: float | None
    interval: tuple[float, float] | None
    seeds_to_tell: int | None
    validation_accuracy: float
    seconds_per_epoch: float

    @property
    def measured(self) -> Measured:
        """Its test accuracy as a measure."""
        return Measured(
            values=self.test_accuracies,
            mean=self.test_accuracy,
            deviation=self.deviation,
            difference=self.difference,
            interval=self.interval,
            seeds_to_tell=self.seeds_to_tell,
        )


def compared(
    runs: Mapping[str, Sequence[Run]],
    test_images: int,
    baseline: str | None = None,
) -> list[Compared]:
    """Compares networks over seeds.

    Args:
        runs: Mapping of names to the runs of each network, one per seed, in
            the same order of seeds.
        test_images: Integer, the number of test images.
        baseline: String, the network that the others are compared with.
            Defaults to `None`, which means the differences are unknown.

    Returns:
        List of `Compared`, in the order of `runs`.
    """
    accuracies = {
        name: tuple(exact(run.test_accuracy, test_images) for run in own)
        for name, own in runs.items()
    }
    rows = []
    for name, own in runs.items():
        others = None
        if baseline is not None and name != baseline:
            others = accuracies[baseline]
        found = Measured.of(accuracies[name], others)
        rows.append(
            Compared(
                network=name,
                parameters=own[0].parameters,
                test_accuracies=found.values,
                test_accuracy=found.mean,
                deviation=found.deviation,
                difference=found.difference,
                interval=found.interval,
                seeds_to_tell=found.seeds_to_tell,
                validation_accuracy=statistics.fmean(
                    run.best_validation_accuracy for run in own
                ),
                seconds_per_epoch=statistics.median(
                    run.seconds_per_epoch for run in own
                ),
            )
        )
    return rows


def exact(accuracy: float, images: int) -> float:
    """Returns an accuracy that was computed in float32 without its error."""
    return round(accuracy * images) / images


def deviation(values: Sequence[float]) -> float | None:
    """Returns the standard deviation (n - 1), `None` for one value."""
    return statistics.stdev(values) if len(values) > 1 else None


def interval(
    differences: Sequence[float] | None,
) -> tuple[float, float] | None:
    """Returns the confidence interval of the mean of paired differences."""
    if differences is None or len(differences) < 2:
        return None
    mean = statistics.fmean(differences)
    reach = _reach(statistics.stdev(differences), len(differences))
    return mean - reach, mean + reach


def seeds_to_tell(differences: Sequence[float] | None) -> int | None:
    """Returns the seeds after which the interval would exclude zero.

    If mean and standard deviation of the differences stay what they are;
    `None` if it excludes zero already, or would not up to 1,000 seeds.
    """
    if differences is None or len(differences) < 2:
        return None
    mean = abs(statistics.fmean(differences))
    spread = statistics.stdev(differences)
    if _reach(spread, len(differences)) < mean:
        return None
    return next(
        (
            seeds
            for seeds in range(len(differences) + 1, MOST_SEEDS + 1)
            if _reach(spread, seeds) < mean
        ),
        None,
    )


def _reach(spread, many):
    """Returns half the width of the confidence interval of a mean."""
    stats = _checks.require("scipy.stats", extra="tune")
    quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, many - 1))
    return quantile * spread / math.sqrt(many)


def verdict(
    networks: Mapping[str, Measured],
    baseline: str,
    measure: str = "test accuracy",
    digits: int = 2,
) -> str:
    """Says in a sentence how networks compare with the baseline.

    Args:
        networks: Mapping of names to what was measured of each.
        baseline: String, its name, which may be among them.
        measure: String, what was measured. Defaults to `"test accuracy"`.
        digits: Integer, the decimals of a percentage. Defaults to `2`.
    """
    others = {
        name: found
        for name, found in networks.items()
        if found.difference is not None
    }
    if not others:
        return (
            f'No differences: "{baseline}" and another network are needed to '
            "tell what attention changes."
        )
    if all(found.interval for found in others.values()):
        clauses = [
            judge(name, found, baseline, measure, digits)
            for name, found in others.items()
        ]
        return "; ".join(clauses) + "."
    changes = " and ".join(
        f"{name} by {100 * found.difference:+.{digits}f}"
        for name, found in others.items()
    )
    return (
        f"Compared with {baseline}, the {measure} changes with {changes} "
        "points; one seed tells nothing about chance. Several seeds "
        "(--seeds 3 on the command line, seeds=3 in Python) give an interval."
    )


def judge(
    network: str,
    found: Measured,
    baseline: str,
    measure: str = "test accuracy",
    digits: int = 2,
) -> str:
    """Says in a clause how a network compares with the baseline.

    Args:
        network: String, its name, other than the baseline's.
        found: `Measured` of it.
        baseline: See `verdict`.
        measure: See `verdict`.
        digits: See `verdict`.

    Returns:
        A clause such as "cbam is ahead of none by 1.24 points of test
        accuracy (95 % interval +0.90 to +1.58 over 8 seeds)".
    """
    if found.difference is None:
        raise ValueError("The baseline is not compared with itself.")
    points = 100 * found.difference
    differs = (
        f"{network} differs from {baseline} by {points:+.{digits}f} points of "
        f"{measure}"
    )
    if found.interval is None:
        return f"{differs} with one seed, which tells nothing about chance"
    low, high = (100 * end for end in found.interval)
    interval_of = (
        f"95 % interval {low:+.{digits}f} to {high:+.{digits}f} over "
        f"{len(found.values)} seeds"
    )
    if low <= 0 <= high:
        more = "more than 1,000 seeds"
        if found.seeds_to_tell is not None:
            more = f"about {found.seeds_to_tell} seeds"
        return (
            f"{differs}, which may be chance ({interval_of}; to show a "
            f"difference of this size takes {more})"
        )
    word = "ahead of" if points > 0 else "behind"
    return (
        f"{network} is {word} {baseline} by {abs(points):.{digits}f} points of "
        f"{measure} ({interval_of})"
    )
