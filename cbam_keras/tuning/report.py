"""Files and figures of a search: tables, plots, the best network."""

import csv
import dataclasses
import json
import shutil
import zipfile

from cbam_keras import _files, plotting
from cbam_keras.tuning.results import (
    SearchResults,
    Trial,
    counted,
    finished_of,
    rank,
    trials_of,
)
from cbam_keras.tuning.verdict import verdict_of


def write_trials(output, trials):
    names = list(dict.fromkeys(name for t in trials for name in t.values))
    columns = [
        field.name
        for field in dataclasses.fields(Trial)
        if field.name not in ("values", "message")
    ]
    with _files.replacing(output / "trials.csv") as beside:
        with beside.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow([*columns, *names, "message"])
            for trial in trials:
                writer.writerow(
                    [
                        *(getattr(trial, name) for name in columns),
                        *(trial.values.get(name) for name in names),
                        trial.message,
                    ]
                )


def report(tuner, images):
    """Writes the results of a search, and returns them.

    The best network is tested once, however often this is called.

    Args:
        tuner: A `Tuner` whose trials have ended.
        images: An `ImageData`.
    """
    output = tuner.folder
    trials = trials_of(tuner.own_oracle.outcomes)
    finished = finished_of(trials)
    validation = images.sizes["validation"]
    content = {
        "trials": [dataclasses.asdict(trial) for trial in trials],
        "best": None,
        "test_accuracy": None,
        "validation_images": validation,
        "verdict": verdict_of(trials, validation),
    }
    if not finished:
        write_trials(output, trials)
        _files.write_json(output / "results.json", content)
        raise RuntimeError(_nothing(output, trials))
    best = min(finished, key=rank)
    content["best"] = best.number
    content["test_accuracy"] = _tested(tuner, images, best)
    results = SearchResults(
        trials, best, content["test_accuracy"], output, content["verdict"]
    )
    names = ["trials.csv", "pareto.png"]
    if any(trial.values for trial in finished):
        names.append("effects.png")
    if _read(output / "results.json") != json.loads(
        json.dumps(content)
    ) or not all((output / name).exists() for name in names):
        write_trials(output, trials)
        _draw(output, trials, f"{images.name}, {counted(trials)}")
        # Last, since it stands for the others as well.
        _files.write_json(output / "results.json", content)
    return results


def _tested(tuner, images, best):
    """Returns the test accuracy of the best network, and saves both."""
    known = _read(tuner.folder / "best.json")
    path = tuner.folder / "best.keras"
    described = {
        "trial": best.number,
        "values": best.values,
        "val_accuracy": best.val_accuracy,
        "val_loss": best.val_loss,
        "best_epoch": best.best_epoch,
        "parameters": best.parameters,
        "macs": best.macs,
    }
    if known is not None and zipfile.is_zipfile(path):
        accuracy = known.pop("test_accuracy", None)
        if accuracy is not None and known == json.loads(json.dumps(described)):
            return accuracy
    model, file = tuner.best_model(f"{best.number:04d}")
    _, accuracy = model.evaluate(images.test, verbose=0)
    described["test_accuracy"] = float(accuracy)
    with _files.replacing(path) as beside:
        shutil.copyfile(file, beside)
    _files.write_json(tuner.folder / "best.json", described)
    return described["test_accuracy"]


def _draw(output, trials, title):
    figures = {"pareto.png": plotting.plot_pareto(trials, title)}
    if any(trial.values for trial in finished_of(trials)):
        figures["effects.png"] = plotting.plot_search(trials, title)
    for name, figure in figures.items():
        with _files.replacing(output / name) as beside:
            figure.savefig(beside, dpi=150)


def _read(path):
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def _nothing(output, trials):
    if not trials:
        return (
            "No trial was run: the search space holds nothing to try. "
            f'Received: output="{output}"'
        )
    reasons = "; ".join(
        f"trial {trial.number}: {trial.outcome} ({trial.message})"
        for trial in trials[:3]
    )
    return (
        f"None of the {len(trials)} trials finished, first {reasons}. All "
        f'of them are in "{output}": trials.csv, and outcome.json with the '
        "traceback in the folder of each. Fix the cause, and search again "
        "in another folder"
    )
