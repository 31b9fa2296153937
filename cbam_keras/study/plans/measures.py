"""`Measure`, and measures of classifiers computed by scikit-learn."""

import contextlib
import dataclasses
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cbam_keras import _checks
from cbam_keras._terminal import DataFrame, number_cell

# The fraction of the test images that a network is right about.
ACCURACY = "test_accuracy"
FRACTIONS = (ACCURACY,)
# What is a mean over examples: drawing these counts in intervals.
SCORE = "score"
MEANS = (*FRACTIONS, "mae", "brier", SCORE)
# Others, which are no fractions of images, and what sentences call them.
MEASURES = {
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "auc": "ROC AUC",
    "average_precision": "average precision",
    "ece": "calibration error",
    "brier": "Brier score",
}
# How those are shown that are no percentages of which more is better.
SHOWN_AS: dict[str, dict[str, Any]] = {
    "ece": {"lower_is_better": True},
    "brier": {"lower_is_better": True, "scale": 1, "unit": "", "digits": 4},
}
OF_SEVERAL = ("average_precision", "macro_f1", "auc")
# Some are of a curve over all thresholds, for each class against the others.
OF_CURVES = ("auc", "average_precision")
# Measures of numbers: what sentences call them, and scikit-learn.
FOR_NUMBERS = {
    "mae": ("MAE", "mean_absolute_error"),
    "rmse": ("RMSE", "root_mean_squared_error"),
    "r2": ("R\N{SUPERSCRIPT TWO}", "r2_score"),
}
# The bins of equally many images, by which calibration is measured.
BINS = 15


@_checks.named_arguments
@dataclasses.dataclass(frozen=True)
class Measure:
    """A metric of a task: a number that `Task.evaluate` returns.

    Tables show `scale * value` in its unit; files store the value.

    Args:
        key: String, the name of this number in the result of `evaluate`.
        heading: String, the name in tables and sentences. Defaults to `""`.
        scale: Positive number, by which tables multiply. Defaults to `100`.
        unit: String, e.g. `"dB"`; `""` for none. Differences of percentages are
            in points. Defaults to `"%"`.
        lower_is_better: Boolean, whether lower is better. Defaults to `False`.
        digits: Integer, the number of decimals. Defaults to `2`.

    Raises:
        ValueError: If `digits` or `scale` is out of range.
        TypeError: If `unit` or `lower_is_better` is of a wrong kind.
    """

    key: str
    heading: str = ""
    scale: float = 100
    unit: str = "%"
    lower_is_better: bool = False
    digits: int = 2

    def __post_init__(self) -> None:
        _checks.positive_integer("digits", self.digits, or_zero=True, most=15)
        _checks.positive_number("scale", self.scale)
        if not isinstance(self.unit, str):
            raise TypeError(
                f"`unit` must be a string. Received: unit={self.unit!r}"
            )
        _checks.boolean("lower_is_better", self.lower_is_better)

    @property
    def column(self) -> str:
        """The heading of a column or an axis, with the unit."""
        return f"{self.heading} ({self.unit})" if self.unit else self.heading

    def number(self, value: float | None, sign: str = "") -> str:
        """Returns a value as it is shown, without the unit."""
        return number_cell(f"{{:{sign}.{self.digits}f}}", value, self.scale)

    @property
    def unit_of_differences(self) -> str:
        """As the unit, but points for percentages."""
        return "points" if self.unit == "%" else self.unit

    def in_points(self, numbers: str) -> str:
        """Returns differences with their unit, e.g. "+1.24 points"."""
        return f"{numbers} {self.unit_of_differences}".rstrip()

    def merit(self, value: float) -> float:
        """Returns a number that is larger for a better value."""
        return -value if self.lower_is_better else value


def as_measure(name: Measure | str) -> Measure:
    """Returns a measure; a string names one in percent."""
    return Measure(name, name) if isinstance(name, str) else name


TEST_ACCURACY = Measure(ACCURACY, "test accuracy")


