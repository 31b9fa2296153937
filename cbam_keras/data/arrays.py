"""Images given as arrays."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from cbam_keras.data.records import SPLITS, Records, Source, digest
from cbam_keras.data.splitting import complete_splits


def from_arrays(arrays: Any, validation_fraction: float, seed: int) -> Source:
    """Returns arrays of images and labels as a dataset."""
    if not isinstance(arrays, Mapping):
        arrays = {"train": arrays}
    if "train" not in arrays or not set(arrays) <= set(SPLITS):
        raise ValueError(
            'The splits of `name` must be "train" and, if given, '
            '"validation" and "test". Received: name with the keys '
            f"{list(arrays)}"
        )
    splits = {
        name: _records(name, arrays[name]) for name in SPLITS if name in arrays
    }
    shape = splits["train"].images.shape[1:]
    for split, records in splits.items():
        if records.images.shape[1:] != shape:
            raise ValueError(
                "The images of all splits must have one shape. Received: "
                f'"train" with {shape}, "{split}" with '
                f"{records.images.shape[1:]}"
            )
    num_classes = 1 + max(int(each.labels.max()) for each in splits.values())
    most = max(map(len, splits.values()))
    # Checked before memory is taken for each class.
    if num_classes > most:
        raise ValueError(
            "Labels must be integers from 0 to one below the number of "
            "classes, and every split must have images of every class. "
            f"Received: the label {num_classes - 1} among {most} images"
        )
    splits = {
        name: Records(each.images, each.labels.astype("int32"))
        for name, each in splits.items()
    }
    class_names = tuple(str(label) for label in range(num_classes))
    hashed = [
        item
        for name, each in splits.items()
        for item in (name, each.images, each.labels)
    ]
    return Source(
        name="arrays",
        splits=complete_splits(
            splits, class_names, "arrays", validation_fraction, seed
        ),
        class_names=class_names,
        fingerprint=digest(*hashed),
        shape=shape[:2],
        channels=shape[2],
    )


def _records(split, arrays):
    """Returns `(images, labels)` of a split, checked."""
    if not isinstance(arrays, tuple | list) or len(arrays) != 2:
        raise TypeError(
            "Arrays must come as (images, labels). Received: "
            f'{type(arrays).__name__} for the split "{split}"'
        )
    try:
        images, labels = (np.asarray(array) for array in arrays)
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
    is_scaled = images.dtype.kind == "f" and highest <= 1
    # NaN fails every comparison, so it is refused too.
    if is_scaled or not 0 <= lowest <= highest <= 255:
        raise ValueError(
            "Images must be finite numbers in [0, 255]. Received: values from "
            f'{lowest} to {highest} in the split "{split}". Multiply them by '
            "255, or leave out what has scaled them before"
        )
    whole = images.astype("uint8")
    if images.dtype.kind == "f" and (whole != images).any():
        return images.astype("float32")
    return whole
