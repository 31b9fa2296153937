"""What networks predict for test images, in files beside them."""

import dataclasses
import functools
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cbam_keras import _checks, _files
from cbam_keras.data import IMAGES, kind_of, noun_of
from cbam_keras.study.files.outcomes import Outcome
from cbam_keras.study.plans import measures
from cbam_keras.study.plans.measures import Measure
from cbam_keras.study.plans.study import Run, runs_of

# What is predicted for each image; scores are numbers without targets.
OF_CLASSES = CLASSES, LABELS = "classes", "labels"
OF_NUMBERS, OF_SCORES = "numbers", "scores"
# The array that names the network, in a file of predictions.
NETWORK_ARRAY = "network"
# The kind of results of predictions from any framework.
GIVEN = "predictions"
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

    @functools.cached_property
    def by_class(self) -> dict[str, Sequence]:
        """Images and scores of each class, NaN without images."""
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


@dataclasses.dataclass(frozen=True)
class Tested:
    """What a run holds, see `Results`; predictions are read when needed."""

    output: pathlib.Path
    outcomes: tuple[Outcome, ...]
    variants: tuple[str, ...]
    seeds: tuple[int, ...]
    baseline: str | None
    measures: tuple[Measure, ...]
    data: str
    sizes: dict[str, int]
    guess: float | None = None
    kind: str = "study"
    settings: _files.Json = dataclasses.field(
        default_factory=dict, compare=False
    )
    labels: dict[str, str] = dataclasses.field(default_factory=dict)
    folds: int | None = None
    question: str = ""
    class_names: tuple[str, ...] = ()
    threshold: str | None = None
    candidates: tuple[Outcome, ...] = ()
    # Whether the command line made it, which has options of other names.
    by_command: bool = False

    @property
    def runs(self) -> list[Outcome]:
        """The outcomes of training runs that finished."""
        return [outcome for outcome in self.outcomes if outcome.finished]

    @property
    def planned_runs(self) -> tuple[Run, ...]:
        """Each seed or, with folds, each fold of each seed."""
        return runs_of(self.seeds, self.folds)

    @property
    def are_given(self) -> bool:
        """Whether the predictions were given, and nothing was trained here."""
        return self.kind == GIVEN

    @property
    def noun(self) -> str:
        """What was tested, such as `"image"` or `"signal"`."""
        every = [*self.settings.get("data", {}).values()] or [{}]
        shape = every[0].get("input_shape")
        usual = noun_of(IMAGES if shape is None else kind_of(shape))
        return every[0].get("noun", usual)

    @functools.cached_property
    def files_read(self) -> dict[tuple[str, Run], dict[str, Kept]]:
        """What files of predictions hold by split, by variant and run."""
        return {}

    @functools.cached_property
    def files_left_out(self) -> dict[tuple[str, Run], str]:
        """Why files of predictions that were read are not used."""
        return {}

    @functools.cached_property
    def tested(self) -> dict[str, dict[Run, Kept]]:
        """Predictions of networks that give numbers, by variant and run."""
        return self._select(lambda x: x.are_finite)

    @functools.cached_property
    def collapsed(self) -> dict[str, list[Run]]:
        """The runs in which networks have collapsed, by variant."""
        useless = self._select(lambda x: not x.has_learned)
        return {variant: [*by_run] for variant, by_run in useless.items()}

    @property
    def has_groups(self) -> bool:
        """Whether several test images are of one group, such as a patient."""
        every = [x for by_run in self.tested.values() for x in by_run.values()]
        return any(len(np.unique(x.groups)) < len(x.groups) for x in every)

    @property
    def predicts(self) -> str:
        """What predictions are of, such as `"classes"`; without any `""`."""
        every = (x for by_run in self.tested.values() for x in by_run.values())
        return next((x.kind for x in every), "")

    def read_split(self, outcome: Outcome, split: str) -> Kept | None:
        """Returns predictions, if they are kept; warns of those left out."""
        key, files_read = (outcome.variant, outcome.run), self.files_read
        if key not in files_read:
            try:
                files_read[key] = read_predictions(self.output, outcome)
            except ValueError as error:
                remedy = "Give the predictions again"
                if outcome.file:
                    remedy = "The call that made the run computes them again"
                files_read[key] = {}
                self.files_left_out[key] = str(error)
                _checks.warn(f"Predictions are left out: {error}. {remedy}")
        return files_read[key].get(split)

    def read_tested(self) -> dict[str, dict[Run, Kept]]:
        """Returns predictions for the test images, by variant and run."""
        kept: dict[str, dict[Run, Kept]] = {x: {} for x in self.variants}
        for run in self.runs:
            if predictions := self.read_split(run, "test"):
                kept[run.variant][run.run] = predictions
        return {variant: x for variant, x in kept.items() if x}

    def _select(self, is_chosen):
        """Returns some of all predictions, by variant and run."""
        chosen = {
            variant: {run: x for run, x in by_run.items() if is_chosen(x)}
            for variant, by_run in self.read_tested().items()
        }
        return {variant: x for variant, x in chosen.items() if x}
