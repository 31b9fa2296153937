"""What labels and predictions mean: the task, the classes, their names.

All is decided once, from all tables together, before anything is joined: every
label and answer becomes the name of a class, every column of probabilities
belongs to one, or they are refused. The guide on predictions has the rules.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

import numpy as np

from cbam_keras import _checks
from cbam_keras.study.programs.given_arrays import as_names
from cbam_keras.study.programs.given_columns import (
    CLASSIFICATION,
    INTEGER_TEXT,
    NUMBER_TEXT,
    REGRESSION,
    Column,
    as_argument,
    count_from_zero,
    find_task,
    read_columns,
    refuse_names,
    sort_names,
    without_booleans,
)
from cbam_keras.study.programs.given_files import KNOWN, PredictionTable
from cbam_keras.study.results.kept import OF_SCORES

# Rounded probabilities sum to 1 up to this; zeros are below the second.
ROUNDED, ZERO = 1e-2 + 1e-6, 1e-9
OTHER_TASKS = (
    'For regression pass task="regression" (--task regression), for several '
    "classes per example multi_label=True (--multi-label)"
)


@dataclasses.dataclass(frozen=True)
class Interpretation:
    """What all tables mean.

    Args:
        task: String, `"classification"` or `"regression"`.
        class_names: Tuple of strings, the classes in their order; empty for
            numbers.
        labels: List of arrays, for each column of labels: the numbers of
            classes `(N,)`, or targets; with several labels 0 and 1.
        predictions: List of arrays, for each table: the numbers of classes
            `(N,)`, probabilities in the order of `class_names`, or numbers.
        notes: Tuple of sentences about what was left out.
    """

    task: str
    class_names: tuple[str, ...]
    labels: list[np.ndarray]
    predictions: list[np.ndarray]
    notes: tuple[str, ...] = ()


def interpret(
    tables: Sequence[PredictionTable],
    labels: Sequence[Column],
    *,
    task: str | None,
    class_names: Sequence[str] | None,
    multi_label: bool,
    logits: bool,
) -> Interpretation:
    """Returns what tables and labels mean; see `results_of` for arguments."""
    asked = None if class_names is None else as_names(class_names)
    predictions = [_as_column(x, multi_label) for x in tables]
    answers = [
        Column(x.source, "predictions", x.answers, x.class_names, x.is_text)
        for x in tables
        if x.answers is not None
    ]
    labels = read_columns(labels, is_matrix=multi_label)
    predictions = read_columns(predictions, is_matrix=multi_label)
    answers = read_columns(answers, is_matrix=False)
    spelled = _all_names(tables, labels, asked)
    labels = [without_booleans(x, spelled) for x in labels]
    predictions = [without_booleans(x, spelled) for x in predictions]
    answers = [without_booleans(x, spelled) for x in answers]
    if task == OF_SCORES:
        return Interpretation(task, (), [], [x.values for x in predictions])
    if task is None:
        is_named = bool(spelled) or any(x.kind == "text" for x in labels)
        task = CLASSIFICATION
        if not is_named and not multi_label:
            task = find_task(labels, predictions, logits)
    if task == REGRESSION:
        refuse_names(labels, predictions, spelled, logits)
        targets = [x.values for x in labels]
        return Interpretation(
            task, (), targets, [x.values for x in predictions]
        )
    classes = _Classes(
        tables, labels, predictions, answers, asked, multi_label, logits
    )
    numbered = [classes.number(x) for x in labels]
    ordered = [
        classes.order(table, column)
        for table, column in zip(tables, predictions, strict=True)
    ]
    beside = iter(answers)
    for table, scores in zip(tables, ordered, strict=True):
        if table.answers is not None:
            classes.compare(next(beside), scores)
    return Interpretation(
        task, classes.names, numbered, ordered, tuple(classes.notes)
    )


def _as_column(table, multi_label):
    """Returns the predictions of a table; one column has no second axis."""
    values = table.predictions
    if values.ndim == 2 and values.shape[1] == 1 and not multi_label:
        values = values[:, 0]
    return Column(
        table.source, "predictions", values, table.class_names, table.is_text
    )


def _all_names(tables, labels, asked):
    """Returns all names of classes that columns and arguments say."""
    names = [x.class_names or () for x in tables]
    names += [x.columns or () for x in tables]
    names += [x.names or () for x in labels]
    return {y for x in [*names, asked or ()] for y in x}


class _Classes:
    """The classes of all tables, by which labels and columns are numbered.

    Args:
        tables, labels, predictions, answers: What is given.
        asked: Tuple of strings, the argument `class_names`, or `None`.
        multi_label, logits: Booleans, see `results_of`.
    """

    def __init__(
        self, tables, labels, predictions, answers, asked, multi_label, logits
    ):
        self.multi_label = multi_label
        self.logits = logits
        self.notes: list[str] = []
        # What numbers count that have no names of their own; `None`: nothing.
        self.places: tuple[str, ...] | None = None
        # Whether a number is the name of a class, and not its place.
        self.integers_are_names = False
        every = [*labels, *answers]
        for table, column in zip(tables, predictions, strict=True):
            if self._is_answer(column) and not table.columns:
                every.append(column)
        said = [x.class_names for x in tables if x.class_names is not None]
        said += [x.names for x in labels if x.names is not None]
        if asked is not None:
            self.names = self.places = asked
        elif said:
            self.names = said[0]
        elif any(x.columns for x in tables):
            self.names = self._names_of_columns(tables, every)
        else:
            self.names = self.places = self._names_of_values(
                labels, predictions, answers
            )
        self._check_names(tables, predictions, said)
        for table in tables:
            if table.columns:
                self._check_columns(table, asked)
        self._check_numbers(every, said, asked)

    def _is_answer(self, column):
        is_class = column.kind in ("text", "whole") and not self.logits
        return column.values.ndim == 1 and is_class and not self.multi_label

    def _check_names(self, tables, predictions, said):
        """Raises unless all sources name the same classes, each once."""
        widths = [
            column.values.shape[1]
            for table, column in zip(tables, predictions, strict=True)
            if column.values.ndim == 2 and not table.columns
        ]
        is_wide = all(width == len(self.names) for width in widths)
        if not is_wide or len({*self.names}) != len(self.names):
            raise ValueError(
                "`class_names` must name each column of the probabilities. "
                f"Received: {_checks.first_few(self.names)} for "
                f"{_checks.first_few(sorted({*widths})) or 2} columns"
            )
        for names in said:
            if {*names} != {*self.names}:
                differing = sorted({*names} ^ {*self.names})
                raise ValueError(
                    "All files must have the same classes. Received: names "
                    f"that differ in {_checks.first_few(differing)}"
                )

    def _check_columns(self, table, asked):
        """Raises unless the columns of a table are the classes."""
        columns = table.columns
        unknown = [x for x in columns if x not in self.names]
        absent = [x for x in self.names if x not in columns]
        # One column is of one of two classes.
        is_one = len(self.names) == 2 and len(absent) == 1
        if absent and not (is_one and len(columns) - len(unknown) == 1):
            raise ValueError(
                f'"{table.source}" must have a column for each class. '
                f"Received: none for {_checks.first_few(absent)}, but "
                f"{_checks.first_few(columns, 9)}"
            )
        if unknown and asked is None:
            _refuse_columns([table], unknown)
        if unknown:
            self.notes.append(
                "Columns that are not classes were left out: "
                f"{_checks.first_few(unknown, 9)}"
            )

    def _check_numbers(self, every, said, asked):
        """Raises for names that are other numbers than their places."""
        for names in [*said, asked or ()]:
            others = [x for place, x in enumerate(names) if x != str(place)]
            has_numbers = any(
                x.kind != "text" and (x.names or self.places) == names
                for x in every
                if x.values.ndim == 1
            )
            if has_numbers and any(NUMBER_TEXT.fullmatch(x) for x in others):
                raise ValueError(
                    "`class_names` must not be numbers if labels are: a label "
                    "is the index of its class. "
                    f"Received: class_names={_checks.shown([*names])}. If "
                    "labels are these names, pass them as text, "
                    "labels.astype(str)"
                )

    def _names_of_columns(self, tables, every):
        """Returns the classes that columns of probabilities are called."""
        columns = next(x.columns for x in tables if x.columns)
        texts = {
            y for x in every if x.kind == "text" for y in x.values.tolist()
        }
        numbers = {
            int(y)
            for x in every
            if x.kind == "whole" and x.values.ndim == 1
            for y in x.values.tolist()
        }
        if len(columns) == 1:
            return self._names_of_one_column(tables, columns[0], texts, numbers)
        if not numbers:
            self._refuse_unknown_columns(tables, texts)
            return columns
        if all(INTEGER_TEXT.fullmatch(x) for x in columns):
            self._read_integers_as_names(columns, numbers, tables[0].source)
            return columns
        extra = _find_extra(tables)
        if extra:
            _refuse_columns(tables, extra)
        raise ValueError(
            "`class_names` must say which number is which class where labels "
            "or predicted classes are numbers and columns have names. "
            f"Received: {_checks.first_few(sorted(numbers))} in "
            f'"{tables[0].source}", with the columns '
            f"{_checks.first_few(columns, 9)}. In the order of the numbers: "
            f"{as_argument(columns)}, or write the names of the classes "
            "instead of numbers"
        )

    def _names_of_one_column(self, tables, name, texts, numbers):
        """Returns two classes, of which one column of probabilities is one."""
        if numbers <= {0, 1} and not texts and name in ("0", "1"):
            self.places = ("0", "1")
            return self.places
        if not numbers and name in texts and len(texts) == 2:
            return tuple(sorted(texts))
        if numbers <= {0, 1} and not texts and len(numbers) > 0:
            raise ValueError(
                "`class_names` must say which number is which class where "
                "labels are numbers and the column of probabilities has a "
                f'name. Received: "{tables[0].source}" with the column '
                f"{name}. Call it prob_1 if it is the probability of the "
                "class 1"
            )
        return _refuse_columns(tables, [name])

    def _read_integers_as_names(self, columns, numbers, source):
        """Sets that numbers are the names of columns, if they can only be."""
        are_names = {str(x) for x in numbers} <= {*columns}
        are_places = min(numbers) >= 0 and max(numbers) < len(columns)
        if not are_names or are_places:
            raise ValueError(
                "Columns of probabilities that have numbers as names must be "
                "named as the labels are, or counted from 0. Received: the "
                f"columns {_checks.first_few(columns, 9)} and the labels "
                f'{_checks.first_few(sorted(numbers), 9)} in "{source}". '
                "Rename the columns to prob_0, prob_1, ... if labels are "
                "indices of columns; write text such as class1 in both if "
                "labels are names of classes"
            )
        self.integers_are_names = True

    def _refuse_unknown_columns(self, tables, texts):
        """Raises for columns that no label calls a class, nor their sum."""
        columns = next(x.columns for x in tables if x.columns)
        unknown = [x for x in columns if x not in texts]
        if not unknown:
            return
        matrices = [x for x in tables if x.columns]
        are_sums = all(_sum_to_one(x.predictions) for x in matrices)
        has_zeros = any(
            max(
                np.abs(x.predictions[:, x.columns.index(name)]).max()
                for x in matrices
                if name in x.columns
            )
            < ZERO
            for name in unknown
        )
        if self.logits or not are_sums or has_zeros:
            extra = _find_extra(tables) or unknown
            _refuse_columns(tables, extra)

    def _names_of_values(self, labels, predictions, answers):
        """Returns the classes where no column or argument names them."""
        widths = [x.values.shape[1] for x in predictions if x.values.ndim == 2]
        if self.multi_label:
            widths += [x.values.shape[1] for x in labels if x.values.ndim == 2]
        one = [x for x in (*predictions, *answers) if self._is_answer(x)]
        has_scores = len(widths) > 0 or any(
            not self._is_answer(x) for x in predictions
        )
        texts = _texts_of(labels)
        if texts and has_scores:
            raise ValueError(
                "`class_names` must be given in the order of probabilities if "
                f"labels are names. Received: labels such as "
                f"{sorted(texts)[0]!r}, and probabilities without names. Pass "
                f"e.g. {as_argument(sorted(texts))}, in that order"
            )
        if widths:
            self._refuse_labels_from_one(labels, max(widths))
            return tuple(str(x) for x in range(max(widths)))
        if has_scores:
            return ("0", "1")
        return self._names_of_answers(labels, one)

    def _refuse_labels_from_one(self, labels, width):
        """Raises if labels may count the columns from 1, and not from 0."""
        numbers = [x.values for x in labels if x.values.ndim == 1]
        if not numbers or self.multi_label:
            return
        smallest = min(x.min() for x in numbers)
        if smallest == 1 and max(x.max() for x in numbers) < width:
            names = [f"class{place}" for place in range(width)]
            raise ValueError(
                "`labels` must be 0 for the first column of probabilities. "
                "Received: labels from 1, and none is 0. If they count from 1, "
                "subtract 1; if they count from 0, name the classes, e.g. "
                f"{as_argument(names)}"
            )

    def _names_of_answers(self, labels, answers):
        """Returns the classes of labels and answers without names."""
        texts, answered = _texts_of(labels), _texts_of(answers)
        has_numbers = any(x.kind == "whole" for x in answers)
        if texts and has_numbers and not count_from_zero(texts):
            advice = "Predict the names of the classes instead of numbers"
            if not all(NUMBER_TEXT.fullmatch(x) for x in texts):
                advice += (
                    ", or pass the names in the order of the numbers, e.g. "
                    f"{as_argument(sort_names(texts))}"
                )
            raise ValueError(
                "`class_names` must say which number is which class where "
                "labels are text and predicted classes are numbers. Received: "
                f"labels such as {sorted(texts)[0]!r}. {advice}"
            )
        if texts:
            unknown = sorted(answered - texts)
            if unknown:
                raise ValueError(
                    "`class_names` must name classes that are predicted but "
                    "occur in no label. Received: "
                    f"{_checks.first_few(unknown)}, where labels are "
                    f"{_checks.first_few(sorted(texts))}. If they are classes: "
                    f"{as_argument(sort_names(texts | answered))}"
                )
            return tuple(sort_names(texts))
        numbers = {
            int(y)
            for x in (*labels, *answers)
            if x.kind == "whole" and x.values.ndim == 1
            for y in x.values.tolist()
        }
        widths = {x.values.shape[1] for x in labels if x.values.ndim == 2}
        numbers |= {*range(max(widths, default=0))}
        # Negative numbers, such as -1 of no class, are refused as labels.
        numbers = {x for x in numbers if x >= 0}
        if numbers <= {0, 1}:
            numbers = {0, 1}
        self.integers_are_names = True
        return tuple(str(x) for x in sorted(numbers))

    def number(self, column: Column) -> np.ndarray:
        """Returns the numbers of the classes that a column has.

        Raises:
            ValueError: If a value is of no class.
        """
        names = column.names or self.places
        values = column.values
        if self.multi_label:
            return self._read_several(column, names)
        is_wide = values.ndim == 2 and values.shape[1] == len(self.names)
        if is_wide and values.dtype.kind in "iubf":
            if (np.sort(values, axis=1)[:, -2:] == (0, 1)).all():
                values = values.argmax(axis=1)
        numbers = np.full(len(values), -1)
        places = {name: place for place, name in enumerate(self.names)}
        if values.ndim == 1 and values.dtype.kind == "U":
            numbers = np.array([places.get(x, -1) for x in values.tolist()])
        elif values.ndim == 1 and values.dtype.kind in "iubf":
            if names is None and not self.integers_are_names:
                self._refuse_numbers(column)
            numbers = self._number_integers(values, names, places)
        wrong = np.flatnonzero(numbers < 0)
        if len(wrong):
            self._refuse_values(column, wrong)
        return numbers

    def _number_integers(self, values, names, places):
        """Returns the classes of whole numbers, -1 for others."""
        if self.integers_are_names:
            table = {
                int(x): y for x, y in places.items() if INTEGER_TEXT.match(x)
            }
            return np.array([table.get(x, -1) for x in values.tolist()])
        of_place = np.array([places[x] for x in names])
        is_place = (values == np.round(values)) & (values >= 0)
        is_place &= values < len(names)
        found = of_place[np.where(is_place, values, 0).astype("int64")]
        return np.where(is_place, found, -1)

    def _refuse_numbers(self, column: Column) -> NoReturn:
        raise ValueError(
            "`class_names` must say which number is which class where other "
            f'files name the classes. Received: numbers in "{column.source}". '
            f"In the order of the numbers: {as_argument(self.names)}"
        )

    def _refuse_values(self, column, wrong):
        values = column.values
        listed = [str(x) for x in np.unique(values[wrong]).tolist()]
        advice = ""
        if values.dtype.kind != "U" and -1 in values[wrong]:
            advice = "Leave out examples without a prediction (-1). "
        if values.dtype.kind == "U" and all(
            map(INTEGER_TEXT.fullmatch, listed)
        ):
            advice = "Write those of all files as names, or all as numbers. "
        raise ValueError(
            f"`{column.argument}` must be the classes of the examples: names "
            f"of `class_names`, integers from 0 to {len(self.names) - 1}, or "
            f"one-hot. Received: {_checks.first_few(listed)}, in "
            f"{len(wrong):,} of {len(values):,} examples, the first at index "
            f"{wrong[0]}, of shape {values.shape}, in {column.source}. "
            f"{advice}{OTHER_TASKS}"
        )

    def _read_several(self, column, names):
        """Returns 0 and 1 for each class, in the order of the classes."""
        values = column.values
        is_right = values.ndim == 2 and values.dtype.kind in "iubf"
        if not is_right or not np.isin(values, (0, 1)).all():
            raise ValueError(
                "`labels` must be 0 and 1 for each class with "
                "multi_label=True, (N, classes). Received: "
                f"{values.dtype} of shape {values.shape}"
            )
        if names is None:
            self._refuse_numbers(column)
        order = [names.index(x) for x in self.names]
        return values[:, order].astype("int32")

    def order(self, table: PredictionTable, column: Column) -> np.ndarray:
        """Returns classes, or scores in the order of the classes."""
        values = column.values
        if self._is_answer(column) and not table.columns:
            return self.number(column)
        if values.ndim != 2 and (values.ndim != 1 or len(self.names) != 2):
            # Other shapes are refused where probabilities are checked.
            return values
        names = table.columns or table.class_names or self.places
        if names is None:
            self._refuse_numbers(column)
        if values.ndim == 2:
            if len(names) == values.shape[1] >= len(self.names):
                values = self._order_columns(values, names)
            return values
        # One number is of the class that names it, or of the second of two.
        if self.names.index(names[-1]) == 1:
            return values
        return -values if self.logits else 1 - values

    def _order_columns(self, values, names):
        """Returns the columns of the classes, in their order."""
        columns = [names.index(x) for x in self.names if x in names]
        if columns == [*range(values.shape[1])]:
            # Predictions may be large: they are not copied without need.
            return values
        if len(columns) == len(self.names):
            return values[:, columns]
        # One of two classes has a column.
        (name,) = [x for x in self.names if x in names]
        second = values[:, names.index(name)]
        if self.names.index(name) == 1:
            return second
        return -second if self.logits else 1 - second

    def compare(self, answers: Column, scores: np.ndarray) -> None:
        """Raises if answers are not the most probable classes."""
        numbers = self.number(answers)
        if scores.ndim == 1:
            if self.logits:
                scores = np.stack([np.zeros(len(scores)), scores], axis=1)
            else:
                scores = np.stack([1 - scores, scores], axis=1)
        best = scores.max(axis=1) - scores[np.arange(len(scores)), numbers]
        wrong = np.flatnonzero(best > ROUNDED)
        if len(wrong):
            raise ValueError(
                f'"{answers.source}" must have one of probabilities and '
                "predicted classes, or those that are the most probable. "
                f"Received: both, which differ in {len(wrong):,} of "
                f"{len(numbers):,} examples, the first at index {wrong[0]}. "
                "Leave one out"
            )


def _texts_of(columns: Iterable[Column]) -> set[str]:
    return {
        y
        for x in columns
        if x.kind == "text"
        for y in x.values.ravel().tolist()
    }


def _sum_to_one(matrix):
    return bool((np.abs(matrix.sum(axis=1) - 1) <= ROUNDED).all())


def _find_extra(tables):
    """Returns the column without which rows sum to 1, and with it not."""
    first = next(x for x in tables if x.columns)
    if _sum_to_one(first.predictions):
        sums = np.abs(first.predictions).max(axis=0)
        return [x for x, y in zip(first.columns, sums, strict=True) if y < ZERO]
    return [
        name
        for place, name in enumerate(first.columns)
        if _sum_to_one(np.delete(first.predictions, place, axis=1))
    ]


def _refuse_columns(
    tables: Sequence[PredictionTable], unknown: Sequence[str]
) -> Any:
    columns = next(x.columns for x in tables if x.columns)
    classes = [x for x in columns if x not in unknown]
    advice = f". {KNOWN}"
    if len(classes) > 1:
        advice = f", or name the classes by {as_argument(classes)}. {KNOWN}"
    if len(tables) == 1:
        advice += (
            ". If columns are networks, give the file itself: cbam-keras "
            f'report "{tables[0].source}"'
        )
    raise ValueError(
        f'"{tables[0].source}" must have no unknown columns. '
        f"Received: columns that are not classes: "
        f"{_checks.first_few(unknown, 9)}. Leave them out{advice}"
    )
