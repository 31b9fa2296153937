"""What is given of each example: probabilities, classes, labels, numbers."""

import abc
import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from cbam_keras import _checks
from cbam_keras.study.plans.measures import (
    ACCURACY,
    MEASURES,
    OF_SEVERAL,
    SCORE,
    SHOWN,
    TEST_ACCURACY,
    Measure,
    check_measure_of_numbers,
    compute,
    guess_number,
    measure_numbers,
    measures_of_numbers,
)
from cbam_keras.study.programs.given_runs import GivenRun
from cbam_keras.study.results.kept import Kept, Numbers, Predictions

CLASSIFICATION, REGRESSION = TASKS = ("classification", "regression")
SCORES = "scores"
# Probabilities may sum to 1 up to a hundredth, in half precision or rounded for
# a table. Up to the second number they are left as they are.
ROUNDED, EXACT = 1e-2 + 1e-6, 1e-5
# Numbers are below this: the squares of others may be infinite.
LARGEST = 1e100

Metrics = dict[str, float | None]


class Reader(abc.ABC):
    """Reads what networks give examples whose labels are known.

    Attributes:
        labels: Array of the classes, labels or targets, `None` for scores.
        measures: Sequence of `Measure`, first the one that is compared.
        commonest: Number, what is compared of one answer for all, or `None`.
        class_names: Sequence of strings, the classes, if there are any.
        notes: List of strings, what was made of the predictions.
    """

    labels: np.ndarray | None
    measures: Sequence[Measure]
    commonest: float | None = None
    class_names: Sequence[str] = ()
    notes: Sequence[str] = ()

    @abc.abstractmethod
    def read(
        self,
        variant: str,
        run: GivenRun,
        names: np.ndarray,
        groups: np.ndarray,
    ) -> tuple[Kept, Metrics]:
        """Returns the predictions of a run, and its metrics."""


class _OfClasses(Reader):
    """Reads probabilities of classes, or answers that are classes."""

    def __init__(self, labels, class_names, measure, logits):
        self.labels, self.class_names = labels, class_names
        self.logits, self.notes = logits, []
        self.keys = self.find_keys(measure)
        self.measures = [
            TEST_ACCURACY
            if key == ACCURACY
            else Measure(key, f"test {MEASURES[key]}", **SHOWN.get(key, {}))
            for key in self.keys
        ]

    def find_keys(self, measure):
        """Returns what is measured, first what is compared."""
        first = measure or ACCURACY
        _checks.one_of("measure", first, [ACCURACY, *MEASURES])
        return dict.fromkeys([first, ACCURACY])

    @property
    def commonest(self):
        return int(np.bincount(self.labels).max()) / len(self.labels)

    def read(self, variant, run, names, groups):
        scores = self.probabilities(variant, run)
        kept = Predictions(names, self.labels[run.rows], scores, groups)
        if kept.are_answers and {*self.keys} - {ACCURACY, *OF_ANSWERS}:
            raise ValueError(
                f"`measure` of answers without probabilities must be one of "
                f"{ACCURACY}, {', '.join(OF_ANSWERS)}. Received: those of "
                f'"{variant}", measure="{[*self.keys][0]}"'
            )
        metrics = {
            key: float(np.mean(kept.of_each))
            if key == ACCURACY
            else compute(key, scores, kept.labels)
            for key in self.keys
        }
        return kept, metrics

    def probabilities(self, variant, run):
        """Returns probabilities `(N, classes)`, after checking them."""
        scores, classes = _without_last(run.scores), len(self.class_names)
        if scores.ndim == 1 and are_answers(scores) and not self.logits:
            self.note(f'"{variant}" gives classes without probabilities')
            places = _find_places(scores, self.class_names)
            _check_places(places, scores, self.class_names, "predictions")
            return np.eye(classes)[places]
        received = f'those of "{variant}", of shape {run.scores.shape}'
        scores = _as_floats(scores, received)
        if self.logits:
            self.note("Probabilities are those of the logits that were given")
            apply = _sigmoid if scores.ndim == 1 else _softmax
            scores = apply(scores)
        if scores.shape == run.rows.shape and classes == 2:
            scores = np.stack([1 - scores, scores], axis=1)
        if scores.shape != (len(run.rows), classes):
            raise ValueError(
                "`predictions` must be probabilities of shape "
                f"({len(run.rows)}, {classes}). Received: {received}"
            )
        sums = scores.sum(axis=1)
        if not (scores >= 0).all() or not (abs(sums - 1) <= ROUNDED).all():
            raise ValueError(
                "`predictions` must be probabilities, which sum to 1 over "
                f"classes. Received: {received}, from {scores.min():.3g} to "
                f"{scores.max():.3g}. Of logits take the softmax first, or "
                "pass logits=True (--logits); for numbers pass "
                'task="regression"'
            )
        if abs(sums - 1).max() > EXACT:
            self.note(
                f'Probabilities of "{variant}" summed to {sums.min():.4f} to '
                f"{sums.max():.4f} over classes, and were divided by that"
            )
            scores = scores / sums[:, None]
        return scores

    def note(self, text):
        if text not in self.notes:
            self.notes.append(text)