def measures_of_classes(first: str | None, several: bool) -> list[Measure]:
    """Returns what is compared, and the usual measures of classes."""
    usual: Sequence[str] = OF_SEVERAL if several else (ACCURACY,)
    choices = usual if several else (ACCURACY, *MEASURES)
    # A short name of it.
    first = ACCURACY if str(first) == "accuracy" else first or usual[0]
    _checks.one_of("measure", first, choices)
    return [
        TEST_ACCURACY
        if key == ACCURACY
        else Measure(key, f"test {MEASURES[key]}", **SHOWN_AS.get(key, {}))
        for key in dict.fromkeys([first, *usual])
    ]


def validation_key(measure: str) -> str:
    """Returns what a measure of the validation images is known by."""
    return f"val_{measure.removeprefix('test_').removeprefix('val_')}"


def validated_by(every: Sequence[Mapping], measure: Measure) -> Measure:
    """Returns by which validation number epochs or networks are compared.

    It is that of the measure or, unless all have it, the accuracy: a loss may
    rise where a network is right as often. Without it, it is the loss.
    """
    own = dataclasses.replace(measure, key=validation_key(measure.key))
    accuracy = Measure(validation_key(ACCURACY))
    loss = Measure("val_loss", unit="", lower_is_better=True)
    for one in (own, accuracy, loss):
        if all(x.get(one.key) is not None for x in every):
            return one
    return own


def compute(measure: str, scores: np.ndarray, labels: np.ndarray) -> float:
    """Returns one of the `MEASURES`, over the classes that have images."""
    metrics = _checks.require("sklearn.metrics", extra="plot")
    if measure in SHOWN_AS:
        return measure_calibration(measure, scores, labels)
    averaged = find_averaged(measure, labels, scores.shape[1])
    if not averaged:
        alone = f"of class {labels[0]} alone"
        if labels.ndim == 2:
            alone = f"each with the same {labels[0].sum()} classes"
        raise ValueError(
            f'The metric "{measure}" needs a class that some images have and '
            "others lack. Received: "
            f"{_checks.count(len(labels), 'image')} {alone}"
        )
    if measure not in OF_CURVES:
        # The mean recall is the balanced accuracy.
        function = metrics.f1_score
        if measure == "balanced_accuracy":
            function = metrics.recall_score
        predicted = predict(scores, labels)
        options = {"average": "macro", "zero_division": 0}
        return float(function(labels, predicted, labels=averaged, **options))
    area_of = metrics.roc_auc_score
    if measure == "average_precision":
        area_of = metrics.average_precision_score
    return statistics.fmean(
        float(area_of(is_of(labels, one), scores[:, one])) for one in averaged
    )


def find_averaged(measure: str, labels: np.ndarray, classes: int) -> list[int]:
    """Returns the classes, of so many, that a measure is the mean over."""
    present = find_present(labels).tolist()
    if measure not in OF_CURVES:
        return present
    # A class that all images have has no curve.
    present = [x for x in present if not is_of(labels, x).all()]
    # Two classes have the same area.
    is_binary = classes == 2 and labels.ndim == 1
    return [1] if is_binary and present else present


def is_of(labels: np.ndarray, index: int) -> np.ndarray:
    """Returns which examples are of a class, or have it among several."""
    return labels == index if labels.ndim == 1 else labels[:, index] > 0


def find_present(labels: np.ndarray) -> np.ndarray:
    """Returns the classes of which there are examples."""
    is_one = labels.ndim == 1
    return np.unique(labels) if is_one else np.flatnonzero(labels.any(axis=0))


