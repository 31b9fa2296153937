"""Turns records into datasets for `fit`: `tf.data` or `PyDataset`.

`tf.data` under TensorFlow, and for streams under any backend; a `PyDataset`
otherwise. In both, the image at position p of an epoch and its augmentation
follow from the seed, the epoch and p alone.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import keras

from cbam_keras import _checks
from cbam_keras.data.numpy_batches import NumpyBatches
from cbam_keras.data.records import Records, Stream
from cbam_keras.data.sharding import BatchOptions, Shard
from cbam_keras.data.tensorflow_batches import TensorFlowBatches


def make_datasets(
    splits: Mapping[str, Records | Stream],
    options: BatchOptions,
    seed: int,
    augment: tuple[str, ...],
    shard: Shard | None = None,
) -> tuple[dict[str, Any], Callable[[int], Any]]:
    """Returns a dataset per split, and the function that sets the epoch.

    Only the training images are shuffled and augmented.
    """
    options = dataclasses.replace(options, shard=shard)
    training = dataclasses.replace(options, seed=seed, augment=augment)
    datasets, set_epoch = {}, {}
    for split, records in splits.items():
        datasets[split], set_epoch[split] = _make_dataset(
            records, training if split == "train" else options
        )
    return datasets, set_epoch["train"]


def _make_dataset(records, options):
    tensorflow = keras.backend.backend() == "tensorflow"
    if isinstance(records, Records) and not tensorflow:
        batches = NumpyBatches(records, options)
        return batches, batches.set_epoch
    tf = _checks.require("tensorflow", extra="tensorflow")
    # Images stay on the CPU until `fit` moves a batch to the device.
    with tf.device("CPU:0"):
        stages = TensorFlowBatches(tf, records, options)
        return stages.dataset(), stages.epoch.assign
