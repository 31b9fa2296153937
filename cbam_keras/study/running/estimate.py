"""`Estimate`: what a study will train, counted; and how many seeds it needs."""

import dataclasses
import json
import math
from collections.abc import Callable

from cbam_keras import _checks, _terminal
from cbam_keras.study.plans.measures import FRACTIONS
from cbam_keras.study.plans.study import Study
from cbam_keras.study.results.power import (
    MOST_SEEDS,
    POWER,
    count_images,
    count_seeds,
    pooled_deviation,
    power_of,
)
from cbam_keras.study.results.results import Results
from cbam_keras.study.results.statistics import MIN_SEEDS

# With fewer seeds, three comparisons or more find little by Holm's method.
FEW_SEEDS = 5


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a network costs; `macs` is `None` if not all are counted."""

    network: str
    parameters: int
    macs: int | None


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What a study will train; prints as a table.

    Attributes:
        costs: Tuple with an object per variant: `network`, `parameters` and
            `macs` (or `None`).
        epochs: Integer, the epochs of each training, at most.
        times: Integer, how often each variant is trained.
        about: String, what else there is to know, above the table.
        has_patience: Boolean, whether trainings may end before that.
        time_training: Function that trains each network for three steps, and
            returns the seconds that a training takes on average, or `None`.
    """

    costs: tuple[Cost, ...]
    epochs: int
    times: int = 1
    about: str = ""
    has_patience: bool = False
    time_training: Callable[[], float] | None = dataclasses.field(
        default=None, repr=False, compare=False
    )

    @property
    def trainings(self) -> int:
        """The number of all trainings."""
        return self.times * len(self.costs)

    def json(self) -> str:
        """Returns the estimate as JSON."""
        return json.dumps(
            {
                "networks": [dataclasses.asdict(cost) for cost in self.costs],
                "epochs": self.epochs,
                "trainings": self.trainings,
            }
        )

    def __str__(self) -> str:
        rows = [
            {
                "network": cost.network,
                "parameters": f"{cost.parameters:,}",
                "MACs": f"{cost.macs:,}" if cost.macs else "not counted",
                "epochs": str(self.epochs),
                "trainings": str(self.times),
            }
            for cost in self.costs
        ]
        table = _terminal.Table(self.about, rows)
        trainings = _checks.count(self.trainings, "training")
        most = "at most " if self.has_patience else ""
        epochs = _checks.count(self.epochs, "epoch")
        return f"{table}\n{trainings} of {most}{epochs}"


def describe_few_seeds(study: Study) -> str:
    """Returns a sentence if a study will find little, or nothing."""
    seeds = len(study.seeds)
    count = len(study.variants) - 1 if study.baseline else 0
    is_told = 1 < seeds < FEW_SEEDS and count >= 3
    if not is_told or study.folds is not None:
        return ""

    # A paired difference has twice the variance of a training.
    few, more = (
        100 * (x >= MIN_SEEDS) * power_of(3 * math.sqrt(x / 2), x, count)
        for x in (seeds, FEW_SEEDS)
    )
    return (
        f"Few seeds: with {seeds} of them, {few:.0f} % of studies of {count} "
        "comparisons find a difference of three standard deviations of a "
        f"training; with {FEW_SEEDS} it is {more:.0f} %"
    )


def seeds_needed(
    results: Results | float,
    difference: float = 0.01,
    comparisons: int = 1,
    power: float = POWER,
) -> int:
    """Returns how many seeds are likely to find a true difference.

    Choose the number before you look at results: adding seeds until an interval
    excludes zero finds differences that are not there.

    The test is Student's t of differences paired by seed, for several
    comparisons at the level of the first by Holm's method. All seeds share the
    test images: for `Results` that compare accuracies, the error of drawing
    them counts, which no number of seeds reduces.

    Args:
        results: `Results` of several seeds without folds, or the standard
            deviation of the differences, as 0.008. It is in units of the
            measure; of results the pooled one is taken.
        difference: Positive number, the true difference: 0.01 of an accuracy is
            one point. It is in units of the measure. Defaults to `0.01`.
        comparisons: Positive integer, the networks that are compared with the
            baseline. Defaults to `1`.
        power: Number from 0.1 to 0.999, the fraction of studies that find the
            difference. Defaults to `0.8`.

    Returns:
        Integer, at least 3.

    Raises:
        ValueError: If an argument is out of range, if more than 10,000 seeds
            are needed, or if no number of seeds is enough on so few test
            images.
    """
    deviation: object = results
    images = None
    if isinstance(results, Results):
        deviation, _ = pooled_deviation([*results.compared().values()])
        if results.folds is not None or not deviation:
            raise ValueError(
                "`results` must be of several seeds, without folds, whose "
                f"differences vary. Received: results of {results.title}"
            )
        if results.measures[0].key in FRACTIONS:
            images = results.test_images
    deviation = _checks.positive_number("results", deviation)
    _checks.positive_number("difference", difference)
    _checks.positive_integer("comparisons", comparisons)
    if not 0.1 <= power <= 0.999:
        raise ValueError(
            f"`power` must be from 0.1 to 0.999. Received: power={power}"
        )
    least = count_images(difference, comparisons, power)
    if images and images < least:
        raise ValueError(
            f"`results` must be of {least:,} test images or more: on fewer, no "
            f"number of seeds finds a difference of {difference}. Received: "
            f"{images:,} test images"
        )
    needed = count_seeds(deviation, difference, comparisons, power, images)
    if needed is None:
        raise ValueError(
            f"`difference` must be found with at most {MOST_SEEDS:,} seeds. "
            f"Received: difference={difference}, with a deviation of "
            f"{deviation:.3g}. Look for a larger one"
        )
    return needed