# Measures of answers that have no probabilities.
OF_ANSWERS = ("balanced_accuracy", "macro_f1")


class _OfLabels(_OfClasses):
    """Reads probabilities of several labels for each example."""

    commonest = None

    def find_keys(self, measure):
        first = measure or OF_SEVERAL[0]
        _checks.one_of("measure", first, OF_SEVERAL)
        return dict.fromkeys([first, *OF_SEVERAL])

    def read(self, variant, run, names, groups):
        scores = self.probabilities(variant, run)
        kept = Predictions(names, self.labels[run.rows], scores, groups)
        return kept, {
            key: compute(key, scores, kept.labels) for key in self.keys
        }

    def probabilities(self, variant, run):
        """Returns probabilities `(N, labels)`, after checking them."""
        received = f'those of "{variant}", of shape {run.scores.shape}'
        scores = _as_floats(run.scores, received)
        if self.logits:
            self.note("Probabilities are those of the logits that were given")
            scores = _sigmoid(scores)
        shape = len(run.rows), len(self.class_names)
        if scores.shape != shape or not ((scores >= 0) & (scores <= 1)).all():
            raise ValueError(
                "`predictions` of several labels must be probabilities from 0 "
                f"to 1, of shape {shape}. Received: {received}, from "
                f"{scores.min():.3g} to {scores.max():.3g}. Of logits pass "
                "logits=True (--logits)"
            )
        return scores


class _OfNumbers(Reader):
    """Reads numbers, whose targets are given, or scores without any."""

    def __init__(self, labels, measure, measures):
        self.labels, self.measure, self.measures = labels, measure, measures

    @property
    def commonest(self):
        if self.labels is None:
            return None
        return guess_number(self.measure, self.labels, self.labels)

    def read(self, variant, run, names, groups):
        rows, numbers = run
        shape = rows.shape
        if self.labels is not None:
            shape = self.labels[rows].shape
            if numbers.shape == shape[:-1]:
                numbers = numbers[..., None]
        if numbers.shape != shape or not _are_numbers(numbers):
            raise ValueError(
                f"`predictions` must be finite numbers of shape {shape}. "
                f'Received: those of "{variant}", {run.scores.dtype} of shape '
                f"{run.scores.shape}"
            )
        labels = None if self.labels is None else self.labels[rows]
        kept = Numbers(names, labels, numbers.astype("float64"), groups)
        if labels is None:
            return kept, {SCORE: float(kept.of_each.mean())}
        return kept, measure_numbers(self.measure, kept.numbers, labels)


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
    """Returns what reads the predictions of all runs.

    The arguments are those of `results_of`; `every` are the arrays of all runs.
    """
    if labels is None:
        usual = Measure(SCORE, "score", scale=1, unit="", digits=4)
        if not isinstance(measure or usual, Measure):
            raise TypeError(
                "`measure` of scores must be a study.Measure, which says "
                f"whether a lower one is better. Received: measure={measure!r}"
            )
        found = dataclasses.replace(measure or usual, key=SCORE)
        return _OfNumbers(None, None, [found])
    if task == REGRESSION or _are_targets(task, every[0], labels):
        if class_names is not None or logits or multi_label:
            raise ValueError(
                "A regression has neither `class_names` nor `logits` or "
                f"`multi_label`. Received: {class_names=}, {logits=}, "
                f"{multi_label=}"
            )
        targets = labels[:, None] if labels.ndim == 1 else labels
        if not _are_numbers(targets):
            raise ValueError(
                "`labels` of a regression must be finite numbers, (N,) or "
                f"(N, ...). Received: {labels.dtype} of shape {labels.shape}"
            )
        measure = measure or "mae"
        name, targets = check_measure_of_numbers(measure), targets.astype(float)
        measures = measures_of_numbers(name, targets.std())
        return _OfNumbers(targets, measure, measures)
    read = _read_several if multi_label else _read_labels
    names, places = read(every, labels, class_names)
    kind = _OfLabels if multi_label else _OfClasses
    return kind(places, names, measure, logits)


