"""Random changes of training images, each by its place in the epoch.

What happens to an image is drawn from the seed, the epoch and its position,
and from nothing that ran before. So a resumed run sees the same images, and
so do several processes that share a batch.
"""

import threading
import warnings
from collections.abc import Sequence
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
# Keras' layers draw for a batch at once, so they need the whole of it.
OF_BATCHES = ("rand_augment", *MIXING)
MARGIN = 8
# What is drawn, so that no two draws share a seed.
FOR_PIXELS, FOR_LAYERS, FOR_BOX = range(3)


def check_augmentations(augment: str | Sequence[str]) -> tuple[str, ...]:
    """Returns the names given, in the order in which they are applied."""
    if isinstance(augment, Sequence) and not augment:
        return ()
    chosen = _checks.subset("augment", augment, AUGMENTATIONS)
    if {"crop", "random_resized_crop"} <= set(chosen):
        raise ValueError(
            '`augment` takes one of "crop" and "random_resized_crop", which '
            f"both decide what is seen. Received: augment={augment!r}"
        )
    return tuple(name for name in AUGMENTATIONS if name in chosen)


def change_pixels(
    maths: Any, images: Any, draws: Any, augment: Sequence[str]
) -> Any:
    """Flips and crops a batch, each image by its own draws `(B, 3)`.

    Keras' `RandomFlip` draws for a whole batch, of which a process may hold
    a part, and its `RandomCrop` cuts all images at one place. `maths` has
    the functions of NumPy that are needed, for arrays or tensors.
    """
    if "crop" in augment:
        images = maths.crop(images, draws[:, 1:])
    if "flip" in augment:
        flipped = draws[:, 0, None, None, None] < 0.5
        images = maths.where(flipped, maths.mirrored(images), images)
    return images


class NumpyMaths:
    """What `change_pixels` needs, on arrays."""

    where = staticmethod(np.where)

    @staticmethod
    def mirrored(images):
        return images[:, :, ::-1]

    @staticmethod
    def crop(images, draws):
        height, width = images.shape[1:3]
        pads = height // MARGIN, width // MARGIN
        padded = np.pad(
            images,
            ((0, 0), (pads[0],) * 2, (pads[1],) * 2, (0, 0)),
            mode="symmetric",
        )
        # Where each image begins, from none to both margins.
        top, left = (
            (draws[:, axis] * (2 * pads[axis] + 1)).astype("int32")
            for axis in (0, 1)
        )
        every = np.arange(len(images))[:, None, None]
        rows = (top[:, None] + np.arange(height))[:, :, None]
        columns = (left[:, None] + np.arange(width))[:, None, :]
        return padded[every, rows, columns]


class TensorMaths:
    """What `change_pixels` needs, on TensorFlow's tensors."""

    def __init__(self, tf):
        self.tf = tf
        self.where = tf.where

    def mirrored(self, images):
        # Three times as fast as a slice backwards.
        return self.tf.reverse(images, [2])

    def crop(self, images, draws):
        tf = self.tf
        height, width = images.shape[1:3]
        pads = height // MARGIN, width // MARGIN
        down, right = (
            tf.floor(draws[:, axis] * (2 * pads[axis] + 1)) - pads[axis]
            for axis in (0, 1)
        )
        one, zero = tf.ones_like(right), tf.zeros_like(right)
        # Twice as fast as to pad and gather.
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
    """Keras' layers that change whole batches, with seeds that are given.

    Args:
        augment: Names out of `OF_BATCHES`.
        convert: Function that makes a seed of two numbers.
        choose: Function of a number from [0, 1) and two functions, that
            calls the first for a number below a half, else the second.
    """

    def __init__(self, augment, convert, choose):
        self._seeds = _Seeds(convert)
        self._choose = choose
        # One batch at a time: they share the seeds.
        self._lock = threading.Lock()
        options = {"seed": 0, "data_format": "channels_last"}
        options["dtype"] = "float32"
        made = {
            "rand_augment": lambda: layers.RandAugment((0, 255), **options),
            "mixup": lambda: layers.MixUp(**options),
            "cutmix": lambda: layers.CutMix(**options),
        }
        self.layers = {name: made[name]() for name in augment if name in made}
        for layer in self.layers.values():
            for each in (layer, *vars(layer).values()):
                if isinstance(each, keras.Layer):
                    # Under another backend in tf.data it would make its own.
                    each._get_seed_generator = self._same_seeds

    def __call__(self, images, labels, first, draw):
        """Returns images and labels, changed by seeds that begin with
        `first`; `draw` chooses between mixup and cutmix."""
        with self._lock, warnings.catch_warnings():
            # Inside of Keras' layers there are some under JAX and PyTorch,
            # which nobody can do anything about.
            warnings.simplefilter("ignore")
            self._seeds.begin(first)
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

    def _same_seeds(self, backend=None):
        return self._seeds


class _Seeds(keras.random.SeedGenerator):
    """Seeds that begin where they are told and count from there.

    Without the variable of other generators, whose state depends on all that
    was drawn before.
    """

    def __init__(self, convert):
        self._convert = convert
        self.begin(0)

    def begin(self, first):
        self._first = first
        self._drawn = 0

    def next(self, ordered=True):
        self._drawn += 1
        return self._convert(self._first, self._drawn)
