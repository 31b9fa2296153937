"""Labels and predictions as columns of numbers or text, and their task.

All columns are read together: whether a text is a number, and what the task is,
follows from the values of all files, never from the type of one.
"""

import dataclasses
import json
import re
from collections.abc import Collection, Sequence

import numpy as np

from cbam_keras import _checks
from cbam_keras.study.programs.given_arrays import as_text, is_missing

CLASSIFICATION, REGRESSION = GIVEN_TASKS = ("classification", "regression")
# Whole labels are classes, unless the task is said, up to so many.
MOST_CLASSES = 1000
# Messages list so many classes.
MOST_LISTED = 50
# Predictions above this may be percentages, and are no few classes.
LEAST_PERCENTAGE = 10
# Texts that are numbers: "007" is a name, "7" and "7.0" are not.
NUMBER_TEXT = re.compile(r"[-+]?(0|[1-9]\d*)?(\.\d*)?(?<=[\d.])([eE][-+]?\d+)?")
INTEGER_TEXT = re.compile(r"-?(0|[1-9]\d*)")
BOOLEANS = {"false": False, "true": True}


@dataclasses.dataclass(frozen=True)
class Column:
    """Labels or answers of one source.

    Args:
        source: String, what messages call it.
        argument: String, the argument that messages name.
        values: Array `(N,)`, or `(N, classes)` of 0 and 1.
        names: Tuple of strings, the classes that its numbers count, or `None`.
        is_text: Boolean, whether values are text that may spell numbers.
    """

    source: str
    argument: str
    values: np.ndarray
    names: tuple[str, ...] | None = None
    is_text: bool = False

    @property
    def kind(self) -> str:
        """`"text"`, or `"whole"` or `"decimal"` numbers."""
        if self.values.dtype.kind == "U":
            return "text"
        return "whole" if _are_whole(self.values) else "decimal"


def read_columns(columns: Sequence[Column], is_matrix: bool) -> list[Column]:
    """Returns columns whose values are numbers, booleans or text."""
    read = []
    for column in columns:
        values = column.values
        if values.ndim == 2 and values.shape[1] == 1 and not is_matrix:
            values = values[:, 0]
        is_absent = is_missing(values).reshape(len(values), -1)
        missing = np.flatnonzero(is_absent.any(axis=1))
        if len(missing):
            raise ValueError(
                f"`{column.argument}` must be finite numbers, or classes, of "
                f"all examples. Received: no value in {len(missing):,} of "
                f"{len(values):,} of {column.source}, the first at index "
                f"{missing[0]}. Leave out these examples"
            )
        if values.dtype.kind == "O":
            # Such as data frames have.
            values = np.array(values.tolist())
        if values.dtype.kind in "USO":
            values = as_text(values)
        read.append(dataclasses.replace(column, values=values))
    texts = [x for x in read if x.is_text and x.values.dtype.kind == "U"]
    parse = _find_parser([x.values for x in texts])
    return [
        dataclasses.replace(x, values=parse(x.values))
        if x.is_text and x.values.dtype.kind == "U"
        else x
        for x in read
    ]


def _find_parser(arrays):
    """Returns what reads all these texts as numbers or booleans, or as text."""
    texts = {x for values in arrays for x in values.ravel().tolist()}
    if texts and all(NUMBER_TEXT.fullmatch(x) for x in texts):
        return lambda values: values.astype("float64")
    if texts and all(x.lower() in BOOLEANS for x in texts):
        return lambda values: np.char.lower(values) == "true"
    return lambda values: values


def without_booleans(column: Column, spelled: set[str]) -> Column:
    """Returns booleans as names, if classes are called so, or as 0 and 1."""
    if column.values.dtype.kind != "b" or column.values.ndim != 1:
        return column
    names = {BOOLEANS[x.lower()]: x for x in spelled if x.lower() in BOOLEANS}
    values = column.values.astype("int64")
    if len(names) == len(spelled) == 2:
        values = np.array([names[x] for x in column.values.tolist()])
    return dataclasses.replace(column, values=values)


def _are_whole(values: np.ndarray) -> bool:
    if values.dtype.kind == "f":
        return bool((values == np.round(values)).all())
    return values.dtype.kind in "iub"


