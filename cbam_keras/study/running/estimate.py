"""`Estimate`: what a study will train, counted."""

import dataclasses
import json

from cbam_keras import _checks, _terminal
from cbam_keras.study.results import statistics
from cbam_keras.study.results.results import Results


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
        costs: Tuple, for each variant `network`, `parameters` and `macs`.
        epochs: Integer, the epochs of each training, at most.
        times: Integer, how often each variant is trained.
        about: String, what else there is to know, above the table.
    """

    costs: tuple[Cost, ...]
    epochs: int
    times: int = 1
    about: str = ""

    @property
    def trainings(self) -> int:
        """The number of all training runs."""
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
                "training runs": str(self.times),
            }
            for cost in self.costs
        ]
        table = _terminal.Table(self.about, rows)
        trainings = _checks.count(self.trainings, "training run")
        epochs = _checks.count(self.epochs, "epoch")
        return f"{table}\n{trainings} of at most {epochs}"


@_checks.named
def seeds_needed(
    results: Results | float,
    difference: float = 0.01,
    comparisons: int = 1,
    power: float = statistics.POWER,
) -> int:
    """Returns how many seeds are needed to detect a difference.

    Choose the number before you look at results: adding seeds until an interval
    excludes zero produces false positives.

    The test is that of verdicts: Student's t of differences paired by seed, at
    the level of the first of several comparisons by Holm's method. No number of
    seeds reduces the error of drawing the test images, which counts for
    `Results` that compare the accuracy. The deviation of few seeds is an
    estimate, so the number for `Results` is a mean over what it may be.

    Args:
        results: `Results` of three seeds or more, without folds, or the known
            standard deviation of a difference between seeds, such as 0.008, in
            units of the metric. The errors of several networks are averaged.
        difference: Positive number, the true difference: 0.01 of an accuracy is
            one point. It is in units of the measure. Defaults to `0.01`.
        comparisons: Positive integer, the networks that are compared with the
            baseline. Defaults to `1`.
        power: Number from 0.1 to 0.999, the fraction of studies that detect the
            difference. Defaults to `0.8`.

    Returns:
        Integer, at least 3.

    Raises:
        ValueError: If an argument is out of range, if more than 10,000 seeds
            are needed, or if no number is enough on so few test images.
    """
    if isinstance(results, Results):
        found, _ = statistics.pooled(results.compared().values())
        if results.folds is not None or found is None:
            raise ValueError(
                "`results` must have three seeds or more, no folds, and "
                "differences that are not all equal. Received: results of "
                f"{results.title}"
            )
    else:
        deviation = _checks.positive_number("results", results)
        found = statistics.Measured(pairs=1, by_seeds=deviation**2)
    _checks.positive_number("difference", difference)
    _checks.positive_integer("comparisons", comparisons)
    if not 0.1 <= power <= 0.999:
        raise ValueError(
            f"`power` must be from 0.1 to 0.999. Received: power={power}"
        )
    needed, words = found.needed(difference, comparisons, power)
    if needed is None:
        raise ValueError(
            "`difference` must be detectable with at most "
            f"{statistics.MOST_SEEDS:,} seeds. Received: {difference=}, which "
            f"needs {words}. Choose a larger one, or test more images"
        )
    return needed
