"""Random augmentation of training images, repeatable epoch by epoch.

The random numbers of an image follow from the seed, the epoch and its
position, and from nothing that was drawn before. So a resumed run sees the
same images, and so do several processes that share a batch.
"""

import enum
import threading
import warnings
from collections.abc import Callable, Sequence
from typing import Any

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
# Keras' layers for these draw for a whole batch at once.
WHOLE_BATCH = ("rand_augment", *MIXING)
# "crop" shifts by up to this fraction of a side.
SHIFT = 8


class Draw(enum.IntEnum):
    """What random numbers are for, so that no two uses share a seed."""

    FLIP_AND_CROP = 0
    LAYERS = 1
    RANDOM_CROP = 2


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
    """Flips and crops a batch, each image by its own draws `(B, 3)`.

    In place of Keras' layers: `RandomFlip` draws for a whole batch, of which
    a process may hold some rows, and `RandomCrop` crops all images alike.
    """
    if "crop" in augment:
        images = _shifted(images, draws[:, 1:])
    if "flip" in augment:
        flipped = draws[:, 0, None, None, None] < 0.5
        images = np.where(flipped, images[:, :, ::-1], images)
    return images


def _shifted(images, draws):
    height, width = images.shape[1:3]
    margins = height // SHIFT, width // SHIFT
    padded = np.pad(
        images,
        ((0, 0), (margins[0],) * 2, (margins[1],) * 2, (0, 0)),
        mode="symmetric",
    )
    # The first row and column kept, from 0 to twice the margin.
    top, left = (
        (draws[:, axis] * (2 * margins[axis] + 1)).astype("int32")
        for axis in (0, 1)
    )
    every = np.arange(len(images))[:, None, None]
    rows = (top[:, None] + np.arange(height))[:, :, None]
    columns = (left[:, None] + np.arange(width))[:, None, :]
    return padded[every, rows, columns]


def tf_flip_and_crop(
    tf: Any, images: Any, draws: Any, augment: Sequence[str]
) -> Any:
    """Does what `flip_and_crop` does, on TensorFlow's tensors."""
    if "crop" in augment:
        images = _tf_shifted(tf, images, draws[:, 1:])
    if "flip" in augment:
        flipped = draws[:, 0, None, None, None] < 0.5
        # Three times as fast as a slice with a negative step.
        mirrored = tf.reverse(images, [2])
        images = tf.where(flipped, mirrored, images)
    return images


def _tf_shifted(tf, images, draws):
    height, width = images.shape[1:3]
    margins = height // SHIFT, width // SHIFT
    down, right = (
        tf.floor(draws[:, axis] * (2 * margins[axis] + 1)) - margins[axis]
        for axis in (0, 1)
    )
    one, zero = tf.ones_like(right), tf.zeros_like(right)
    # Twice as fast as padding and gathering.
    shifted = tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=tf.stack(
            [one, zero, right, zero, one, down, zero, zero], axis=1
        ),
        output_shape=(height, width),
        fill_value=0.0,
        interpolation="NEAREST",
        fill_mode="REFLECT",
    )
    shifted.set_shape((None, *images.shape[1:]))
    return shifted


class BatchLayers:
    """Keras' augmentation layers, with seeds given from outside.

    Args:
        augment: Sequence of names out of `WHOLE_BATCH`.
        make_seed: Function of two integers that returns a seed tensor.
        choose: Function of a number in [0, 1) and two functions. It calls
            the first function if the number is below 0.5, else the second.
    """

    def __init__(
        self,
        augment: Sequence[str],
        make_seed: Callable[[Any, int], Any],
        choose: Callable[[Any, Callable, Callable], Any],
    ):
        self._seeds = _Seeds(make_seed)
        self._choose = choose
        # The seeds are shared, so one batch at a time.
        self._lock = threading.Lock()
        options = {"seed": 0, "data_format": "channels_last"}
        options["dtype"] = "float32"
        build = {
            "rand_augment": lambda: layers.RandAugment((0, 255), **options),
            "mixup": lambda: layers.MixUp(**options),
            "cutmix": lambda: layers.CutMix(**options),
        }
        self.layers = {name: build[name]() for name in augment if name in build}
        for layer in self.layers.values():
            for each in (layer, *vars(layer).values()):
                if isinstance(each, keras.Layer):
                    # In tf.data under another backend, the layer would make
                    # a generator of its own; `generator`, which is public,
                    # counts only under the layer's backend.
                    if not hasattr(each, "_get_seed_generator"):
                        raise _checks.keras_without("_get_seed_generator")
                    each._get_seed_generator = self._shared_seeds

    def __call__(
        self, images: Any, labels: Any, seed: Any, draw: Any
    ) -> tuple[Any, Any]:
        """Returns images and labels, augmented.

        Args:
            images: float32 tensor `(B, H, W, C)`.
            labels: Tensor `(B,)`, or `(B, classes)` for mixing.
            seed: Integer from which the seeds of this batch follow.
            draw: Number in [0, 1) that chooses between MixUp and CutMix.
        """
        with self._lock, warnings.catch_warnings():
            # Keras' layers warn under JAX and PyTorch, of nothing that users
            # could act on.
            warnings.simplefilter("ignore")
            self._seeds.restart(seed)
            if "rand_augment" in self.layers:
                images = self.layers["rand_augment"](images, training=True)
            mixing = [
                self.layers[name] for name in MIXING if name in self.layers
            ]
            if len(mixing) == 1:
                images, labels = self._mixed(mixing[0], images, labels)
            elif mixing:
                images, labels = self._choose(
                    draw,
                    lambda: self._mixed(mixing[0], images, labels),
                    lambda: self._mixed(mixing[-1], images, labels),
                )
        return images, labels

    @staticmethod
    def _mixed(layer, images, labels):
        mixed = layer({"images": images, "labels": labels}, training=True)
        return mixed["images"], mixed["labels"]

    def _shared_seeds(self, backend=None):
        return self._seeds


class _Seeds(keras.random.SeedGenerator):
    """Seeds that follow from a given one, by counting.

    A plain `SeedGenerator` keeps a variable, whose value depends on all that
    was drawn before.
    """

    def __init__(self, make_seed):
        self._make_seed = make_seed
        self.restart(0)

    def restart(self, seed):
        self._seed = seed
        self._drawn = 0

    def next(self, ordered=True):
        self._drawn += 1
        return self._make_seed(self._seed, self._drawn)
