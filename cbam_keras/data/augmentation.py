"""Random augmentation of batches of training images."""

import warnings
from collections.abc import Sequence

import keras
import numpy as np
from keras import layers

from cbam_keras import _checks

AUGMENTATIONS = (
    "flip",
    "crop",
    "random_resized_crop",
    "rand_augment",
    "mixup",
    "cutmix",
)
MIXING = ("mixup", "cutmix")
MIXUP_ALPHA = 0.2
# These need all images of a batch.
WHOLE_BATCH = ("rand_augment", *MIXING)
# "crop" shifts by up to this fraction of a side.
SHIFT = 8


def check_augmentations(augment: str | Sequence[str]) -> tuple[str, ...]:
    """Returns the names, in the order in which they are applied."""
    if isinstance(augment, Sequence) and not augment:
        return ()
    chosen = _checks.subset("augment", augment, AUGMENTATIONS)
    if {"crop", "random_resized_crop"} <= set(chosen):
        raise ValueError(
            '`augment` takes one of "crop" and "random_resized_crop", not '
            f"both. Received: augment={augment!r}"
        )
    return tuple(name for name in AUGMENTATIONS if name in chosen)


def flip_and_crop(
    images: np.ndarray, draws: np.ndarray, augment: Sequence[str]
) -> np.ndarray:
    """Flips and shifts a batch, each image by its draws `(B, 3)`.

    In place of Keras' layers: `RandomFlip` draws for a whole batch, of which
    a process may hold some rows, and `RandomCrop` crops all images alike.
    """
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


def rand_augment(images: np.ndarray, seed: int) -> np.ndarray:
    """Returns a batch as `keras.layers.RandAugment` changes it.

    By a new layer for each batch, so that nothing drawn before matters.
    """
    layer = layers.RandAugment(
        (0, 255), seed=seed, data_format="channels_last", dtype="float32"
    )
    with warnings.catch_warnings():
        # Of JAX and PyTorch, of nothing that users could act on.
        warnings.simplefilter("ignore")
        changed = layer(images.astype("float32"), training=True)
    # Rounding may pass the limits.
    return np.clip(keras.ops.convert_to_numpy(changed), 0, 255)


def mix(
    images: np.ndarray,
    labels: np.ndarray,
    augment: Sequence[str],
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns a batch with each image mixed with another, by MixUp or CutMix.

    As `keras.layers.MixUp` and `CutMix` do by default, but with the same
    numbers on every backend.
    """
    mixing = [name for name in MIXING if name in augment]
    count, height, width = images.shape[:3]
    others = rng.permutation(count)
    if mixing[rng.integers(len(mixing))] == "mixup":
        kept = rng.beta(MIXUP_ALPHA, MIXUP_ALPHA, (count, 1, 1, 1))
    else:
        # A box around any point, of a uniform fraction of the area, clipped
        # at the border.
        side = np.sqrt(rng.random(count))[:, None]
        down, right = (
            np.abs(np.arange(length) + 0.5 - length * rng.random((count, 1)))
            < side * length / 2
            for length in (height, width)
        )
        kept = ~(down[:, :, None] & right[:, None])[..., None]
    kept = kept.astype("float32")
    images = kept * images + (1 - kept) * images[others]
    shares = kept.mean(axis=(1, 2))
    return images, shares * labels + (1 - shares) * labels[others]
