"""`Batches`: examples as a `PyDataset` for `fit`, on every backend."""

import copy
import dataclasses
from concurrent.futures import Future
from typing import Any, NamedTuple

import keras
import numpy as np

from cbam_keras import _checks
from cbam_keras.data.augmentation import TRIES, flip_and_crop
from cbam_keras.data.decoding import crop, pil_decode, threads

# What random numbers are for, so that no two uses share a seed.
FLIP_AND_CROP, RANDOM_CROP = 0, 2
# Batches that are decoded ahead of the one asked for.
PREFETCHED = 2


class _Epoch(NamedTuple):
    """An epoch: its number, and by batch its examples and what is decoded."""

    number: int
    rows: list[np.ndarray]
    pending: dict[int, list[Future]]


@dataclasses.dataclass(eq=False, repr=False)
class Batches(keras.utils.PyDataset):
    """Batches of examples, each a function of the epoch and its number.

    The random numbers of an image follow from the seed, the epoch and its
    position, and from nothing that was drawn before. So a resumed run sees
    the same images, and so do several processes that share a batch.

    Validation and test images have the seed `None`: neither order nor
    augmentation.
    """

    # `Examples` or `DiskExamples`.
    examples: Any
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
        total = len(self.examples) // devices * devices
        if total < len(self.examples) and self.seed is None:
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
        if self.examples.decoded and not self.cropped:
            images = self.examples.images[rows]
            labels = self.examples.labels[rows]
        else:
            images, labels = self._read(epoch, index)
        others = []
        if self.examples.boxes is not None:
            others.append(self.examples.boxes[rows])
        if self.augment:
            rng = self._generator(epoch, FLIP_AND_CROP, index)
            draws = rng.random((self.batch_size, 3), dtype="float32")
            draws = draws[positions % self.batch_size]
            images = flip_and_crop(images, draws, self.augment)
        if self.weighted:
            others.append((positions < len(self.examples)).astype("float32"))
        images = images.astype("float32")
        if self.channels_first:
            images = np.moveaxis(images, -1, 1)
        return (images, labels, *others)

    def on_epoch_end(self) -> None:
        self.set_epoch(self.epoch.number + 1)

    def set_epoch(self, epoch: int) -> None:
        """Sets which epoch comes next."""
        order = np.arange(len(self.examples))
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
        image, label = self.examples.read(row)
        if not self.examples.decoded:
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