def _are_targets(task, scores, labels):
    """Returns whether labels are numbers to predict, if that is not said."""
    if task is not None or labels.dtype.kind != "f":
        return False
    have_one = all(_without_last(x).ndim == 1 for x in (labels, scores))
    return have_one and not np.isin(labels, (0, 1)).all()


def _without_last(values):
    """Returns `(N, 1)` as `(N,)`, as a single sigmoid gives it."""
    is_single = values.ndim == 2 and values.shape[1] == 1
    return values[:, 0] if is_single else values


def _are_numbers(values):
    is_number = values.dtype.kind in "iuf" and values.size > 0
    return is_number and bool((np.abs(values) < LARGEST).all())


def are_answers(scores: np.ndarray) -> bool:
    """Returns whether values are classes, and no probabilities."""
    if scores.dtype.kind in "iubUSO":
        return True
    is_whole = scores.dtype.kind == "f" and (scores == np.round(scores)).all()
    return bool(is_whole and (abs(scores) > 1).any())


def _as_floats(scores, received):
    """Returns numbers in the precision that they have, at least single."""
    if scores.dtype.kind not in "iufb" or not scores.size:
        raise ValueError(
            "`predictions` must be probabilities. Received: "
            f"{received}, {scores.dtype}"
        )
    is_short = scores.dtype.kind == "f" and scores.dtype.itemsize < 4
    is_float = scores.dtype.kind == "f" and not is_short
    return scores if is_float else scores.astype("float64")


def _sigmoid(logits):
    return 0.5 * (1 + np.tanh(logits.astype("float64") / 2))


def _softmax(logits):
    largest = logits.max(axis=-1, keepdims=True)
    powers = np.exp(logits.astype("float64") - largest)
    return powers / powers.sum(axis=-1, keepdims=True)


def _are_text(values):
    return values.dtype.kind in "USO"


def _as_text(value):
    return value.decode() if isinstance(value, bytes) else str(value)


def _find_places(values, names):
    """Returns the number of each class, -1 for what is none of the names."""
    if _are_text(values):
        places = {name: place for place, name in enumerate(names)}
        return np.array([places.get(_as_text(x), -1) for x in values])
    is_place = (values == np.round(values)) & (values < len(names))
    return np.where(is_place, values, -1).astype("int32")


def _check_places(places, values, names, argument):
    """Raises if some are of no class."""
    if len(places) and places.min() >= 0:
        return
    wrong = [x.item() for x in values[places < 0]]
    text = ""
    if -1 in wrong:
        text = ". Give what has no answer (-1) a class, or leave it out"
    raise ValueError(
        f"`{argument}` must be the classes of the examples: names of "
        f"`class_names`, whole numbers from 0 to {len(names) - 1}, or "
        f"probabilities or one-hot, (N, {len(names)}). Received: "
        f"{_checks.first_few(wrong) or 'no examples'}{text}. For numbers pass "
        'task="regression"'
    )


