"""Random augmentation of batches of training images."""

from collections.abc import Sequence

import numpy as np

from cbam_keras import _checks

AUGMENTATIONS = ("flip", "crop", "random_resized_crop")
# "crop" shifts by up to this fraction of a side.
SHIFT = 8


def check_augmentations(augment: str | Sequence[str]) -> tuple[str, ...]:
    """Returns the names, in the order in which they are applied."""
    if isinstance(augment, Sequence) and not augment:
        return ()
    chosen = _checks.subset("augment", augment, AUGMENTATIONS)
    return tuple(name for name in AUGMENTATIONS if name in chosen)


def flip_and_crop(
    images: np.ndarray, draws: np.ndarray, augment: Sequence[str]
) -> np.ndarray:
    """Flips and shifts a batch, each image by its draws `(B, 3)`."""
    # Keras' `RandomFlip` draws for a whole batch, of which a process may hold
    # some rows, and its `RandomCrop` crops all images alike.
    if "crop" in augment:
        height, width = images.shape[1:3]
        margins = height // SHIFT, width // SHIFT
        padding = ((0, 0), (margins[0],) * 2, (margins[1],) * 2, (0, 0))
        padded = np.pad(images, padding, mode="symmetric")
        # The first row and column kept, from 0 to twice the margin.
        top, left = (
            (draws[:, axis] * (2 * margin + 1)).astype("int32")
            for axis, margin in enumerate(margins, 1)
        )
        every = np.arange(len(images))[:, None, None]
        rows = (top[:, None] + np.arange(height))[:, :, None]
        columns = (left[:, None] + np.arange(width))[:, None, :]
        images = padded[every, rows, columns]
    if "flip" in augment:
        flipped = draws[:, 0, None, None, None] < 0.5
        images = np.where(flipped, images[:, :, ::-1], images)
    return images
