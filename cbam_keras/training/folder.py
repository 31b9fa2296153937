"""The output folder of a training run: what came of it, and how to go on."""

import csv
import dataclasses
import json
import shutil
import time

from cbam_keras import _files, _run_folder, plotting
from cbam_keras.training.checkpoints import Progress
from cbam_keras.training.results import Results, Run

# How long another process' first file may take to be seen, in seconds.
PATIENCE = 60


class Session:
    """The output folder of one call of `train`, and what it knows.

    `results.json` holds the settings and the finished networks; `.resume` the
    progress of the one under training. Each file is written before the one
    that names it, so at any moment the folder tells one consistent story.
    """

    def __init__(
        self, output, settings, resume, *, writes=True, class_names=()
    ):
        self.output = _files.folder_path(output)
        settings = _run_folder.as_written(settings)
        self.writes = writes
        if writes:
            self.content = self._begin(settings, resume, class_names)
        else:
            self.content = self._join(settings)
        self.progress = Progress(self.output / ".resume", writes=writes)

    @property
    def finished(self):
        return [run["network"] for run in self.content["runs"]]

    def _begin(self, settings, resume, class_names):
        path = self.output / "results.json"
        if not path.exists():
            if _files.contents(self.output):
                raise ValueError(
                    "`output` must be a new or empty folder. Received: "
                    f'output="{self.output}", which holds other files'
                )
            _files.output_folder(self.output)
            content = {
                "settings": settings,
                "versions": _run_folder.versions(),
                # Beside the settings, which are compared on resuming.
                "class_names": list(class_names),
                "runs": [],
                "history": [],
            }
            _files.write_json(path, content)
            return content
        if not resume:
            raise ValueError(
                "`output` must be a new or empty folder unless the run in it "
                f'is resumed. Received: output="{self.output}", which holds '
                "a run, resume=False. Resume it (resume=True, or --resume on "
                "the command line), or choose another folder"
            )
        _files.output_folder(self.output)
        return self._read(settings)

    def _join(self, settings):
        """Returns what the process that writes has begun."""
        path = self.output / "results.json"
        # A folder shared over a network may show a new file later.
        for _ in range(PATIENCE):
            if path.exists():
                return self._read(settings)
            time.sleep(1)
        raise ValueError(
            "`output` must be one folder that all processes share. Received: "
            f'output="{self.output}", where process 0 has written what '
            "cannot be seen here"
        )

    def _read(self, settings):
        path = self.output / "results.json"
        try:
            content = json.loads(path.read_text())
            Results(
                [Run(**run) for run in content["runs"]],
                list(content["history"]),
                self.output,
            )
            changed = _run_folder.differences(content["settings"], settings)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f'The run in output="{self.output}" cannot be resumed: '
                f"results.json is damaged ({type(error).__name__}: {error})"
            ) from error
        if changed:
            raise ValueError(
                "A run must be resumed with the settings it was started "
                f'with. Received: output="{self.output}", changed: '
                + "; ".join(changed)
            )
        return content

    def finish(self, run, state):
        """Moves a network from the ones under training to the finished."""
        if not self.writes:
            return
        with _files.replacing(self.output / run.file) as beside:
            shutil.copyfile(self.progress.folder / state["best"], beside)
        self.content["runs"].append(dataclasses.asdict(run))
        self.content["history"].extend(state["history"])
        figure = plotting.plot_history(
            self.content["history"],
            f"{self.content['settings']['data']['name']}, "
            f"seed {self.content['settings']['recipe']['seed']}",
        )
        with _files.replacing(self.output / "curves.png") as beside:
            figure.savefig(beside, dpi=150)
        self.write_history()
        _files.write_json(self.output / "results.json", self.content)
        self.progress.clear()

    def reread(self):
        """Takes over what the process that writes has finished."""
        if not self.writes:
            self.content = self._read(self.content["settings"])

    def results(self):
        # Left over if the run was killed between the last two steps.
        self.progress.clear()
        return Results(
            [Run(**run) for run in self.content["runs"]],
            self.content["history"],
            self.output,
        )

    def forget_if_empty(self):
        """Takes back the first file where no training has begun."""
        if (
            self.writes
            and not self.finished
            and not self.progress.folder.exists()
        ):
            (self.output / "results.json").unlink()

    def write_history(self, rows=()):
        """Writes the finished networks' epochs, then `rows`, as CSV."""
        if not self.writes:
            return
        rows = [*self.content["history"], *rows]
        with _files.replacing(self.output / "history.csv") as beside:
            with beside.open("w", newline="") as file:
                writer = csv.DictWriter(file, fieldnames=rows[0])
                writer.writeheader()
                writer.writerows(rows)
