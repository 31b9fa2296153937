"""Arrays and folders of images as a data set's splits."""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from cbam_keras.data.decoding import headers
from cbam_keras.data.records import (
    SPLITS,
    Records,
    Source,
    Stream,
    check_classes,
    check_divisible,
    complete,
    digest,
)

ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")
# Of images too, but not read here.
OTHERS = (".avif", ".heic", ".jfif", ".jp2", ".tif", ".tiff")
# What folders of splits are called, beside our own names.
ALIASES = {"val": "validation", "valid": "validation"}


def from_arrays(given: Any, validation_fraction: float, seed: int) -> Source:
    """Returns arrays of images and labels as a data set."""
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
    # Before anything is made for each class.
    if classes > most:
        raise ValueError(
            "Labels must count from 0, and every split must have images of "
            f"every class. Received: the label {classes - 1} among {most} "
            "images"
        )
    splits = {
        name: Records(each.images, each.labels.astype("int32"))
        for name, each in splits.items()
    }
    names = tuple(str(label) for label in range(classes))
    check_classes(splits, names, "arrays")
    check_divisible(splits, names, "arrays")
    parts = [
        part
        for name in SPLITS
        if name in splits
        for part in (name, splits[name].images, splits[name].labels)
    ]
    divided: dict[str, Records | Stream] = {
        **complete(splits, validation_fraction, seed)
    }
    return Source(
        name="arrays",
        splits=divided,
        class_names=names,
        fingerprint=digest(*parts),
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
            "shape, and labels an array (N,). Received: what makes no arrays "
            f'for the split "{split}" ({error})'
        ) from error
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or not images.size:
        raise ValueError(
            "Images must be an array (N, H, W, C) or (N, H, W), none of them "
            f'empty. Received: shape {images.shape} for the split "{split}"'
        )
    if labels.shape not in ((len(images),), (len(images), 1)):
        raise ValueError(
            "Labels must be as many as images, (N,) or (N, 1). Received: "
            f"images {images.shape}, labels {labels.shape} for the split "
            f'"{split}"'
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
            "Labels must count from 0. Received: the label "
            f'{labels.min()} in the split "{split}"'
        )
    return Records(_levels(split, images), labels)


def _levels(split, images):
    """Returns images in [0, 255], as small integers if they are whole."""
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind not in "iuf":
        raise TypeError(
            "Images must be numbers from 0 to 255. Received: images of type "
            f'{images.dtype} for the split "{split}"'
        )
    lowest, highest = images.min(), images.max()
    # NaN fails every comparison.
    if not 0 <= lowest <= highest <= 255:
        raise ValueError(
            "Images must be numbers from 0 to 255, none of them NaN. "
            f"Received: values from {lowest} to {highest} in the split "
            f'"{split}". Undo what was done to prepare them'
        )
    if images.dtype.kind == "f" and highest <= 1:
        raise ValueError(
            "Images must be numbers from 0 to 255. Received: values from "
            f'{lowest} to {highest} in the split "{split}". Multiply them by '
            "255"
        )
    small = images.astype("uint8")
    if images.dtype.kind == "f" and (small != images).any():
        return images.astype("float32")
    return small


def from_folder(
    path: str | os.PathLike, validation_fraction: float, seed: int
) -> Source:
    """Returns a folder of class folders, or of splits of those, as paths."""
    root = pathlib.Path(path).expanduser()
    received = f'name="{path}"'
    if not root.is_dir():
        raise ValueError(
            "`name` must be a folder that exists, with a folder of images "
            f"per class. Received: {received}"
        )
    found = _find(root, received)
    class_names = tuple(
        sorted({name for split in found.values() for name in split})
    )
    for split, classes in found.items():
        _check_folders(classes, class_names, split, received)
    listed = [
        (split, class_names.index(name), file)
        for split, classes in found.items()
        for name, files in classes.items()
        for file in files
    ]
    heads = headers([str(file) for *_, file in listed], "Looking")
    names = [file.relative_to(root).as_posix() for *_, file in listed]
    splits = {split: _readable(listed, heads, split) for split in found}
    check_classes(splits, class_names, received)
    check_divisible(splits, class_names, received)
    known = [head for head in heads if head is not None]
    shapes = {head[:2] for head in known}
    divided: dict[str, Records | Stream] = {
        **complete(splits, validation_fraction, seed)
    }
    return Source(
        name=root.resolve().name,
        splits=divided,
        class_names=class_names,
        fingerprint=digest(
            [
                # A link may lead nowhere.
                (name, file.stat().st_size if file.exists() else None)
                for name, (*_, file) in zip(names, listed, strict=True)
            ]
        ),
        shape=shapes.pop() if len(shapes) == 1 else None,
        channels=1 if all(head[2] for head in known) else 3,
        skipped=(
            *(n for n, head in zip(names, heads, strict=True) if head is None),
            *_left_out(root, found),
        ),
        root=str(root),
    )


def _find(root, received):
    """Returns the image files of each class of each split."""
    splits: dict[str, pathlib.Path] = {}
    inner = _folders(root)
    called = {name: name.lower() for name in inner}
    called = {n: ALIASES.get(lower, lower) for n, lower in called.items()}
    if "train" in called.values() and {*called.values()} <= set(SPLITS):
        for name, folder in inner.items():
            split = called[name]
            if split in splits:
                raise ValueError(
                    "A folder must have one folder per split. Received: "
                    f'{received} with "{splits[split].name}" and "{name}"'
                )
            splits[split] = folder
    else:
        splits["train"] = root
    found = {}
    for split in SPLITS:
        if split in splits:
            found[split] = {
                name: sorted(
                    file
                    for file in folder.iterdir()
                    if file.suffix.lower() in ENDINGS
                    and not file.name.startswith(".")
                )
                for name, folder in _folders(splits[split]).items()
            }
    return found


def _left_out(root, found):
    """Returns the names of images that are none of those that were found."""
    taken = {
        file
        for classes in found.values()
        for files in classes.values()
        for file in files
    }
    return sorted(
        file.relative_to(root).as_posix()
        for file in root.rglob("*")
        if file.suffix.lower() in (*ENDINGS, *OTHERS)
        and file not in taken
        and not any(
            part.startswith((".", "__"))
            for part in file.relative_to(root).parts
        )
    )


def _folders(root):
    """Returns the folders in a folder that are not hidden, by name."""
    return {
        path.name: path
        for path in sorted(root.iterdir())
        if path.is_dir() and not path.name.startswith((".", "__"))
    }


def _check_folders(classes, class_names, split, received):
    if not classes:
        raise ValueError(
            "A data set must be a folder with a folder of images per class. "
            f'Received: {received}, without folders for the split "{split}"'
        )
    for name in class_names:
        if name not in classes:
            raise ValueError(
                "Every split must have a folder for every class. Received: "
                f'{received}, whose split "{split}" has no folder "{name}"'
            )
        if not classes[name]:
            raise ValueError(
                "The folder of a class must hold images, which end in "
                f"{', '.join(ENDINGS)}. Received: {received}, whose folder "
                f'"{name}" of the split "{split}" has none. Remove it, or '
                "add images"
            )


def _readable(listed, heads, split):
    kept = [
        (str(file), label)
        for (own, label, file), head in zip(listed, heads, strict=True)
        if own == split and head is not None
    ]
    files = np.empty(len(kept), object)
    files[:] = [file for file, _ in kept]
    return Records(files, np.array([label for _, label in kept], "int32"))
