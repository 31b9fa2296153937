"""Results of training one or several networks."""

import dataclasses
import pathlib
from typing import Any

from cbam_keras import _terminal


@dataclasses.dataclass(frozen=True)
class Run:
    """Result of training one network.

    Attributes:
        network: String, its name.
        parameters: Integer, its trainable parameters.
        best_epoch: Integer from 1, the epoch of the highest validation
            accuracy (of several, the one with the lowest validation loss).
        best_validation_accuracy: Number in [0, 1].
        test_accuracy: Number in [0, 1], of the network after `best_epoch`.
        seconds_per_epoch: Number, the median over the epochs after the
            first, which compiles; training and validation.
        file: String, the `.keras` file in the output folder that holds the
            network after `best_epoch`.
    """

    network: str
    parameters: int
    best_epoch: int
    best_validation_accuracy: float
    test_accuracy: float
    seconds_per_epoch: float
    file: str


@dataclasses.dataclass(frozen=True)
class Results(_terminal.Tabular):
    """Results of training one or several networks; prints as a table.

    `to_dataframe()` has a row per run, with the attributes of `Run`.

    Attributes:
        runs: List of `Run`, in the order of training.
        history: List of dictionaries, one per network and epoch: `network`,
            `epoch` (from 1), `loss`, `accuracy`, `val_loss`, `val_accuracy`,
            `seconds`.
        output: Path of the output folder.
    """

    runs: list[Run]
    history: list[dict[str, Any]]
    output: pathlib.Path

    def __str__(self) -> str:
        return "\n\n".join(
            _terminal.render(columns, sections, title=title)
            for columns, sections, title in self._tables()
        )

    def _records(self):
        return [dataclasses.asdict(run) for run in self.runs]

    def _tables(self):
        yield (
            {
                "network": "left",
                "parameters": "right",
                "best validation accuracy": "right",
                "test accuracy": "right",
                "seconds per epoch": "right",
            },
            [
                [
                    (
                        run.network,
                        f"{run.parameters:,}",
                        f"{run.best_validation_accuracy:.2%}",
                        f"{run.test_accuracy:.2%}",
                        f"{run.seconds_per_epoch:.1f}",
                    )
                    for run in self.runs
                ]
            ],
            f"Results in {self.output}",
        )
