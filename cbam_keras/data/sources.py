"""Sources of images: arrays, and what a name stands for."""

import contextlib
import dataclasses
import os
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from cbam_keras import _checks
from cbam_keras.data.decoding import bits_of
from cbam_keras.data.digits import EMBEDDED, from_embedded
from cbam_keras.data.examples import Dataset, Examples, counted, digest
from cbam_keras.data.folders import from_folder, warn_of_copies
from cbam_keras.data.splits import (
    SPLITS,
    check_classes,
    check_folds,
    completed,
    pooled,
)
from cbam_keras.data.tables import from_table, is_table, table_name
from cbam_keras.data.tfds import from_tfds

# Paths may begin with these, and names of datasets never do.
PATH_STARTS = (".", "~", "/", "\\")

# Loaded by Keras where TensorFlow Datasets has not prepared it.
FASHION = "fashion_mnist"
FASHION_CLASSES = tuple(
    "T-shirt/top, Trouser, Pullover, Dress, Coat, Sandal, Shirt, Sneaker, Bag, "
    "Ankle boot".split(", ")
)


def find_dataset(
    name,
    validation_fraction=0.1,
    seed=0,
    data_dir=None,
    manual_dir=None,
    download=False,
    group_by_folder=True,
    image_column=None,
    label_column=None,
    folds=None,
    fold=0,
):
    """Returns the dataset that `name` stands for, with all three splits."""
    check_folds(folds, fold)
    _checks.positive_number("validation_fraction", validation_fraction)
    if validation_fraction >= 1:
        raise ValueError(
            "`validation_fraction` must lie between 0 and 1. Received: "
            f"{validation_fraction=}"
        )
    _checks.boolean("group_by_folder", group_by_folder)
    has_table = is_table(name)
    columns = image_column, label_column
    if columns != (None, None) and not has_table:
        raise ValueError(
            "`image_column` and `label_column` are only for CSV files and data "
            f"frames. Received: {image_column=}, {label_column=}"
        )
    is_folder = not has_table and _is_folder(name, data_dir)
    is_named = isinstance(name, str) and not is_folder and not has_table
    if is_named and name not in EMBEDDED:
        try:
            dataset = from_tfds(name, EMBEDDED, data_dir, manual_dir, download)
        except (ImportError, ValueError):
            if name != FASHION or data_dir is not None or download:
                raise
            dataset = from_keras()
        if folds is not None:
            dataset = pooled(dataset)
            check_classes(dataset, f'data="{name}"', folds)
        return completed(dataset, validation_fraction, seed, folds, fold)
    if data_dir is not None or manual_dir is not None:
        raise ValueError(
            "`data_dir` and `manual_dir` are only for datasets of TensorFlow "
            f"Datasets. Received: {data_dir=!s}, {manual_dir=!s}"
        )
    if is_named:
        return from_embedded(name, validation_fraction, seed, folds, fold)
    if has_table:
        dataset = from_table(name, *columns, group_by_folder)
    elif is_folder:
        dataset = from_folder(name, group_by_folder)
    else:
        dataset = from_arrays(name)
    is_path = isinstance(name, str | os.PathLike)
    received = f'data="{name}"' if is_path else dataset.name
    if dataset.left_out:
        received += f" (left out: {counted(dataset.left_out)})"
    if folds is not None:
        dataset = pooled(dataset)
    check_classes(dataset, received, folds)
    dataset = completed(dataset, validation_fraction, seed, folds, fold)
    # Groups may be too few for each split.
    check_classes(dataset, received)
    warn_of_copies(dataset)
    return dataset


def _is_folder(name, data_dir=None):
    """Returns whether a name is a path, or a word that a folder bears too."""
    if not isinstance(name, str):
        return isinstance(name, os.PathLike)
    return name.startswith(PATH_STARTS) or (
        name not in EMBEDDED and data_dir is None and os.path.isdir(name)
    )


def dataset_name(name):
    """Returns the `name` that the `ImageData` will have, without loading."""
    if is_table(name):
        return table_name(name)
    if _is_folder(name):
        return pathlib.Path(name).expanduser().resolve().name
    return name if isinstance(name, str) else "arrays"


def from_keras() -> Dataset:
    """Returns Fashion-MNIST, which Keras downloads and keeps."""
    try:
        # A progress bar is not among the results on standard output.
        with contextlib.redirect_stdout(sys.stderr):
            arrays = keras.datasets.fashion_mnist.load_data()
    except Exception as error:
        raise ValueError(
            "Fashion-MNIST needs network access, or the four files of Debian's "
            "package dataset-fashion-mnist, copied from /usr/share/datasets/"
            "fashion-mnist to datasets/fashion-mnist in Keras' home, ~/.keras "
            f'or KERAS_HOME. Received: data="{FASHION}" ({error})'
        ) from error
    return dataclasses.replace(
        from_arrays(arrays), name=FASHION, class_names=FASHION_CLASSES
    )


