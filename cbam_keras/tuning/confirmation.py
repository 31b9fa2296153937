"""Confirmation: the best configurations trained again from fresh seeds.

The highest accuracy of many trials is partly luck. So the best configurations
and the controls are trained again, with seeds that the search did not use.
One configuration is chosen by its validation accuracy over these seeds, and
judged by its test accuracy.
"""

import dataclasses
import pathlib
import statistics
from typing import Any

from cbam_keras import _files, training
from cbam_keras._terminal import TimeLeft
from cbam_keras.tuning.results import (
    FINISHED,
    Confirmed,
    Trial,
    finished_of,
    label,
    rank,
)
from cbam_keras.tuning.trial import progress_of, state_of

FOLDER = "confirmation"
# How many configurations are confirmed, besides the controls.
CANDIDATES = 2
# No attention, in our search space and in others.
PLAIN = ("none", False)
CONTROLS = (*PLAIN, "se")
# The content of the outcome of a training; further keys describe failures.
KEYS = (
    *("outcome", "message", "parameters", "best_epoch", "val_accuracy"),
    *("seconds_per_epoch", "test_accuracy"),
)
# Glob patterns of all files of a confirmation.
PATTERNS = [
    f"{FOLDER}/seed-*/trial_[0-9]*/{file}"
    for file in (
        *("outcome.json", "checkpoints/state.json", "checkpoints/*.keras"),
    )
]


def fresh_seeds(seed: int, count: int) -> tuple[int, ...]:
    """Returns seeds other than that of the search."""
    return tuple((seed + number) % 2**32 for number in range(1, count + 1))


def to_confirm(trials: tuple[Trial, ...]) -> list[Trial]:
    """Returns the best trial of each control, then the best of the others."""
    # Hyperband tries the same values for different numbers of epochs.
    distinct: dict[Any, Trial] = {}
    for trial in sorted(finished_of(trials), key=rank):
        distinct.setdefault(frozenset(trial.values.items()), trial)
    ranked = list(distinct.values())
    controls = [
        [t for t in ranked if t.values.get("attention", "") in kinds]
        for kinds in (PLAIN, ("se",))
    ]
    others = [t for t in ranked if t not in sum(controls, [])]
    return [*controls[0][:1], *controls[1][:1], *others[:CANDIDATES]]


def confirm(tuner, trials, seeds, load):
    """Trains the best configurations again, or reads what is finished.

    Args:
        tuner: A `Tuner` whose trials have ended.
        trials: Tuple of `Trial`.
        seeds: Tuple of integers.
        load: Function that takes a seed and returns its `ImageData`.

    Returns:
        Tuple of the `Confirmed`, and of a sentence for each configuration
        that did not finish.
    """
    chosen = to_confirm(trials) if seeds else []
    outcomes: dict[int, list[dict[str, Any]]] = {t.number: [] for t in chosen}
    total = len(seeds) * len(chosen)
    left = TimeLeft(total)
    for seed in seeds:
        own = None
        for trial in chosen:
            folder = _folder(tuner.folder, seed, trial)
            outcome = _files.read_json(folder / "outcome.json", KEYS)
            if outcome is None:
                own = own or tuner.with_seed(seed, load(seed))
                number = 1 + sum(map(len, outcomes.values()))
                print(
                    f"Confirmation {number} of {total}: "
                    f"{label(trial.values)}, seed {seed}{left.at(number)}",
                    flush=True,
                )
                run = own.run_again(f"{trial.number:04d}", folder)
                outcome = _trained(run)
                _files.write_json(folder / "outcome.json", outcome)
            # Only the numbers are needed from now on.
            progress_of(folder).clear()
            outcomes[trial.number].append(outcome)
    return _compared(chosen, outcomes, seeds, tuner)


def _folder(output, seed, trial) -> pathlib.Path:
    return output / FOLDER / f"seed-{seed}" / f"trial_{trial.number:04d}"


