"""`Batches`: examples as a `PyDataset` for `fit`, on every backend."""

import concurrent.futures
import dataclasses
import functools
import math
import os
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from cbam_keras import _checks
from cbam_keras.data.augmentation import (
    TRIES,
    Augmentation,
    apply_layers,
    check_layers,
    flip_and_crop,
)
from cbam_keras.data.decoding import get_threads, read_example
from cbam_keras.data.examples import IGNORED
from cbam_keras.data.kinds import INPUTS, inputs_of

# Each use of random numbers has a number, so that no two share a seed. None is
# 0, since NumPy takes a seed with zeros at its end for the one without them.
ORDER, FLIP_AND_CROP, RANDOM_CROP, LAYERS = 1, 2, 3, 4
# Layers are tried on so many images before they augment.
TRIED = 8
# Batches that `fit` decodes ahead of the one it trains on.
PREFETCHED = 2
# So many parts of a batch are given to each thread that decodes, one at a time:
# few, since each costs as much as a small image, but more than one, for the
# threads to end together.
PARTS_OF_THREAD = 4


@dataclasses.dataclass(frozen=True)
class Begun:
    """A batch whose images threads decode, each into its place."""

    epoch: int
    index: int
    rows: np.ndarray
    # They are `None` if the examples are decoded.
    images: np.ndarray | None = None
    labels: list[Any] = dataclasses.field(default_factory=list)
    parts: list[concurrent.futures.Future] = dataclasses.field(
        default_factory=list
    )


