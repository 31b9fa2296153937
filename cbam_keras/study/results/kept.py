"""What networks predict for test images, in files beside them."""

import dataclasses
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cbam_keras import _checks, _files
from cbam_keras.study.files.outcomes import Outcome
from cbam_keras.study.plans import measures

# What is predicted for each image; scores are numbers without targets.
OF_CLASSES = CLASSES, LABELS = "classes", "labels"
OF_NUMBERS, OF_SCORES = "numbers", "scores"
# The array that names the network, in a file of predictions.
NETWORK_ARRAY = "network"
# By so much a measure of predictions that are stored in float32 may differ.
STORED_ROUNDING = 1e-3


@dataclasses.dataclass(frozen=True)
class Predictions:
    """Probabilities `(B, classes)` that a network gives the images of a split.

    `images` are their names, `labels` the indices of their classes, or 0 and 1
    for each class, `(B, classes)`; `groups` what each belongs to, as a
    patient, by default itself.
    """

    images: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray
    groups: np.ndarray

    @property
    def kind(self) -> str:
        return CLASSES if self.labels.ndim == 1 else LABELS

    @property
    def predicted(self) -> np.ndarray:
        return measures.predict(self.probabilities, self.labels)

    @property
    def present(self) -> np.ndarray:
        """The classes of which there are images."""
        return measures.find_present(self.labels)

    @property
    def of_each(self) -> np.ndarray:
        """What is counted of each image: 1 where the network is right."""
        return (self.predicted == self.labels).astype(float)

    @property
    def counts(self) -> np.ndarray:
        """The number of images of each class."""
        classes = self.probabilities.shape[1]
        if self.kind == LABELS:
            return self.labels.sum(axis=0).astype(int)
        return np.bincount(self.labels, minlength=classes)

    @property
    def are_answers(self) -> bool:
        """Whether they are classes alone: no probability is between 0 and 1."""
        return bool(np.isin(self.probabilities, (0, 1)).all())

    @property
    def are_finite(self) -> bool:
        return bool(np.isfinite(self.probabilities).all())

    @property
    def has_learned(self) -> bool:
        """Whether the mean recall is above that of the constant baseline."""
        if not self.are_finite or self.kind == LABELS:
            return self.are_finite
        count = len(self.present)
        return count < 2 or self.compute("balanced_accuracy") > 1 / count + 1e-9

    def compute(self, measure: str) -> float:
        if measure == measures.ACCURACY:
            return float(np.mean(self.of_each))
        return measures.compute(measure, self.probabilities, self.labels)

    def by_class(self) -> dict[str, Sequence]:
        """Returns images and scores of each class, NaN without images."""
        metrics = _checks.require("sklearn.metrics", extra="plot")
        classes = range(self.probabilities.shape[1])
        *scores, images = metrics.precision_recall_fscore_support(
            self.labels, self.predicted, labels=classes, zero_division=0
        )
        names = "precision", "recall", "f1", "auc", "average_precision"
        scores += [*np.full((2, len(classes)), np.nan)]
        # There is no curve of a class without others, nor one of answers.
        has_curve = (images > 0) & (images < len(self.labels))
        if self.are_answers:
            has_curve[:] = False
        for x in np.flatnonzero(has_curve).tolist():
            pair = measures.is_of(self.labels, x), self.probabilities[:, x]
            scores[3][x] = metrics.roc_auc_score(*pair)
            scores[4][x] = metrics.average_precision_score(*pair)
        known = [np.where(images > 0, x, np.nan) for x in scores]
        return {"images": images, **dict(zip(names, known, strict=True))}


@dataclasses.dataclass(frozen=True)
class Numbers:
    """Numbers `(B, ..., values)`, or without targets scores `(B,)`."""

    images: np.ndarray
    labels: np.ndarray | None
    numbers: np.ndarray
    groups: np.ndarray

    @property
    def kind(self) -> str:
        return OF_SCORES if self.labels is None else OF_NUMBERS

    @property
    def of_each(self) -> np.ndarray:
        """What is counted of each example: its mean absolute error."""
        if self.labels is None:
            return self.numbers
        errors = np.abs(self.numbers.astype("float64") - self.labels)
        return errors.reshape(len(errors), -1).mean(axis=1)

    @property
    def are_finite(self) -> bool:
        return bool(np.isfinite(self.numbers).all())

    has_learned = are_finite


Kept = Predictions | Numbers


def write_predictions(path: pathlib.Path, arrays: Mapping[str, Any]) -> None:
    """Writes what a network predicts, with the name of the network."""
    name = path.name.removesuffix(_files.PREDICTIONS)
    _files.write_arrays(path, {**arrays, NETWORK_ARRAY: name})


def read_predictions(folder: pathlib.Path, outcome: Outcome) -> dict[str, Any]:
    """Returns what a network predicts by split, or raises what is damaged."""
    if outcome.predictions is None:
        return {}
    path = folder / outcome.predictions
    try:
        # NumPy leaves a file open that is no archive.
        with path.open("rb") as opened, np.load(opened) as file:
            arrays = dict(file)
        name = path.name.removesuffix(_files.PREDICTIONS)
        if str(arrays.pop(NETWORK_ARRAY, name)) != name:
            raise ValueError("it is of another network")
        by_split = _by_split(arrays)
        if tested := by_split.get("test"):
            _check_measured(tested, outcome)
    except ImportError:
        raise
    # Damaged archives raise errors of many types.
    except Exception as error:
        what = f"is damaged ({error})" if path.exists() else "is missing"
        raise ValueError(f'"{path}" {what}') from error
    return by_split


def _by_split(arrays):
    """Returns the predictions in arrays, after checking their lengths."""
    by_split: dict[str, Any] = {}
    kinds = {"numbers": Numbers, "probabilities": Predictions}
    for key, found in arrays.items():
        split, _, name = key.partition("/")
        if name in kinds:
            images = arrays[f"{split}/images"]
            groups = arrays.get(f"{split}/groups", np.arange(len(images)))
            every = images, arrays.get(f"{split}/labels"), found, groups
            if len({len(x) for x in every if x is not None}) != 1:
                raise ValueError("its arrays have other lengths")
            by_split[split] = kinds[name](*every)
    return by_split


def _check_measured(kept, outcome):
    """Raises if predictions do not give what was measured with a network."""
    if not kept.are_finite:
        return
    if kept.kind == LABELS:
        key, of_one = "macro_f1", 0.0
        value = kept.compute(key)
    else:
        keys = {CLASSES: measures.ACCURACY, OF_NUMBERS: "mae"}
        key, value = keys.get(kept.kind, measures.SCORE), kept.of_each.mean()
        # Compiled in another way, a network may answer one image differently.
        of_one = 1.5 / len(kept.of_each) if kept.kind == CLASSES else 0.0
    recorded = outcome.metrics.get(key)
    if recorded is not None and not math.isclose(
        value, recorded, rel_tol=STORED_ROUNDING, abs_tol=of_one
    ):
        raise ValueError(
            f"it gives a {key} of {value:.4g}, and {recorded:.4g} was measured"
        )
