"""Arrays of images and labels, and batches of them."""

import contextlib
import dataclasses
import sys
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from cbam_keras.data.examples import Dataset, Examples, Scale, digest
from cbam_keras.data.splits import SPLITS, check_names

FASHION_CLASSES = tuple(
    "T-shirt/top, Trouser, Pullover, Dress, Coat, Sandal, Shirt, Sneaker, Bag, "
    "Ankle boot".split(", ")
)


def load_fashion_mnist() -> Dataset:
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
            f'or KERAS_HOME. Received: data="fashion_mnist" ({error})'
        ) from error
    return dataclasses.replace(from_arrays(arrays), class_names=FASHION_CLASSES)


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
    check_names(arrays)
    pairs = {
        name: _read(arrays[name]) if is_batches(arrays[name]) else arrays[name]
        for name in SPLITS
        if name in arrays
    }
    names = getattr(arrays["train"], "class_names", None)
    # One scale for all.
    scale = Scale.of(map(_find_range, pairs.values()))
    if scale and scale.lowest >= 0 and scale.highest <= 255:
        scale = None
    splits = {
        name: _make_examples(name, each, scale) for name, each in pairs.items()
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


def _find_range(arrays):
    """Returns the lowest and the highest value, unless images are of uint8."""
    images = np.asarray(arrays[0] if _is_pair(arrays) else ())
    if images.size and images.dtype.kind in "iuf" and images.dtype != "uint8":
        lowest, highest = images.min().item(), images.max().item()
        if np.isfinite([lowest, highest]).all():
            return lowest, highest
    return None


def _make_examples(split, arrays, scale):
    if not _is_pair(arrays):
        raise TypeError(
            "`data` must be a string, a path or arrays (images, labels). "
            f'Received: {type(arrays).__name__} for the split "{split}"'
        )
    images, labels = map(np.asarray, arrays)
    if images.ndim == 3:
        images = images[..., None]
    problem = _find_problem(images, labels, scale)
    if problem:
        raise ValueError(
            "Arrays must be images (N, H, W, C) or (N, H, W) in [0, 255] and "
            "an integer from 0 for the class of each, (N,) or (N, 1). "
            f"Received: images {images.shape} of {images.dtype} and labels "
            f'{labels.shape} of {labels.dtype} for the split "{split}": '
            f"{problem}"
        )
    if scale is not None and images.dtype != "uint8":
        images = np.stack([*map(scale.apply, images)])
    whole = images.astype("uint8", copy=False)
    if images.dtype.kind == "f" and (whole != images).any():
        whole = images.astype("float32")
    return Examples(whole, labels.ravel().astype("int32"), scale=scale)


def _find_problem(images, labels, scale):
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
    # Floats of so few levels, or of either sign, were scaled for a network.
    is_scaled = lowest >= -1 and highest <= 1
    is_centered = scale and scale.lowest < 0 and scale.bits <= 8
    if images.dtype.kind == "f" and (is_scaled or is_centered):
        remedy = "Multiply them by 255"
        if lowest < 0:
            start, end = max(1, -lowest), max(1, highest)
            factor = 255 / (start + end)
            remedy = f"Add {start:.4g} and multiply them by {factor:.4g}"
        return (
            f"values from {lowest} to {highest}. {remedy}, or leave out what "
            "has scaled them before"
        )
    return None
