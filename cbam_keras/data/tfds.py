"""Datasets of TensorFlow Datasets, in memory or read from disk.

ArrayRecord files are read without TensorFlow, in any order. TFRecord files are
read by TensorFlow, once and into memory.
"""

import contextlib
import importlib.util
import os
import pathlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np

from cbam_keras import _checks
from cbam_keras._terminal import show_progress
from cbam_keras.data.decoding import keep_readable
from cbam_keras.data.examples import Dataset, DiskExamples, digest
from cbam_keras.data.splits import SPLITS

# Datasets of more bytes, as encoded images, are read from disk.
IN_MEMORY_BYTES = 2 * 2**30
# This many examples of a split, spread over it, tell it from one that was
# prepared from other images.
FINGERPRINTED = 100


def from_tfds(
    name: str,
    embedded: Iterable[str],
    data_dir: str | os.PathLike | None,
    manual_dir: str | os.PathLike | None,
    download: bool,
) -> Dataset:
    """Returns a dataset of TensorFlow Datasets, in memory if it is small."""
    builder = find_builder(name, embedded, data_dir)
    tfds = _checks.require("tensorflow_datasets", extra="data")
    features = dict(builder.info.features.items())
    image, label = features.get("image"), features.get("label")
    if not (
        isinstance(image, tfds.features.Image)
        and image.np_dtype == np.uint8
        and isinstance(label, tfds.features.ClassLabel)
    ):
        needed = '"image", of uint8, and "label", one class per image'
        raise wrong_features(name, needed, features)
    ensure_prepared(name, builder, download, manual_dir)
    splits = dict[str, Any]()
    content: list[object] = [builder.info.full_name]
    for split in (x for x in SPLITS if x in builder.info.splits):
        examples = splits[split] = _disk_examples(name, builder, split)
        count = len(examples)
        content += [split, count]
        for row in np.linspace(0, count - 1, min(count, FINGERPRINTED)):
            encoded, class_index = examples.read(int(row))
            content += [encoded, int(class_index)]
    # Secret labels are stored as -1.
    if "test" in splits and splits["test"].read(0)[1] < 0:
        del splits["test"]
        if "validation" in splits:
            splits["test"] = splits.pop("validation")
    is_small = _is_small(builder)
    if is_small:
        for split, examples in splits.items():
            splits[split] = examples.load(len(examples), f"Reading {split}")
    *size, channels = image.shape
    dataset = Dataset(
        splits=splits,
        class_names=tuple(map(str, label.names)),
        fingerprint=digest(*content),
        shape=None if None in size else tuple(size),
        channels=channels or 3,
    )
    return keep_readable(dataset) if is_small and None in size else dataset


def find_builder(
    name: str, embedded: Iterable[str], data_dir: str | os.PathLike | None
) -> Any:
    """Returns the builder of a dataset, which may not be on disk yet."""
    try:
        tfds = _checks.require("tensorflow_datasets", extra="data")
    except ImportError as error:
        message = f'Received: data="{name}", {describe_missing(name)}. {error}'
        raise ImportError(message) from error
    names, reason = list(embedded), ""
    listed = ", ".join(map(_checks.quoted, names))
    # A name with a namespace would be looked up in the network.
    if name and not re.match(r"\w+:[a-zA-Z_]", name):
        try:
            # TFDS would look up other names in the cloud, too.
            return tfds.builder(name, data_dir=data_dir, try_gcs=False)
        except tfds.core.DatasetNotFoundError:
            names += tfds.list_builders(with_community_datasets=False)
        except (ValueError, AssertionError) as error:
            # An unknown configuration is an example; the error lists all.
            reason = f" ({error})"
    start = f'There is no folder "{name}" here, and no such dataset. '
    raise ValueError(
        f"{'' if reason or os.path.exists(name) else start}"
        f"`data` must be one of {listed}, the name of a TensorFlow dataset "
        "(with its configuration and version if it has several), an existing "
        f'folder, or arrays. Received: data="{name}", '
        f"{describe_missing(name, names)}{reason}"
    )


def is_prepared(name: str) -> bool:
    """Returns whether a dataset is on disk, where it is by default."""
    try:
        return find_builder(name, (), None).is_prepared()
    except ImportError:
        return False


