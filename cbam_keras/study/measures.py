"""Measures of classifiers beside accuracy, computed by scikit-learn."""

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
