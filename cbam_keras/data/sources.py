"""Sources of images: arrays, folders, and what a name stands for."""

import contextlib
import dataclasses
import os
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from cbam_keras import _checks, _files
from cbam_keras.data.decoding import readable
from cbam_keras.data.digits import EMBEDDED, from_embedded
from cbam_keras.data.examples import Dataset, Examples, digest
from cbam_keras.data.splits import (
    SPLITS,
    check_classes,
    check_folds,
    completed,
    pooled,
)
from cbam_keras.data.tfds import from_tfds, no_folder

# Paths may begin with these, and names of datasets never do.
PATH_STARTS = (".", "~", "/", "\\")

# Loaded by Keras where TensorFlow Datasets has not prepared it.
FASHION = "fashion_mnist"
FASHION_CLASSES = tuple(
    "T-shirt/top, Trouser, Pullover, Dress, Coat, Sandal, Shirt, Sneaker, Bag, "
    "Ankle boot".split(", ")
)

# File names of images that are read.
ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")

# A folder with one of these holds our own figures, not images of a class.
RECORDS = (_files.RESULTS, _files.EXPLAINED)

# Names of split folders in lower case.
SPLIT_FOLDERS = {name: name for name in SPLITS}
SPLIT_FOLDERS |= {"val": "validation", "valid": "validation"}


def find_dataset(
    name,
    validation_fraction=0.1,
    seed=0,
    data_dir=None,
    manual_dir=None,
    download=False,
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
    is_folder = _is_folder(name, data_dir)
    is_named = isinstance(name, str) and not is_folder
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
    dataset = from_folder(name) if is_folder else from_arrays(name)
    if folds is not None:
        dataset = pooled(dataset)
    check_classes(dataset, f'data="{name}"' if is_folder else "arrays", folds)
    return completed(dataset, validation_fraction, seed, folds, fold)


def _is_folder(name, data_dir=None):
    """Returns whether a name is a path, or a word that a folder bears too."""
    if not isinstance(name, str):
        return isinstance(name, os.PathLike)
    return name.startswith(PATH_STARTS) or (
        name not in EMBEDDED and data_dir is None and os.path.isdir(name)
    )


def dataset_name(name):
    """Returns the `name` that the `ImageData` will have, without loading."""
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
            _is_pair(part) and np.ndim(part[0]) > 2 for part in arrays
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
    splits = {
        name: _records(name, arrays[name]) for name in SPLITS if name in arrays
    }
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
        class_names=tuple(map(str, range(num_classes))),
        fingerprint=digest(*hashed),
        shape=shapes["train"][:2],
        channels=shapes["train"][2],
    )


def _is_pair(arrays):
    return isinstance(arrays, tuple | list) and len(arrays) == 2


def _records(split, arrays):
    if not _is_pair(arrays):
        raise TypeError(
            "`data` must be a string, a path or arrays (images, labels). "
            f'Received: {type(arrays).__name__} for the split "{split}"'
        )
    images, labels = map(np.asarray, arrays)
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
    return Examples(whole, labels.ravel().astype("int32"))


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
            "one-hot labels become integers by np.argmax(labels, axis=-1); for "
            "several labels per image see docs/guides/other-tasks.md"
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


def from_folder(path: str | os.PathLike) -> Dataset:
    """Returns a folder of class folders, or of splits of those, as paths."""
    root = pathlib.Path(path).expanduser()
    if not root.is_dir():
        raise ValueError(
            "`data` must be a folder that exists, with a folder of images "
            f'per class. Received: data="{path}", {no_folder(root)}'
        )
    classes = _class_folders(root)
    class_names = sorted({f.name for each in classes.values() for f in each})
    splits = {}
    for split, folders in classes.items():
        files = [file for folder in folders for file in image_files(folder)]
        labels = [class_names.index(file.parent.name) for file in files]
        images = np.array([str(file) for file in files], object)
        splits[split] = Examples(images, np.array(labels, "int32"))
    return readable(
        Dataset(
            name=root.resolve().name,
            splits=splits,
            class_names=tuple(class_names),
            root=root,
        )
    )


def image_files(folder: pathlib.Path, pattern: str = "*") -> list[pathlib.Path]:
    """Returns the images in a folder, without our own figures."""
    within = sorted(folder.glob(pattern))
    ours = {path.parent for path in within if path.name in RECORDS}
    return [
        path
        for path in within
        if path.suffix.lower() in ENDINGS
        and not _is_hidden(path)
        and not ours & {*path.parents}
    ]


def _class_folders(root):
    """Returns the class folders by split, all as "train" without any split."""
    folders = _folders(root)
    parts = {SPLIT_FOLDERS.get(path.name.lower()): path for path in folders}
    if "train" not in parts or None in parts or len(parts) < len(folders):
        return {"train": folders}
    return {split: _folders(parts[split]) for split in SPLITS if split in parts}


def _folders(root):
    return [
        path
        for path in sorted(root.iterdir())
        if path.is_dir()
        and not _is_hidden(path)
        and not any((path / name).exists() for name in RECORDS)
    ]


def _is_hidden(path):
    return path.name.startswith((".", "__"))
