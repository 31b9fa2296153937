"""Datasets of TensorFlow Datasets, in memory or read from disk."""

from importlib.util import find_spec
from typing import Any

import numpy as np

from cbam_keras import _checks
from cbam_keras.data.examples import Dataset, DiskExamples, digest
from cbam_keras.data.folders import describe_missing
from cbam_keras.data.splits import SPLITS

# Datasets of more bytes, as encoded images, are read from disk.
IN_MEMORY_BYTES = 2 * 2**30


def from_tfds(name: str, data_dir: Any, download: bool) -> Dataset:
    """Returns a dataset of TensorFlow Datasets, in memory if it is small."""
    try:
        tfds = _checks.require("tensorflow_datasets", extra="data")
        builder = tfds.builder(name, data_dir=data_dir, try_gcs=False)
    except (ImportError, ValueError) as error:
        # Hundreds of names, or a grammar, may follow its first line.
        raise type(error)(
            f'`data` must be a name, folder or arrays. Received: data="{name}"'
            f", {describe_missing(name)} ({str(error).splitlines()[0]})"
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
    # Without training images, TFDS says which splits there are.
    names = [x for x in SPLITS if x == "train" or x in builder.info.splits]
    decoders = {"image": tfds.decode.SkipDecoding()}
    splits = {x: _read(builder, split=x, decoders=decoders) for x in names}
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


def _read(builder, **options):
    """Returns the examples of a split, their images encoded."""
    is_small = builder.info.dataset_size <= IN_MEMORY_BYTES
    try:
        rows = builder.as_data_source(**options)
    except NotImplementedError:
        if not is_small:
            raise
        rows = [*builder.as_dataset(**options).as_numpy_iterator()]
    examples = DiskExamples(rows, np.arange(len(rows)))
    return examples.load(len(rows), "Reading") if is_small else examples
