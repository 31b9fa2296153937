"""`Measure`, and measures of classifiers computed by scikit-learn."""

import dataclasses
import statistics

import keras
import numpy as np

from cbam_keras import _checks, _graph

# The fraction of the test images that a network is right about.
ACCURACY = "test_accuracy"
# Others, which are no fractions of images, and what sentences call them.
MEASURES = {
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "auc": "ROC AUC",
}


@dataclasses.dataclass(frozen=True)
class Measure:
    """What networks are compared by: a number that `Task.evaluate` returns.

    It is shown as `scale * value` in its unit: by default as a percentage, of
    which differences are in points. JSON and data frames hold the value.

    Args:
        key: String, its name there.
        heading: String, what tables and sentences call it. Defaults to `""`.
        digits: Integer, those after the point. Defaults to `2`.
        is_error: Boolean, whether tables show the error, one minus it.
            Defaults to `False`.
        scale: Positive number. Defaults to `100`.
        unit: String, as `"dB"`; `""` for none. Defaults to `"%"`.
        lower_is_better: Boolean, whether a better network has a lower value,
            as of an RMSE. Defaults to `False`.

    Raises:
        ValueError: If `digits` is not an integer from 0 to 15, if `scale` is
            not a positive number, or if `is_error` is set for a measure whose
            lower values are better already.
        TypeError: If another argument is of a wrong kind.

    Example:
        >>> psnr = Measure("psnr", "PSNR", digits=1, scale=1, unit="dB")
        >>> psnr.column, psnr.difference(-0.73)
        ('PSNR (dB)', '-0.7 dB')
    """

    key: str
    heading: str = ""
    digits: int = 2
    is_error: bool = False
    scale: float = 100
    unit: str = "%"
    lower_is_better: bool = False

    def __post_init__(self) -> None:
        _checks.positive_integer("digits", self.digits, or_zero=True, most=15)
        _checks.positive_number("scale", self.scale)
        if not isinstance(self.unit, str):
            raise TypeError(
                f"`unit` must be a string. Received: unit={self.unit!r}"
            )
        if _checks.boolean("lower_is_better", self.lower_is_better):
            if self.is_error:
                raise ValueError(
                    "`is_error` must be False for a measure that is an error "
                    "already. Received: is_error=True, lower_is_better=True"
                )

    @property
    def column(self) -> str:
        """The heading of a column or an axis, with the unit."""
        return f"{self.heading} ({self.unit})" if self.unit else self.heading

    @property
    def points(self) -> str:
        """The unit of differences."""
        return "points" if self.unit == "%" else self.unit

    def number(self, value: float, sign: str = "") -> str:
        """Returns a value, or with the sign "+" a difference, as text."""
        return f"{self.scale * value:{sign}.{self.digits}f}"

    def difference(self, value: float, sign: str = "+") -> str:
        """Returns a difference in its unit, as "+1.24 points"."""
        return f"{self.number(value, sign)} {self.points}".rstrip()

    def merit(self, value: float) -> float:
        """Returns a number that is larger for a better value."""
        return -value if self.lower_is_better else value


def as_measure(measure: Measure | str) -> Measure:
    """Returns a measure; a string names a fraction, shown in percent."""
    if isinstance(measure, str):
        return Measure(measure, measure)
    return measure


TEST_ACCURACY = Measure(ACCURACY, "test accuracy")


def validation_key(measure: str) -> str:
    """Returns what a measure of the validation images is known by."""
    return f"val_{measure.removeprefix('test_')}"


def compute(
    measure: str, model: keras.Model, batches: keras.utils.PyDataset
) -> float:
    """Returns one of the `MEASURES` of a network on some images.

    Classes without images do not count.
    """
    metrics = _checks.require("sklearn.metrics", extra="tune")
    outputs, labels = outputs_and_labels(model, batches)
    kind, present = _graph.kind_of_head(model), np.unique(labels)
    scores = _graph.as_probabilities(outputs, kind)
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


def outputs_and_labels(
    model: keras.Model, batches: keras.utils.PyDataset
) -> tuple[np.ndarray, np.ndarray]:
    """Returns what a network gives for all images, and their labels."""
    outputs, labels = [], []
    # A `for` over a PyDataset would not end.
    for index in range(len(batches)):
        images, classes, *_ = batches[index]
        outputs.append(np.asarray(model.predict_on_batch(np.asarray(images))))
        labels.append(np.asarray(classes))
    return np.concatenate(outputs), np.concatenate(labels)
