"""The learning rate of each run, chosen on its validation data.

A run trains a network at each of several rates, its candidates, in folders
such as `none@0.003-seed0`. The candidate that validates best becomes the
network of the run, in `none-seed0`; only that one is tested.
"""

import dataclasses
import math
import pathlib
from collections.abc import Callable, Iterable, Sequence

from cbam_keras.study.files.checkpoints import (
    STATE,
    VALIDATED,
    peek_state,
    save_state,
)
from cbam_keras.study.files.outcomes import ERROR, Outcome
from cbam_keras.study.plans.measures import Measure, validation_key
from cbam_keras.study.plans.study import AT, Candidate, Run, Study, Variant

Ended = Callable[[str, Run], Outcome | None]


def list_candidates(
    study: Study, variant: Variant, run: Run, ended: Ended
) -> tuple[list[Candidate], Outcome | None]:
    """Returns the candidates of a run, and the chosen one if all have ended.

    If the best rate is an edge of the range, the next one beyond is tried, too.

    Args:
        study: The study.
        variant: One of its variants.
        run: One of its runs.
        ended: Function of the name of a candidate and a run that returns the
            `Outcome` of its training, or `None` before that has ended.
    """
    rates = study.rates_for(variant)
    candidates = [variant.at(rate) for rate in rates]
    measure = study.task.measures[0]
    outcomes = [x for one in candidates if (x := ended(one.name, run))]
    if len(outcomes) < len(candidates):
        return candidates, None
    chosen = choose(outcomes, measure)
    if chosen.finished and (rate := rate_beyond(rates, chosen.learning_rate)):
        candidates.append(variant.at(rate))
        last = ended(candidates[-1].name, run)
        if last is None:
            return candidates, None
        chosen = choose([*outcomes, last], measure)
    return candidates, chosen


def choose(outcomes: Sequence[Outcome], measure: Measure) -> Outcome:
    """Returns the candidate that validates best.

    Of equal ones that is the one with the lower validation loss, then with the
    lower learning rate. An error in one of them is the error of the run, since
    the rate that failed may have been the best.
    """
    failures = [x for x in outcomes if x.status == ERROR]
    finished = [x for x in outcomes if x.finished]
    if failures or not finished:
        return [*failures, *outcomes][0]
    return max(
        finished,
        key=lambda x: (
            merit_of(x, measure),
            -_loss_of(x),
            -(x.learning_rate or 0.0),
        ),
    )


def merit_of(outcome: Outcome, measure: Measure) -> float:
    """Returns how well a network validates: a larger number is better.

    By the measure of the study, else by the accuracy, else by the loss.
    """
    key = validation_key(measure.key)
    for one in (dataclasses.replace(measure, key=key), VALIDATED):
        value = outcome.metrics.get(one.key)
        if value is not None:
            return one.merit(value)
    return -_loss_of(outcome)


def _loss_of(outcome):
    loss = outcome.val_loss
    return math.inf if loss is None else loss


def rate_beyond(rates: Sequence[float], rate: float | None) -> float | None:
    """Returns the next learning rate beyond an edge, `None` within the range.

    It is as far from the edge as the edge from the rate before it, as a factor.
    """
    if rate == rates[0]:
        edge, inner = rates[0], rates[1]
    elif rate == rates[-1]:
        edge, inner = rates[-1], rates[-2]
    else:
        return None
    # 0.03, 0.1 and 0.09 are easier to read than 0.090000000000000004.
    return float(f"{edge * edge / inner:.2g}")


def read_candidates(
    folder: pathlib.Path, variants: Iterable[str], runs: Iterable[Run]
) -> list[Outcome]:
    """Returns the candidates in a folder that have ended, by variant and run.

    Further trainings that say whether a network has finished learning are
    among them.
    """
    names, runs = {*variants}, {*runs}
    found = []
    for path in sorted(folder.glob(f"*{AT}*/{STATE}")):
        state = peek_state(path.parent)
        if state is None or state.outcome is None or state.run not in runs:
            continue
        if state.variant.rpartition(AT)[0] in names:
            found.append(state.outcome)
    return found


def variant_of(candidate: Outcome) -> str:
    """Returns the name of the variant that a candidate is of."""
    return candidate.variant.rpartition(AT)[0]


def delete_checkpoints(folder: pathlib.Path) -> None:
    """Deletes the network of a candidate, once its run has one."""
    state = peek_state(folder)
    if state is not None and state.ended and (state.latest or state.best):
        save_state(folder, state, latest=None, best=None)
