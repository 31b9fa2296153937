"""Datasets of TensorFlow Datasets, in memory or read from disk.

Both of its formats are read without TensorFlow, in any order.
"""

import importlib.util
import os
import re
import struct
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cbam_keras import _checks
from cbam_keras._terminal import watched
from cbam_keras.data.decoding import headers, threads
from cbam_keras.data.records import (
    SPLITS,
    DiskRecords,
    Source,
    digest,
)
from cbam_keras.data.splitting import TEST_FRACTION, add_missing_splits

# Datasets of more bytes, as encoded images, are read from disk.
IN_MEMORY_BYTES = 2 * 2**30
# Examples of a dataset on disk read to see whether its test labels are secret.
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
    """Returns a dataset of TensorFlow Datasets, in memory if it is small."""
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
    splits: dict[str, Any] = {
        split: _disk_records(tfds, builder, split) for split in used
    }
    test = splits.get("test", ())
    first = range(min(CHECKED_EXAMPLES, len(test)))
    if any(test.read(row)[1] < 0 for row in first):
        # Secret labels are stored as -1.
        del splits["test"]
        if "validation" in splits:
            splits["test"] = splits.pop("validation")
    image_shape = builder.info.features["image"].shape
    shape = None if None in image_shape[:2] else tuple(image_shape[:2])
    skipped: list[str] = []
    size = sum(available[split].num_bytes or 0 for split in used)
    if in_memory is not True and size > IN_MEMORY_BYTES:
        splits = _cut_splits(splits, validation_fraction)
    else:
        splits = _in_memory(splits, name)
        splits = add_missing_splits(splits, validation_fraction, seed)
        if shape is None:
            splits, shape, skipped = _readable(splits)
    return Source(
        name=name,
        splits=splits,
        class_names=_class_names(tfds, builder, name, splits),
        fingerprint=digest(
            builder.info.full_name,
            [(split, available[split].num_examples) for split in used],
        ),
        shape=shape,
        channels=image_shape[2] or 3,
        skipped=tuple(skipped),
    )


# The dataset.


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
    tfds = _checks.require("tensorflow_datasets", extra="data")
    builder = _find_builder(tfds, name, data_dir, embedded)
    # Before a download, which may take hours.
    check(tfds, builder, name)
    if not builder.is_prepared():
        _prepare(tfds, builder, name, manual_dir, download)
    # What is on disk may differ from what the builder declares.
    check(tfds, builder, name)
    return tfds, builder


def is_tfds_name(name: str) -> bool:
    """Returns whether TensorFlow Datasets, if installed, has that dataset."""
    if importlib.util.find_spec("tensorflow_datasets") is None:
        return False
    tfds = _checks.require("tensorflow_datasets", extra="data")
    known = tfds.list_builders(with_community_datasets=False)
    return name.split("/")[0] in known


def _find_builder(tfds, name, data_dir, embedded):
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
        hint = _checks.did_you_mean(name.split("/")[0], [*embedded, *known])
        raise ValueError(f"{expected}{where}{hint}") from error
    except (ValueError, AssertionError) as error:
        # Such as an unknown configuration, with those that there are.
        reason = textwrap.shorten(str(error), 500)
        raise ValueError(f"{expected} ({reason})") from error


def _check_features(tfds, builder, name):
    """Raises unless the dataset is one of images with one class each."""
    features = builder.info.features
    image, label = (
        features[key] if key in features else None for key in ("image", "label")
    )
    if not (
        isinstance(image, tfds.features.Image)
        and image.np_dtype == np.uint8
        and getattr(label, "shape", None) == ()
        and np.issubdtype(label.np_dtype, np.integer)
    ):
        raise ValueError(
            'A dataset must have the features "image", an image of uint8, and '
            f'"label", one class per image. Received: name="{name}", which '
            f"has {', '.join(map(str, features))}: image={image!r}, "
            f"label={label!r}"
        )


