"""What comes after the trials: files, figures, the confirmation, a verdict.

The highest accuracy of many trials is partly luck. So the best configurations
and the controls are trained again, with seeds that the search did not use.
One configuration is chosen by its validation accuracy over these seeds, and
judged by its test accuracy.
"""

import csv
import dataclasses
import shutil
from typing import Any

import keras

from cbam_keras import _files, comparison, data, plotting, study
from cbam_keras.tuning.results import (
    Confirmed,
    SearchResults,
    counted,
    delete_networks,
    keep_networks,
    ranked,
    records,
)
from cbam_keras.tuning.space import PLAIN, label, name_of

CONFIRMATION = "confirmation"
# How many configurations are confirmed, besides the controls.
CANDIDATES = 2
# Of the best trial, what `best.json` holds.
DESCRIBED = (
    *("values", "val_accuracy", "val_loss", "best_epoch", "parameters"),
    "macs",
)


def report(
    search: Any,
    folder: study.StudyFolder,
    images: data.ImageData,
    workers: int = 1,
) -> SearchResults:
    """Writes the results of a search whose trials have ended; returns them.

    Args:
        search: A `Search`.
        folder: Its `StudyFolder`, opened.
        images: The data of the search.
        workers: Integer, how many processes share the confirmation.
    """
    with folder.locked():
        by_name = keep_networks(folder, search.keep)
    trials = tuple(by_name.values())
    finished = ranked(trials)
    content = study.as_written(
        {"trials": [dataclasses.asdict(trial) for trial in trials]}
    )
    best_file = folder.path / "best.keras"
    if not finished:
        with folder.locked():
            _write_trials(folder, trials)
            folder.add(**content, best=None, test_accuracy=None)
        raise RuntimeError(_nothing(folder.path, trials))
    best = finished[0]
    known = folder.content.get("trials")
    if known != content["trials"] or not best_file.exists():
        (name,) = (name for name, trial in by_name.items() if trial is best)
        file = folder.path / f"{name}.keras"
        network = keras.saving.load_model(file)
        accuracy = float(network.evaluate(images.test, verbose=0)[1])
        described = {name: getattr(best, name) for name in DESCRIBED}
        # Before the confirmation, which takes as long as several trials.
        with folder.locked():
            with _files.replacing(best_file) as beside:
                shutil.copyfile(file, beside)
            _files.write_json(
                folder.path / "best.json",
                {
                    "trial": best.number,
                    **described,
                    "test_accuracy": accuracy,
                },
            )
            _write_trials(folder, trials)
            _draw(folder, trials, f"{images.name}, {counted(trials)}")
            folder.add(
                **content,
                best=best.number,
                test_accuracy=accuracy,
                validation_images=images.sizes["validation"],
            )
    confirmed, missing = _confirm(search, folder, finished, workers)
    chosen = _chosen(confirmed)
    layers = (
        search.layer_of(trial.values)
        for trial in finished
        if chosen is None or trial.number == chosen.trial
    )
    layer = next((layer for layer in layers if layer is not None), None)
    results = SearchResults(
        trials=trials,
        best=best,
        test_accuracy=folder.content["test_accuracy"],
        output=folder.path,
        confirmation=confirmed,
        verdict=_verdict(search, trials, confirmed, missing),
        best_options={} if layer is None else dict(layer.keywords),
        code="" if layer is None else _code(layer),
    )
    with folder.locked():
        folder.add(
            confirmation=[dataclasses.asdict(row) for row in confirmed],
            verdict=results.verdict,
            best_options=results.best_options,
            code=results.code,
        )
    return results


def _write_trials(folder, trials):
    rows = records(trials)
    names = dict.fromkeys(name for row in rows for name in row)
    with _files.replacing(folder.path / "trials.csv") as beside:
        with beside.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(names))
            writer.writeheader()
            writer.writerows(rows)


def _draw(folder, trials, title):
    figures = {"pareto.png": plotting.plot_pareto(trials, title)}
    if any(trial.values for trial in ranked(trials)):
        figures["effects.png"] = plotting.plot_search(trials, title)
    for name, figure in figures.items():
        with _files.replacing(folder.path / name) as beside:
            figure.savefig(beside, dpi=150)