def _names_of(every, labels, class_names):
    """Returns the classes, in their order."""
    arrays = [_without_last(x) for x in every]
    widths = [x.shape[1] for x in arrays if x.ndim == 2]
    answers = [x for x in arrays if x.ndim == 1 and are_answers(x)]
    given = class_names
    if given is None and _are_text(labels):
        if widths or len(answers) < len(arrays):
            raise ValueError(
                "`class_names` must be given for labels that are names: the "
                "classes in the order of the probabilities. Received: labels "
                f"as {labels.flat[0]!r}"
            )
        given = {_as_text(x) for y in (labels, *answers) for x in y}
        given = sorted(given)
    elif given is None and widths:
        given = range(widths[0])
    elif given is None:
        numbers = [x for x in answers if not _are_text(x)]
        if labels.ndim == 1:
            numbers.append(labels)
        most = max((x.max(initial=1) for x in numbers), default=1)
        given = range(int(most) + 1 if answers else 2)
    names = [*map(str, given)]
    if len({*names}) != len(names) or (widths and widths[0] != len(names)):
        raise ValueError(
            "`class_names` must name each column of the probabilities. "
            f"Received: {_checks.first_few(names)}, where there are "
            f"{widths[0] if widths else 2} columns"
        )
    return names


def _read_labels(every, labels, class_names):
    """Returns the names of classes, and the numbers of labels, `(N,)`."""
    labels = _without_last(labels)
    if labels.dtype.kind == "O" and not any(
        isinstance(x, str | bytes) or x is None for x in labels.flat
    ):
        # Such as data frames have.
        labels = np.array(labels.tolist())
    names = _names_of(every, labels, class_names)
    if labels.ndim == 2 and labels.shape[1] == len(names):
        if (np.sort(labels, axis=1)[:, -2:] == (0, 1)).all():
            labels = labels.argmax(axis=1)
        elif np.isin(labels, (0, 1)).all():
            raise ValueError(
                "`labels` must have one class for each example, unless several "
                "are said by multi_label=True (--multi-label). Received: rows "
                f"with {labels.sum(axis=1).min():.0f} to "
                f"{labels.sum(axis=1).max():.0f} of them"
            )
    if labels.ndim != 1 or labels.dtype.kind not in "iubfUSO":
        raise ValueError(
            "`labels` must be the classes of the examples: names of "
            f"`class_names`, whole numbers from 0 to {len(names) - 1}, or "
            f"one-hot. Received: {labels.dtype} of shape {labels.shape}. For "
            'numbers pass task="regression"'
        )
    if class_names is not None and not _are_text(labels):
        _check_names(class_names)
    places = _find_places(labels, names)
    _check_places(places, labels, names, "labels")
    return names, places


def _check_names(class_names):
    """Raises if names are numbers, where labels are numbers, too."""
    for place, name in enumerate(class_names):
        try:
            float(name)
        except ValueError:
            continue
        if str(name) != str(place):
            raise ValueError(
                "`class_names` must be no numbers where labels are numbers, "
                "since a label is the place of its class. Received: "
                f"class_names={_checks.shown(class_names)}. Give the labels as "
                "text, as labels.astype(str), if they are these names"
            )


def _read_several(every, labels, class_names):
    """Returns the names of labels, and 0 and 1 for each, `(N, labels)`."""
    if labels.ndim != 2 or not np.isin(labels, (0, 1)).all():
        raise ValueError(
            "`labels` must be 0 and 1 for each class with multi_label=True, "
            f"(N, classes). Received: {labels.dtype} of shape {labels.shape}"
        )
    count = labels.shape[1]
    names = [*map(str, range(count) if class_names is None else class_names)]
    if len({*names}) != count:
        raise ValueError(
            f"`class_names` must name each of the {count} labels. Received: "
            f"{names}"
        )
    return names, labels.astype("int32")
