"""Random augmentation of images and their boxes, repeatable by epoch."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers

from cbam_keras import _checks

AUGMENTATIONS = ("flip", "translate", "zoom", "colour")
# Fractions: of the side, of the size, of the range of values.
SHIFT, ZOOM, COLOUR = 0.1, 0.2, 0.2


def check_augmentations(augment: Any) -> tuple[str, ...]:
    """Returns the names in the order in which they are applied."""
    if isinstance(augment, Sequence) and not augment:
        return ()
    chosen = _checks.subset("augment", augment, AUGMENTATIONS)
    return tuple(name for name in AUGMENTATIONS if name in chosen)


class Augmentation:
    """Keras' layers, each drawing from the seed of a batch.

    `RandomCrop` is not among them: in Keras 3.15.1 it moves boxes along the
    wrong axis.

    Args:
        augment: Sequence of names out of `AUGMENTATIONS`.
    """

    def __init__(self, augment: Sequence[str]):
        options: dict[str, Any] = {
            "bounding_box_format": "xyxy",
            "data_format": "channels_last",
            "seed": 0,
        }
        moved = {"fill_mode": "constant", **options}
        colour = {"value_range": (0, 255), **options}
        made = {
            "flip": lambda: [layers.RandomFlip("horizontal", **options)],
            "translate": lambda: [
                layers.RandomTranslation(SHIFT, SHIFT, **moved)
            ],
            "zoom": lambda: [layers.RandomZoom((-ZOOM, ZOOM), **moved)],
            "colour": lambda: [
                layers.RandomBrightness(COLOUR, **colour),
                layers.RandomContrast(COLOUR, **colour),
            ],
        }
        self.layers = [layer for name in augment for layer in made[name]()]

    def __call__(
        self,
        images: np.ndarray,
        boxes: np.ndarray,
        labels: np.ndarray,
        seed: Sequence[int],
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns a batch, augmented; objects that have left have label -1.

        Args:
            images: float32 array `(B, H, W, C)`.
            boxes: float32 array `(B, N, 4)`, `"xyxy"`.
            labels: float32 array `(B, N)`, -1 where there is no object.
            seed: Integers from which all draws follow.
        """
        batch = {
            "images": images,
            "bounding_boxes": {"boxes": boxes, "labels": labels},
        }
        states = np.random.default_rng(seed).integers(
            2**31, size=(len(self.layers), 2)
        )
        for layer, state in zip(self.layers, states, strict=True):
            layer.generator.state.assign(state)
            batch = layer(batch, training=True)
        batch = keras.tree.map_structure(keras.ops.convert_to_numpy, batch)
        found = batch["bounding_boxes"]
        return batch["images"], found["boxes"], found["labels"]