def predict(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the most probable class, or 0 and 1 where there are several."""
    if labels.ndim == 1:
        return scores.argmax(axis=-1)
    return (scores >= 0.5).astype(int)


def check_measure_of_numbers(measure: Any) -> str:
    """Returns the name of a measure of numbers, also of one's own."""
    name = getattr(measure, "__name__", "")
    if not name:
        return str(_checks.one_of("measure", measure, FOR_NUMBERS))
    if not name.endswith(("_score", "_error")):
        raise ValueError(
            "A function as `measure` must be named ..._score if higher is "
            f"better, ..._error if lower is. Received: {measure=}"
        )
    return name


def measures_of_numbers(first: str, deviation: float = 1) -> list[Measure]:
    """Returns all measures of numbers, first the one that is compared."""
    digits = 3 - math.floor(math.log10(deviation or 1))
    digits = min(15, max(0, digits))
    names = {first: first.replace("_", " ")}
    names |= {key: name for key, (name, _) in FOR_NUMBERS.items()}
    measures = []
    for key, name in names.items():
        # Scores have no unit.
        is_score = key == "r2" or key.endswith("_score")
        measures.append(
            Measure(
                key,
                f"test {name}",
                scale=1,
                unit="",
                lower_is_better=not is_score,
                digits=3 if is_score else digits,
            )
        )
    return measures


def measure_numbers(
    measure: str | Callable, predicted: np.ndarray, targets: np.ndarray
) -> dict[str, float]:
    """Returns all measures of numbers `(B, ..., values)`, and one's own."""
    metrics = _checks.require("sklearn.metrics", extra="plot")
    functions = {x: getattr(metrics, y) for x, (_, y) in FOR_NUMBERS.items()}
    if callable(measure):
        functions[measure.__name__] = measure
    shape = -1, targets.shape[-1]
    pair = targets.reshape(shape), predicted.reshape(shape)
    return {key: float(function(*pair)) for key, function in functions.items()}


def guess_number(
    measure: str | Callable, train: np.ndarray, test: np.ndarray
) -> float:
    """Returns the metric of the constant baseline, the best in training."""
    best = np.median if measure == "mae" else np.mean
    constant = best(train, axis=tuple(range(train.ndim - 1)))
    predicted = np.broadcast_to(constant, test.shape)
    key = check_measure_of_numbers(measure)
    return measure_numbers(measure, predicted, test)[key]


def sensitivity_of(rule: str) -> float | None:
    """Returns the number in `"sensitivity=0.95"`, `None` for `"youden"`."""
    name, _, number = str(rule).partition("=")
    with contextlib.suppress(ValueError):
        if name == "sensitivity" and 0 < float(number) <= 1:
            return float(number)
    if rule == "youden":
        return None
    raise ValueError(
        '`threshold` must be "youden", or a minimum sensitivity on validation '
        f'images, e.g. "sensitivity=0.95". Received: threshold={rule!r}'
    )


def measure_calibration(
    measure: str, probabilities: np.ndarray, labels: np.ndarray
) -> float:
    """Returns the `"brier"` score or `"ece"`, the calibration error."""
    if measure == "ece":
        bins = reliability(probabilities, labels)
        gaps = (bins["right"] - bins["confidence"]).abs()
        return float(np.average(gaps, weights=bins["images"]))
    return float(brier_of_each(probabilities, labels).mean())


def brier_of_each(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the Brier score of each example; that of all is their mean.

    It is what `sklearn.metrics.brier_score_loss` gives since 1.7. Before, it
    took no more than two classes. Of two classes it is the error of one of
    them, of more the sum over all.
    """
    classes = probabilities.shape[1]
    errors = probabilities.astype("float64") - np.eye(classes)[labels]
    scores = np.square(errors).sum(axis=1)
    return scores / 2 if classes == 2 else scores


def reliability(probabilities: np.ndarray, labels: np.ndarray) -> DataFrame:
    """Returns a row for each of the bins, quantiles of the confidence."""
    pandas = _checks.require("pandas", extra="plot")
    confidence = probabilities.max(axis=1).astype("float64")
    is_right = probabilities.argmax(axis=1) == labels
    frame = pandas.DataFrame({"right": is_right, "confidence": confidence})
    ends = np.percentile(confidence, np.linspace(0, 1, BINS + 1) * 100)
    bins = frame.groupby(np.searchsorted(ends[1:-1], confidence))
    return bins.mean().assign(images=bins.size())
