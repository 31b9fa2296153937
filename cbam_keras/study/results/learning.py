"""Whether networks had finished learning, and the learning rates they chose.

A network with fewer weights to train often needs a higher learning rate. One
that was trained at too low a rate loses a comparison for that reason alone.
"""

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from cbam_keras import _checks
from cbam_keras._terminal import Table
from cbam_keras.study.files.outcomes import Outcome
from cbam_keras.study.files.rates import merit_of, variant_of
from cbam_keras.study.plans.measures import Measure, validation_key
from cbam_keras.study.plans.study import Candidate, Run, Study, Variant

if TYPE_CHECKING:
    import pandas

# A network is asked whether it has finished learning if its final training loss
# is more than so many times that of the best one.
HIGHER_LOSS = 1.5
# It is trained once more at so many times its learning rate.
FASTER = 3.0


def can_ask(study: Study) -> bool:
    """Returns whether a further training of a study takes seconds.

    That is so where all networks train on features that are computed once.
    """
    recipe = study.recipe_for()
    is_cached = recipe.frozen and recipe.cache and not recipe.augment
    return is_cached and study.baseline is not None


def at_higher_rate(study: Study, variant: Variant) -> Candidate:
    """Returns a variant at the rate that says if it has finished learning."""
    (rate,) = study.rates_for(variant)
    return variant.at(faster(rate))


def faster(rate: float) -> float:
    """Returns the learning rate of the further training."""
    return float(f"{FASTER * rate:.4g}")


def find_slow(outcomes: Iterable[Outcome]) -> dict[str, float]:
    """Returns the variants whose training loss ended high, and how high.

    That is their mean final training loss by that of the best variant. Those
    that have chosen their learning rate are not among them.
    """
    losses: dict[str, list[float]] = {}
    fixed = set()
    for outcome in outcomes:
        loss = outcome.history[-1].get("loss") if outcome.history else None
        if outcome.finished and loss is not None:
            losses.setdefault(outcome.variant, []).append(loss)
            if outcome.learning_rate is None:
                fixed.add(outcome.variant)
    means = {name: statistics.fmean(values) for name, values in losses.items()}
    best = min(means.values(), default=0.0)
    # A loss with other terms may be zero or less.
    if best <= 0:
        return {}
    return {
        name: mean / best
        for name, mean in means.items()
        if mean > HIGHER_LOSS * best and name in fixed
    }


def had_not_finished(
    before: Outcome, after: Outcome, measure: Measure, images: int
) -> bool:
    """Returns whether a network gains by a higher learning rate.

    It does if it then validates better by more than a standard error, or no
    worse with less than half the training loss.

    Args:
        before, after: The `Outcome` at the rate of the study and at a higher
            one, of the same run.
        measure: What the study compares.
        images: Integer, the number of validation images.
    """
    if not after.finished:
        return False
    gain = merit_of(after, measure) - merit_of(before, measure)
    value = before.metrics.get(validation_key(measure.key))
    error = math.inf
    if value is not None and measure.unit == "%" and 0 <= value <= 1:
        error = math.sqrt(value * (1 - value) / images) if images else 0.0
    losses = [x.history[-1].get("loss", math.nan) for x in (before, after)]
    return gain > error or (gain >= 0 and losses[1] < losses[0] / 2)


def describe_learning(results: Any) -> str:
    """Returns a sentence for each network that had not finished learning.

    Without a further training, for each that may not have.
    """
    sentences = []
    slow = find_slow(results.runs)
    for name, ratio in slow.items():
        label = results.labels.get(name, name)
        rate = _rate_of(results, name)
        if rate is None:
            continue
        several = " ".join(f"{x:g}" for x in _rates_from(rate))
        advice = f"--learning-rate {several}"
        after = _further_training(results, name)
        if after is None:
            sentences.append(
                f"{label} may not have finished learning (its training loss is "
                f"{ratio:.1f} times that of the best): {advice} says."
            )
            continue
        before = next(x for x in results.runs if _are_same_run(x, name, after))
        measure = results.measures[0]
        images = results.sizes.get("validation", 0)
        if had_not_finished(before, after, measure, images):
            sentences.append(
                f"{label} had not finished learning: at a learning rate of "
                f"{after.learning_rate:g} instead of {rate:g} it validates "
                f"better. Choose the rate in each run ({advice}) before you "
                "believe a difference."
            )
    return " ".join(sentences)


def _are_same_run(outcome, name, other):
    return outcome.variant == name and outcome.run == other.run


def _rate_of(results, name):
    """Returns the one learning rate of a variant, `None` for several."""
    options = results.settings.get("variants", {}).get(name, {})
    recipe = results.settings.get("recipe") or {}
    rate = options.get("learning_rate", recipe.get("learning_rate"))
    return rate if isinstance(rate, float | int) else None


def _rates_from(rate: float) -> Sequence[float]:
    return rate, faster(rate), float(f"{FASTER**2 * rate:.1g}")


def _further_training(results, name):
    rate = faster(_rate_of(results, name))
    for one in results.candidates:
        if variant_of(one) == name and one.learning_rate == rate:
            return one
    return None


def learning_rates(results: Any) -> "pandas.DataFrame":
    """Returns a row for each network that a run has chosen from.

    The columns are `variant`, `seed`, `fold`, `learning_rate`, `validation`
    (the measure that is compared, on the validation data) and `chosen`.
    """
    pandas = _checks.require("pandas", extra="plot")
    chosen = {(x.variant, x.run): x.learning_rate for x in results.outcomes}
    key = validation_key(results.measures[0].key)
    rows = []
    for one in results.candidates:
        variant = variant_of(one)
        rate = chosen.get((variant, one.run))
        if rate is None:
            # It has said whether a network had finished learning.
            continue
        rows.append(
            {
                "variant": variant,
                "seed": one.seed,
                "fold": one.fold,
                "learning_rate": one.learning_rate,
                "validation": one.metrics.get(key),
                "chosen": one.learning_rate == rate,
            }
        )
    runs, variants = results.planned_runs, results.variants
    rows.sort(
        key=lambda row: (
            variants.index(row["variant"]),
            runs.index(Run(row["seed"], row["fold"])),
            row["learning_rate"],
        )
    )
    columns = ["variant", "seed", "fold", "learning_rate", "validation"]
    return pandas.DataFrame(rows, columns=[*columns, "chosen"])


def rates_table(results: Any) -> Table | None:
    """Returns how often each rate was chosen, `None` without a choice."""
    frame = results.learning_rates
    if frame.empty:
        return None
    measure, rows = results.measures[0], []
    for name in results.variants:
        of_one = frame[frame["variant"] == name]
        for rate, some in of_one.groupby("learning_rate"):
            rows.append(
                {
                    "network": results.labels.get(name, name),
                    "learning rate": f"{rate:g}",
                    "chosen": f"{some['chosen'].sum()} of {len(some)}",
                    f"validation {measure.unit}".strip(): measure.number(
                        some["validation"].mean()
                    ),
                }
            )
    note = "Each run tests the network that validates best."
    return Table("Learning rates", rows, note=note)
