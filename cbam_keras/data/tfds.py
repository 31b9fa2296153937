"""Datasets of TensorFlow Datasets, read into memory or streamed."""

import importlib.util
import os
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cbam_keras import _checks
from cbam_keras._terminal import watched
from cbam_keras.data.preloading import headers
from cbam_keras.data.records import SPLITS, Records, Source, Stream, digest
from cbam_keras.data.splitting import TEST_FRACTION, add_missing_splits
from cbam_keras.data.tfds_download import download_and_prepare, not_prepared

# Datasets of more bytes, as encoded images, are streamed from disk.
STREAMED_BYTES = 2 * 2**30
# Examples of a stream read to see whether its test labels are secret.
CHECKED_EXAMPLES = 16


def from_tfds(
    name: str,
    validation_fraction: float,
    seed: int,
    *,
    in_memory: bool | None,
    data_dir: str | os.PathLike | None,
    manual_dir: str | os.PathLike | None,
    download: bool,
    embedded: Sequence[str],
) -> Source:
    """Returns a dataset of TensorFlow Datasets, as records or as streams."""
    tfds, builder = prepared_builder(
        name,
        _check_features,
        data_dir=data_dir,
        manual_dir=manual_dir,
        download=download,
        embedded=embedded,
    )
    available = builder.info.splits
    if "train" not in available:
        raise ValueError(
            'A dataset must have the split "train". Received: '
            f'name="{name}", which has {", ".join(map(str, available))}'
        )
    used = [split for split in SPLITS if split in available]
    size = sum(available[split].num_bytes or 0 for split in used)
    splits: dict[str, Any]
    if in_memory is not True and size > STREAMED_BYTES:
        splits = _streams(tfds, builder, used, validation_fraction)
    else:
        splits = _records(tfds, builder, used, name)
        splits = add_missing_splits(splits, validation_fraction, seed)
    class_names = _class_names(tfds, builder, name, splits)
    splits, shape, skipped = _shape(builder, splits)
    return Source(
        name=name,
        splits=splits,
        class_names=class_names,
        fingerprint=digest(
            builder.info.full_name,
            [(split, available[split].num_examples) for split in used],
        ),
        shape=shape,
        channels=builder.info.features["image"].shape[2] or 3,
        skipped=skipped,
    )


def prepared_builder(
    name: str,
    check: Callable[[Any, Any, str], None],
    *,
    data_dir: str | os.PathLike | None,
    download: bool,
    embedded: Sequence[str],
    manual_dir: str | os.PathLike | None = None,
) -> tuple[Any, Any]:
    """Returns TensorFlow Datasets and the builder of a dataset on disk.

    `check` gets both and the name, and raises if the dataset does not fit.
    """
    # Imported first, so that the error names the right package.
    tfds = _checks.require("tensorflow_datasets", extra="data")
    tf = _checks.require("tensorflow", extra="tensorflow")
    builder = _find_builder(tfds, name, data_dir, embedded)
    # Before a download, which may take hours.
    check(tfds, builder, name)
    if not builder.is_prepared():
        if not download:
            raise ValueError(not_prepared(builder, name, manual_dir))
        download_and_prepare(tf, tfds, builder, name, manual_dir)
    # What is on disk may differ from what the builder declares.
    check(tfds, builder, name)
    return tfds, builder


def is_tfds_name(name: str) -> bool:
    """Returns whether TensorFlow Datasets, if installed, has that dataset."""
    if importlib.util.find_spec("tensorflow_datasets") is None:
        return False
    tfds = _checks.require("tensorflow_datasets", extra="data")
    base = name.split("/")[0]
    return base in tfds.list_builders(with_community_datasets=False)


