"""Batches of records: decoded, augmented, shared out among processes.

`tf.data` under TensorFlow and for streams, a `PyDataset` otherwise. Both go
by position: the image at position p of an epoch, and what is drawn for it,
follow from the seed, the epoch and p alone.
"""

import collections
import concurrent.futures
import dataclasses
import os
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from cbam_keras import _checks
from cbam_keras.data import plan as _plan
from cbam_keras.data.augmentation import (
    FOR_BOX,
    FOR_LAYERS,
    FOR_PIXELS,
    BatchLayers,
    NumpyMaths,
    change_pixels,
)
from cbam_keras.data.decoding import (
    TRIES,
    pil_decode,
    pil_evaluation,
    pil_random_crop,
)
from cbam_keras.data.plan import Plan, share
from cbam_keras.data.records import Records, Stream
from cbam_keras.data.tensorflow_batches import TensorBatches

# Batches that are decoded ahead.
AHEAD = 2


def batches(
    records: Records | Stream, plan: Plan
) -> tuple[Any, Callable[[int], Any]]:
    """Returns a data set for `fit`, and the function that sets its epoch."""
    tensorflow = keras.backend.backend() == "tensorflow"
    if not tensorflow and isinstance(records, Records):
        made = _Batches(records, plan)
        return made, made.set_epoch
    tf = _checks.require("tensorflow", extra="tensorflow")
    # Data stay with the CPU, also where there is another device.
    with tf.device("CPU:0"):
        tensors = TensorBatches(tf, records, plan)
        return tensors.dataset(), tensors.epoch.assign


def serve(
    splits: Mapping[str, Records | Stream],
    plan: Plan,
    seed: int,
    augment: tuple[str, ...],
    shard: tuple[int, int, int] | None = None,
) -> tuple[dict[str, Any], Callable[[int], Any]]:
    """Returns data sets for `fit`, and the function that sets the epoch."""
    plan = dataclasses.replace(plan, shard=shard)
    training = dataclasses.replace(plan, seed=seed, augment=augment)
    served, set_epoch = {}, {}
    for split, records in splits.items():
        served[split], set_epoch[split] = batches(
            records, training if split == "train" else plan
        )
    return served, set_epoch["train"]


# For other backends than TensorFlow.


class _Batches(keras.utils.PyDataset):
    """Batches of records, each a function of the epoch and its number."""

    def __init__(self, records, plan):
        super().__init__()
        self.records = records
        self.plan = plan
        self.share = share(len(records), plan)
        self.layers = None
        if plan.of_batches:
            self.layers = BatchLayers(
                plan.of_batches,
                _keras_seed,
                lambda draw, first, second: first() if draw < 0.5 else second(),
            )
        self._pool = None
        self.set_epoch(0)

    def __len__(self):
        return self.share.steps

    def __getitem__(self, index):
        images, positions = self._read(index)
        chosen = self.order[positions % len(self.records)]
        others = [self.records.labels[chosen]]
        if self.plan.one_hot:
            others[0] = np.eye(self.plan.one_hot, dtype="float32")[others[0]]
        if self.records.boxes is not None:
            others.append(self.records.boxes[chosen])
        if self.plan.augment:
            images, others[0] = self._augmented(images, others[0], positions)
        if self.share.weighted:
            counted = positions < len(self.records)
            others.append(counted.astype("float32"))
        images = images.astype("float32")
        if self.plan.channels_first:
            images = np.moveaxis(images, -1, 1)
        return (images, *others)

    def on_epoch_end(self):
        self.set_epoch(self.epoch + 1)

    def set_epoch(self, epoch):
        self.epoch = epoch
        self.order = np.arange(len(self.records))
        self._waiting = collections.OrderedDict()
        if self.plan.seed is not None:
            rng = np.random.default_rng([self.plan.seed, epoch])
            rng.shuffle(self.order)

    def _positions(self, index):
        size = self.share.own
        if self.layers is not None:
            size = self.share.whole
        return self.share.positions[index * size : (index + 1) * size]

    def _draws(self, what, number, shape):
        seed = [self.plan.seed, self.epoch, number, what]
        return np.random.default_rng(seed).random(shape, dtype="float32")

    def _read(self, index):
        """Returns the images of a batch, one by one where that takes long,
        with the next batches begun."""
        positions = self._positions(index)
        random_box = "random_resized_crop" in self.plan.augment
        if self.records.decoded and not random_box:
            chosen = self.order[positions % len(self.records)]
            return self.records.images[chosen], positions
        if self._pool is None:
            self._pool = concurrent.futures.ThreadPoolExecutor(os.cpu_count())
        for ahead in range(index, min(index + AHEAD + 1, len(self))):
            if ahead not in self._waiting:
                self._waiting[ahead] = [
                    self._pool.submit(self._one, position, random_box)
                    for position in self._positions(ahead)
                ]
        read = [future.result() for future in self._waiting.pop(index)]
        return np.stack(read), positions

    def _one(self, position, random_box):
        item = self.records.images[self.order[position % len(self.records)]]
        if not self.records.decoded:
            try:
                image = pil_decode(item, self.plan.channels)
            except (OSError, SyntaxError, ValueError) as error:
                name = item if isinstance(item, str) else "of the data set"
                raise ValueError(
                    f"The image {name} cannot be decoded ({error}). Remove it"
                ) from error
        else:
            image = item
        if random_box:
            draws = self._draws(FOR_BOX, int(position), (TRIES, 4))
            return pil_random_crop(image, self.plan.size, draws)
        return pil_evaluation(image, self.plan.size)

    def _augmented(self, images, labels, positions):
        number, rows = divmod(positions, self.share.whole)
        number = int(number[0])
        draws = self._draws(FOR_PIXELS, number, (self.share.whole, 3))[rows]
        images = change_pixels(NumpyMaths, images, draws, self.plan.augment)
        if self.layers is None:
            return images, labels
        first, draw = self._draws(FOR_LAYERS, number, 2)
        images, labels = (
            keras.ops.convert_to_numpy(_plan.part_of)
            for _plan.part_of in self.layers(
                images.astype("float32"), labels, int(first * 2**31), draw
            )
        )
        # Rounding may pass the highest level.
        images = np.clip(images, 0, 255)
        size = len(labels)
        return _plan.part_of(images, size, self.plan), _plan.part_of(
            labels, size, self.plan
        )


def _keras_seed(first, number):
    # JAX's keys are unsigned.
    dtype = "uint32" if keras.backend.backend() == "jax" else "int64"
    return keras.ops.convert_to_tensor(np.array([first, number], dtype))
