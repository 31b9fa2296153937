"""The learning rate of each run, chosen on its validation data.

A run trains candidates at several rates, in folders as `none@0.003-seed0`. The
best one becomes the network of the run, in `none-seed0`, and alone is tested.
"""

import math
import pathlib
from collections.abc import Callable, Iterable, Sequence

from cbam_keras.study.files.checkpoints import STATE, peek_state, save_state
from cbam_keras.study.files.outcomes import ERROR, Outcome
from cbam_keras.study.plans.measures import Measure, validated_by
from cbam_keras.study.plans.study import AT, Run, Study, Variant


def list_candidates(
    study: Study,
    variant: Variant,
    run: Run,
    ended: Callable[[str, Run], Outcome | None],
) -> tuple[list[Variant], Outcome | None]:
    """Returns the candidates of a run, and the chosen one if all have ended."""
    rates, measure = study.rates_for(variant), study.task.measures[0]
    candidates = [variant.at(rate) for rate in rates]
    outcomes = [x for one in candidates if (x := ended(one.name, run))]
    if len(outcomes) < len(candidates):
        return candidates, None
    chosen = choose_rate(outcomes, measure)
    beyond = rate_beyond(rates, chosen.learning_rate)
    if beyond is None or not chosen.finished:
        return candidates, chosen
    candidates.append(variant.at(beyond))
    last = ended(candidates[-1].name, run)
    return candidates, last and choose_rate([*outcomes, last], measure)


def choose_rate(outcomes: Sequence[Outcome], measure: Measure) -> Outcome:
    """Returns the candidate that validates best, or one with an error."""
    failures = [x for x in outcomes if x.status == ERROR]
    finished = [x for x in outcomes if x.finished]
    if failures or not finished:
        return [*failures, *outcomes][0]
    finished.sort(key=lambda x: x.learning_rate or 0.0)
    by = validated_by([x.metrics for x in finished], measure)

    def merit(outcome):
        value, loss = outcome.metrics.get(by.key), outcome.val_loss
        merit = -math.inf if value is None else by.merit(value)
        return merit, -math.inf if loss is None else -loss

    return max(finished, key=merit)


def rate_beyond(rates: Sequence[float], rate: float | None) -> float | None:
    """Returns the next rate beyond an edge, `None` within the range."""
    for edge, inner in (rates[:2], rates[:-3:-1]):
        if rate == edge:
            # 0.09 is easier to read than 0.090000000000000004.
            return float(f"{edge * edge / inner:.2g}")
    return None


def read_candidates(
    folder: pathlib.Path, variants: Iterable[str], runs: Iterable[Run]
) -> list[Outcome]:
    """Returns the candidates in a folder that have ended."""
    states = (peek_state(x.parent) for x in folder.glob(f"*{AT}*/{STATE}"))
    found = [x.outcome for x in states if x and x.outcome]
    found.sort(key=lambda x: (x.variant, x.run))
    return [x for x in found if x.original in variants and x.run in runs]


def delete_checkpoints(folder: pathlib.Path) -> None:
    """Deletes the network of a candidate, once its run has one."""
    state = peek_state(folder)
    if state is not None and state.ended and state.latest:
        save_state(folder, state, {"latest": None, "best": None})