def _trained(run):
    """Trains and tests a network, from the last finished epoch."""
    run.folder.mkdir(parents=True, exist_ok=True)
    ended = dict.fromkeys(KEYS)
    run.into(ended)
    if ended["outcome"] == FINISHED:
        best = state_of(run.folder)["best"]
        model = progress_of(run.folder).load_model(best)
        _, accuracy = model.evaluate(run.images.test, verbose=0)
        ended["test_accuracy"] = float(accuracy)
        seconds = [row["seconds"] for row in ended["history"]]
        # The first epoch compiles.
        ended["seconds_per_epoch"] = statistics.median(seconds[1:] or seconds)
    return ended


def _compared(chosen, outcomes, seeds, tuner):
    complete, missing = [], []
    for trial in chosen:
        failed = next(
            (
                (seed, outcome)
                for seed, outcome in zip(
                    seeds, outcomes[trial.number], strict=True
                )
                if outcome["outcome"] != FINISHED
            ),
            None,
        )
        if failed is None:
            complete.append(trial)
        else:
            seed, outcome = failed
            missing.append(
                f"{label(trial.values)} is left out: with seed {seed} its "
                f"training ended as {outcome['outcome']} "
                f"({outcome['message']})."
            )
    # Labels may coincide; trials do not.
    names = {str(trial.number): trial for trial in complete}
    baseline = next(
        (
            name
            for name, trial in names.items()
            if trial.values.get("attention", "") in PLAIN
        ),
        None,
    )
    rows = training.compared(
        {
            name: [_run(trial, outcome) for outcome in outcomes[trial.number]]
            for name, trial in names.items()
        },
        tuner.images.sizes["test"],
        baseline,
    )
    return (
        tuple(
            _confirmed(trial, row, seeds, tuner.layer_of(trial))
            for trial, row in zip(complete, rows, strict=True)
        ),
        tuple(missing),
    )


def _confirmed(trial, row, seeds, layer):
    attention = trial.values.get("attention")
    own = trial.values if attention is None else {}
    return Confirmed(
        trial=trial.number,
        attention=attention,
        options=dict(layer.keywords if layer else own),
        seeds=seeds,
        test_accuracy=row.test_accuracy,
        difference=row.difference,
        interval=row.interval,
        compared=dataclasses.replace(row, network=label(trial.values)),
    )


def _run(trial, outcome):
    return training.Run(
        network=label(trial.values),
        parameters=outcome["parameters"],
        best_epoch=outcome["best_epoch"],
        best_validation_accuracy=outcome["val_accuracy"],
        test_accuracy=outcome["test_accuracy"],
        seconds_per_epoch=outcome["seconds_per_epoch"],
        file="",
    )


def chosen_of(confirmed: tuple[Confirmed, ...]) -> Confirmed | None:
    """Returns the configuration with attention that validates best.

    SE is a control, and chosen only where there is nothing else.
    """
    attentive = [
        row for row in confirmed if row.attention not in (None, *PLAIN)
    ]
    others = [row for row in attentive if row.attention != "se"]
    return max(
        others or attentive,
        key=lambda row: row.compared.validation_accuracy,
        default=None,
    )


def verdict_of(
    trials: tuple[Trial, ...],
    confirmed: tuple[Confirmed, ...],
    missing: tuple[str, ...],
    seeds: tuple[int, ...],
) -> str:
    """Returns whether attention improves accuracy, in a sentence or two.

    Empty if no hyperparameter is named `"attention"`.
    """
    if not any("attention" in trial.values for trial in finished_of(trials)):
        return ""
    if not seeds:
        return (
            "Nothing is confirmed: the highest accuracy of several trials is "
            "partly luck, and no evidence for or against attention. "
            "confirm=3 (--confirm 3) trains the best configurations and the "
            "controls again from fresh seeds, and compares them."
        )
    chosen = chosen_of(confirmed)
    plain = any(row.attention in PLAIN for row in confirmed)
    if chosen is None or not plain:
        lacking = "without" if chosen is not None else "with"
        found = (
            f"No network {lacking} attention was confirmed, so whether "
            "attention improves accuracy here is not known."
        )
    else:
        row = chosen.compared
        clause = training.judge(row.network, row.measured, "none")
        found = f"Chosen by validation accuracy, {clause}."
    if len(trials) == 1:
        found += " The search had one trial, so there was nothing to choose."
    return " ".join([found, *missing])
