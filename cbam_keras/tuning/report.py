"""Files and figures of a search: tables, plots, the best network."""

import csv
import dataclasses
import json
import shutil
import zipfile

from cbam_keras import _files, plotting
from cbam_keras.tuning.confirmation import chosen_of, confirm, verdict_of
from cbam_keras.tuning.results import (
    SearchResults,
    Trial,
    counted,
    finished_of,
    rank,
    trials_of,
)


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


def report(tuner, seeds, load):
    """Writes the results of a search, and returns them.

    The best network is tested once, and each confirmation trained once,
    however often this is called.

    Args:
        tuner: A `Tuner` whose trials have ended.
        seeds: Tuple of integers, the seeds of the confirmation.
        load: Function that takes a seed and returns its `ImageData`.
    """
    output, images = tuner.folder, tuner.images
    trials = trials_of(tuner.own_oracle.outcomes)
    finished = finished_of(trials)
    content = {
        "trials": [dataclasses.asdict(trial) for trial in trials],
        "best": None,
        "test_accuracy": None,
        "validation_images": images.sizes["validation"],
    }
    if not finished:
        write_trials(output, trials)
        _files.write_json(output / "results.json", content)
        raise RuntimeError(_nothing(output, trials))
    best = min(finished, key=rank)
    content["best"] = best.number
    content["test_accuracy"] = _tested(tuner, images, best)
    # Before the confirmation, which takes as long as several trials.
    _write(output, trials, content, f"{images.name}, {counted(trials)}")
    confirmed, missing = confirm(tuner, trials, seeds, load)
    layer = _chosen_layer(tuner, trials, confirmed)
    results = SearchResults(
        trials=trials,
        best=best,
        test_accuracy=content["test_accuracy"],
        output=output,
        confirmation=confirmed,
        verdict=verdict_of(trials, confirmed, missing, seeds),
        best_options={} if layer is None else dict(layer.keywords),
        code="" if layer is None else _code(layer),
    )
    content |= {
        "confirmation": [dataclasses.asdict(row) for row in confirmed],
        "verdict": results.verdict,
        "best_options": results.best_options,
        "code": results.code,
    }
    if _read(output / "results.json") != _as_read(content):
        _files.write_json(output / "results.json", content)
    return results


def _write(output, trials, content, title):
    """Writes what follows from the trials, unless it is all there."""
    names = ["trials.csv", "pareto.png"]
    if any(trial.values for trial in finished_of(trials)):
        names.append("effects.png")
    known = _read(output / "results.json") or {}
    if all((output / name).exists() for name in names) and all(
        known.get(key) == value for key, value in _as_read(content).items()
    ):
        return
    write_trials(output, trials)
    _draw(output, trials, title)
    # Last, since it stands for the others as well.
    _files.write_json(output / "results.json", content)


def _chosen_layer(tuner, trials, confirmed):
    """Returns the layer that the verdict is about, or of the best trial."""
    chosen = chosen_of(confirmed)
    number = None if chosen is None else chosen.trial
    for trial in sorted(finished_of(trials), key=rank):
        if number in (None, trial.number):
            layer = tuner.layer_of(trial)
            if layer is not None:
                return layer
    return None


def _code(layer):
    options = (f"{name}={value!r}" for name, value in layer.keywords.items())
    return f"cbam_keras.{layer.func.__name__}({', '.join(options)})"


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
        if accuracy is not None and known == _as_read(described):
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


def _as_read(content):
    """Returns a content as it will read from a file, tuples as lists."""
    return json.loads(json.dumps(content))


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
