"""Training images weighted by their classes, as a recipe says."""

import numpy as np

from cbam_keras.study.plans.recipes import SQRT, Recipe
from cbam_keras.study.plans.study import Data


def class_weights(data: Data, recipe: Recipe) -> dict[int, float] | None:
    """Returns the weight of each class for `fit`, or raises without labels."""
    class_weight = recipe.class_weight
    if class_weight is None:
        return None
    counts = getattr(data, "class_counts", None)
    # The data of a user's own task do not say that each image has one label.
    is_labelled = not getattr(data, "boxes", True)
    is_labelled &= getattr(data, "labels", None) is None
    if not is_labelled or counts is None:
        raise ValueError(
            "`class_weight` needs one class for each image. Received: "
            f'class_weight={class_weight!r} for "{data.name}"'
        )
    # A class without images needs no weight.
    counts = np.asarray(counts)
    shares = np.count_nonzero(counts) * np.maximum(counts, 1)
    weights = counts.sum() / shares
    if class_weight == SQRT:
        weights = np.sqrt(weights)
    return dict(enumerate(weights.tolist()))