def _prepare(tfds, builder, name, manual_dir, download):
    """Downloads and prepares a dataset, or says what is missing."""
    by_hand = ""
    if builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
        root = str(builder.data_dir).removesuffix(builder.info.full_name)
        by_hand = (
            ". Its files must be downloaded by hand, into "
            f"{manual_dir or os.path.join(root, 'downloads', 'manual')} "
            "(manual_dir=, --manual-dir): "
            + " ".join(builder.MANUAL_DOWNLOAD_INSTRUCTIONS.split())
        )
    if not download:
        raise ValueError(
            f'The dataset "{name}" is not prepared in {builder.data_dir}. '
            "Received: download=False. Pass download=True (--download on the "
            "command line) to download and prepare it, or data_dir= "
            f"(--data-dir), the folder that holds it{by_hand}"
        )
    config = tfds.download.DownloadConfig(
        manual_dir=manual_dir and os.path.expanduser(manual_dir),
        try_download_gcs=False,
    )
    try:
        builder.download_and_prepare(download_config=config)
    except Exception as error:
        # Of many kinds, and after minutes of trying where there is no network.
        raise ValueError(
            f'The dataset "{name}" cannot be downloaded and prepared '
            f"({error}). Received: download=True. Prepare it on a machine "
            f"with network access and copy the folder {builder.data_dir}, or "
            f"pass another data_dir= (--data-dir){by_hand}"
        ) from error


def _class_names(tfds, builder, name, splits):
    label = builder.info.features["label"]
    if isinstance(label, tfds.features.ClassLabel):
        return tuple(map(str, label.names))
    if isinstance(splits["train"], DiskRecords):
        raise ValueError(
            'The feature "label" of a dataset that is too large for memory '
            f'must be a ClassLabel. Received: name="{name}", where it is '
            f"{label!r}. Pass in_memory=True to read all labels"
        )
    highest = max(records.labels.max() for records in splits.values())
    return tuple(str(number) for number in range(highest + 1))


# Its splits.


def _in_memory(on_disk, name):
    """Returns splits as records, their images still encoded."""
    splits = {}
    for split, records in on_disk.items():
        splits[split] = records.load(len(records), f"Reading {split}")
        if not len(records) or splits[split].labels.min() < 0:
            raise ValueError(
                "Every image must have a label from 0. Received: "
                f'name="{name}", whose split "{split}" has other labels'
            )
    return splits


def _readable(splits):
    """Returns splits without unreadable images, their shape, the others."""
    readable, shapes, skipped = {}, set(), []
    for split, records in splits.items():
        heads = headers(records.images, f"Reading headers of {split}")
        shapes |= {head[:2] for head in heads if head is not None}
        is_good = np.array([head is not None for head in heads])
        skipped += [f"{split} {index}" for index in np.flatnonzero(~is_good)]
        readable[split] = records.take(np.flatnonzero(is_good))
    return readable, shapes.pop() if len(shapes) == 1 else None, skipped


def _cut_splits(splits, validation_fraction):
    """Returns splits on disk, the missing ones cut from the training images."""
    examples, rows = splits["train"].examples, splits["train"].rows
    if "test" not in splits:
        count = round(TEST_FRACTION * len(rows))
        splits["test"] = DiskRecords(examples, rows[:count])
        rows = rows[count:]
    if "validation" not in splits:
        count = max(1, round(validation_fraction * len(rows)))
        splits["validation"] = DiskRecords(examples, rows[-count:])
        rows = rows[:-count]
    return {**splits, "train": DiskRecords(examples, rows)}


def _disk_records(tfds, builder, split):
    """Returns the examples of a split, their images encoded."""
    decoders = {"image": tfds.decode.SkipDecoding()}
    examples: Any
    if builder.info.file_format.value == "tfrecord":
        examples = _TFRecords(builder.info, split, decoders)
    else:
        examples = builder.as_data_source(split=split, decoders=decoders)
    return DiskRecords(examples, range(len(examples)))


class _TFRecords:
    """The examples of TFRecord files, with random access."""

    def __init__(self, info, split, decoders):
        self.features = info.features
        self.decoders = decoders
        paths = info.splits[split].filepaths
        indexed = watched(
            threads().map(_record_places, paths),
            len(paths),
            f"Indexing {split}",
        )
        self.places = [place for places in indexed for place in places]

    def __len__(self):
        return len(self.places)

    def __getitem__(self, index):
        path, start, length = self.places[index]
        with path.open("rb") as file:
            file.seek(start)
            record = file.read(length)
        return self.features.deserialize_example_np(
            record, decoders=self.decoders
        )


def _record_places(path):
    """Returns the file, the start and the length of each of its records."""
    places = []
    with path.open("rb") as file:
        # Eight bytes of length, four of checksum, the record, four again.
        while header := file.read(12):
            (length,) = struct.unpack("<Q", header[:8])
            places.append((path, file.tell(), length))
            file.seek(length + 4, os.SEEK_CUR)
    return places
