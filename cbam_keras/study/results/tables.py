"""Tables of networks, as results show them."""

import dataclasses
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cbam_keras import _checks
from cbam_keras._terminal import Table, number_cell
from cbam_keras.study.plans.measures import (
    FRACTIONS,
    SCORE,
    Measure,
    validation_key,
)
from cbam_keras.study.results.statistics import Measured, ends_of, find_clear

# With so many networks, tables have their multiply-accumulates, too.
MANY = 4
# What a paper does not need of a table, and how many columns it has at most.
FOR_A_RUN, PAPER_COLUMNS = ("MMACs", "s / epoch"), 5
# With fewer images in all, each should be tested.
FEW_IMAGES = 1_000
# Where one network fails on 5% of examples, 95% intervals of mean scores
# cover in 63% of studies on 20, in 92% on 50 and 200, in 95% on 1,000.
MANY_SCORES = 1_000
DEVIATION = "\N{PLUS-MINUS SIGN}: standard deviation over training runs."
# What a verdict says of collapsed networks.
ADVICE = "Train longer or change the learning rate before comparing."
NOTHING = Measured()


@dataclasses.dataclass(frozen=True)
class Row(Measured):
    """One network with all seeds, compared with the baseline.

    With folds, each fold of each seed counts as a seed.

    Attributes:
        values, mean, deviation: Tuple of numbers, one per seed, their mean, and
            their standard deviation (n - 1), or `None`.
        difference: Number, the mean difference from the baseline, paired by
            seed, or `None` for the baseline.
        interval, p_value: Tuple of two numbers, the 95% confidence interval of
            the difference, and number, less than 0.05 where it excludes zero.
            `None` for a single seed, and where no difference varies.
        reason: String, why there is no interval, such as `"only 7 positive test
            images; at least 20 are needed"`, or empty.
        over: String, what the interval is about, such as `"5 seeds and 1,000
            test images"`; without a value of each image it is `"5 seeds, these
            1,000 test images"`.
        pairs: Integer, the number of seeds that both have.
        standard_error: Number, of the difference: the root of its variances
            `by_seeds` and `by_images`. The images, or groups of them, have so
            many `columns`, of unequal groups their effective number.
        variant, label: Strings, its name and what tables call it.
        seeds: Tuple of integers, the seed of each training run that finished.
        parameters, macs: See `Outcome`.
        validation, validation_accuracy: Numbers or `None`, the means on the
            validation images in the best epoch. The first is what is compared.
        seconds_per_epoch: Number, the median of the seeds, or `None`.
        failures: Tuple of strings, how other trainings ended.
    """

    variant: str = ""
    label: str = ""
    seeds: tuple[int, ...] = ()
    parameters: int | None = None
    macs: int | None = None
    validation: float | None = None
    validation_accuracy: float | None = None
    seconds_per_epoch: float | None = None
    failures: tuple[str, ...] = ()


def mean_cell(found: Measured, measure: Measure) -> str:
    """Returns mean and deviation as shown, for a table."""
    numbers = map(measure.number, (found.mean, found.deviation))
    return " \N{PLUS-MINUS SIGN} ".join(filter(None, numbers))


def difference_cell(found: Measured, measure: Measure) -> str:
    """Returns difference and interval as shown, without the unit."""
    text, ends = measure.number(found.difference, "+"), ends_of(found, measure)
    if ends is None:
        return text
    low, high = (measure.number(end, "+") for end in ends)
    return f"{text} [{low}, {high}]"


def rows_of(results: Any) -> list[Row]:
    """Returns the rows of a table of `Results`."""
    first = results.measures[0]
    keys = first, validation_key(first.key), "val_accuracy"
    measured, *validated = map(results.compared, keys)
    rows = []
    for name in results.variants:
        outcomes = [x for x in results.outcomes if x.variant == name]
        finished = [x for x in outcomes if x.finished]
        # A network is described by a run that finished, if one did.
        one = next(iter([*finished, *outcomes]), None)
        every = [x.seconds_per_epoch for x in finished]
        seconds = [x for x in every if x is not None]
        validation, accuracy = (x.get(name, NOTHING).mean for x in validated)
        row = Row(
            **vars(measured.get(name, NOTHING)),
            variant=name,
            label=results.labels.get(name, name),
            seeds=tuple(x.seed for x in finished),
            parameters=one and one.parameters,
            macs=one and one.macs,
            validation=validation,
            validation_accuracy=accuracy,
            seconds_per_epoch=statistics.median(seconds) if seconds else None,
            failures=tuple(
                f"{x.run}: {x.status} ({x.message})"
                for x in outcomes
                if not x.finished
            ),
        )
        rows.append(row)
    return rows


