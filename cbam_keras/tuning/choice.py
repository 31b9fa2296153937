"""What is retrained, what is chosen, and the verdict of a search.

The best of many trials is optimistically biased. So the trials decide on one
setting with attention, and new seeds compare it with the network without it.
"""

import math
import statistics

from cbam_keras import study
from cbam_keras.study.plans.measures import ACCURACY, validation_key
from cbam_keras.tuning.space import has_no_attention


def to_confirm(results: study.Ranking) -> list[study.Trial]:
    """Returns the trials without attention and with it to retrain.

    Each is the best of its kind or, of those within a standard error of its
    score, the one that costs least.
    """
    plain = [x for x in results.ranked if has_no_attention(x.values)]
    gated = [x for x in results.ranked if not has_no_attention(x.values)]
    return [_cheapest_of_best(x, results) for x in (plain, gated) if x]


def _cheapest_of_best(ranked, results):
    """Returns the cheapest of the trials that are as good as the best one."""
    best = ranked[0].score
    error = _standard_error(ranked[0], results)
    as_good = [trial for trial in ranked if abs(trial.score - best) <= error]
    if any(trial.macs is None for trial in as_good):
        # Multiply-accumulates that are not known cannot be compared.
        return min(as_good, key=lambda trial: trial.parameters)
    return min(as_good, key=lambda trial: (trial.macs, trial.parameters))


def _standard_error(trial, results):
    """Returns the standard error of the score of a trial.

    For an accuracy this is the error of drawing the validation images,
    otherwise that of the folds, and 0 for a single one.
    """
    key = results.measures[0].key
    if key == validation_key(ACCURACY):
        num_images = results.images_of(results.planned_runs, "validation")
        return math.sqrt(trial.score * (1 - trial.score) / num_images)
    scores = list(results.values(trial.variant, key).values())
    if len(scores) < 2:
        return 0.0
    return statistics.stdev(scores) / math.sqrt(len(scores))


def choose_setting(results: study.Ranking) -> tuple[study.Trial, str]:
    """Returns the best trial, and the name with which it was trained last.

    It is the one with attention, unless the other validates better over
    the new seeds.
    """
    if not results.confirmation:
        best = results.ranked[0]
        return best, best.variant
    row = _best(results)
    best = next(x for x in results.trials if x.number == row.trial)
    return best, row.variant


def _best(results):
    """Returns the row of the confirmation that validates best."""
    merit = results.measures[0].merit
    # The winner of the trials comes last, and wins where both are equal.
    return sorted(results.confirmation, key=lambda x: merit(x.validation))[-1]


def search_verdict(results: study.Ranking, unlearned: str) -> str:
    """Returns whether attention improves accuracy, in a sentence or two.

    `unlearned` says that no network has learned, or is empty.
    """
    if not results.confirmation:
        return (
            "Nothing was retrained, and the best of several trials is "
            "optimistically biased. confirm=6 (--confirm 6) retrains the best "
            "setting and the network without attention with new seeds."
        )
    if unlearned:
        return unlearned
    # The winner of the trials comes last.
    *plain, row = results.confirmation
    if not plain:
        trial = next(x for x in results.trials if x.number == row.trial)
        lacking = "with" if has_no_attention(trial.values) else "without"
        return (
            f"No network {lacking} attention was retrained, so this "
            "search cannot tell whether attention improves accuracy."
        )
    comparison = study.verdict(
        {row.label: row}, "none", results.confirmed_by, results.folds
    )
    measure = results.measures[0].heading
    text = f"Chosen by {measure}: {row.label}. {comparison}"
    if _best(results) is not row:
        text += (
            " With new seeds, the validation score is better without attention."
        )
    return text