def _to_confirm(finished):
    """Returns the best trial of each control, then the best of the others.

    By names, as variants of a study.
    """
    trials = {}
    for trial in finished:
        # Hyperband tries the same values for different numbers of epochs.
        trials.setdefault(name_of(trial.values), trial)
    plain = [name for name, trial in trials.items() if _is_plain(trial)]
    se = [n for n, t in trials.items() if t.values.get("attention") == "se"]
    others = [name for name in trials if name not in (*plain, *se)]
    names = [*plain[:1], *se[:1], *others[:CANDIDATES]]
    return {name: trials[name] for name in names}


def _is_plain(trial):
    return trial.values.get("attention", "") in PLAIN


def _confirm(search, folder, finished, workers):
    """Returns the `Confirmed`, and a sentence for each that did not finish."""
    if not search.seeds:
        return (), ()
    trials = _to_confirm(finished)
    baseline = next((n for n, t in trials.items() if _is_plain(t)), None)
    results = study.run(
        study.Study(
            search.task,
            [
                search.variant(search.hyperparameters(trial.values), name)
                for name, trial in trials.items()
            ],
            seeds=search.seeds,
            recipe=search.recipe,
            baseline=baseline,
            budget=search.budget,
        ),
        folder.path / CONFIRMATION,
        workers=workers,
        # Only the numbers are needed from now on.
        finish=lambda _, confirmation: delete_networks(confirmation, trials),
    )
    failures = {row.variant: row.failures for row in results.rows}
    if failures.get(baseline):
        results = dataclasses.replace(results, baseline=None)
    confirmed = tuple(
        _confirmed(search, trials[row.network], row)
        for row in comparison.compared(results)
        if not failures[row.network]
    )
    missing = [
        f"{label(trials[name].values)} is left out: {failed[0]}."
        for name, failed in failures.items()
        if failed
    ]
    return confirmed, missing


def _confirmed(search, trial, row):
    attention = trial.values.get("attention")
    layer = search.layer_of(trial.values)
    other = trial.values if attention is None else {}
    return Confirmed(
        trial=trial.number,
        attention=attention,
        options=dict(layer.keywords if layer else other),
        seeds=search.seeds,
        test_accuracy=row.test_accuracy,
        difference=row.difference,
        interval=row.interval,
        compared=dataclasses.replace(row, network=label(trial.values)),
    )


def _chosen(confirmed):
    """Returns the configuration with attention that validates best.

    SE is a control, and chosen only where there is nothing else.
    """
    attentive = [
        row for row in confirmed if row.attention not in (None, *PLAIN)
    ]
    return max(
        [row for row in attentive if row.attention != "se"] or attentive,
        key=lambda row: row.compared.validation_accuracy,
        default=None,
    )


def _code(layer):
    options = (f"{name}={value!r}" for name, value in layer.keywords.items())
    return f"cbam_keras.{layer.func.__name__}({', '.join(options)})"


def _verdict(search, trials, confirmed, missing):
    """Returns whether attention improves accuracy, in a sentence or two.

    Empty if no hyperparameter is named `"attention"`.
    """
    if not any("attention" in trial.values for trial in ranked(trials)):
        return ""
    if not search.seeds:
        return (
            "Nothing is confirmed: the highest accuracy of several trials is "
            "partly luck, and no evidence for or against attention. "
            "confirm=3 (--confirm 3) trains the best configurations and the "
            "controls again from fresh seeds, and compares them."
        )
    chosen = _chosen(confirmed)
    if chosen is None or not any(row.attention in PLAIN for row in confirmed):
        lacking = "without" if chosen is not None else "with"
        verdict = (
            f"No network {lacking} attention was confirmed, so whether "
            "attention improves accuracy here is not known."
        )
    else:
        row = chosen.compared
        clause = study.judge(row.network, row.measured, "none")
        verdict = f"Chosen by validation accuracy, {clause}."
    if len(trials) == 1:
        verdict += " Only one configuration was tried."
    return " ".join([verdict, *missing])


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
        f'of them are in "{output / study.RESULTS}", with their tracebacks. '
        "Fix the cause, and search again in another folder, or overwrite "
        "this one (overwrite=True, or --overwrite on the command line)"
    )
