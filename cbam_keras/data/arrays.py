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


def from_arrays(arrays: Any, of_masks: bool = False) -> Dataset:
    """Returns arrays of images and labels, or masks, as a dataset."""
    if not isinstance(arrays, Mapping):
        # Two pairs are what Keras' `load_data` returns.
        if _is_pair(arrays) and all(
            is_batches(part) or (_is_pair(part) and np.ndim(part[0]) > 2)
            for part in arrays
        ):
            if is_batches(arrays[1]):
                raise ValueError(
                    "Two datasets must have names, as the second may be for "
                    'testing or validation: {"train": data[0], "test": data[1]}'
                    ' or {"train": data[0], "validation": data[1]}. Received: '
                    "data with 2 datasets"
                )
            arrays = dict(zip(("train", "test"), arrays, strict=True))
        else:
            arrays = {"train": arrays}
    check_names(arrays)
    pairs = {
        name: _read(arrays[name]) if is_batches(arrays[name]) else arrays[name]
        for name in SPLITS
        if name in arrays
    }
    # Keras' loaders name the classes, each in its own way.
    indices = getattr(arrays["train"], "class_indices", {})
    names = getattr(arrays["train"], "class_names", None)
    names = names or sorted(indices, key=lambda x: indices[x])
    scale = Scale.of(map(_find_range, pairs.values()))
    if scale and scale.lowest >= 0 and scale.highest <= 255:
        scale = None
    splits = {
        name: _make_examples(
            name, each, scale, is_batches(arrays[name]), of_masks
        )
        for name, each in pairs.items()
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
    """Returns whether data are batches of Keras, TensorFlow or PyTorch."""
    marks = "as_numpy_iterator", "collate_fn"
    is_foreign = any(hasattr(data, mark) for mark in marks)
    return is_foreign or isinstance(data, keras.utils.PyDataset)


def _read(batches):
    """Returns images and labels of batches as arrays, sorted by content.

    Their own order may be another one each time, but not what they hold.
    """
    try:
        parts = zip(*_iterate(batches), strict=True)
        images, labels = map(np.concatenate, parts)
        hashes = [digest(image) for image in images]
        again = [digest(x) for part, _ in _iterate(batches) for x in part]
    except (TypeError, ValueError) as error:
        raise ValueError(
            "Batches must be pairs (images, labels), as .batch(32) makes them "
            "of a tf.data.Dataset, and a finite, known number of them. "
            f"Received: {batches} ({error})"
        ) from error
    if sorted(hashes) != sorted(again):
        raise ValueError(
            "Batches must hold the same images whenever they are read. "
            f"Received: {batches}, which holds {len({*again} - {*hashes})} "
            f"other images of {len(again)} when it is read again. Leave out "
            "what changes images at random, as layers in .map, and give "
            'augment=("crop", "flip"), to data.load or in the recipe, or put '
            "random layers into the network"
        )
    if labels.ndim == 2 and labels.shape[1] > 1 and labels.dtype.kind in "iuf":
        is_binary = np.isin(labels, (0, 1)).all()
        is_one_hot = is_binary and (labels.sum(axis=1) == 1).all()
        if is_one_hot:
            labels = labels.argmax(axis=1)
    # Copies of one image may have different labels.
    order = np.lexsort(([str(label) for label in labels], hashes))
    return images[order], labels[order]


def _iterate(batches):
    """Yields the images and labels of each batch as arrays."""
    is_random_access = isinstance(batches, keras.utils.PyDataset)
    first = batches[0] if is_random_access else next(iter(batches), ((), ()))
    if problem := _find_problem_of_batch(first):
        raise ValueError(problem)
    try:
        rows = range(len(batches))
    except TypeError as error:
        raise ValueError(
            f"{str(error).rstrip('.')}: leave out .repeat(), and give an "
            "unknown length by tf.data.experimental.assert_cardinality"
        ) from error
    parts = map(batches.__getitem__, rows) if is_random_access else batches
    for images, labels in parts:
        yield np.asarray(images), np.asarray(labels)


def _find_problem_of_batch(batch):
    """Returns why a batch is no pair, and how to mend it, if it is none."""
    parts = batch if isinstance(batch, tuple | list) else [batch]
    if any(isinstance(part, Mapping) for part in parts):
        return 'dictionaries: .map(lambda x: (x["image"], x["label"]))'
    if len(parts) == 1:
        return (
            'images without labels: label_mode="int", or of an '
            'ImageDataGenerator class_mode="sparse", gives them'
        )
    if len(parts) > 2:
        return (
            "triples, with weights of images: .map(lambda x, y, w: (x, y)) "
            "leaves them out, and a recipe's class_weight= weights classes"
        )
    is_single = np.ndim(parts[1]) == 0
    return "single images: .batch(32)" if is_single else None


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


def _make_examples(split, arrays, scale, of_batches, of_masks):
    if not _is_pair(arrays):
        count = f" of {len(arrays)}" if isinstance(arrays, tuple | list) else ""
        raise TypeError(
            "`data` must be a string, a path or arrays (images, "
            f"{'masks' if of_masks else 'labels'}), "
            "without weights of images. Received: "
            f'{type(arrays).__name__}{count} for the split "{split}"'
        )
    images, labels = map(np.asarray, arrays)
    if images.ndim == 3:
        images = images[..., None]
    check = _find_problem_of_masks if of_masks else _find_problem_of_labels
    problem = _find_problem(images, scale, of_batches)
    problem = problem or check(images, labels, of_batches)
    if problem:
        expected = "an integer from 0 for the class of each, (N,) or (N, 1)"
        if of_masks:
            expected = "masks, (N, H, W) or colors (N, H, W, 3)"
        raise ValueError(
            f"{'Batches' if of_batches else 'Arrays'} must be images "
            f"(N, H, W, C) or (N, H, W) in [0, 255] and {expected}. "
            f"Received: images {images.shape} of {images.dtype} and "
            f"{'masks' if of_masks else 'labels'} "
            f'{labels.shape} of {labels.dtype} for the split "{split}": '
            f"{problem}"
        )
    if scale is not None and images.dtype != "uint8":
        images = np.stack([*map(scale.apply, images)])
    whole = images.astype("uint8", copy=False)
    if images.dtype.kind == "f" and (whole != images).any():
        whole = images.astype("float32")
    if of_masks:
        zeros = np.zeros(len(whole), "int32")
        masks = labels[..., 0] if labels.shape[3:] == (1,) else labels
        return Examples(whole, zeros, scale=scale, masks=masks)
    return Examples(whole, labels.ravel().astype("int32"), scale=scale)


def _find_problem_of_masks(images, masks, of_batches):
    """Returns what is wrong with the shape or type of masks, if anything."""
    if masks.shape[:3] != images.shape[:3]:
        return "masks have the size of their images"
    if masks.shape[3:] not in ((), (1,), (3,)):
        return "np.argmax(masks, axis=-1) gives the classes of one-hot masks"
    if masks.dtype.kind not in "iufb":
        return "masks are numbers"
    if (masks != np.round(masks)).any():
        return "masks are whole numbers, without fractions"
    return None


def _find_problem(images, scale, of_batches):
    """Returns what is wrong with images and how to mend it, if anything."""
    move = "images = np.moveaxis(images, 1, -1)"
    if of_batches:
        move = ".map(lambda x, y: (tf.transpose(x, (0, 2, 3, 1)), y))"
    if images.ndim != 4 or not images.size or images.dtype.kind not in "iuf":
        problem = "the images are empty, of another shape or no numbers"
        return f"{problem}. Paths are columns of a data frame"
    count, first, height, width = images.shape
    if first in (1, 3, 4) and height == width > 4:
        return f"{move} puts the channels last"
    lowest, highest = images.min(), images.max()
    if not np.isfinite([lowest, highest]).all():
        bad = ~np.isfinite(images).all(axis=(1, 2, 3))
        # Images of batches have been sorted.
        first = "" if of_batches else f", the first images[{bad.argmax()}]"
        return f"NaN or infinite values in {bad.sum()} images{first}"
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


def _find_problem_of_labels(images, labels, of_batches):
    """Returns what is wrong with labels and how to mend it, if anything."""
    count = len(images)
    number = "names, labels = np.unique(labels, return_inverse=True)"
    if of_batches:
        number = "keras.layers.IntegerLookup, of texts StringLookup, in .map"
    if labels.shape[:1] != (count,):
        return f"{count} images, but {labels.size} labels"
    if labels.size != count:
        one_hot = "one-hot labels become integers by np.argmax(labels, axis=-1)"
        return (
            f"{'labels are integers or one-hot' if of_batches else one_hot}; "
            'for several labels per image see "Other tasks" in the guides'
        )
    if labels.dtype.kind not in "iufb":
        return f"{number} numbers the different values"
    # Keras' loaders give whole numbers as floats, also for two classes.
    if (labels != np.round(labels)).any():
        return 'fractions: for regression see "Other tasks" in the guides'
    least, most = int(labels.min()), int(labels.max())
    if least < 0:
        return (
            f"labels from {least} to {most}, which count from 0: {number} "
            "numbers the different values"
        )
    if most >= count:
        return (
            f"labels from {least} to {most}, but {count} "
            "images: each class needs one to train, validate and test each"
        )
    return None
