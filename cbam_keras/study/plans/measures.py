"""`Measure`, and measures of classifiers computed by scikit-learn."""

import contextlib
import dataclasses
import statistics
import warnings
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from cbam_keras import _checks, _graph
from cbam_keras._terminal import number_cell

if TYPE_CHECKING:
    import pandas

# The fraction of the test images that a network is right about.
ACCURACY = "test_accuracy"
# Fractions of the test images: drawing these counts in intervals.
FRACTIONS = (ACCURACY,)
# Others, which are no fractions of images, and what sentences call them.
MEASURES = {
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "auc": "ROC AUC",
    "ece": "calibration error",
    "brier": "Brier score",
}
# How those are shown that are no percentages of which more is better.
SHOWN: dict[str, dict[str, Any]] = {
    "ece": {"lower_is_better": True},
    "brier": {"lower_is_better": True, "scale": 1, "unit": "", "digits": 4},
}
# The bins of equally many images, by which calibration is measured.
BINS = 15


@dataclasses.dataclass(frozen=True)
class Measure:
    """What networks are compared by: a number that `Task.evaluate` returns.

    It is shown as `scale * value` in its unit, and stored as it is.

    Args:
        key: String, the name of this number in the result of `evaluate`.
        heading: String, the name in tables and sentences. Defaults to `""`.
        scale: Positive number, by which tables multiply. Defaults to `100`.
        unit: String, as `"dB"`; `""` for none. Differences of percentages are
            in points. Defaults to `"%"`.
        lower_is_better: Boolean, whether a lower value is better, as of an
            RMSE. Defaults to `False`.
        digits: Integer, the number of decimals. Defaults to `2`.

    Raises:
        ValueError: If `digits` is not an integer from 0 to 15, or `scale` not
            a positive number.
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
        """Returns differences with their unit, as "+1.24 points"."""
        return f"{numbers} {self.unit_of_differences}".rstrip()

    def merit(self, value: float) -> float:
        """Returns a number that is larger for a better value."""
        return -value if self.lower_is_better else value


def as_measure(name: Measure | str) -> Measure:
    """Returns a measure; a string names one in percent."""
    return Measure(name, name) if isinstance(name, str) else name


TEST_ACCURACY = Measure(ACCURACY, "test accuracy")


def validation_key(measure: str) -> str:
    """Returns what a measure of the validation images is known by."""
    return f"val_{measure.removeprefix('test_').removeprefix('val_')}"


def compute(measure: str, scores: np.ndarray, labels: np.ndarray) -> float:
    """Returns one of the `MEASURES` of probabilities `(B, classes)`.

    Classes without images do not count.
    """
    metrics = _checks.require("sklearn.metrics", extra="plot")
    present = np.unique(labels)
    if measure in SHOWN:
        return calibration(measure, scores, labels)
    if measure != "auc":
        # The mean recall is the balanced accuracy.
        function = metrics.f1_score
        if measure == "balanced_accuracy":
            function = metrics.recall_score
        predicted = scores.argmax(axis=-1)
        options = {"average": "macro", "zero_division": 0}
        return float(function(labels, predicted, labels=present, **options))
    if len(present) < 2:
        raise ValueError(
            '`measure="auc"` needs images of two classes. Received: '
            f"{_checks.count(len(labels), 'image')} of class {present[0]} alone"
        )
    # Two classes have the same area.
    classes = [1] if scores.shape[1] == 2 else present
    return statistics.fmean(
        float(metrics.roc_auc_score(labels == one, scores[:, one]))
        for one in classes
    )


def sensitivity_of(rule: str) -> float | None:
    """Returns the number in `"sensitivity=0.95"`, `None` for `"youden"`."""
    name, _, number = str(rule).partition("=")
    with contextlib.suppress(ValueError):
        if name == "sensitivity" and 0 < float(number) <= 1:
            return float(number)
    if rule == "youden":
        return None
    raise ValueError(
        '`threshold` must be "youden", or the least sensitivity on validation '
        f'images, as "sensitivity=0.95". Received: threshold={rule!r}'
    )


def calibration(
    measure: str, probabilities: np.ndarray, labels: np.ndarray
) -> float:
    """Returns the `"brier"` score, or the expected calibration error `"ece"`.

    Of two classes the score is in [0, 1], of more a sum over them in [0, 2].
    """
    if measure == "ece":
        bins = reliability(probabilities, labels)
        gaps = (bins["right"] - bins["confidence"]).abs()
        return float(np.average(gaps, weights=bins["images"]))
    metrics = _checks.require("sklearn.metrics", extra="plot")
    classes = np.arange(probabilities.shape[1])
    with warnings.catch_warnings():
        # Several sigmoids need not.
        warnings.filterwarnings("ignore", ".* do not sum to one")
        return metrics.brier_score_loss(labels, probabilities, labels=classes)


def reliability(
    probabilities: np.ndarray, labels: np.ndarray
) -> "pandas.DataFrame":
    """Returns a row for each of the bins, quantiles of the confidence.

    That is the highest probability of an image. The columns are means of
    `right` and `confidence`, and the number of `images`. The bins are those of
    scikit-learn's `calibration_curve`, which does not return their numbers.
    """
    pandas = _checks.require("pandas", extra="plot")
    confidence = probabilities.max(axis=1).astype("float64")
    is_right = probabilities.argmax(axis=1) == labels
    frame = pandas.DataFrame({"right": is_right, "confidence": confidence})
    ends = np.percentile(confidence, np.linspace(0, 1, BINS + 1) * 100)
    bins = frame.groupby(np.searchsorted(ends[1:-1], confidence))
    return bins.mean().assign(images=bins.size())


def probabilities_and_labels(
    model: keras.Model, batches: keras.utils.PyDataset
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the probability of each class, float64, and the labels."""
    outputs, labels = outputs_and_labels(model, batches)
    kind = _graph.find_kind(model, _graph.kind_of_head(model))
    return _graph.as_probabilities(outputs, kind), labels


def outputs_and_labels(
    model: keras.Model, batches: keras.utils.PyDataset
) -> tuple[np.ndarray, np.ndarray]:
    """Returns what a network gives for all images, and their labels."""
    outputs, labels = [], []
    # A `for` over a PyDataset would not end.
    for index in range(len(batches)):
        images, classes, *_ = batches[index]
        images = keras.tree.map_structure(np.asarray, images)
        outputs.append(np.asarray(model.predict_on_batch(images)))
        labels.append(np.asarray(classes))
    return np.concatenate(outputs), np.concatenate(labels)