def wrong_features(
    name: str, needed: str, features: Mapping[str, object]
) -> ValueError:
    """Returns the error for a dataset of other features."""
    kinds = {key: type(kind).__name__ for key, kind in features.items()}
    return ValueError(
        f"A dataset must have the features {needed}. Received: "
        f'data="{name}" with {kinds}'
    )


def describe_missing(path: str | os.PathLike, names: Iterable[str] = ()) -> str:
    """Returns what is in place of a folder, or what has a similar name."""
    path = pathlib.Path(path).expanduser()
    if path.is_file():
        return "which is a file"
    folders = [folder.name for folder in path.parent.glob("*/")]
    # There are so many datasets that one is always a little alike.
    hint = _checks.did_you_mean(path.name, folders)
    if not hint and len(path.parts) == 1:
        hint = _checks.did_you_mean(path.name, names, cutoff=0.8)
    return f"where there is no folder{hint}"


def ensure_prepared(
    name: str,
    builder: Any,
    download: bool,
    manual_dir: str | os.PathLike | None = None,
) -> None:
    """Downloads and prepares a dataset if needed, or says what is missing."""
    if not builder.is_prepared():
        _download(name, builder, download, manual_dir)
    if "train" not in builder.info.splits:
        raise ValueError(
            'A dataset must have the split "train". Received: '
            f'data="{name}" with {list(builder.info.splits)}'
        )


def _download(name, builder, download, manual_dir):
    reason = "download=False"
    if download:
        tfds = _checks.require("tensorflow_datasets", extra="data")
        config = tfds.download.DownloadConfig(
            manual_dir=manual_dir and os.path.expanduser(manual_dir),
            try_download_gcs=False,
        )
        # It is read by every backend, but cannot be installed everywhere.
        has_array_record = importlib.util.find_spec("array_record") is not None
        try:
            return builder.download_and_prepare(
                download_config=config,
                file_format="array_record" if has_array_record else None,
            )
        # Errors are of many kinds; without a network they come after minutes.
        except Exception as error:
            reason = f"download=True, which failed ({error})"
    message = (
        f'The dataset "{name}" is not prepared in {builder.data_dir}. '
        f"Received: {reason}. Pass download=True (--download on the command "
        "line) with network access, or copy the folder from another machine, "
        "or pass data_dir= (--data-dir), the folder that holds it"
    )
    if builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
        message += (
            ". Its files must be downloaded by hand into manual_dir= "
            "(--manual-dir), or downloads/manual in that folder: "
            + " ".join(builder.MANUAL_DOWNLOAD_INSTRUCTIONS.split())
        )
    raise ValueError(message)


def _disk_examples(name, builder, split):
    """Returns the examples of a split, their images encoded."""
    tfds = _checks.require("tensorflow_datasets", extra="data")
    decoders = {"image": tfds.decode.SkipDecoding()}
    try:
        examples = builder.as_data_source(split=split, decoders=decoders)
    except NotImplementedError:
        examples = _read_records(name, builder, split, decoders)
    return DiskExamples(examples, np.arange(len(examples)))


def _read_records(name, builder, split, decoders):
    """Returns the examples of TFRecord files, in the order of the files."""
    if not _is_small(builder):
        raise ValueError(
            "A dataset of more than 2 GiB must be in the format array_record, "
            f'which is read in any order. Received: data="{name}", TFRecords '
            f"in {builder.data_dir}. Prepare it once more, by download=True "
            "into another data_dir, or convert it by tfds convert_format "
            "--out_file_format=array_record, which needs apache-beam"
        )
    tfds = _checks.require("tensorflow_datasets", extra="data")
    tensorflow = _checks.require("tensorflow", extra="tensorflow")
    if keras.backend.backend() != "tensorflow":
        # It would take the memory of the GPU from the backend. Once it has
        # begun to use a device it refuses, and nothing is left to save.
        with contextlib.suppress(RuntimeError):
            tensorflow.config.set_visible_devices([], "GPU")
    config = tfds.ReadConfig(try_autocache=False, interleave_cycle_length=1)
    records = builder.as_dataset(
        split=split, decoders=decoders, read_config=config
    )
    total = builder.info.splits[split].num_examples
    return [*show_progress(tfds.as_numpy(records), total, f"Reading {split}")]


def _is_small(builder):
    """Returns whether the encoded images are kept in memory."""
    splits = builder.info.splits
    num_bytes = sum(splits[x].num_bytes or 0 for x in SPLITS if x in splits)
    return num_bytes <= IN_MEMORY_BYTES
