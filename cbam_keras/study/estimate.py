"""`Estimate`: what a study will train, counted."""

import dataclasses
import json

from cbam_keras import _terminal


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
        trainings = f"{self.trainings:,} training" + "s" * (self.trainings > 1)
        epochs = f"{self.epochs} epoch" + "s" * (self.epochs > 1)
        most = "at most " if self.has_patience else ""
        return f"{table}\n{trainings} of {most}{epochs}"
