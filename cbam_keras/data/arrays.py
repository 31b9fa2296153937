"""Images given as arrays."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from cbam_keras.data.records import SPLITS, Records, Source, Stream, digest
from cbam_keras.data.splitting import (
    add_missing_splits,
    check_classes,
    check_enough_to_split,
)


def from_arrays(given: Any, validation_fraction: float, seed: int) -> Source:
    """Returns arrays of images and labels as a dataset."""
    if not isinstance(given, Mapping):
        given = {"train": given}
    unknown = [name for name in given if name not in SPLITS]
    if unknown or "train" not in given:
        raise ValueError(
            'The splits of `name` must be "train" and, if given, '
            '"validation" and "test". Received: name with the keys '
            f"{list(given)}"
        )
    splits = {name: _records(name, given[name]) for name in given}
    shape = splits["train"].images.shape[1:]
    for split, records in splits.items():
        if records.images.shape[1:] != shape:
            raise ValueError(
                "The images of all splits must have one shape. Received: "
                f'"train" with {shape}, "{split}" with '
                f"{records.images.shape[1:]}"
            )
    classes = 1 + max(int(each.labels.max()) for each in splits.values())
    most = max(map(len, splits.values()))
    # Checked before memory is taken for each class.
    if classes > most:
        raise ValueError(
            "Labels must be integers from 0 to one below the number of "
            "classes, and every split must have images of every class. "
            f"Received: the label {classes - 1} among {most} images"
        )
    splits = {
        name: Records(each.images, each.labels.astype("int32"))
        for name, each in splits.items()
    }
    names = tuple(str(label) for label in range(classes))
    check_classes(splits, names, "arrays")
    check_enough_to_split(splits, names, "arrays")
    hashed = [
        item
        for name in SPLITS
        if name in splits
        for item in (name, splits[name].images, splits[name].labels)
    ]
    all_splits: dict[str, Records | Stream] = {
        **add_missing_splits(splits, validation_fraction, seed)
    }
    return Source(
        name="arrays",
        splits=all_splits,
        class_names=names,
        fingerprint=digest(*hashed),
        shape=shape[:2],
        channels=shape[2],
    )


def _records(split, given):
    """Returns `(images, labels)` of a split, checked."""
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise TypeError(
            "Arrays must come as (images, labels). Received: "
            f'{type(given).__name__} for the split "{split}"'
        )
    try:
        images, labels = (np.asarray(array) for array in given)
    except ValueError as error:
        raise ValueError(
            "Images must be an array (N, H, W, C) or (N, H, W), all of one "
            "shape, and labels an array (N,). Received: lists that make no "
            f'arrays for the split "{split}" ({error})'
        ) from error
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or not images.size:
        raise ValueError(
            "Images must be an array (N, H, W, C) or (N, H, W) and not "
            f'empty. Received: shape {images.shape} for the split "{split}"'
        )
    if labels.shape not in ((len(images),), (len(images), 1)):
        raise ValueError(
            "Labels must be of shape (N,) or (N, 1), one class per image. "
            f"Received: images {images.shape}, labels {labels.shape} for the "
            f'split "{split}". One-hot labels become integers by '
            "np.argmax(labels, axis=-1). For several labels per image, give "
            "images and labels to Keras' own `fit`, see "
            "docs/guides/other-tasks.md"
        )
    labels = labels.reshape(-1)
    if labels.dtype.kind not in "iu":
        raise TypeError(
            "Labels must be integers. Received: labels of type "
            f'{labels.dtype} for the split "{split}". One-hot labels become '
            "integers by np.argmax(labels, axis=-1)"
        )
    if labels.min() < 0:
        raise ValueError(
            "Labels must be integers from 0. Received: the label "
            f'{labels.min()} in the split "{split}"'
        )
    return Records(_as_bytes(split, images), labels)


def _as_bytes(split, images):
    """Returns images as uint8, or as float32 if they hold fractions."""
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind not in "iuf":
        raise TypeError(
            "Images must be numbers in [0, 255]. Received: images of dtype "
            f'{images.dtype} for the split "{split}"'
        )
    lowest, highest = images.min(), images.max()
    # NaN fails every comparison, so it is refused too.
    if not 0 <= lowest <= highest <= 255:
        raise ValueError(
            "Images must be finite numbers in [0, 255]. "
            f"Received: values from {lowest} to {highest} in the split "
            f'"{split}". Leave out what has scaled them before'
        )
    if images.dtype.kind == "f" and highest <= 1:
        raise ValueError(
            "Images must be numbers in [0, 255]. Received: values from "
            f'{lowest} to {highest} in the split "{split}". Multiply them by '
            "255"
        )
    whole = images.astype("uint8")
    if images.dtype.kind == "f" and (whole != images).any():
        return images.astype("float32")
    return whole
