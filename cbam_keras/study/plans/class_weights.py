"""Training images weighted by their classes, as a recipe says."""

import numpy as np

from cbam_keras import _checks
from cbam_keras.study.plans.recipes import BALANCED, SQRT, Recipe
from cbam_keras.study.plans.study import Data


def class_weights(data: Data, recipe: Recipe) -> dict[int, float] | None:
    """Returns the weight of each class for `fit`, `None` without weights.

    Raises unless the training images have labels that the recipe can weight.
    """
    class_weight = recipe.class_weight
    if class_weight is None:
        return None
    # The data of a user's own task do not say that each image has one label.
    is_labelled = not getattr(data, "boxes", True)
    is_labelled &= getattr(data, "labels", None) is None
    counts = getattr(data, "class_counts", None)
    if not is_labelled or (isinstance(class_weight, str) and counts is None):
        raise ValueError(
            "`class_weight` needs one class for each image, and with "
            f'"{BALANCED}" or "{SQRT}" labels in memory, which large datasets '
            "of TensorFlow Datasets have on disk. Received: class_weight="
            f'{class_weight!r} for "{data.name}". Give a mapping for these'
        )
    if isinstance(class_weight, str):
        # A class without images needs no weight.
        counts = np.asarray(counts)
        shares = np.count_nonzero(counts) * np.maximum(counts, 1)
        weights = counts.sum() / shares
        if class_weight == SQRT:
            weights = np.sqrt(weights)
        return dict(enumerate(weights.tolist()))
    names = [str(name) for name in data.class_names]
    weights = dict.fromkeys(range(len(names)), 1.0)
    others = [x for i, x in enumerate(names) if x.isdigit() and x != str(i)]
    numbers = [key for key in class_weight if not isinstance(key, str)]
    if others and numbers:
        raise ValueError(
            "`class_weight` must have names of classes where these are "
            f"numbers, as {_checks.first_few(names)}: {numbers[0]} could be "
            f'one, or an index. Received: the class {numbers[0]!r}. Write "'
            f'{others[0]}"'
        )
    for key, weight in class_weight.items():
        if key not in names and key not in range(len(names)):
            raise ValueError(
                f"`class_weight` must be of classes of the data, as "
                f"{_checks.first_few(names)}, or of their indices from 0 to "
                f"{len(names) - 1}. Received: the class {key!r}"
            )
        weights[names.index(key) if isinstance(key, str) else key] = weight
    return weights
