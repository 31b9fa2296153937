"""The files of a search: networks, table and figures of its trials."""

import contextlib
import pathlib
import shutil
from collections.abc import Callable
from typing import cast

from cbam_keras import _files, study
from cbam_keras.data import ImageData
from cbam_keras.study.plans.tasks import ImageTask
from cbam_keras.study.running.checkpoints import load_state, save_state

# What `best.json` holds of the network in `best.keras`, but the metrics.
DESCRIBED = ("seed", "fold", "best_epoch", "parameters", "macs")


def keep_networks(folder: study.StudyFolder, count: int) -> study.Ranking:
    """Deletes the networks of all but the best trials."""
    content = study.read_content(folder.path)
    results = cast(study.Ranking, study.Results.of(folder.path, content))
    best_variants = {trial.variant for trial in results.ranked[:count]}
    # Trials that are not among them have folds that are not trained yet.
    others = {trial.variant for trial in results.trials} - best_variants
    for outcome in results.runs:
        if outcome.variant in others and outcome.file:
            place = folder.place(outcome.variant, outcome.run)
            # Another process that makes the same call may do so.
            with (
                contextlib.suppress(_files.InUse),
                folder.claim(outcome.variant, outcome.run),
            ):
                state = load_state(place)
                if state is not None and state.ended is not None:
                    # It deletes what a state does not name.
                    ended = {**state.ended, "file": None, "predictions": None}
                    save_state(place, state, ended=ended)
    return results


def write_trials(results: study.Ranking) -> None:
    """Writes the table of the trials, and draws them."""
    path = results.output
    _files.write_csv(path / "trials.csv", results._records())
    _files.write_figure(path / "comparison.png", results.plot())


def measure_file(
    path: pathlib.Path, task: ImageTask, recipe: study.Recipe, data: ImageData
) -> dict[str, float]:
    """Returns the metrics of the network in a file."""
    model = _files.load_model(path)
    task.compile(model, recipe, data)
    return task.evaluate(model, data)


def write_best(
    folder: study.StudyFolder,
    trial: study.Trial,
    network: study.Outcome,
    source: pathlib.Path,
    evaluate: Callable[[pathlib.Path], dict[str, float]],
) -> _files.Json:
    """Writes a network as that of the best trial, unless it is there already.

    Returns what `best.json` holds. A network that has not been measured on
    the test images is evaluated.
    """
    description = study.as_written(
        {
            "trial": trial.number,
            "values": trial.values,
            **{name: getattr(network, name) for name in DESCRIBED},
            **network.metrics,
        }
    )
    written = folder.content.get("best_network", {})
    file = folder.path / "best.keras"
    if description.items() <= written.items() and file.exists():
        return written
    if not any(name.startswith("test_") for name in network.metrics):
        description |= evaluate(source)
    with _files.replacing(file) as beside:
        shutil.copyfile(source, beside)
    _files.write_json(folder.path / "best.json", description)
    return description
