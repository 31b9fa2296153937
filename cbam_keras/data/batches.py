"""`Batches`: records as a `PyDataset` for `fit`, on every backend."""

import copy
import dataclasses
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

import keras
import numpy as np

from cbam_keras import _checks
from cbam_keras.data.decoding import TRIES, crop, pil_decode, threads

AUGMENTATIONS = ("flip", "crop", "random_resized_crop")
# "crop" shifts by up to this fraction of a side.
SHIFT = 8
# What random numbers are for, so that no two uses share a seed.
FLIP_AND_CROP, RANDOM_CROP = 0, 2
# Batches that are decoded ahead of the one asked for.
PREFETCHED = 2


class _Epoch(NamedTuple):
    """An epoch: its number, and by batch its records and what is decoded."""

    number: int
    rows: list[np.ndarray]
    pending: dict[int, list[Future]]


@dataclasses.dataclass(eq=False, repr=False)
class Batches(keras.utils.PyDataset):
    """Batches of records, each a function of the epoch and its number.

    The random numbers of an image follow from the seed, the epoch and its
    position, and from nothing that was drawn before. So a resumed run sees
    the same images, and so do several processes that share a batch.

    Validation and test images have the seed `None`: neither order nor
    augmentation.
    """

    # `Records` or `DiskRecords`.
    records: Any
    batch_size: int
    size: tuple[int, int]
    channels: int
    seed: int | None = None
    augment: tuple[str, ...] = ()
    channels_first: bool = False

    def __post_init__(self):
        super().__init__()
        self.cropped = "random_resized_crop" in self.augment
        self.weighted = False
        self._take_share(0, 1, 1)

    def sharded(self, index: int, count: int, devices: int) -> "Batches":
        """See `ImageData.sharded`."""
        shard = copy.copy(self)
        shard.weighted = self.seed is None
        shard._take_share(index, count, devices)
        return shard

    def _take_share(self, index, count, devices):
        """Sets the positions in an epoch that each batch of a process reads."""
        # Every batch divides by the devices: training drops images for that,
        # others in each epoch, evaluation repeats some.
        total = len(self.records) // devices * devices
        if total < len(self.records) and self.seed is None:
            total += devices
        self.batches = []
        for start in range(0, total, self.batch_size):
            batch = np.arange(start, min(start + self.batch_size, total))
            self.batches.append(np.split(batch, count)[index])
        self.set_epoch(0)

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        # One thread may read an epoch while another begins the next.
        epoch = self.epoch
        positions, rows = self.batches[index], epoch.rows[index]
        if self.records.decoded and not self.cropped:
            images = self.records.images[rows]
            labels = self.records.labels[rows]
        else:
            images, labels = self._read(epoch, index)
        others = []
        if self.records.boxes is not None:
            others.append(self.records.boxes[rows])
        if self.augment:
            rng = self._generator(epoch, FLIP_AND_CROP, index)
            draws = rng.random((self.batch_size, 3), dtype="float32")
            draws = draws[positions % self.batch_size]
            images = flip_and_crop(images, draws, self.augment)
        if self.weighted:
            others.append((positions < len(self.records)).astype("float32"))
        images = images.astype("float32")
        if self.channels_first:
            images = np.moveaxis(images, -1, 1)
        return (images, labels, *others)

    def on_epoch_end(self) -> None:
        self.set_epoch(self.epoch.number + 1)

    def set_epoch(self, epoch: int) -> None:
        """Sets which epoch comes next."""
        order = np.arange(len(self.records))
        if self.seed is not None:
            order = _shuffled(order, self.seed, epoch)
        rows = [order[batch % len(order)] for batch in self.batches]
        self.epoch = _Epoch(epoch, rows, {})

    def _generator(self, epoch, use, number):
        return np.random.default_rng([self.seed, epoch.number, number, use])

    def _read(self, epoch, index):
        """Returns images and labels, decoded in threads."""
        for ahead in range(index, min(index + PREFETCHED + 1, len(self))):
            if ahead not in epoch.pending:
                pairs = zip(self.batches[ahead], epoch.rows[ahead], strict=True)
                epoch.pending[ahead] = [
                    threads().submit(self._image, epoch, *pair)
                    for pair in pairs
                ]
        read = [future.result() for future in epoch.pending.pop(index)]
        images, labels = zip(*read, strict=True)
        return np.stack(images), np.array(labels, "int32")

    def _image(self, epoch, position, row):
        image, label = self.records.read(row)
        if not self.records.decoded:
            image = pil_decode(image, self.channels)
        draws = None
        if self.cropped:
            rng = self._generator(epoch, RANDOM_CROP, int(position))
            draws = rng.random((TRIES, 4), dtype="float32")
        return crop(image, self.size, draws), label


def _shuffled(order, seed, epoch):
    """Returns the order of the images in an epoch.

    Under TensorFlow it is TensorFlow's, so that what a seed gave when
    `tf.data` read the images, it still gives.
    """
    if keras.backend.backend() == "tensorflow":
        tf = _checks.require("tensorflow", extra="tensorflow")
        with tf.device("cpu"):
            shuffled = tf.random.experimental.stateless_shuffle(
                order, seed=[seed, epoch]
            )
        return shuffled.numpy()
    np.random.default_rng([seed, epoch]).shuffle(order)
    return order


def check_augmentations(
    augment: str | Sequence[str], known: Sequence[str] = AUGMENTATIONS
) -> tuple[str, ...]:
    """Returns the names, in the order in which they are applied."""
    chosen = _checks.subset("augment", augment, known) if augment else ()
    return tuple(name for name in known if name in chosen)


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
