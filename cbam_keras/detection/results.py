"""`DetectionResults`: detectors compared, in a table as the paper's Table 6."""

import dataclasses
import json
import pathlib
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from cbam_keras import _terminal, study
from cbam_keras.detection.anchors import Anchors
from cbam_keras.detection.evaluation import MEASURES

BASELINE = "none"
# What is compared, and how the table calls it.
HEADINGS = {"map50": "mAP@.5", "map75": "mAP@.75", "map": "mAP@[.5,.95]"}


@dataclasses.dataclass(frozen=True)
class DetectorRun:
    """Result of training one detector, see `DetectionResults.runs`."""

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
        data: String, the name of the dataset.
        backbone: String, the name of the backbone.
        seeds: Tuple of integers.
        test_images: Integer, the number of test images.
        anchors: The anchors of the first seed, with the fraction of boxes
            that they cover.
        rows: Dictionary of networks to dictionaries of `"map"` (COCO's, over
            intersections over union from 0.5 to 0.95), `"map50"` and
            `"map75"`, each with `values` by seed, `mean`, `deviation`,
            `difference` to `"none"` paired by seed, its `interval`, and
            `seeds_to_tell`, how many seeds would probably tell it from zero.
        verdict: String, the differences in a sentence.
        runs: List of one entry per network and seed, in the order of
            training: `network`, `seed`, `parameters`, `precision` (mean
            average precision on the test images, see `rows`; also `"small"`,
            `"medium"` and `"large"`, by the size of objects, `None` where
            there are none), `seconds_per_epoch` and `file`.
        output: Path of the output folder.
        history: List of dictionaries, one per network, seed and epoch.
    """

    data: str
    backbone: str
    seeds: tuple[int, ...]
    test_images: int
    anchors: Anchors
    rows: dict[str, dict[str, study.Measured]]
    verdict: str
    runs: list[DetectorRun]
    output: pathlib.Path
    history: list[dict[str, Any]]

    @classmethod
    def of(
        cls, results: study.Results, backbone: str, anchors: Mapping[str, Any]
    ) -> "DetectionResults":
        """Returns the results of a study of detectors.

        Args:
            results: A `study.Results`.
            backbone: String, the name of the backbone.
            anchors: Mapping, the attributes of `Anchors`.
        """
        measured = {key: results.compared(key) for key in HEADINGS}
        ratios = tuple(anchors["aspect_ratios"])
        # Nothing of them is `None`.
        finished: Sequence[Any] = results.finished
        return cls(
            runs=[
                DetectorRun(
                    network=outcome.variant,
                    seed=outcome.seed,
                    parameters=outcome.parameters,
                    precision={k: outcome.metrics[k] for k in MEASURES},
                    seconds_per_epoch=outcome.seconds_per_epoch,
                    file=outcome.file,
                )
                for outcome in finished
            ],
            rows={
                network: {key: measured[key][network] for key in HEADINGS}
                for network in measured["map"]
            },
            history=results.history,
            anchors=Anchors(**{**anchors, "aspect_ratios": ratios}),
            data=results.data,
            backbone=backbone,
            seeds=results.seeds,
            test_images=results.sizes["test"],
            verdict=study.verdict(
                measured["map"], BASELINE, HEADINGS["map"], digits=1
            ),
            output=results.output,
        )

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
        columns |= dict.fromkeys(HEADINGS.values(), "right")
        columns[f'difference to "{BASELINE}"'] = "right"
        cells = [
            (
                self.backbone
                if network == BASELINE
                else f"{self.backbone} + {network}",
                f"{parameters[network]:,}",
                *(row[key].mean_cell(digits=1) for key in HEADINGS),
                row["map"].difference_cell(digits=1),
            )
            for network, row in self.rows.items()
        ]
        several = len(self.seeds) > 1
        title = (
            f"Mean average precision (%) on {self.test_images} test images of "
            f"{self.data}, "
            + (
                f"{len(self.seeds)} seeds"
                if several
                else f"seed {self.seeds[0]}"
            )
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
        content = dataclasses.asdict(self) | {"output": str(self.output)}
        del content["history"]
        return json.dumps(content, indent=1)
