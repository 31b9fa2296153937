"""`Batches`: examples as a `PyDataset` for `fit`, on every backend."""

import dataclasses
from typing import Any

import keras
import numpy as np

from cbam_keras.data.augmentation import TRIES, flip_and_crop
from cbam_keras.data.decoding import read_image, threads

# What random numbers are for, so that no two uses share a seed. Not 0, since
# NumPy takes a seed with zeros at its end for the one without them.
ORDER, FLIP_AND_CROP, RANDOM_CROP = 1, 2, 3
# Batches that `fit` decodes ahead of the one it trains on.
PREFETCHED = 2


@dataclasses.dataclass(eq=False, repr=False)
class Batches(keras.utils.PyDataset):
    """Batches of examples, each a function of the epoch and its number.

    The random numbers of an image follow from the seed, the epoch and its
    position, and from nothing that was drawn before. So a resumed run sees
    the same images, and so do several processes that share a batch.

    Validation and test images have the seed `None`: neither order nor
    augmentation. `share` is of `sharded`.
    """

    # `Examples` or `DiskExamples`.
    examples: Any
    batch_size: int
    size: tuple[int, int]
    channels: int
    seed: int | None = None
    augment: tuple[str, ...] = ()
    channels_first: bool = False
    share: tuple[int, int, int] | None = None

    def __post_init__(self):
        self.cropped = "random_resized_crop" in self.augment
        self.decoded = self.examples.decoded and not self.cropped
        ahead = 1 if self.decoded else PREFETCHED
        super().__init__(workers=ahead, max_queue_size=ahead)
        index, count, devices = self.share or (0, 1, 1)
        # Every batch divides by the devices: training drops images for that,
        # others in each epoch, evaluation repeats some.
        total = len(self.examples) // devices * devices
        if total < len(self.examples) and self.seed is None:
            total += devices
        # The positions in an epoch that this process reads, by batch.
        self.positions = []
        for start in range(0, total, self.batch_size):
            batch = np.arange(start, min(start + self.batch_size, total))
            self.positions.append(np.split(batch, count)[index])
        self.set_epoch(0)

    def sharded(self, index: int, count: int, devices: int) -> "Batches":
        """See `ImageData.sharded`."""
        return dataclasses.replace(self, share=(index, count, devices))

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        # One thread may read an epoch while another begins the next.
        epoch, order = self.epoch
        positions = self.positions[index]
        rows = order[positions % len(order)]
        if self.decoded:
            images = self.examples.images[rows]
            labels = self.examples.labels[rows]
        else:
            epochs = [epoch] * len(rows)
            read = threads().map(self._read, epochs, positions, rows)
            images, labels = map(np.stack, zip(*read, strict=True))
        if self.augment:
            rng = self._generator(epoch, index, FLIP_AND_CROP)
            draws = rng.random((self.batch_size, 3), dtype="float32")
            draws = draws[positions % self.batch_size]
            images = flip_and_crop(images, draws, self.augment)
        images = images.astype("float32")
        if self.channels_first:
            images = np.moveaxis(images, -1, 1)
        batch = [images, labels.astype("int32")]
        if self.examples.boxes is not None:
            batch.append(self.examples.boxes[rows])
        if self.share and self.seed is None:
            # Images that are repeated have no weight.
            batch.append((positions < len(order)).astype("float32"))
        return tuple(batch)

    def on_epoch_end(self) -> None:
        self.set_epoch(self.epoch[0] + 1)

    def set_epoch(self, epoch: int) -> None:
        """Sets which epoch comes next."""
        order = np.arange(len(self.examples))
        if self.seed is not None:
            order = self._generator(epoch, 0, ORDER).permutation(order)
        self.epoch = epoch, order

    def _generator(self, epoch, number, use):
        return np.random.default_rng([self.seed, epoch, number, use])

    def _read(self, epoch, position, row):
        image, label = self.examples.read(row)
        draws = None
        if self.cropped:
            rng = self._generator(epoch, int(position), RANDOM_CROP)
            draws = rng.random((TRIES, 4), dtype="float32")
        return read_image(image, self.size, self.channels, draws), label
