"""A folder of class folders as a dataset."""

import os
import pathlib

import numpy as np

from cbam_keras.data.decoding import headers
from cbam_keras.data.records import SPLITS, Records, Source, digest
from cbam_keras.data.splitting import complete_splits

# File names of images that are read.
ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")

# File names of images that are not read, but reported.
UNREAD_ENDINGS = (".avif", ".heic", ".jfif", ".jp2", ".tif", ".tiff")

# Common names of split folders, beside our own.
SPLIT_ALIASES = {"val": "validation", "valid": "validation"}


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
    images = _find_images(root, received)
    class_names = tuple(sorted(set().union(*images.values())))
    files = [
        (split, class_names.index(name), file)
        for split, classes in images.items()
        for name, class_files in classes.items()
        for file in class_files
    ]
    heads = headers([str(file) for *_, file in files], "Reading headers")
    names = [file.relative_to(root).as_posix() for *_, file in files]
    # A link may point to no file.
    sizes = [f.stat().st_size if f.exists() else None for *_, f in files]
    known = [head for head in heads if head is not None]
    shapes = {head[:2] for head in known}
    return Source(
        name=root.resolve().name,
        splits=complete_splits(
            {split: _readable(files, heads, split) for split in images},
            class_names,
            f"{received} (a folder per class, of {', '.join(ENDINGS)} files)",
            validation_fraction,
            seed,
        ),
        class_names=class_names,
        fingerprint=digest([*zip(names, sizes, strict=True)]),
        shape=shapes.pop() if len(shapes) == 1 else None,
        channels=1 if all(head[2] for head in known) else 3,
        skipped=(
            *(n for n, head in zip(names, heads, strict=True) if head is None),
            *_unread(root, files),
        ),
        root=str(root),
    )


def _find_images(root, received):
    """Returns the image files of each class folder of each split."""
    return {
        split: {
            name: sorted(
                file
                for file in folder.iterdir()
                if file.suffix.lower() in ENDINGS
                and not file.name.startswith(".")
            )
            for name, folder in _folders(split_folder).items()
        }
        for split, split_folder in _split_folders(root, received).items()
    }


def _split_folders(root, received):
    """Returns the folder of each split. Only "train" if there are no such."""
    folders = _folders(root)
    split_of = {name: name.lower() for name in folders}
    split_of = {n: SPLIT_ALIASES.get(s, s) for n, s in split_of.items()}
    names = set(split_of.values())
    if "train" not in names or not names <= set(SPLITS):
        return {"train": root}
    found: dict[str, pathlib.Path] = {}
    for name, folder in folders.items():
        split = split_of[name]
        if split in found:
            raise ValueError(
                "A folder must have one folder per split. Received: "
                f'{received} with "{found[split].name}" and "{name}"'
            )
        found[split] = folder
    return {split: found[split] for split in SPLITS if split in found}


def _folders(root):
    """Returns the folders in a folder that are not hidden, by name."""
    return {
        path.name: path
        for path in sorted(root.iterdir())
        if path.is_dir() and not path.name.startswith((".", "__"))
    }


def _readable(files, heads, split):
    """Returns the records of a split, without unreadable images."""
    kept = [
        (str(file), label)
        for (file_split, label, file), head in zip(files, heads, strict=True)
        if file_split == split and head is not None
    ]
    return Records(
        np.array([file for file, _ in kept], object),
        np.array([label for _, label in kept], "int32"),
    )


def _unread(root, files):
    """Returns the names of images that no class folder holds."""
    read = {file for *_, file in files}
    return sorted(
        file.relative_to(root).as_posix()
        for file in root.rglob("*")
        if file.suffix.lower() in (*ENDINGS, *UNREAD_ENDINGS)
        and file not in read
        and not any(
            part.startswith((".", "__"))
            for part in file.relative_to(root).parts
        )
    )
