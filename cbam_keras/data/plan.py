"""Which images of an epoch a batch, and a process's part of it, is made of."""

import dataclasses
from typing import Any

import numpy as np

from cbam_keras.data.augmentation import OF_BATCHES


@dataclasses.dataclass(frozen=True)
class Plan:
    """How the batches of a split are made.

    `size` is to what images are brought that are not yet, `seed` that of the
    order and of augmentation, `None` outside of training. `one_hot` is the
    number of classes for labels in that form. `shard` is the number of the
    process, how many there are, and the number of devices, or `None`.
    """

    batch_size: int
    size: tuple[int, int]
    channels: int
    seed: int | None = None
    augment: tuple[str, ...] = ()
    one_hot: int | None = None
    shard: tuple[int, int, int] | None = None
    channels_first: bool = False

    @property
    def of_batches(self) -> tuple[str, ...]:
        return tuple(name for name in self.augment if name in OF_BATCHES)


@dataclasses.dataclass(frozen=True)
class Share:
    """Which positions of an epoch a process takes.

    `whole` is the size of the batches of all processes, `own` that of this
    one's, `total` the number of positions of all, and `positions` are those
    to read. `weighted` tells whether copies fill up the last batch, so that
    weights must come along, which are zero for copies.
    """

    whole: int
    own: int
    total: int
    steps: int
    positions: np.ndarray
    weighted: bool


def share(count: int, plan: Plan) -> Share:
    """Returns the part of `count` images that a process works on."""
    if plan.shard is None:
        steps = -(-count // plan.batch_size)
        every = np.arange(count, dtype="int64")
        size = plan.batch_size
        return Share(size, size, count, steps, every, False)
    index, processes, devices = plan.shard
    whole = plan.batch_size // devices * devices
    training = plan.seed is not None
    rest = count % devices
    total = count - rest if training else count + (devices - rest) % devices
    every = np.arange(total, dtype="int64")
    own = _own(every, whole, total, index, processes)
    # What is drawn for a batch as one needs all of it.
    positions = every if training and plan.of_batches else every[own]
    steps = -(-total // whole)
    return Share(
        whole, whole // processes, total, steps, positions, not training
    )


def _own(positions, whole, total, index, processes):
    """Returns which positions lie in this process's part of each batch."""
    start = positions // whole * whole
    part_of = np.minimum(whole, total - start) // processes
    return (positions - start) // part_of == index


def part_of(array: Any, size: Any, plan: Plan) -> Any:
    """Returns this process's part of a whole batch of a size."""
    if plan.shard is None:
        return array
    index, processes, _ = plan.shard
    size = size // processes
    return array[index * size : (index + 1) * size]