def find_task(
    labels: Sequence[Column], predictions: Sequence[Column], logits: bool
) -> str:
    """Returns the task of labels and predictions without names.

    Raises:
        ValueError: If the values may mean several tasks.
    """
    every = [*labels, *predictions]
    if any(x.values.ndim != 1 or x.kind == "text" for x in every):
        return CLASSIFICATION
    targets = _unique(labels)
    answers = _unique(predictions)
    if any(x.kind == "decimal" for x in labels):
        return REGRESSION
    if logits:
        return CLASSIFICATION
    is_binary = np.isin(targets, (0, 1)).all()
    are_fractions = bool(((answers >= 0) & (answers <= 1)).all())
    received = (
        f"whole labels from {targets[0]:g} to {targets[-1]:g}, "
        f"{len(targets):,} different ones, and predictions from "
        f"{answers[0]:.4g} to {answers[-1]:.4g}"
    )
    advice = 'for regression task="regression" (--task regression)'
    if -1 in targets or -1 in answers:
        advice += ". Leave out examples without a prediction or label (-1)"
    if is_binary and not are_fractions:
        raise ValueError(
            "`predictions` for labels 0 and 1 must be probabilities or these "
            f"classes. Received: {received}. {_advise_on_scores(answers)}, "
            f"{advice}"
        )
    if all(x.kind == "whole" for x in predictions):
        are_all = np.array_equal(targets, np.arange(len(targets)))
        is_told = np.isin(answers, targets).all()
        if are_all and is_told and len(targets) <= MOST_CLASSES:
            return CLASSIFICATION
        raise ValueError(
            "`task` must be given if integer labels are not exactly 0 to C - 1 "
            f"(at most {MOST_CLASSES:,} classes), or if other numbers are "
            f"predicted. Received: {received}. If they are classes "
            f'pass task="classification" (--task classification), {advice}'
        )
    if not is_binary and are_fractions and len(targets) <= 2:
        raise ValueError(
            "`labels` of two classes must be 0 and 1 where predictions are "
            f"probabilities. Received: {received}. Write 0 and 1, {advice}"
        )
    return CLASSIFICATION if is_binary else REGRESSION


def _advise_on_scores(scores: np.ndarray) -> str:
    """Returns what to do with scores that are no probabilities."""
    if scores.min() >= 0 and LEAST_PERCENTAGE < scores.max() <= 100:
        return "If they are percentages, divide them by 100"
    if scores.min() >= 0 and _are_whole(scores):
        return 'For classes pass task="classification" (--task classification)'
    return "For logits pass logits=True (--logits)"


def _unique(columns):
    return np.unique(np.concatenate([x.values for x in columns]))


def refuse_names(
    labels: Sequence[Column],
    predictions: Sequence[Column],
    spelled: set[str],
    logits: bool,
) -> None:
    """Raises for a regression with names of classes, text or logits."""
    texts = [x.source for x in (*labels, *predictions) if x.kind == "text"]
    if texts or spelled or logits:
        named = _checks.first_few(sorted(spelled)) or "none"
        text = _checks.first_few(texts) or "none"
        raise ValueError(
            "`labels` and `predictions` of a regression must be finite "
            "numbers, without `class_names` or `logits`. Received: names of "
            f"classes: {named}; text in: {text}; {logits=}"
        )


def count_from_zero(names: Collection[str]) -> bool:
    """Returns whether names are all of 0 to C - 1."""
    return {*names} == {str(x) for x in range(len(names))}


def sort_names(names: Collection[str]) -> list[str]:
    """Returns names in their order, and numbers in them by their values."""

    def pad(name):
        return re.sub(r"\d+", lambda x: x[0].zfill(20), name)

    return sorted(names, key=pad)


def as_argument(names: Sequence[str]) -> str:
    """Returns `class_names` of these names, in Python and of the command."""
    if len(names) > MOST_LISTED:
        return f"class_names=[all {len(names):,} names] (--class-names)"
    words = " ".join(json.dumps(x) if " " in x else x for x in names)
    listed = json.dumps([*names], ensure_ascii=False)
    return f"class_names={listed} (--class-names {words})"
