"""Probabilities, classes and numbers of each example, and their metrics."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cbam_keras import _checks
from cbam_keras.study.plans import measures
from cbam_keras.study.plans.measures import Measure
from cbam_keras.study.programs.given_classes import ROUNDED, Interpretation
from cbam_keras.study.programs.given_columns import REGRESSION
from cbam_keras.study.results.kept import Kept, Numbers, Predictions

OF_ANSWERS = (measures.ACCURACY, "balanced_accuracy", "macro_f1")
# Probabilities whose sum differs from 1 by less are left as they are.
EXACT = 1e-5
# Numbers are below this: the squares of others may be infinite.
LARGEST = 1e100


class GivenRun(NamedTuple):
    """The indices of test examples, and what one network gives them."""

    rows: np.ndarray
    scores: np.ndarray
    # What the columns of a data frame are called.
    columns: tuple[str, ...] | None = None


@dataclasses.dataclass
class Reader:
    """Reads classes, without `class_names` numbers, without labels scores."""

    labels: np.ndarray | None
    measures: Sequence[Measure]
    commonest: float | None = None
    class_names: Sequence[str] = ()
    multi_label: bool = False
    logits: bool = False
    # A name or a function, of numbers.
    measure: Any = None
    # What was made of predictions.
    notes: list[str] = dataclasses.field(default_factory=list)

    def read(
        self, variant: str, run: GivenRun, names: np.ndarray, groups: np.ndarray
    ) -> tuple[Kept, Mapping[str, float | None]]:
        """Returns the predictions of a run, and its metrics."""
        names, groups = names[run.rows], groups[run.rows]
        labels: Any = None if self.labels is None else self.labels[run.rows]
        if not self.class_names:
            numbers = _check_numbers(variant, run, labels)
            kept = Numbers(names, labels, numbers, groups)
            if labels is None:
                return kept, {measures.SCORE: float(kept.of_each.mean())}
            return kept, measures.measure_numbers(self.measure, numbers, labels)
        scores = self._probabilities(variant, run)
        of_classes = Predictions(names, labels, scores, groups)
        keys = [x.key for x in self.measures]
        are_alone = of_classes.are_answers and not self.multi_label
        if are_alone and not {*keys} <= {*OF_ANSWERS}:
            raise ValueError(
                "`measure` of classes without probabilities must be one of "
                f"{', '.join(OF_ANSWERS)}. Received: classes "
                f'of "{variant}", measure="{keys[0]}"'
            )
        return of_classes, {x: of_classes.compute(x) for x in keys}

    def _probabilities(self, variant, run):
        """Returns probabilities `(N, classes)`, after checking them."""
        scores, classes = run.scores, len(self.class_names)
        if scores.ndim == 1 and scores.dtype.kind == "i" and not self.logits:
            self.notes.append(
                f'"{variant}" gives classes without probabilities'
            )
            return np.eye(classes)[scores]
        if scores.dtype.kind in "iub" or scores.dtype == "float16":
            scores = scores.astype("float64")
        if self.logits and scores.dtype.kind == "f":
            scores = self._from_logits(variant, scores)
        if scores.ndim == 1 and classes == 2:
            scores = np.stack([1 - scores, scores], axis=1)
        shape = len(run.rows), classes
        are_right = scores.shape == shape and scores.dtype.kind == "f"
        if are_right:
            sums = np.ones(1) if self.multi_label else scores.sum(axis=-1)
            are_right = bool(((scores >= 0) & (scores <= 1 + ROUNDED)).all())
            are_right &= bool((abs(sums - 1) <= ROUNDED).all())
        if not are_right:
            self._refuse_scores(variant, run.scores, shape)
        if abs(sums - 1).max() > EXACT:
            self.notes.append(
                f'Probabilities of "{variant}" did not sum to 1 '
                f"({sums.min():.4f} to {sums.max():.4f}) and were normalized"
            )
            scores = scores / sums[:, None]
        return scores

    def _from_logits(self, variant, scores):
        """Returns the probabilities of logits."""
        special = _checks.require("scipy.special", extra="plot")
        if scores.ndim == 2 and not self.multi_label:
            sums = scores.sum(axis=1)
            for total, what in ((1, "probabilities"), (100, "percentages")):
                near = abs(sums - total) <= ROUNDED * total
                if (scores >= 0).all() and near.all():
                    raise ValueError(
                        "`predictions` must be logits with logits=True "
                        f'(--logits). Received: {what} of "{variant}", which '
                        f"sum to {total}. Leave out logits=True"
                    )
        self.notes.append("Probabilities were computed from logits")
        scores = scores.astype("float64")
        if self.multi_label or scores.ndim == 1:
            return special.expit(scores)
        return special.softmax(scores, axis=1)

    def _refuse_scores(self, variant, scores, shape):
        """Raises for what are no probabilities, and says what they may be."""
        received = f"{scores.dtype} of shape {scores.shape}"
        advice = "For logits pass logits=True (--logits)"
        if scores.dtype.kind in "iuf" and scores.size:
            received = (
                f"{scores.dtype} from {scores.min():.3g} to "
                f"{scores.max():.3g} of shape {scores.shape}"
            )
            are_percent = scores.min() >= 0 and 1.5 < scores.max() <= 101
            if scores.ndim == 2 and not self.multi_label:
                sums = scores.sum(axis=1)
                are_percent &= bool((abs(sums - 100) <= 1).all())
            if are_percent:
                advice = "If they are percentages, divide them by 100"
        raise ValueError(
            f"`predictions` must be probabilities of shape {shape}, which sum "
            "to 1 over classes unless multi_label=True (--multi-label). "
            f'Received: {received}, of "{variant}". {advice}, for regression '
            'task="regression" (--task regression)'
        )


def find_reader(
    meaning: Interpretation | None,
    labels: np.ndarray | None,
    *,
    measure: Any,
    multi_label: bool,
    logits: bool,
) -> Reader:
    """Returns what reads runs of one meaning, or scores; see `results_of`."""
    if labels is None or meaning is None:
        usual = Measure(measures.SCORE, "score", scale=1, unit="", digits=4)
        if not isinstance(measure or usual, Measure):
            raise TypeError(
                "`measure` of scores must be a study.Measure, which says "
                f"whether a lower one is better. Received: measure={measure!r}"
            )
        compared = dataclasses.replace(measure or usual, key=measures.SCORE)
        return Reader(None, [compared])
    if meaning.task == REGRESSION:
        targets = labels[:, None] if labels.ndim == 1 else labels
        if not _are_numbers(targets):
            raise ValueError(
                "`labels` of a regression must be finite numbers, (N,) or "
                f"(N, ...). Received: {labels.dtype} of shape {labels.shape}"
            )
        measure, targets = measure or "mae", targets.astype(float)
        key = measures.check_measure_of_numbers(measure)
        compared = measures.measures_of_numbers(key, targets.std())
        guess = measures.guess_number(measure, targets, targets)
        return Reader(targets, compared, guess, measure=measure)
    compared = measures.measures_of_classes(measure, multi_label)
    commonest = None
    if not multi_label:
        commonest = int(np.bincount(labels).max()) / len(labels)
    return Reader(
        labels,
        compared,
        commonest,
        meaning.class_names,
        multi_label,
        logits,
        notes=[*meaning.notes],
    )


def _check_numbers(variant, run, labels):
    """Returns numbers of the shape of their targets."""
    rows, numbers = run.rows, run.scores
    shape = rows.shape if labels is None else labels.shape
    if labels is not None and numbers.shape == shape[:-1]:
        numbers = numbers[..., None]
    if numbers.shape != shape or not _are_numbers(numbers):
        raise ValueError(
            f"`predictions` must be finite numbers of shape {shape}. Received: "
            f'"{variant}", {run.scores.dtype} of shape {run.scores.shape}'
        )
    return numbers.astype("float64")


def _are_numbers(values):
    if values.dtype.kind not in "iuf" or not values.size:
        return False
    # No float32 is as large as the limit.
    return bool((np.abs(values.astype("float64")) < LARGEST).all())
