"""Datasets of TensorFlow Datasets, in memory or read from disk."""

from importlib.util import find_spec
from typing import Any

import numpy as np

from cbam_keras import _checks
from cbam_keras._terminal import show_progress
from cbam_keras.data.examples import Dataset, Examples, digest
from cbam_keras.data.folders import describe_missing
from cbam_keras.data.splits import SPLITS

# Encoded images of more bytes do not fit into the memory of most machines.
MOST_BYTES = 16 * 2**30


def from_tfds(name: str, data_dir: Any, download: bool) -> Dataset:
    """Returns a dataset of TensorFlow Datasets, its images encoded."""
    try:
        tfds = _checks.require("tensorflow_datasets", extra="data")
        builder = tfds.builder(name, data_dir=data_dir, try_gcs=False)
    except (ImportError, ValueError) as error:
        # Hundreds of names, or a grammar, may follow its first line.
        reason = str(error).splitlines()[0]
        if reason.startswith(("Dataset ", "Parsing ")):
            reason = "nor is it a name of TensorFlow Datasets"
        raise type(error)(
            f'`data` must be a name, folder or arrays. Received: data="{name}"'
            f", {describe_missing(name)} ({reason})"
        ) from error
    features: Any = dict(builder.info.features.items())
    image, label = features.get("image"), features.get("label")
    is_image = isinstance(image, tfds.features.Image)
    is_class = isinstance(label, tfds.features.ClassLabel)
    if not (is_class and is_image and image.np_dtype == np.uint8):
        raise ValueError(
            'A dataset must have the features "image", of uint8, and "label", '
            f'one class per image. Received: data="{name}" with {features}'
        )
    if download:
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(
                try_download_gcs=False
            ),
            # ArrayRecord needs no TensorFlow, but is not for every system.
            file_format="array_record" if find_spec("array_record") else None,
        )
    elif not builder.is_prepared():
        raise ValueError(
            f'"{name}" must be prepared in {builder.data_dir}: pass download='
            "True (--download), or data_dir= (--data-dir), where it is"
        )
    if builder.info.dataset_size > MOST_BYTES:
        raise ValueError(
            "A dataset must fit into memory, at most 16 GiB encoded. Received: "
            f'data="{name}" of {builder.info.dataset_size / 2**30:.0f} GiB. '
            "Save its images in a folder for each class"
        )
    # Without training images, TFDS says which splits there are.
    names = [x for x in SPLITS if x == "train" or x in builder.info.splits]
    decoders = {"image": tfds.decode.SkipDecoding()}
    splits = {x: _read(builder, x, decoders) for x in names}
    first = [[*map(x.read, range(len(x))[:100])] for x in splits.values()]
    # Secret labels are stored as -1.
    if "test" in splits and splits["test"].read(0)[1] < 0:
        del splits["test"]
        if "validation" in splits:
            splits["test"] = splits.pop("validation")
    return Dataset(
        splits=splits,
        class_names=tuple(label.names),
        fingerprint=digest(builder.info.full_name, first),
        shape=None if None in image.shape else image.shape[:2],
        channels=image.shape[-1] or 3,
    )


def _read(builder, split, decoders):
    """Returns the examples of a split."""
    try:
        rows = builder.as_data_source(split=split, decoders=decoders)
    except NotImplementedError:
        # Files of other formats than ArrayRecord have no rows.
        dataset = builder.as_dataset(split=split, decoders=decoders)
        rows = [*dataset.as_numpy_iterator()]
    images, labels = np.empty(len(rows), object), np.empty(len(rows), "int32")
    for row in show_progress(range(len(rows)), len(rows), "Reading"):
        example = rows[row]
        images[row], labels[row] = example["image"], example["label"]
    return Examples(images, labels)
