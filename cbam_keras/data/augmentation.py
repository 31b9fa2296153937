"""Random flips, shifts and crops of training images."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from cbam_keras import _checks

AUGMENTATIONS = ("flip", "crop", "random_resized_crop")
# What to do with a layer of Keras, which `augment` does not take.
INSIDE = (
    "Put random layers of Keras into your network, after its input, as "
    "keras.layers.RandAugment(); those that mix labels, as MixUp, need a task "
    "of your own"
)
# "crop" shifts by up to this fraction of a side.
SHIFT = 8
# Random resized crops: the least fraction of the area, the logarithm of the
# largest aspect ratio, and how many boxes are drawn to find one that fits.
LEAST_AREA = 0.08
LOG_RATIO = math.log(4 / 3)
TRIES = 10
# The series of the exponential: `np.exp` rounds differently on other CPUs.
EXPONENTIAL = [1 / math.factorial(power) for power in range(10, -1, -1)]


def list_augmentations(augment: Any) -> tuple[str, ...]:
    """Returns one or several augmentations as their names, in their order."""
    names = augment or ()
    if isinstance(names, str | Mapping) or not isinstance(names, Iterable):
        names = (names,)
    names = tuple(names)
    if not all(isinstance(name, str) for name in names):
        raise ValueError(
            "`augment` must be one or several names. Received: "
            f"augment={augment!r}. {INSIDE}"
        )
    return names


def check_augmentations(augment: Any) -> tuple[str, ...]:
    """Returns the names, in the order in which they are applied."""
    names = list_augmentations(augment)
    for name in names:
        if name not in AUGMENTATIONS:
            listed = ", ".join(map(_checks.quoted, AUGMENTATIONS))
            hint = _checks.did_you_mean(name, AUGMENTATIONS)
            raise ValueError(
                f"`augment` must be one or several of {listed}. Received: "
                f"augment={augment!r}{hint or f'. {INSIDE}'}"
            )
    return tuple(name for name in AUGMENTATIONS if name in names)


def draw_box(size: tuple[int, ...], draws: np.ndarray) -> tuple[int, ...]:
    """Returns top, left, height and width of a random resized crop.

    As torchvision: the first of ten boxes that lies in the image, else the
    largest center box of such a ratio. `draws` are `(10, 4)` from [0, 1).
    """
    height, width = map(np.float32, size)
    area = height * width * (LEAST_AREA + (1 - LEAST_AREA) * draws[:, 0])
    ratio = np.polyval(EXPONENTIAL, LOG_RATIO * (2 * draws[:, 1] - 1))
    ratio = ratio.astype("float32")
    heights = np.round(np.sqrt(area / ratio))
    widths = np.round(np.sqrt(area * ratio))
    fits = (heights >= 1) & (heights <= height)
    fits &= (widths >= 1) & (widths <= width)
    if fits.any():
        first = fits.argmax()
        high, wide = heights[first], widths[first]
        down, right = draws[first, 2:]
    else:
        high = min(height, np.round(width * 4 / 3))
        wide = min(width, np.round(height * 4 / 3))
        down = right = np.float32(0.5)
    # Rounding may reach the excluded end.
    top = min(np.floor(down * (height - high + 1)), height - high)
    left = min(np.floor(right * (width - wide + 1)), width - wide)
    return tuple(map(int, (top, left, high, wide)))


def flip_and_crop(
    images: np.ndarray, draws: np.ndarray, augment: Sequence[str]
) -> np.ndarray:
    """Flips and shifts a batch, each image by its draws `(B, 3)`."""
    # Keras' `RandomFlip` draws for a whole batch, of which a process may hold
    # some rows, and its `RandomCrop` crops all images alike.
    if "crop" in augment:
        height, width = images.shape[1:3]
        down, right = height // SHIFT, width // SHIFT
        edges = ((0, 0), (down, down), (right, right), (0, 0))
        padded = np.pad(images, edges, mode="symmetric")
        # The first row and column kept, from 0 to twice the margin.
        top = (draws[:, 1] * (2 * down + 1)).astype("int32")
        left = (draws[:, 2] * (2 * right + 1)).astype("int32")
        images = np.stack(
            [
                image[y : y + height, x : x + width]
                for image, y, x in zip(padded, top, left, strict=True)
            ]
        )
    if "flip" in augment:
        flipped = draws[:, 0, None, None, None] < 0.5
        images = np.where(flipped, images[:, :, ::-1], images)
    return images
