"""`DetectionResults`: detectors compared, in a table as the paper's Table 6."""

import dataclasses
import json
import pathlib
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from cbam_keras import _terminal, training
from cbam_keras.detection.anchors import Anchors

BASELINE = "none"
# What is compared, and how the table calls it.
MEASURES = {"map50": "mAP@.5", "map75": "mAP@.75", "map": "mAP@[.5,.95]"}


@dataclasses.dataclass(frozen=True)
class DetectorRun:
    """Result of training one detector.

    Attributes:
        network: String, the attention in its backbone.
        seed: Integer.
        parameters: Integer, its trainable parameters.
        precision: Dictionary of the mean average precision on the test
            images, numbers in [0, 1]: `"map"` (COCO's, over intersections
            over union from 0.5 to 0.95), `"map50"`, `"map75"`, and `"small"`,
            `"medium"`, `"large"` by the size of objects, `None` where there
            are none.
        seconds_per_epoch: Number, the median over the epochs after the first.
        file: String, the `.keras` file in the output folder.
    """

    network: str
    seed: int
    parameters: int
    precision: dict[str, float | None]
    seconds_per_epoch: float
    file: str


@dataclasses.dataclass(frozen=True)
class DetectionResults(_terminal.Tabular):
    """Detectors compared under equal conditions; prints as a table.

    `to_dataframe()` has a row per network and seed, with the entries of `runs`
    and of their `precision`.

    Attributes:
        runs: List of one entry per network and seed, in the order of
            training: `network`, `seed`, `parameters`, `precision` (mean
            average precision on the test images, see `rows`; also `"small"`,
            `"medium"` and `"large"`, by the size of objects),
            `seconds_per_epoch` and `file`.
        rows: Dictionary of networks to dictionaries of `"map"` (COCO's, over
            intersections over union from 0.5 to 0.95), `"map50"` and
            `"map75"`, each with `values` by seed, `mean`, `deviation`,
            `difference` to `"none"` paired by seed, its `interval`, and
            `seeds_to_tell`, how many seeds would probably tell it from zero.
        history: List of dictionaries, one per network, seed and epoch.
        anchors: The anchors, with the fraction of boxes that they cover.
        data: String, the name of the dataset.
        backbone: String, the name of the backbone.
        seeds: Tuple of integers.
        test_images: Integer, the number of test images.
        verdict: String, the differences in a sentence.
        output: Path of the output folder.
    """

    runs: list[DetectorRun]
    rows: dict[str, dict[str, training.Measured]]
    history: list[dict[str, Any]]
    anchors: Anchors
    data: str
    backbone: str
    seeds: tuple[int, ...]
    test_images: int
    verdict: str
    output: pathlib.Path

    def _records(self):
        return [
            {
                **{k: v for k, v in vars(run).items() if k != "precision"},
                **run.precision,
            }
            for run in self.runs
        ]

    def _tables(self):
        parameters = {run.network: run.parameters for run in self.runs}
        columns = {"backbone": "left", "parameters": "right"}
        columns |= dict.fromkeys(MEASURES.values(), "right")
        columns[f'difference to "{BASELINE}"'] = "right"
        cells = [
            (
                _named(self.backbone, network),
                f"{parameters[network]:,}",
                *(row[key].mean_cell(digits=1) for key in MEASURES),
                row["map"].difference_cell(digits=1),
            )
            for network, row in self.rows.items()
        ]
        title = (
            f"Mean average precision (%) on {self.test_images} test images of "
            f"{self.data}, {_counted(self.seeds)}"
        )
        yield columns, [cells], title

    def __str__(self) -> str:
        ((columns, sections, title),) = self._tables()
        table = _terminal.render(columns, sections, title=title)
        return (
            f"{table}\n\n{textwrap.fill(self.verdict, 100)}\nResults in "
            f"{self.output}, detections in detections.png"
        )

    def json(self) -> str:
        """Returns the comparison as a JSON object."""
        return json.dumps(
            {
                "data": self.data,
                "backbone": self.backbone,
                "seeds": self.seeds,
                "test_images": self.test_images,
                "anchors": dataclasses.asdict(self.anchors),
                "rows": {
                    network: {k: dataclasses.asdict(v) for k, v in row.items()}
                    for network, row in self.rows.items()
                },
                "verdict": self.verdict,
                "runs": [dataclasses.asdict(run) for run in self.runs],
                "output": str(self.output),
            },
            indent=1,
        )


def compared(
    runs: Sequence[DetectorRun], networks: Sequence[str], seeds: Sequence[int]
) -> dict[str, dict[str, training.Measured]]:
    """Compares each network with `"none"`, if that is among them, by seed."""
    found = {(run.network, run.seed): run.precision for run in runs}

    def values(network, key):
        # `check_labels` has seen that there are objects.
        return [found[network, seed][key] or 0.0 for seed in seeds]

    return {
        network: {
            key: training.Measured.of(
                values(network, key),
                values(BASELINE, key)
                if network != BASELINE and BASELINE in networks
                else None,
            )
            for key in MEASURES
        }
        for network in networks
    }


def verdict(rows: Mapping[str, Mapping[str, training.Measured]]) -> str:
    """Returns what the differences of COCO's measure say, in a sentence."""
    return training.verdict(
        {network: row["map"] for network, row in rows.items()},
        BASELINE,
        MEASURES["map"],
        digits=1,
    )


def _named(backbone, network):
    return backbone if network == BASELINE else f"{backbone} + {network}"


def _counted(seeds):
    return f"{len(seeds)} seeds" if len(seeds) > 1 else f"seed {seeds[0]}"
