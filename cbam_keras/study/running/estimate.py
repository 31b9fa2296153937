"""`Estimate`: what a study will train, counted."""

import dataclasses
import json
from collections.abc import Mapping

from cbam_keras import _checks, _terminal
from cbam_keras.study.plans.study import Study
from cbam_keras.study.results.statistics import (
    MIN_SEEDS,
    Measured,
)
from cbam_keras.study.results.tables import describe_few_images

# With fewer seeds, Student's t distribution is wide.
MORE = 5


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
    """

    costs: tuple[Cost, ...]
    epochs: int
    times: int = 1
    about: str = ""
    has_patience: bool = False

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


def describe_few(study: Study, sizes: Mapping[str, int]) -> str:
    """Returns what a study of so many images is too small for, or nothing."""
    seeds, text = len(study.seeds), ""
    if study.baseline and study.folds is None and MIN_SEEDS <= seeds < MORE:
        # A paired difference has twice the variance of a training.
        few, more = (
            f"{Measured(pairs=x, by_seeds=2 / x).detectable():.1f}"
            for x in (seeds, MORE)
        )
        text = (
            f"80 % of studies with {seeds} seeds find a difference of {few} "
            f"standard deviations of a training, with {MORE} of {more}. "
        )
    return f"{text}{describe_few_images(sizes, study.folds)}".strip()
