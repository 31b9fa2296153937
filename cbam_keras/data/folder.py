"""Arrays and folders of images as a data set's splits."""

import os
import pathlib

import numpy as np

from cbam_keras.data.preloading import headers
from cbam_keras.data.records import SPLITS, Records, Source, Stream, digest
from cbam_keras.data.splitting import check_classes, check_divisible, complete

ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")

# Of images too, but not read here.
OTHERS = (".avif", ".heic", ".jfif", ".jp2", ".tif", ".tiff")

# What folders of splits are called, beside our own names.
ALIASES = {"val": "validation", "valid": "validation"}


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
