"""The output folder of a training run."""

import csv
import dataclasses
import glob
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cbam_keras import _files, plotting
from cbam_keras._run_folder import RunFolder, as_written, differences
from cbam_keras.training import tensorboard
from cbam_keras.training.checkpoints import Progress, State
from cbam_keras.training.results import Results, Run

# How long a file of another process may take to appear, in seconds.
SECONDS_TO_APPEAR = 60


def training_files(networks: Iterable[str]) -> list[str]:
    """Returns glob patterns of all files of a training run."""
    return [
        *("results.json", "history.csv", "curves.png"),
        # With what Keras leaves there if it is killed.
        ".resume/*",
        f"{tensorboard.FOLDER}/*",
        *(f"{glob.escape(name)}.keras" for name in networks),
    ]


class TrainingFolder(RunFolder):
    """The output folder of one call of `train`.

    `results.json` holds the finished networks, `.resume` the state of the one
    under training. Each file is written before the one that names it.

    Args:
        output: Path of the folder.
        settings: Mapping of plain values, see `RunFolder`.
        class_names: Sequence of strings, written to `results.json`.
        writes: Boolean. Of several processes in one folder, one writes.
            Defaults to `True`.
        logs: Boolean, whether to write logs for TensorBoard. Defaults to
            `False`.
    """

    kind = "training run"

    def __init__(
        self,
        output: Any,
        settings: Mapping[str, Any],
        class_names: Sequence[str] = (),
        *,
        writes: bool = True,
        logs: bool = False,
    ):
        super().__init__(output, settings)
        self.class_names = class_names
        self.writes = writes
        self.logs = logs
        self.progress = Progress(self.path / ".resume", writes=writes)

    @property
    def finished(self) -> list[str]:
        """Names of the networks that have been trained."""
        return [run["network"] for run in self.content["runs"]]

    def new_content(self):
        return {
            # Not among the settings, since they need no comparison.
            "class_names": list(self.class_names),
            "runs": [],
            "history": [],
        }

    def check_content(self, content):
        [Run(**run) for run in content["runs"]]
        list(content["history"])

    def patterns(self, content):
        names = content.get("settings", {}).get("networks", ())
        return training_files({*names, *self.settings.get("networks", ())})

    def callbacks(self, name: str, model: Any) -> list[Any]:
        """Returns the callbacks that log the training of a network."""
        if not (self.logs and self.writes):
            return []
        return [tensorboard.logs_of(self.path, name, model)]

    def join(self) -> None:
        """Waits for the run that the writing process has begun."""
        # A network file system may show a new file later.
        for _ in range(SECONDS_TO_APPEAR):
            if (self.path / self.file).exists():
                self.content = self.read()
                return
            time.sleep(1)
        raise ValueError(
            "`output` must be one folder that all processes share. Received: "
            f'output="{self.path}", where this process cannot see what '
            "process 0 has written"
        )

    def finish(self, run: Run, state: State) -> None:
        """Adds a network to the finished ones, and deletes its state."""
        if not self.writes:
            return
        with _files.replacing(self.path / run.file) as beside:
            shutil.copyfile(self.progress.folder / str(state.best), beside)
        self.content["runs"].append(dataclasses.asdict(run))
        self.content["history"].extend(state.history)
        self.draw()
        self.write_history()
        self.write()
        self.progress.clear()

    def draw(self) -> None:
        """Draws the history."""
        figure = plotting.plot_history(
            self.content["history"],
            f"{self.content['settings']['data']['name']}, "
            f"seed {self.content['settings']['recipe']['seed']}",
        )
        with _files.replacing(self.path / "curves.png") as beside:
            figure.savefig(beside, dpi=150)

    def reread(self) -> None:
        """Takes over what the writing process has finished."""
        if not self.writes:
            self.content = self.read()

    def results(self) -> Results:
        """Returns the results of all finished networks."""
        # Left if the process was killed before the end of `finish`.
        self.progress.clear()
        return Results(
            [Run(**run) for run in self.content["runs"]],
            self.content["history"],
            self.path,
        )

    def forget_if_empty(self) -> None:
        """Deletes the file of the run if no epoch has been trained."""
        if (
            self.writes
            and not self.finished
            and not self.progress.folder.exists()
        ):
            (self.path / self.file).unlink()

    def write_history(self, rows: Sequence[dict[str, Any]] = ()) -> None:
        """Writes the finished networks' epochs, then `rows`, as CSV."""
        if not self.writes:
            return
        rows = [*self.content["history"], *rows]
        with _files.replacing(self.path / "history.csv") as beside:
            with beside.open("w", newline="") as file:
                writer = csv.DictWriter(file, fieldnames=rows[0])
                writer.writeheader()
                writer.writerows(rows)


class SeedsFolder(RunFolder):
    """The output folder of networks trained over seeds.

    It holds a training run per subfolder. With more seeds, what is missing is
    trained.
    """

    kind = "training over seeds"
    # Settings that may grow: only entries in both calls are compared. "data"
    # holds the data of each seed.
    growing: Sequence[str] = ("data",)

    def check_content(self, content):
        for key in self.growing:
            if not isinstance(content["settings"][key], dict):
                raise TypeError(f"{key} are not a mapping")

    def changes(self, before):
        old, new = dict(before), dict(self.settings)
        for key in self.growing:
            both = [name for name in old[key] if name in new[key]]
            old[key] = {name: old[key][name] for name in both}
            new[key] = {name: new[key][name] for name in both}
        return differences(old, new)

    def patterns(self, content):
        names = set(content.get("settings", {}).get("networks", ()))
        names |= set(self.settings["networks"])
        return [f"seed-*/{file}" for file in training_files(names)]

    def add(self, values):
        """Adds plain values to the file of the run, next to its settings."""
        self.content.update(as_written(values))
        self.write()

    def add_data(self, images):
        """Adds the data of one more seed to the settings."""
        self.settings["data"] = as_written(
            {str(images.seed): images.describe()}
        )
        before = self.read()["settings"]
        for key in self.growing:
            self.content["settings"][key] = {
                **before[key],
                **self.settings[key],
            }
        self.write()
