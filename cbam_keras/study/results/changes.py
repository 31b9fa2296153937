"""Differences between two networks for each run and each test example.

Where a measure has a value of each example, an interval covers other examples,
too, and other groups of them, such as patients.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from cbam_keras import _checks
from cbam_keras.study.plans import measures
from cbam_keras.study.plans.study import Run
from cbam_keras.study.results.kept import Kept, Numbers, Predictions, Tested
from cbam_keras.study.results.pseudo_values import WITHOUT_EACH, pseudo_values
from cbam_keras.study.results.statistics import (
    LEAST_GROUPS_OF_CLASS,
    LEAST_OF_AREA,
)

# The fewest examples of a class, and of the others for a curve, with which
# intervals held in simulations (`benchmarks/simulations/measures.md`).
LEAST_OF_CLASS = {
    "auc": LEAST_OF_AREA,
    "balanced_accuracy": 20,
    "macro_f1": 10,
    "average_precision": 10,
}


@dataclasses.dataclass(frozen=True)
class Changes:
    """Differences of a measure between two networks.

    Attributes:
        by_group: Array `(runs, groups)`, sums over the examples of each group
            divided by the mean number of examples per group. Without groups
            each example is one.
        sizes: The number of examples of each group.
        differ: The number of groups in which predictions differ in some run.
            `None` for a mean over examples, whose differences tell it.
        degrees: The degrees of freedom of the variance between examples or
            groups, by Satterthwaite over the classes: few examples of a class
            have a large part in it. `None` for means, numbers and labels.
    """

    by_group: np.ndarray
    sizes: list[int]
    differ: int | None
    degrees: float | None


def find_changes(
    results: Tested,
    pair: tuple[str, str],
    runs: Sequence[Run],
    measure: str,
    differences: Sequence[float],
) -> Changes | None:
    """Returns the differences between two networks by run and group.

    They are `None` where a measure has no value for each example, or unless
    all networks have predictions for the same examples. Their mean in each run
    is that of `differences`, which tables print.
    """
    try:
        kept = [[results.tested[x][run] for x in pair] for run in runs]
    except KeyError:
        return None
    networks, baselines = zip(*kept, strict=True)
    return compare_examples(networks, baselines, measure, differences)


def compare_examples(
    networks: Sequence[Kept],
    baselines: Sequence[Kept],
    measure: str,
    differences: Sequence[float],
) -> Changes | None:
    """Returns the differences of runs of a network from runs of a baseline.

    See `find_changes`.
    """
    is_mean = measure in measures.MEANS
    if not is_mean and measure not in WITHOUT_EACH:
        return None
    if len({x.images.tobytes() for x in (*networks, *baselines)}) > 1:
        return None
    names, group_of = np.unique(networks[0].groups, return_inverse=True)
    # One class of each example, or nothing that divides the examples.
    labels = None
    if isinstance(networks[0], Predictions) and networks[0].labels.ndim == 1:
        labels = networks[0].labels
    every: list[np.ndarray] = []
    have_different = np.zeros(len(names), bool)
    for network, baseline, difference in zip(
        networks, baselines, differences, strict=True
    ):
        changes = _values_of_each(network, measure)
        changes = changes - _values_of_each(baseline, measure)
        if not is_mean:
            # Predictions are stored in half of the digits that were measured.
            changes = changes - changes.mean() + difference
        if not is_mean and labels is not None:
            changes = _correct_few_groups(changes, labels, group_of)
        every.append(changes)
        different = _find_different(network, baseline, measure)
        have_different[group_of[different]] = True
    sums = [np.bincount(group_of, x) for x in every]
    by_group = np.array(sums) * len(names) / len(group_of)
    sizes = np.bincount(group_of).tolist()
    if is_mean:
        return Changes(by_group, sizes, None, None)
    degrees = None
    if labels is not None:
        degrees = _find_degrees(np.mean(every, axis=0), labels, group_of)
    return Changes(by_group, sizes, int(have_different.sum()), degrees)


def _correct_few_groups(changes, labels, group_of):
    """Returns changes as leaving out whole groups would give them.

    Leaving out one of n examples of a class moves the measure by n / (n - 1) of
    its part, one of k groups by k / (k - 1): more, where few groups hold a
    class. The mean of each class stays the same; without groups all do.
    """
    groups, corrected = group_of.max() + 1, changes.copy()
    for one in np.unique(labels):
        of_class = labels == one
        held_by = len(np.unique(group_of[of_class]))
        of_groups = _jackknife_factor(held_by, groups)
        of_examples = _jackknife_factor(int(of_class.sum()), len(labels))
        mean = changes[of_class].mean()
        deviations = changes[of_class] - mean
        corrected[of_class] = mean + of_groups / of_examples * deviations
    return corrected


def _jackknife_factor(count, total):
    """Returns how much more one of `count` moves a class than one of all."""
    # A single one tells nothing of how others differ.
    return count / max(count - 1, 1) * max(total - 1, 1) / total


def _find_degrees(changes, labels, group_of):
    """Returns the degrees of freedom of a variance that classes add to."""
    above = below = 0.0
    for one in np.unique(labels):
        of_class = labels == one
        parts = np.where(of_class, changes - changes[of_class].mean(), 0)
        variance = np.square(np.bincount(group_of, parts)).sum()
        held_by = len(np.unique(group_of[of_class]))
        above += variance
        # One group tells as little as two.
        below += variance**2 / max(held_by - 1, 1)
    return float(above**2 / below) if below else None


def _values_of_each(kept: Kept, measure: str) -> np.ndarray:
    """Returns a value of each example, whose mean is the measure."""
    if measure == "brier" and isinstance(kept, Predictions):
        return measures.brier_of_each(kept.probabilities, kept.labels)
    if measure not in WITHOUT_EACH:
        return kept.of_each
    predicted: np.ndarray
    if isinstance(kept, Predictions):
        predicted = kept.probabilities
    else:
        predicted = kept.numbers.astype("float64")
    return pseudo_values(measure, predicted, np.asarray(kept.labels), 0.0)


def _find_different(network: Kept, baseline: Kept, measure: str) -> np.ndarray:
    """Returns the places of examples that a measure may tell apart."""
    pair = [_find_read(x, measure) for x in (network, baseline)]
    is_different = pair[0] != pair[1]
    return np.flatnonzero(is_different.reshape(len(is_different), -1).any(1))


def _find_read(kept, measure):
    """Returns what a measure reads of predictions."""
    if isinstance(kept, Numbers):
        return kept.numbers
    is_curve = measure in measures.OF_CURVES
    return kept.probabilities if is_curve else kept.predicted


def explain_no_interval(
    measure: str, kept: Sequence[Kept], noun: str, class_names: Sequence[str]
) -> str:
    """Returns why a measure has no interval, empty if it may have one.

    `kept` are the predictions of a network for all test examples: those of one
    run, or of the folds of one seed.
    """
    if measure == "ece":
        return (
            "the calibration error and its differences are biased on a finite "
            "test set"
        )
    if measure not in LEAST_OF_CLASS or not kept:
        return ""
    labels = np.concatenate([x.labels for x in kept])
    groups = np.concatenate([x.groups for x in kept])
    has_groups = len(np.unique(groups)) < len(groups)
    least_examples = LEAST_OF_CLASS[measure]
    reason, smallest_part = "", 1.0
    for of_class, before, after in _name_classes(measure, labels, class_names):
        examples = int(of_class.sum())
        words = f"{before}test {noun}"
        count, least = examples, least_examples
        text = f"only {_checks.count(examples, words)}{after}"
        if examples >= least_examples and has_groups:
            count, least = (
                len(np.unique(groups[of_class])),
                LEAST_GROUPS_OF_CLASS,
            )
            text = f"only {_checks.count(count, 'group')} with {words}s{after}"
        # The reason names the class that lacks most.
        if count / least < smallest_part:
            smallest_part = count / least
            reason = f"{text}; at least {least} are needed"
    return reason


def _name_classes(measure, labels, class_names):
    """Yields which examples are of a class, and words before and after them.

    Of curves, the examples of all other classes are a class, too.
    """
    classes = len(class_names)
    is_curve = measure in measures.OF_CURVES
    is_binary = labels.ndim == 1 and classes == 2
    for one in measures.find_averaged(measure, labels, classes):
        is_one = measures.is_of(labels, one)
        if is_binary:
            adjectives = "negative ", "positive "
            yield is_one, adjectives[one], ""
            if is_curve:
                yield ~is_one, adjectives[1 - one], ""
            continue
        kind = "of class" if labels.ndim == 1 else "with label"
        yield is_one, "", f' {kind} "{class_names[one]}"'
        if is_curve:
            other = "of classes other than" if labels.ndim == 1 else "without"
            yield ~is_one, "", f' {other} "{class_names[one]}"'
