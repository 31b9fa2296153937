"""Measures without each example, and the pseudo-values that follow from them.

AUC, F1 or R2 are not means over examples. Tukey's jackknife (1958,
https://doi.org/10.1214/aoms/1177706647) makes a mean of them: the pseudo-value
of an example is n times the measure of all n examples minus n - 1 times the
measure without this example. So the error of a mean serves every measure.

The formulas are exact: they give what computing the measure again without each
example gives, in the time of one sort.
"""

from collections.abc import Callable

import numpy as np

from cbam_keras.study.plans import measures


def pseudo_values(
    measure: str, predicted: np.ndarray, labels: np.ndarray, value: float
) -> np.ndarray:
    """Returns the pseudo-value of each example, `(N,)`.

    They are moved so that their mean is `value`, the measure of all examples:
    the jackknife corrects a bias, and tables print the plain measure.

    Args:
        measure: One of `WITHOUT_EACH`.
        predicted: Probabilities `(N, classes)`, or numbers `(N, ..., values)`.
        labels: Classes `(N,)`, 0 and 1 for each class `(N, classes)`, or the
            targets of numbers.
        value: The measure of all examples.
    """
    without = WITHOUT_EACH[measure](measure, predicted, labels)
    return value + (len(labels) - 1) * (without.mean() - without)


def without_each_of_classes(
    measure: str, probabilities: np.ndarray, labels: np.ndarray
) -> np.ndarray:
    """Returns a measure of classes without each example, `(N,)`.

    It is the mean over the same classes as that of all examples. Each of them
    needs two examples, and for curves two others.
    """
    classes = measures.find_averaged(measure, labels, probabilities.shape[1])
    is_curve = measure in measures.OF_CURVES
    predicted = None if is_curve else measures.predict(probabilities, labels)
    total = np.zeros(len(labels))
    for one in classes:
        scores = probabilities[:, one]
        if predicted is not None:
            scores = measures.is_of(predicted, one)
        total += OF_ONE_CLASS[measure](measures.is_of(labels, one), scores)
    return total / len(classes)


def find_placements(is_positive: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Returns the placement of each example among those of the other class.

    For a positive example, this is the fraction of negative ones with a lower
    score, for a negative example the fraction of positive ones with a higher
    score; equal scores count half (DeLong et al., 1988,
    https://doi.org/10.2307/2531595). Either mean is the area under the curve.
    """
    positive = np.sort(scores[is_positive])
    negative = np.sort(scores[~is_positive])
    below = _count_below(negative, scores) / len(negative)
    above = 1 - _count_below(positive, scores) / len(positive)
    return np.where(is_positive, below, above)


def _count_below(ordered, scores):
    """Returns how many of ordered scores are lower; equal ones count half."""
    first = np.searchsorted(ordered, scores, side="left")
    last = np.searchsorted(ordered, scores, side="right")
    return (first + last) / 2


def _area_without_each(is_positive, scores):
    """Returns the area under the ROC curve without each example."""
    placements = find_placements(is_positive, scores)
    area = placements[is_positive].mean()
    positive = int(is_positive.sum())
    of_class = np.where(is_positive, positive, len(scores) - positive)
    # The area is the mean of the placements of either class.
    return area - (placements - area) / (of_class - 1)


def _average_precision_without_each(is_positive, scores):
    """Returns the average precision without each example.

    At each threshold, it adds the precision there times the positive examples
    with this score. A positive example that is left out lowers the numerator
    and the denominator of all precisions from its own threshold on, a negative
    one the denominator.
    """
    # In the order of thresholds, the highest first.
    _, place = np.unique(-scores, return_inverse=True)
    positive = np.bincount(place, is_positive)
    right = np.cumsum(positive)
    predicted = np.cumsum(np.bincount(place))
    # Where the only example is left out, no positive one is at its threshold.
    fewer = np.maximum(predicted - 1, 1)
    parts = positive * right / predicted
    before = np.cumsum(parts) - parts
    parts_without_negative = positive * right / fewer
    without_negative = before + _sum_from(parts_without_negative)
    parts_without_positive = positive * (right - 1) / fewer
    after = _sum_from(parts_without_positive) - parts_without_positive
    own = (positive - 1) * (right - 1) / fewer
    without_positive = before + own + after
    count = is_positive.sum()
    return np.where(
        is_positive,
        without_positive[place] / (count - 1),
        without_negative[place] / count,
    )


def _sum_from(values):
    """Returns the sum of values from each one to the last."""
    return np.cumsum(values[::-1])[::-1]


def _f1_without_each(is_positive, is_predicted):
    """Returns F1, 2 right / (positive + predicted), without each example."""
    is_right = is_positive & is_predicted
    both = is_positive.astype(int) + is_predicted
    right = is_right.sum() - is_right
    # A class that is neither there nor predicted has an F1 of 0.
    return 2 * right / np.maximum(both.sum() - both, 1)


def _recall_without_each(is_positive, is_predicted):
    """Returns the recall of a class without each example."""
    is_right = is_positive & is_predicted
    return (is_right.sum() - is_right) / (is_positive.sum() - is_positive)


def _rmse_without_each(_, predicted, targets):
    """Returns the root mean squared error without each example."""
    squares = _by_example(predicted - targets, np.square)
    rest = np.maximum(squares.sum(axis=0) - squares, 0)
    size = targets[0].size // targets.shape[-1]
    return np.sqrt(rest / (len(targets) - 1) / size).mean(axis=1)


def _r2_without_each(_, predicted, targets):
    """Returns the coefficient of determination without each example."""
    squares = _by_example(predicted - targets, np.square)
    error = np.maximum(squares.sum(axis=0) - squares, 0)
    # Centered targets have small sums, so that little is lost to rounding.
    centered = targets - targets.mean(axis=tuple(range(targets.ndim - 1)))
    sums, of_target = _by_example(centered), _by_example(centered, np.square)
    size = (len(targets) - 1) * (targets[0].size // targets.shape[-1])
    # Without an example, the mean of the targets is another one.
    spread = of_target.sum(axis=0) - of_target
    spread = spread - np.square(sums.sum(axis=0) - sums) / size
    is_constant = spread <= CONSTANT * of_target.sum(axis=0)
    # Scikit-learn's values for constant targets.
    of_constant = np.where(error > 0, 0.0, 1.0)
    unexplained = error / np.where(is_constant, 1, spread)
    return np.where(is_constant, of_constant, 1 - unexplained).mean(axis=1)


def _by_example(values, function=np.asarray):
    """Returns sums over the positions of each example, `(N, values)`."""
    flat = values.reshape(len(values), -1, values.shape[-1])
    return function(flat).sum(axis=1)


# Targets whose squares sum to a smaller part of all squares are constant.
CONSTANT = 1e-12
OF_ONE_CLASS: dict[str, Callable[..., np.ndarray]] = {
    "auc": _area_without_each,
    "average_precision": _average_precision_without_each,
    "macro_f1": _f1_without_each,
    "balanced_accuracy": _recall_without_each,
}
WITHOUT_EACH: dict[str, Callable[..., np.ndarray]] = {
    **dict.fromkeys(OF_ONE_CLASS, without_each_of_classes),
    "rmse": _rmse_without_each,
    "r2": _r2_without_each,
}
