"""Batches of records as a `PyDataset`, with NumPy and Pillow."""

import concurrent.futures
import os
from typing import Any

import keras
import numpy as np

from cbam_keras.data.augmentation import (
    BatchLayers,
    Draw,
    flip_and_crop,
)
from cbam_keras.data.decoding import (
    TRIES,
    pil_decode,
    pil_evaluation,
    pil_random_crop,
)
from cbam_keras.data.records import Records
from cbam_keras.data.sharding import BatchOptions, own_rows, plan_epoch

# Batches that are decoded ahead of the one asked for.
PREFETCHED = 2


class NumpyBatches(keras.utils.PyDataset):
    """Batches of records, each a function of the epoch and its number."""

    def __init__(self, records: Records, options: BatchOptions):
        super().__init__()
        self.records = records
        self.options = options
        self.plan = plan_epoch(len(records), options)
        self.random_crop = "random_resized_crop" in options.augment
        self.layers = None
        if options.whole_batch_augment:
            self.layers = BatchLayers(
                options.whole_batch_augment,
                _keras_seed,
                lambda draw, first, second: first() if draw < 0.5 else second(),
            )
        self._pool: Any = None
        self.set_epoch(0)

    def __len__(self) -> int:
        return self.plan.num_batches

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        positions = self._positions(index)
        images = self._images(index)
        rows = self._rows(positions)
        labels, *others = (self.records.labels[rows],)
        if self.options.one_hot:
            labels = np.eye(self.options.one_hot, dtype="float32")[labels]
        if self.records.boxes is not None:
            others.append(self.records.boxes[rows])
        if self.options.augment:
            images, labels = self._augmented(images, labels, positions)
        if self.plan.weighted:
            is_image = positions < len(self.records)
            others.append(is_image.astype("float32"))
        images = images.astype("float32")
        if self.options.channels_first:
            images = np.moveaxis(images, -1, 1)
        return (images, labels, *others)

    def on_epoch_end(self) -> None:
        self.set_epoch(self.epoch + 1)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        self.order = np.arange(len(self.records))
        # Images that are being decoded, by the number of their batch.
        self._pending: dict[int, list] = {}
        if self.options.seed is not None:
            rng = np.random.default_rng([self.options.seed, epoch])
            rng.shuffle(self.order)

    def _positions(self, index):
        size = self.plan.read_size
        return self.plan.positions[index * size : (index + 1) * size]

    def _rows(self, positions):
        """Returns which records lie at these positions of the epoch."""
        return self.order[positions % len(self.records)]

    def _random(self, draw, number, shape):
        seed = [self.options.seed, self.epoch, number, draw]
        return np.random.default_rng(seed).random(shape, dtype="float32")

    def _images(self, index):
        """Returns the images of a batch, decoded in threads where needed."""
        if self.records.decoded and not self.random_crop:
            return self.records.images[self._rows(self._positions(index))]
        if self._pool is None:
            self._pool = concurrent.futures.ThreadPoolExecutor(os.cpu_count())
        for batch in range(index, min(index + PREFETCHED + 1, len(self))):
            if batch not in self._pending:
                self._pending[batch] = [
                    self._pool.submit(self._image, position)
                    for position in self._positions(batch)
                ]
        return np.stack(
            [future.result() for future in self._pending.pop(index)]
        )

    def _image(self, position):
        item = self.records.images[self._rows(position)]
        image = item if self.records.decoded else self._decoded(item)
        if self.random_crop:
            draws = self._random(Draw.RANDOM_CROP, int(position), (TRIES, 4))
            return pil_random_crop(image, self.options.size, draws)
        return pil_evaluation(image, self.options.size)

    def _decoded(self, item):
        try:
            return pil_decode(item, self.options.channels)
        except (OSError, SyntaxError, ValueError) as error:
            name = item if isinstance(item, str) else "of the dataset"
            raise ValueError(
                f"The image {name} cannot be decoded ({error}). Remove it"
            ) from error

    def _augmented(self, images, labels, positions):
        size, augment = self.plan.batch_size, self.options.augment
        # Drawn for the whole batch, so that each process uses its rows.
        number = int(positions[0]) // size
        draws = self._random(Draw.FLIP_AND_CROP, number, (size, 3))
        images = flip_and_crop(images, draws[positions % size], augment)
        if self.layers is None:
            return images, labels
        seed, draw = self._random(Draw.LAYERS, number, 2)
        images, labels = (
            own_rows(
                keras.ops.convert_to_numpy(batch),
                len(positions),
                self.options.shard,
            )
            for batch in self.layers(
                images.astype("float32"), labels, int(seed * 2**31), draw
            )
        )
        # Rounding in Keras' layers may pass the limits.
        return np.clip(images, 0, 255), labels


def _keras_seed(first, number):
    # JAX's keys are unsigned.
    dtype = "uint32" if keras.backend.backend() == "jax" else "int64"
    return keras.ops.convert_to_tensor(np.array([first, number], dtype))
