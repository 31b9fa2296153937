"""Which images go into which batch, on one process or on several."""

import dataclasses
from typing import Any

import numpy as np

from cbam_keras.data.augmentation import WHOLE_BATCH


@dataclasses.dataclass(frozen=True)
class Shard:
    """One of several processes that share each batch.

    Attributes:
        index: Integer from 0, the number of this process.
        count: Positive integer, how many processes there are.
        devices: Positive integer, how many devices they have together.
    """

    index: int
    count: int
    devices: int


@dataclasses.dataclass(frozen=True)
class BatchOptions:
    """How the batches of a split are made.

    Attributes:
        batch_size: Positive integer, images per batch, over all processes.
        size: Tuple `(H, W)`, the size to which images are resized.
        channels: Integer, the channels to which images are decoded.
        seed: Integer, decides order and augmentation. `None` for validation
            and test images, which have neither.
        augment: Tuple of strings, how images are augmented.
        one_hot: Integer, the number of classes of one-hot labels, or `None`
            for integer labels.
        shard: `Shard`, or `None` where a single process reads whole batches.
        channels_first: Boolean, whether images come as `(B, C, H, W)`.
    """

    batch_size: int
    size: tuple[int, int]
    channels: int
    seed: int | None = None
    augment: tuple[str, ...] = ()
    one_hot: int | None = None
    shard: Shard | None = None
    channels_first: bool = False

    @property
    def whole_batch_augment(self) -> tuple[str, ...]:
        """The augmentations that need all images of a batch at once."""
        return tuple(name for name in self.augment if name in WHOLE_BATCH)


@dataclasses.dataclass(frozen=True)
class EpochPlan:
    """The positions in an epoch that one process reads.

    Attributes:
        batch_size: Integer, images per batch, over all processes.
        read_size: Integer, images per batch that this process reads.
        total: Integer, positions of all processes. Positions from the number
            of images on are copies, which fill the last batch.
        positions: int64 array, the positions that this process reads.
        weighted: Boolean, whether batches come with weights, zero for copies.
    """

    batch_size: int
    read_size: int
    total: int
    positions: np.ndarray
    weighted: bool = False

    @property
    def num_batches(self) -> int:
        return -(-self.total // self.batch_size)


def plan_epoch(num_images: int, options: BatchOptions) -> EpochPlan:
    """Returns the positions that a process reads of `num_images` images."""
    size, shard = options.batch_size, options.shard
    if shard is None:
        positions = np.arange(num_images, dtype="int64")
        return EpochPlan(size, size, num_images, positions)
    size = size // shard.devices * shard.devices
    training = options.seed is not None
    # Every batch divides by the devices: training drops images for that,
    # others in each epoch, evaluation repeats some.
    total = num_images - num_images % shard.devices
    if total < num_images and not training:
        total += shard.devices
    positions = np.arange(total, dtype="int64")
    read_size = size
    # Random numbers for a whole batch need the whole batch on each process.
    if not (training and options.whole_batch_augment):
        read_size = size // shard.count
        start = positions // size * size
        rows = np.minimum(size, total - start) // shard.count
        positions = positions[(positions - start) // rows == shard.index]
    return EpochPlan(size, read_size, total, positions, not training)


def own_rows(batch: Any, size: Any, shard: Shard | None) -> Any:
    """Returns the rows of a process in a whole batch of `size` rows."""
    if shard is None:
        return batch
    rows = size // shard.count
    return batch[shard.index * rows : (shard.index + 1) * rows]