def _find_builder(tfds, name, data_dir, embedded):
    base = name.split("/")[0].split(":")[0]
    listed = ", ".join(f'"{choice}"' for choice in embedded)
    expected = (
        f"`name` must be one of {listed}, the name of a TensorFlow dataset "
        "(with its configuration and version if it has several), an "
        f'existing folder, or arrays. Received: name="{name}"'
    )
    if not name or re.match(r"\w+:[a-zA-Z_]", name):
        # A name with a namespace would be looked up in the network.
        raise ValueError(expected)
    try:
        # Without `try_gcs` no name is looked up in the network.
        return tfds.builder(name, data_dir=data_dir, try_gcs=False)
    except tfds.core.DatasetNotFoundError as error:
        known = tfds.list_builders(with_community_datasets=False)
        where = f', data_dir="{data_dir}"' if data_dir else ""
        hint = _checks.did_you_mean(base, [*embedded, *known])
        raise ValueError(f"{expected}{where}{hint}") from error
    except (ValueError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        if base in tfds.list_builders(with_community_datasets=False):
            configurations = tfds.builder_cls(base).builder_configs
            if configurations:
                reason = "it has the configurations " + ", ".join(
                    configurations
                )
        raise ValueError(f"{expected} ({reason})") from error


def _check_features(tfds, builder, name):
    """Raises unless the dataset is one of images with one class each."""
    features = builder.info.features
    try:
        image, label = features["image"], features["label"]
    except (KeyError, TypeError) as error:
        raise ValueError(
            'A dataset must have the features "image" and "label". '
            f'Received: name="{name}", which has '
            f"{', '.join(map(str, features))}"
        ) from error
    if not isinstance(image, tfds.features.Image) or image.np_dtype != np.uint8:
        raise ValueError(
            'The feature "image" must be an image of uint8. '
            f'Received: name="{name}", where it is {image!r}'
        )
    if label.shape != () or not np.issubdtype(label.np_dtype, np.integer):
        raise ValueError(
            'The feature "label" must be one class per image. '
            f'Received: name="{name}", where it is {label!r}'
        )


def _class_names(tfds, builder, name, splits):
    label = builder.info.features["label"]
    if isinstance(label, tfds.features.ClassLabel):
        return tuple(map(str, label.names))
    if isinstance(splits["train"], Stream):
        raise ValueError(
            'The feature "label" of a dataset that is too large for memory '
            f'must be a ClassLabel. Received: name="{name}", where it is '
            f"{label!r}. Pass in_memory=True to read all labels"
        )
    highest = max(records.labels.max() for records in splits.values())
    return tuple(str(number) for number in range(highest + 1))


def _shape(builder, splits):
    """Returns the splits, the common `(H, W)` or `None`, unreadable images.

    Records without the unreadable images. Streams are not looked through.
    """
    shape = tuple(builder.info.features["image"].shape[:2])
    if None not in shape:
        return splits, shape, ()
    if isinstance(splits["train"], Stream):
        return splits, None, ()
    readable, shapes, skipped = {}, set(), []
    for split, records in splits.items():
        heads = headers(list(records.images), f"Reading headers of {split}")
        shapes |= {head[:2] for head in heads if head is not None}
        is_good = np.array([head is not None for head in heads])
        skipped += [f"{split} {index}" for index in np.flatnonzero(~is_good)]
        readable[split] = records.take(np.flatnonzero(is_good))
    return readable, shapes.pop() if len(shapes) == 1 else None, tuple(skipped)


def _dataset(tfds, builder, split):
    """Returns a `tf.data.Dataset` of encoded images and labels."""
    decoders = tfds.decode.PartialDecoding(
        {"image": True, "label": True},
        decoders={"image": tfds.decode.SkipDecoding()},
    )
    read = builder.as_dataset(
        split=split,
        decoders=decoders,
        read_config=tfds.ReadConfig(try_autocache=False),
    )
    return read.map(lambda example: (example["image"], example["label"]))


def _records(tfds, builder, used, name):
    """Returns splits in memory, their images still encoded."""
    splits = {}
    for split in used:
        images, labels = [], []
        read = _dataset(tfds, builder, split).as_numpy_iterator()
        total = builder.info.splits[split].num_examples
        for image, label in watched(read, total, f"Reading {split}"):
            images.append(image)
            labels.append(label)
        records = Records(
            np.empty(len(images), object), np.array(labels, "int32")
        )
        records.images[:] = images
        splits[split] = records
    # Secret test labels are stored as -1.
    if "test" in splits and (splits["test"].labels < 0).any():
        splits = _without_test(splits)
    for split, records in splits.items():
        if not len(records) or records.labels.min() < 0:
            raise ValueError(
                "Every image must have a label from 0. Received: "
                f'name="{name}", whose split "{split}" has other labels'
            )
    return splits


def _without_test(splits):
    """Returns splits with validation, if there is one, in place of test."""
    kept = {"train": splits["train"]}
    if "validation" in splits:
        kept["test"] = splits["validation"]
    return kept


def _streams(tfds, builder, used, validation_fraction):
    """Returns streams, the missing ones sliced off the training images."""
    names = {split: split for split in used}
    if "test" in names:
        first = (
            _dataset(tfds, builder, "test")
            .take(CHECKED_EXAMPLES)
            .as_numpy_iterator()
        )
        if any(label < 0 for _, label in first):
            names = _without_test(names)
    total = builder.info.splits["train"].num_examples
    start = 0
    if "test" not in names:
        start = round(TEST_FRACTION * total)
        names["test"] = f"train[:{start}]"
    if "validation" not in names:
        end = total - max(1, round(validation_fraction * (total - start)))
        names["validation"] = f"train[{end}:]"
    else:
        end = total
    if (start, end) != (0, total):
        names["train"] = f"train[{start}:{end}]"

    def stream(split):
        return Stream(
            lambda: _dataset(tfds, builder, split),
            builder.info.splits[split].num_examples,
        )

    return {split: stream(names[split]) for split in SPLITS}
