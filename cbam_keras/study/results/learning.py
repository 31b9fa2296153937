"""Whether networks had finished learning, and the learning rates they chose.

One that was trained at too low a rate loses a comparison for that alone.
"""

import math
import statistics
from collections.abc import Sequence

from cbam_keras import _checks
from cbam_keras._files import Json
from cbam_keras._terminal import DataFrame, Table
from cbam_keras.study.files.outcomes import Outcome
from cbam_keras.study.plans import measures
from cbam_keras.study.plans.study import Study
from cbam_keras.study.results.kept import Tested

# With so many times the best final training loss, a network may learn more.
HIGHER_LOSS = 1.5
# With such an accuracy on its training images, a network has learned them: near
# zero, losses of equal networks differ by more than that.
LEARNED = 0.99
# It is trained once more at so many times its learning rate.
FASTER = 3.0


def can_ask(study: Study) -> bool:
    """Returns whether a further training takes seconds, on features."""
    recipe, is_compared = study.recipe_for(), study.baseline is not None
    return is_compared and recipe.frozen and recipe.cache and not recipe.augment


def faster(rate: float) -> float:
    """Returns the learning rate of the further training."""
    return float(f"{FASTER * rate:.4g}")


def find_slow(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Returns high mean final losses by the best, where no rate was chosen."""
    last_epochs: dict[str, list[Json]] = {}
    for outcome in outcomes:
        last = (outcome.history or [{}])[-1]
        if outcome.finished and "loss" in last:
            last_epochs.setdefault(outcome.variant, []).append(last)
    means = {
        name: statistics.fmean(epoch["loss"] for epoch in epochs)
        for name, epochs in last_epochs.items()
    }
    best = min(means.values(), default=0.0)
    # A loss with other terms may be zero or less.
    if best <= 0:
        return {}
    have_chosen = {x.variant for x in outcomes if x.learning_rate is not None}
    have_learned = {
        name
        for name, epochs in last_epochs.items()
        if statistics.fmean(x.get("accuracy", 0.0) for x in epochs) >= LEARNED
    }
    times = {
        name: mean / best
        for name, mean in means.items()
        if name not in have_chosen | have_learned
    }
    return {name: ratio for name, ratio in times.items() if ratio > HIGHER_LOSS}


def had_not_finished(
    before: Outcome, after: Outcome, measure: measures.Measure, images: int
) -> bool:
    """Returns whether a network validates or learns better at a higher rate."""
    if not after.finished:
        return False
    by, error = (
        measures.validated_by([before.metrics, after.metrics], measure),
        math.inf,
    )
    value, further = (x.metrics.get(by.key) or 0.0 for x in (before, after))
    gain = by.merit(further - value)
    if by.unit == "%" and 0 < value <= 1 and images:
        error = math.sqrt(value * (1 - value) / images)
    first, second = (x.history[-1].get("loss", 0) for x in (before, after))
    return gain > error or (gain >= 0 and second < first / 2)


def describe_learning(results: Tested) -> str:
    """Returns a sentence for each network that may have more to learn."""
    sentences, measure = [], results.measures[0]
    for name, ratio in find_slow(results.runs).items():
        label, settings = results.labels.get(name, name), results.settings
        own = settings["variants"][name].get("learning_rate")
        rate = own or settings["recipe"]["learning_rate"]
        several = rate, faster(rate), float(f"{FASTER**2 * rate:.1g}")
        advice = _describe_rates(several, results.by_command)
        further = [x for x in results.candidates if x.original == name]
        for after in further:
            runs = [x for x in results.runs if x.variant == name]
            (before,) = [x for x in runs if x.run == after.run]
            images = results.sizes.get("validation", 0)
            if had_not_finished(before, after, measure, images):
                sentences.append(
                    f'"{label}" is undertrained: it had not finished learning, '
                    f"as a learning rate of {after.learning_rate:g} gives a "
                    f"better validation score than {rate:g}. Before trusting a "
                    "difference, let each run choose its learning rate "
                    f"({advice})."
                )
        if not further:
            sentences.append(
                f'"{label}" may be undertrained (its training loss is '
                f"{ratio:.1f} times the lowest). Check with {advice}."
            )
    return " ".join(sentences)


def _describe_rates(rates, by_command):
    """Returns how to train at several learning rates."""
    listed = [f"{rate:g}" for rate in rates]
    if by_command:
        return f"--learning-rate {' '.join(listed)}"
    return f"recipe=training.Recipe(learning_rate=({', '.join(listed)}))"


def learning_rates(results: Tested) -> DataFrame:
    """Returns a row for each network from which a run has chosen."""
    pandas = _checks.require("pandas", extra="plot")
    chosen = {(x.variant, x.run): x.learning_rate for x in results.outcomes}
    key = measures.validation_key(results.measures[0].key)
    rows = []
    for x in results.candidates:
        rate = chosen.get((x.original, x.run))
        # Others have said whether a network had finished learning.
        if rate is not None:
            about = x.original, x.seed, x.fold, x.learning_rate
            is_chosen = x.learning_rate == rate
            rows.append((*about, x.metrics.get(key), is_chosen))
    columns = "variant", "seed", "fold", "learning_rate", "validation", "chosen"
    return pandas.DataFrame(rows, columns=columns)


def rates_table(results: Tested) -> Table | None:
    """Returns how often each rate was chosen, `None` without a choice."""
    measure, rows = results.measures[0], []
    groups = learning_rates(results).groupby(["variant", "learning_rate"])
    for (name, rate), some in groups:
        row = {"network": results.labels.get(name, name)}
        row["learning rate"] = f"{rate:g}"
        row["chosen"] = f"{some['chosen'].sum()} of {len(some)}"
        heading = f"validation {measure.unit}".strip()
        row[heading] = measure.number(some["validation"].mean())
        rows.append(row)
    note = "Each run keeps the network with the best validation score."
    return Table("Learning rates", rows, note=note) if rows else None