def networks_table(results: Any, title: str) -> Table:
    """Returns a table with a row per network, compared by the first measure."""
    rows, baseline = results.rows, results.baseline
    first, *others = results.measures
    further = {}
    for measure in others:
        by_name = {x: results.values(x, measure) for x in results.variants}
        # They are shown, not compared; no network may have one.
        summaries = {
            name: Measured.of([*values.values()])
            for name, values in by_name.items()
            if values
        }
        if summaries:
            further[measure] = summaries
    difference = "difference"
    if baseline is not None:
        label = results.labels.get(baseline, baseline)
        difference = f'difference from "{label}"'
    are_counted = any(row.parameters is not None for row in rows)
    are_timed = None not in [x.seconds_per_epoch for x in rows if x.seeds]
    cells = []
    for row in rows:
        cell = {"network": row.label}
        if are_counted:
            cell["parameters"] = number_cell("{:,}", row.parameters)
        if are_counted and len(rows) >= MANY:
            cell["MMACs"] = number_cell("{:,.4g}", row.macs, 1e-6)
        # Without a mean, the cell says how its runs failed.
        cell[first.column] = mean_cell(row, first) or "; ".join(row.failures)
        cell[difference] = difference_cell(row, first)
        for measure, by_name in further.items():
            heading = measure.column
            if heading in cell:
                heading = heading.replace(measure.heading, measure.key, 1)
            measured = by_name.get(row.variant, NOTHING)
            cell[heading] = mean_cell(measured, measure)
        if are_timed:
            cell["s / epoch"] = number_cell("{:.1f}", row.seconds_per_epoch)
        cells.append(cell)
    better = find_better(results)
    bold = [
        (number, first.column)
        for number, row in enumerate(rows)
        if row.variant in better
    ]
    note = note_of(rows, results.tested_on, [first, *further])
    return Table(title, cells, note=note, bold=bold)


def latex(results: Any) -> str:
    """Returns the first table for LaTeX, which needs booktabs.

    Bold marks networks that are significantly better than the baseline, or the
    baseline if all others are worse.

    Raises:
        ImportError: If pandas or Jinja is not installed.
    """
    table = results.tables()[0]
    names = [name for name in table.sides if name not in FOR_A_RUN]
    return table.latex(names[:PAPER_COLUMNS])


def find_better(results: Any) -> set[str]:
    """Returns what a verdict calls better, or the baseline if it is best."""
    measure, learned = results.measures[0], results.learned()
    clear = find_clear(learned)
    better = {x for x in clear if measure.merit(learned[x].difference) > 0}
    if clear and len(clear) == len(results.variants) - 1 and not better:
        return {results.baseline}
    return better


def note_of(
    rows: Sequence[Row], tested_on: str, measures: Iterable[Measure]
) -> str:
    """Returns the note below a table, of what it measures first of all."""
    first, *_ = measures
    unit = first.unit_of_differences
    most = max(rows, key=lambda x: x.pairs, default=NOTHING)
    sentences = [f"{tested_on}."]
    if any(row.deviation is not None for row in rows):
        sentences.append(DEVIATION)
    if unit and most.pairs:
        sentences.append(f"Differences are in {unit}.")
    if any(row.interval for row in rows):
        brackets = "Brackets: 95% CI."
        if most.pairs == 1:
            brackets = "Brackets: 95% CI, which does not cover other seeds."
        sentences.append(brackets)
    reasons = dict.fromkeys(row.reason for row in rows if row.reason)
    sentences += [f"No CI: {reason}." for reason in reasons]
    if first.key == SCORE and 1 < most.columns < MANY_SCORES:
        sentences.append(
            "The CI cannot account for failures too rare to appear in these "
            "examples."
        )
    sentences += [
        f"Lower {measure.heading} is better."
        for measure in measures
        if measure.lower_is_better
    ]
    text = " ".join(filter(None, sentences))
    return text.replace(" in points", " in percentage points")


def describe_few_images(
    sizes: Mapping[str, int], folds: int | None, noun: str = "image"
) -> str:
    """Returns what to do about few test images as a sentence, or nothing."""
    total, tested = sum(sizes.values()), sizes.get("test", 0)
    if folds is not None or tested in (0, total) or total >= FEW_IMAGES:
        return ""
    return (
        f"{_checks.count(tested, f'test {noun}')} give imprecise estimates; "
        "5-fold cross-validation (--folds 5, in Python folds=5) tests all "
        f"{total:,}."
    )


def describe_guessing(results: Any) -> str:
    """Returns a sentence if no network has learned, or all have, or nothing."""
    first, guess, noun = results.measures[0], results.guess, results.noun
    by_name = [[*results.values(x, first).values()] for x in results.variants]
    values = [value for of_one in by_name for value in of_one]
    if guess is not None and results.predicts == "numbers":
        best = max(values, key=first.merit)
        if first.merit(best) > first.merit(guess):
            return ""
        return (
            f"No network beats the constant baseline: the best {first.heading} "
            f"is {first.number(best)}; the best constant for the training "
            f"data gives {first.number(guess)}. {ADVICE}"
        )
    if guess is None or first.key not in FRACTIONS:
        return ""
    if results.folds is not None:
        # The folds together have tested all images.
        values = [statistics.fmean(of_one) for of_one in by_name if of_one]
    images = results.test_images
    if min(values, default=0) == 1:
        return (
            f"All networks classify all {images:,} test {noun}s correctly, so "
            f"this test set cannot separate them; use more or harder {noun}s."
        )
    luck = guess + 1.96 * math.sqrt(guess * (1 - guess) / images)
    highest = max(values, default=1.0)
    if highest > luck:
        return ""
    return (
        "No network is better than chance: the best test accuracy is "
        f"{100 * highest:.2f}%; the majority class gives {100 * guess:.2f}% "
        f"(up to {100 * luck:.2f}% by chance with {images:,} {noun}s). {ADVICE}"
    )
