"""What is given of each example: probabilities, classes, labels, numbers."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cbam_keras import _checks
from cbam_keras.study.plans import measures
from cbam_keras.study.plans.measures import Measure
from cbam_keras.study.results.kept import Kept, Numbers, Predictions

CLASSIFICATION, REGRESSION = GIVEN_TASKS = ("classification", "regression")
OF_ANSWERS = (measures.ACCURACY, "balanced_accuracy", "macro_f1")
# Rounded probabilities sum to 1 up to this, and up to the second are left.
ROUNDED, EXACT = 1e-2 + 1e-6, 1e-5
NUMERIC_NAME = re.compile(r"-?[0-9.]+")
# Numbers are below this: the squares of others may be infinite.
LARGEST = 1e100


class GivenRun(NamedTuple):
    """The indices of test examples, and what one network gives them."""

    rows: np.ndarray
    scores: np.ndarray


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
                "`measure` of answers without probabilities must be one of "
                f"{', '.join(OF_ANSWERS)}. Received: those of "
                f'"{variant}", measure="{keys[0]}"'
            )
        return of_classes, {x: of_classes.compute(x) for x in keys}

    def _probabilities(self, variant, run):
        """Returns probabilities `(N, classes)`, after checking them."""
        scores, classes = run.scores, len(self.class_names)
        if not self.multi_label:
            scores = _without_last(scores)
        if scores.ndim == 1 and _are_answers(scores) and not self.logits:
            self.notes.append(
                f'"{variant}" gives classes without probabilities'
            )
            places = _find_places(scores, self.class_names, "predictions")
            return np.eye(classes)[places]
        if scores.dtype.kind in "iub" or scores.dtype == "float16":
            scores = scores.astype("float64")
        if self.logits:
            special = _checks.require("scipy.special", extra="plot")
            self.notes.append("Probabilities were computed from logits")
            scores = scores.astype("float64")
            if self.multi_label or scores.ndim == 1:
                scores = special.expit(scores)
            else:
                scores = special.softmax(scores, axis=1)
        if scores.ndim == 1 and classes == 2:
            scores = np.stack([1 - scores, scores], axis=1)
        shape, received = (len(run.rows), classes), f"{run.scores.dtype}"
        are_right = scores.shape == shape and scores.dtype.kind == "f"
        if scores.dtype.kind == "f":
            received += f" from {scores.min():.3g} to {scores.max():.3g}"
            sums = np.ones(1) if self.multi_label else scores.sum(axis=-1)
            are_right &= bool(((scores >= 0) & (scores <= 1 + ROUNDED)).all())
            are_right &= bool((abs(sums - 1) <= ROUNDED).all())
        if not are_right:
            raise ValueError(
                f"`predictions` must be probabilities of shape {shape}, which "
                "sum to 1 over classes unless multi_label=True. Received: "
                f'{received} of shape {run.scores.shape}, of "{variant}". For '
                "logits pass logits=True (--logits), for regression "
                'task="regression"'
            )
        if abs(sums - 1).max() > EXACT:
            self.notes.append(
                f'Probabilities of "{variant}" summed to {sums.min():.4f} to '
                f"{sums.max():.4f} over classes, and were divided by it"
            )
            scores = scores / sums[:, None]
        return scores


def find_reader(
    every: Sequence[np.ndarray],
    labels: np.ndarray | None,
    *,
    task: str | None,
    class_names: Sequence[str] | None,
    measure: Any,
    multi_label: bool,
    logits: bool,
) -> Reader:
    """Returns what reads `every` array of runs; see `results_of`."""
    if labels is None:
        usual = Measure(measures.SCORE, "score", scale=1, unit="", digits=4)
        if not isinstance(measure or usual, Measure):
            raise TypeError(
                "`measure` of scores must be a study.Measure, which says "
                f"whether a lower one is better. Received: measure={measure!r}"
            )
        compared = dataclasses.replace(measure or usual, key=measures.SCORE)
        return Reader(None, [compared])
    if labels.dtype.kind == "O":
        # Such as data frames have.
        labels = np.array(labels.tolist())
    is_float = labels.dtype.kind == "f" and not np.isin(labels, (0, 1)).all()
    have_one = all(_without_last(x).ndim == 1 for x in (labels, every[0]))
    if task == REGRESSION or (task is None and is_float and have_one):
        targets = labels[:, None] if labels.ndim == 1 else labels
        if not _are_numbers(targets) or class_names is not None or logits:
            raise ValueError(
                "`labels` of a regression must be finite numbers, (N,) or "
                "(N, ...), without `class_names` or `logits`. Received: "
                f"{labels.dtype} of shape {labels.shape}, {class_names=}, "
                f"{logits=}"
            )
        measure, targets = measure or "mae", targets.astype(float)
        key = measures.check_measure_of_numbers(measure)
        compared = measures.measures_of_numbers(key, targets.std())
        guess = measures.guess_number(measure, targets, targets)
        return Reader(targets, compared, guess, measure=measure)
    compared = measures.measures_of_classes(measure, multi_label)
    read = _read_several if multi_label else _read_labels
    names, places = read(every, labels, class_names)
    commonest = None
    if not multi_label:
        commonest = int(np.bincount(places).max()) / len(places)
    return Reader(places, compared, commonest, names, multi_label, logits)


def _check_numbers(variant, run, labels):
    """Returns numbers of the shape of their targets."""
    rows, numbers = run
    shape = rows.shape if labels is None else labels.shape
    if labels is not None and numbers.shape == shape[:-1]:
        numbers = numbers[..., None]
    if numbers.shape != shape or not _are_numbers(numbers):
        raise ValueError(
            f"`predictions` must be finite numbers of shape {shape}. Received: "
            f'"{variant}", {run.scores.dtype} of shape {run.scores.shape}'
        )
    return numbers.astype("float64")


def _without_last(values):
    """Returns `(N, 1)` as `(N,)`, as a single sigmoid gives it."""
    is_single = values.ndim == 2 and values.shape[1] == 1
    return values[:, 0] if is_single else values


def _are_numbers(values):
    is_number = values.dtype.kind in "iuf" and values.size > 0
    # No float32 is as large as the limit.
    return is_number and bool((np.abs(values.astype(float)) < LARGEST).all())


def _are_answers(scores):
    """Returns whether values are classes, and no probabilities."""
    if scores.dtype.kind != "f":
        return scores.dtype.kind in "iubUSO"
    is_whole = bool((scores == np.round(scores)).all())
    return is_whole and bool((abs(scores) > 1).any())


def _as_text(value):
    return value.decode() if isinstance(value, bytes) else str(value)


def _find_places(values, names, argument):
    """Returns the number of each class; raises for what is of none."""
    found = np.full(len(values), -1)
    if values.ndim == 1 and values.dtype.kind in "USO":
        places = {name: place for place, name in enumerate(names)}
        found = np.array([places.get(_as_text(x), -1) for x in values])
    elif values.ndim == 1 and values.dtype.kind in "iubf":
        is_place = (values == np.round(values)) & (values < len(names))
        found = np.where(is_place, values, -1).astype("int32")
    if len(found) and found.min() >= 0:
        return found
    wrong = values[found < 0].tolist()
    advice = "Leave out what has no answer (-1). " if -1 in wrong else ""
    raise ValueError(
        f"`{argument}` must be the classes of the examples: names of "
        f"`class_names`, integers from 0 to {len(names) - 1}, or one-hot. "
        f"Received: {_checks.first_few(wrong) or 'no examples'}, of shape "
        f'{values.shape}. {advice}For regression pass task="regression", for '
        "several classes per example multi_label=True (--multi-label)"
    )


def _names_of(every, labels, given):
    """Returns the classes, in their order."""
    arrays = [_without_last(x) for x in every]
    widths = [x.shape[1] for x in arrays if x.ndim == 2]
    answers = [x for x in arrays if x.ndim == 1 and _are_answers(x)]
    if given is None and labels.dtype.kind in "USO":
        if len(answers) < len(arrays):
            raise ValueError(
                "`class_names` must be given in the order of probabilities if "
                f"labels are names. Received: labels as {labels.flat[0]!r}"
            )
        given = sorted({_as_text(x) for y in (labels, *answers) for x in y})
    elif given is None:
        numbers = [x for x in answers if x.dtype.kind not in "USO"]
        if answers and labels.ndim == 1:
            numbers.append(labels)
        count = 1 + max((int(x.max(initial=1)) for x in numbers), default=1)
        given = range(widths[0] if widths else count)
    names = [*map(str, given)]
    if len({*names}) != len(names) or {*widths} - {len(names)}:
        raise ValueError(
            "`class_names` must name each column of the probabilities. "
            f"Received: {_checks.first_few(names)} for {widths or 2} columns"
        )
    return names


def _read_labels(every, labels, class_names):
    """Returns the names of classes, and the numbers of labels, `(N,)`."""
    labels = _without_last(labels)
    names = _names_of(every, labels, class_names)
    is_wide = labels.ndim == 2 and labels.shape[1] == len(names)
    if is_wide and (np.sort(labels, axis=1)[:, -2:] == (0, 1)).all():
        labels = labels.argmax(axis=1)
    others = [x for place, x in enumerate(names) if x != str(place)]
    is_said = class_names is not None and labels.dtype.kind not in "USO"
    if is_said and any(NUMERIC_NAME.fullmatch(x) for x in others):
        raise ValueError(
            "`class_names` must be no numbers where labels are numbers, since "
            "a label is the place of its class. Received: "
            f"class_names={_checks.shown(class_names)}. Give the labels as "
            "text, by labels.astype(str), if they are these names"
        )
    return names, _find_places(labels, names, "labels")


def _read_several(every, labels, class_names):
    """Returns the names of labels, and 0 and 1 for each, `(N, labels)`."""
    if labels.ndim != 2 or not np.isin(labels, (0, 1)).all():
        raise ValueError(
            "`labels` must be 0 and 1 for each class with multi_label=True, "
            f"(N, classes). Received: {labels.dtype} of shape {labels.shape}"
        )
    names = _names_of([labels, *every], labels, class_names)
    return names, labels.astype("int32")
