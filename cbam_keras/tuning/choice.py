"""Points of a search, what is retrained and chosen, and the verdict."""

import math
import re
import statistics
from collections.abc import Mapping, Sequence

from cbam_keras import study
from cbam_keras.study.plans.measures import ACCURACY, validation_key
from cbam_keras.study.results.ranking import OptionValue

# All that a trial has, by name.
Point = dict[str, OptionValue]

# The layer of the paper, where the search begins.
PAPER: Point = {"stages": "all", "reduction_ratio": 16, "kernel_size": 7}
NONE = "none"
SHORT = {"attention": "{}", "reduction_ratio": "r={}", "kernel_size": "k={}"}


def has_no_attention(values: Mapping[str, object]) -> bool:
    """Returns whether a point is that of a network without attention."""
    return values.get("attention") == NONE


def controls(points: Sequence[Point]) -> list[Point]:
    """Returns the points that a search begins with: defaults of each kind."""
    # The first point of each kind is that of its defaults.
    first = {x.get("attention"): x for x in reversed(points)}
    kinds = [kind for kind in (NONE, "se", "cbam") if kind in first]
    return [first[kind] for kind in kinds] or [points[0]]


def point_name(values: Point) -> str:
    """Returns the name of a point, which files can have."""
    return re.sub(r"[^\w.,+=-]+", "-", label(values))


def label(values: Mapping[str, object]) -> str:
    """Returns the values of a trial in a few words."""
    # All stages are those of the paper.
    shown = {x: y for x, y in values.items() if (x, y) != ("stages", "all")}
    words = (SHORT.get(x, f"{x}={{}}").format(y) for x, y in shown.items())
    return " ".join(words)


def to_confirm(results: study.Ranking) -> list[study.Trial]:
    """Returns the cheapest of the best trials without and with attention."""
    plain = [x for x in results.ranked if has_no_attention(x.values)]
    gated = [x for x in results.ranked if not has_no_attention(x.values)]
    return [_cheapest_of_best(x, results) for x in (plain, gated) if x]


def _cheapest_of_best(ranked, results):
    best, error, key = ranked[0].score, 0.0, results.measures[0].key
    scores = [*results.values(ranked[0].variant, key).values()]
    if key == validation_key(ACCURACY):
        images = results.images_of(results.planned_runs, "validation")
        error = math.sqrt(best * (1 - best) / images)
    elif len(scores) > 1:
        error = statistics.stdev(scores) / math.sqrt(len(scores))
    ties = [trial for trial in ranked if abs(trial.score - best) <= error]
    are_counted = all(trial.macs is not None for trial in ties)
    return min(ties, key=lambda x: (are_counted and x.macs, x.parameters))


def choose_setting(results: study.Ranking) -> tuple[study.Trial, str]:
    """Returns the best trial, and the name with which it was trained last."""
    if not results.confirmation:
        best = results.ranked[0]
        return best, best.variant
    row = _best(results)
    best = next(x for x in results.trials if x.number == row.trial)
    return best, row.variant


def _best(results):
    merit = results.measures[0].merit
    # The winner of the trials comes last, and wins where both are equal.
    return sorted(results.confirmation, key=lambda x: merit(x.validation))[-1]


def search_verdict(results: study.Ranking, unlearned: str) -> str:
    """Returns whether attention improves accuracy, or `unlearned`."""
    trials, confirmed = results.trials, results.confirmation
    if not confirmed:
        return (
            "Nothing was retrained, and the best of several trials is "
            "optimistically biased. confirm=6 (--confirm 6) compares the best "
            "setting with no attention on new seeds."
        )
    *plain, row = confirmed
    if unlearned:
        text = unlearned
    elif not plain:
        trial = next(x for x in trials if x.number == row.trial)
        lacking = "with" if has_no_attention(trial.values) else "without"
        text = (
            f"No network {lacking} attention was retrained, so whether "
            "attention improves accuracy here is not known."
        )
    else:
        measure = results.measures[0].heading
        by, folds = results.confirmed_by, results.folds
        said = study.verdict({row.label: row}, "none", by, folds)
        text = f"Chosen by {measure}: {row.label}. {said}"
        if _best(results) is not row:
            text += " With new seeds, validation is better without attention."
    return text
