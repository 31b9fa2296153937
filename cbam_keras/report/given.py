"""`write_given`: a folder and a page of predictions that were given."""

import dataclasses
import os
import pathlib
from collections.abc import Mapping
from typing import Protocol

from cbam_keras import _checks, _files
from cbam_keras.explain.figures import style
from cbam_keras.report.report import write
from cbam_keras.study.files.checkpoints import STATE, State, folder_name
from cbam_keras.study.files.outcomes import Outcome
from cbam_keras.study.plans.study import Run
from cbam_keras.study.results.kept import Kept, write_predictions


class Writable(Protocol):
    """What is written of the results that `study.results_of` returns."""

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """How each network ended."""

    @property
    def tested(self) -> Mapping[str, Mapping[Run, Kept]]:
        """The predictions for test examples, by variant and run."""

    @property
    def settings(self) -> _files.Json:
        """The settings of the study."""

    @property
    def content(self) -> _files.Json:
        """What `study.json` holds."""

    def plot(self) -> "style.Figure":
        """Returns the figure of the comparison."""


def write_given(
    results: Writable, folder: str | os.PathLike, figures: str | None = None
) -> pathlib.Path:
    """Writes predictions, tables, figures and a page into a folder.

    See `study.Results.write`, which calls it.
    """
    path = _files.output_folder(folder, "folder")
    names = sorted(x.name for x in path.iterdir())
    if names:
        raise ValueError(
            "`folder` (--output) must be new or empty. Received: "
            f'folder="{folder}", which holds {_checks.first_few(names)}'
        )
    for outcome in results.outcomes:
        run = outcome.run
        place = path / folder_name(outcome.variant, run)
        place.mkdir()
        kept = results.tested[outcome.variant][run]
        # `vars` would also hold what has been computed of them.
        fields = {
            x.name: getattr(kept, x.name) for x in dataclasses.fields(kept)
        }
        arrays = {f"test/{x}": y for x, y in fields.items() if y is not None}
        write_predictions(path / str(outcome.predictions), arrays)
        ended = {
            "status": outcome.status,
            "metrics": outcome.metrics,
            "predictions": outcome.predictions,
        }
        data = results.settings["data"][run.name]
        state = State(outcome.variant, *run, {}, data, ended=ended)
        _files.write_json(place / STATE, dataclasses.asdict(state))
    _files.write_json(path / _files.STUDY, results.content)
    _files.write_figure(path / "comparison.png", results.plot())
    return write(path, figures=figures)
