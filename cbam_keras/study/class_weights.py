"""Training images weighted by their classes, as a recipe says."""

import keras
import numpy as np

from cbam_keras import _checks
from cbam_keras.recipes import BALANCED, Recipe
from cbam_keras.study.study import Data


def training_batches(data: Data, recipe: Recipe) -> keras.utils.PyDataset:
    """Returns the training batches, with weights if the recipe has some."""
    weights = class_weights(data, recipe)
    return data.train if weights is None else Weighted(data.train, weights)


def class_weights(data: Data, recipe: Recipe) -> np.ndarray | None:
    """Returns the weight of each class, float32, or `None` without weights.

    Raises unless the training images have labels that the recipe can weight.
    """
    wanted = recipe.class_weight
    if wanted is None:
        return None
    # The data of a user's own task do not say that each image has one label.
    is_labelled = not getattr(data, "boxes", True)
    counts = getattr(data, "class_counts", None)
    if not is_labelled or (wanted == BALANCED and counts is None):
        raise ValueError(
            "`class_weight` needs data with one label per image, as "
            "cbam_keras.data.load returns them, and with "
            f'"{BALANCED}" labels in memory, which large datasets of '
            "TensorFlow Datasets have on disk. Received: class_weight="
            f'{wanted!r} for "{data.name}". Leave it out, or for labels on '
            "disk give a mapping of classes to numbers"
        )
    if isinstance(wanted, str):
        # A class without images needs no weight.
        counts = np.asarray(counts)
        shares = np.count_nonzero(counts) * np.maximum(counts, 1)
        return (counts.sum() / shares).astype("float32")
    names = [str(name) for name in data.class_names]
    weights = np.ones(len(names), "float32")
    for key, weight in wanted.items():
        if key not in names and key not in range(len(names)):
            raise ValueError(
                f"`class_weight` must be of classes of the data, as "
                f"{_checks.first_few(names)}, or of their indices from 0 to "
                f"{len(names) - 1}. Received: the class {key!r}"
                f"{_checks.did_you_mean(key, names)}"
            )
        weights[names.index(key) if isinstance(key, str) else key] = weight
    return weights


class Weighted(keras.utils.PyDataset):
    """Batches of images and labels, with a weight for each image.

    Not by `class_weight` of `fit`, which takes a mixture of two labels for
    the larger one.
    """

    def __init__(self, batches: keras.utils.PyDataset, weights: np.ndarray):
        super().__init__(batches.workers, max_queue_size=batches.max_queue_size)
        self.batches, self.weights = batches, weights

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        images, labels = self.batches[index]
        if labels.ndim == 2:
            return images, labels, labels @ self.weights
        return images, labels, self.weights[labels]

    def on_epoch_end(self) -> None:
        self.batches.on_epoch_end()
