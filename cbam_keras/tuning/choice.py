"""What is retrained, what is chosen, and the verdict of a search.

The highest accuracy of many trials is partly luck. So the trials decide on one
setting with attention, and new seeds compare it with no attention.
"""

from collections.abc import Sequence

from cbam_keras import study
from cbam_keras.study.results.statistics import error_of_drawing
from cbam_keras.tuning.space import has_no_attention


def to_confirm(ranked: Sequence[study.Trial], images: int) -> list[study.Trial]:
    """Returns the trials of no attention and of attention to retrain.

    Each is the best of its kind or, of those within a standard error of its
    score with so many validation `images`, the one that costs least.
    """
    plain = [x for x in ranked if has_no_attention(x.values)]
    gated = [x for x in ranked if not has_no_attention(x.values)]
    return [_cheapest_of_best(x, images) for x in (plain, gated) if x]


def _cheapest_of_best(ranked, images):
    best = ranked[0].score
    error = error_of_drawing(best, images)
    ties = [trial for trial in ranked if abs(trial.score - best) <= error]
    are_counted = all(trial.macs is not None for trial in ties)
    return min(ties, key=lambda x: (are_counted and x.macs, x.parameters))


def choose(results: study.Ranking) -> tuple[study.Trial, str]:
    """Returns the best trial, and the name with which it was trained last.

    It is the one with attention, unless no attention validates better over
    the new seeds.
    """
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


def verdict(results: study.Ranking, unlearned: str) -> str:
    """Returns whether attention improves accuracy, in a sentence or two.

    `unlearned` says that no network has learned, or is empty.
    """
    trials, confirmed = results.trials, results.confirmation
    if not any("attention" in trial.values for trial in trials):
        return ""
    if not confirmed:
        return (
            "Nothing is confirmed: the highest accuracy of several trials is "
            "partly luck, and no evidence for or against attention. "
            "confirm=6 (--confirm 6) trains the best setting and no attention "
            "again with new seeds, and compares them."
        )
    *plain, row = confirmed
    if unlearned:
        text = unlearned
    elif not plain:
        trial = next(x for x in trials if x.number == row.trial)
        lacking = "with" if has_no_attention(trial.values) else "without"
        text = (
            f"No network {lacking} attention was confirmed, so whether "
            "attention improves accuracy here is not known."
        )
    else:
        measure = results.measures[0].heading
        by, folds = results.confirmed_by, results.folds
        judged = study.judge(row.label, row, "none", by, folds)
        seen = study.describe_power([row], by, folds=folds)
        low, high = row.interval or (0, 0)
        ending = f"; {seen}." if seen and low <= 0 <= high else "."
        text = f"Chosen by {measure}, {judged}{ending}"
        if _best(results) is not row:
            text += " With the new seeds no attention validates better."
    if len(trials) == 1:
        text += " Only one configuration was tried."
    return text
