"""The output folder of detectors that are compared."""

from collections.abc import Sequence

import numpy as np

from cbam_keras import _files
from cbam_keras._run_folder import as_written
from cbam_keras.detection.results import DetectorRun
from cbam_keras.training import TrainingFolder


class DetectionFolder(TrainingFolder):
    """The output folder of one call of `compare`.

    With more seeds, what is missing is trained. A detector is called by its
    attention and its seed, as `"cbam-seed0"`.
    """

    kind = "comparison of detectors"

    @property
    def finished(self) -> list[str]:
        """Names of the detectors that have been trained."""
        return [run["file"].removesuffix(".keras") for run in self.runs]

    @property
    def runs(self) -> Sequence[dict]:
        return self.content["runs"]

    def check_content(self, content):
        [DetectorRun(**run) for run in content["runs"]]
        list(content["history"])

    def patterns(self, content):
        names = {*content.get("settings", {}).get("networks", ())}
        names |= {*self.settings.get("networks", ())}
        return [
            *("results.json", "history.csv", ".resume/*"),
            *("detections.png", "detections.npz"),
            *(f"{name}-seed*.keras" for name in names),
        ]

    def draw(self) -> None:
        """Draws nothing: detections are drawn at the end."""

    def add(self, values, figure, arrays) -> None:
        """Adds what the comparison says, and the detections as it draws them.

        Args:
            values: Mapping of plain values.
            figure: The figure of the detections.
            arrays: Mapping of their arrays, see `arrays_of`.
        """
        self.content.update(as_written(values))
        with _files.replacing(self.path / "detections.png") as beside:
            figure.savefig(beside, dpi=150)
        with _files.replacing(self.path / "detections.npz") as beside:
            np.savez_compressed(beside, **arrays)
        self.write()