def from_arrays(arrays: Any) -> Dataset:
    """Returns arrays of images and labels as a dataset."""
    if not isinstance(arrays, Mapping):
        # Two pairs are what Keras' `load_data` returns.
        if _is_pair(arrays) and all(
            is_batches(part) or (_is_pair(part) and np.ndim(part[0]) > 2)
            for part in arrays
        ):
            arrays = dict(zip(("train", "test"), arrays, strict=True))
        else:
            arrays = {"train": arrays}
    if "train" not in arrays or not set(arrays) <= set(SPLITS):
        raise ValueError(
            'The splits of `data` must be "train" and optionally '
            '"validation" and "test". Received: data with the keys '
            f"{list(arrays)}"
        )
    given = {
        name: _read(arrays[name]) if is_batches(arrays[name]) else arrays[name]
        for name in SPLITS
        if name in arrays
    }
    names = getattr(arrays["train"], "class_names", None)
    # One scale for all.
    bits = bits_of(map(_highest, given.values()))
    splits = {name: _records(name, each, bits) for name, each in given.items()}
    shapes = {name: each.images.shape[1:] for name, each in splits.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(
            "The images of all splits must have one shape. Received: "
            f"images of the shapes {shapes}"
        )
    num_classes = 1 + max(int(each.labels.max()) for each in splits.values())
    hashed: list[object] = []
    for name, each in splits.items():
        hashed += [name, each.images, each.labels]
    return Dataset(
        name="arrays",
        splits=splits,
        class_names=tuple(map(str, names or range(num_classes))),
        fingerprint=digest(*hashed),
        shape=shapes["train"][:2],
        channels=shapes["train"][2],
    )


def is_batches(data: object) -> bool:
    """Returns whether data are a `PyDataset` or a `tf.data.Dataset`."""
    is_tensorflow = hasattr(data, "as_numpy_iterator")
    return is_tensorflow or isinstance(data, keras.utils.PyDataset)


def _read(batches):
    """Returns images and labels of batches as arrays, sorted by content.

    Their own order may be another one each time.
    """
    try:
        rows = range(len(batches))
        is_random_access = isinstance(batches, keras.utils.PyDataset)
        parts = map(batches.__getitem__, rows) if is_random_access else batches
        images, labels = (
            np.concatenate([np.asarray(x) for x in each])
            for each in zip(*parts, strict=True)
        )
    except (TypeError, ValueError) as error:
        raise ValueError(
            "Batches must be pairs (images, labels), and a finite, known "
            f"number of them. Received: {batches} ({error}). Call .batch(32) "
            "or .take(100) on a tf.data.Dataset"
        ) from error
    order = np.argsort([digest(image) for image in images])
    return images[order], labels[order]


def _is_pair(arrays):
    return isinstance(arrays, tuple | list) and len(arrays) == 2


def _highest(arrays):
    """Returns the largest value of images of uint16, if it takes 9 bits."""
    if _is_pair(arrays):
        images = np.asarray(arrays[0])
        if images.dtype == "uint16" and images.max(initial=0) > 255:
            return int(images.max())
    return None


def _records(split, arrays, bits):
    if not _is_pair(arrays):
        raise TypeError(
            "`data` must be a string, a path or arrays (images, labels). "
            f'Received: {type(arrays).__name__} for the split "{split}"'
        )
    images, labels = map(np.asarray, arrays)
    if bits and images.dtype == "uint16":
        images = (images >> (bits - 8)).astype("uint8")
    if images.ndim == 3:
        images = images[..., None]
    problem = _problem(images, labels)
    if problem:
        raise ValueError(
            "Arrays must be images (N, H, W, C) or (N, H, W) in [0, 255] and "
            "an integer from 0 for the class of each, (N,) or (N, 1). "
            f"Received: images {images.shape} of {images.dtype} and labels "
            f'{labels.shape} of {labels.dtype} for the split "{split}": '
            f"{problem}"
        )
    whole = images.astype("uint8", copy=False)
    if images.dtype.kind == "f" and (whole != images).any():
        whole = images.astype("float32")
    return Examples(whole, labels.ravel().astype("int32"), bits=bits)


def _problem(images, labels):
    """Returns what is wrong with arrays and how to mend it, if anything."""
    if images.ndim != 4 or not images.size or images.dtype.kind not in "iuf":
        return "the images are empty, of another shape or no numbers"
    count, first, height, width = images.shape
    if first in (1, 3, 4) and height == width > 4:
        return "images = np.moveaxis(images, 1, -1) puts the channels last"
    if labels.shape[:1] != (count,):
        return f"{count} images, but {labels.size} labels"
    if labels.size != count:
        return (
            "one-hot labels become integers by np.argmax(labels, axis=-1); "
            'for several labels per image see "Other tasks" in the guides'
        )
    if labels.dtype.kind not in "iu":
        return (
            "names, labels = np.unique(labels, return_inverse=True) numbers "
            "the different values"
        )
    if labels.min() < 0 or labels.max() >= count:
        return (
            f"labels from {labels.min()} to {labels.max()}, but {count} "
            "images: each class needs one to train, validate and test each"
        )
    lowest, highest = images.min(), images.max()
    if not np.isfinite([lowest, highest]).all():
        bad = ~np.isfinite(images).all(axis=(1, 2, 3))
        return (
            f"NaN or infinite values in {bad.sum()} images, the first of them "
            f"images[{bad.argmax()}]"
        )
    is_scaled = images.dtype.kind == "f" and highest <= 1
    if lowest < 0 or highest > 255 or is_scaled:
        return (
            f"values from {lowest} to {highest}. Multiply them by 255, or "
            "leave out what has scaled them before"
        )
    return None