@dataclasses.dataclass(eq=False, repr=False)
class Batches(keras.utils.PyDataset):
    """Batches of examples, each a function of seed, epoch and position.

    So a resumed run sees the same images. Validation and test images have the
    seed `None`: neither order nor augmentation.
    """

    # `Examples`, of which masks, boxes and others may be `None`.
    examples: Any
    batch_size: int
    size: tuple[int, int]
    channels: int
    seed: int | None = None
    augment: tuple[Augmentation, ...] = ()
    channels_first: bool = False

    def __post_init__(self):
        self.layers = [x for x in self.augment if not isinstance(x, str)]
        self.cropped = "random_resized_crop" in self.augment
        self.decoded = self.examples.decoded and not self.cropped
        # JAX and PyTorch read ahead into the next epoch, before it is set.
        is_tensorflow = keras.backend.backend() == "tensorflow"
        ahead = PREFETCHED if is_tensorflow and not self.decoded else 1
        super().__init__(workers=ahead, max_queue_size=ahead)
        self.set_epoch(0)
        if self.layers:
            images = self.read(np.arange(min(TRIED, len(self.examples))))
            check_layers(self.augment, images, self.examples.masks is not None)

    def __repr__(self) -> str:
        examples = _checks.count(len(self.examples), "example")
        text = f"{examples} in batches of {self.batch_size}"
        if self.seed is not None:
            text += f", shuffled with seed {self.seed}"
        if self.augment:
            names = [x if isinstance(x, str) else x.name for x in self.augment]
            text += f", augmented by {', '.join(names)}"
        return f"<{type(self).__name__}: {text}>"

    def __len__(self) -> int:
        return math.ceil(len(self.examples) / self.batch_size)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        # One thread may read an epoch while another begins the next.
        images, *others = self._finish(self._begin(*self.epoch, index, True))
        return self._as_input(images), *others

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        for images, *others in self.read_epoch(as_floats=True):
            yield self._as_input(images), *others

    def read_epoch(self, as_floats: bool = False) -> Iterator[tuple[Any, ...]]:
        """Yields batches whose images may be of uint8, with channels last.

        Threads decode a batch while the one before it is used, with `as_floats`
        to float32 where they can.
        """
        epoch, order = self.epoch
        ahead = self._begin(epoch, order, 0, as_floats)
        for index in range(len(self)):
            begun = ahead
            if index + 1 < len(self):
                ahead = self._begin(epoch, order, index + 1, as_floats)
            yield self._finish(begun)

    def _begin(self, epoch, order, index, as_floats):
        """Returns a batch that threads begin to decode."""
        start = index * self.batch_size
        positions = np.arange(start, min(start + self.batch_size, len(order)))
        rows = order[positions]
        if self.decoded:
            return Begun(epoch, index, rows)
        given = self.examples.images
        dtype = given.dtype if self.examples.decoded else "uint8"
        # Bytes are moved about faster than floats.
        is_moved = "flip" in self.augment or "crop" in self.augment
        if as_floats and not is_moved:
            dtype = "float32"
        images = np.empty((len(rows), *self.size, self.channels), dtype)
        labels = [None] * len(rows)

        def fill(first, last):
            for i in range(first, last):
                images[i], labels[i] = self._read(epoch, positions[i], rows[i])

        threads = get_threads()
        num_parts = PARTS_OF_THREAD * os.cpu_count()
        step = math.ceil(len(rows) / num_parts)
        parts = [
            threads.submit(fill, first, min(first + step, len(rows)))
            for first in range(0, len(rows), step)
        ]
        return Begun(epoch, index, rows, images, labels, parts)

    def _finish(self, begun):
        """Returns a batch once it is decoded, augmented."""
        epoch, rows = begun.epoch, begun.rows
        if begun.images is None:
            images = self.examples.images[rows]
            masks = self.examples.masks
            labels = (self.examples.labels if masks is None else masks)[rows]
        else:
            for part in begun.parts:
                part.result()
            images, labels = begun.images, np.stack(begun.labels)
        if self.augment:
            rng = self._generator(epoch, begun.index, FLIP_AND_CROP)
            draws = rng.random((len(rows), 3), dtype="float32")
            images = flip_and_crop(images, draws, self.augment)
            if self.examples.masks is not None:
                masks = flip_and_crop(labels[..., None], draws, self.augment)
                labels = masks[..., 0]
        if self.layers:
            rng = self._generator(epoch, begun.index, LAYERS)
            masks = None if self.examples.masks is None else labels
            images, masks = apply_layers(
                self.layers, self._as_input(images), masks, rng, IGNORED
            )
            labels = labels if masks is None else masks
            if self.channels_first:
                images = np.moveaxis(images, 1, -1)
        if labels.dtype.kind != "f":
            labels = labels.astype("int32")
        batch = [images, labels]
        if self.examples.boxes is not None:
            batch.append(self.examples.boxes[rows])
        return tuple(batch)

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Returns images of some rows, as evaluation sees them."""
        if self.decoded:
            return self._as_input(self.examples.images[rows])
        read = functools.partial(
            read_example, self.examples, size=self.size, channels=self.channels
        )
        pairs = get_threads().map(read, rows)
        return self._as_input(np.stack([image for image, _ in pairs]))

    @property
    def names(self) -> Sequence:
        """The paths of images in files, in the order of the examples."""
        paths = self.examples.paths
        return () if paths is None else paths

    @property
    def groups(self) -> np.ndarray | None:
        """What each image belongs to, `(N,)`, where some stay together."""
        return self.examples.groups if self.examples.is_grouped else None

    def on_epoch_end(self) -> None:
        self.set_epoch(self.epoch[0] + 1)

    def set_epoch(self, epoch: int) -> None:
        """Sets which epoch comes next."""
        order = np.arange(len(self.examples))
        if self.seed is not None:
            order = self._generator(epoch, 0, ORDER).permutation(order)
        self.epoch = epoch, order

    def _as_input(self, images):
        if images.dtype.names:
            # Keras takes several inputs by name.
            return inputs_of(images, INPUTS)
        images = images.astype("float32", copy=False)
        return np.moveaxis(images, -1, 1) if self.channels_first else images

    def _generator(self, epoch, number, use):
        return np.random.default_rng([self.seed, epoch, number, use])

    def _read(self, epoch, position, row):
        draws = None
        if self.cropped:
            rng = self._generator(epoch, int(position), RANDOM_CROP)
            draws = rng.random((TRIES, 4), dtype="float32")
        return read_example(self.examples, row, self.size, self.channels, draws)


@_checks.named
def for_fit(batches: Any) -> Any:
    """Returns batches that `fit` and `evaluate` read without pauses.

    Under TensorFlow that is a `tf.data.Dataset` without autotuning, to which
    images are copied as uint8 and converted there.

    Keras makes one of a `PyDataset`, too, but copies floats, and tunes it.
    TensorFlow (2.21) then deletes its iterator, as after each epoch, in about
    every second case only once the thread that tunes it has slept its time, up
    to as long as the epoch took.

    Args:
        batches: `train`, `validation` or `test` of `load`; anything else is
            returned as it is.

    Returns:
        A `tf.data.Dataset`, or the batches themselves.

    Example:
        >>> images = load("mnist5k", batch_size=400)
        >>> len(for_fit(images.train))
        9
    """
    is_tensorflow = keras.backend.backend() == "tensorflow"
    if not is_tensorflow or not isinstance(batches, Batches):
        return batches
    tf = _checks.require("tensorflow", extra="tensorflow")

    def read():
        epoch = batches.epoch[0]
        for images, *others in batches.read_epoch():
            is_several = images.dtype.names is not None
            yield inputs_of(images, INPUTS) if is_several else images, *others
        # As Keras does for a `PyDataset`, unless a run has set another one.
        if batches.epoch[0] == epoch:
            batches.on_epoch_end()

    def convert(images, *others):
        if not isinstance(images, dict):
            images = keras.ops.cast(images, "float32")
            if batches.channels_first:
                images = keras.ops.moveaxis(images, -1, 1)
        return images, *others

    dataset = tf.data.Dataset.from_generator(
        read,
        output_signature=keras.tree.map_structure(
            lambda x: tf.TensorSpec((None, *x.shape[1:]), x.dtype),
            next(read()),
        ),
    )
    options = tf.data.Options()
    options.autotune.enabled = False
    count = tf.data.experimental.assert_cardinality(len(batches))
    dataset = dataset.map(convert).apply(count).prefetch(PREFETCHED)
    return dataset.with_options(options)
