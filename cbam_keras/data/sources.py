"""Finds the source that the name of a dataset stands for."""

import os
import pathlib
from collections.abc import Mapping

from cbam_keras import _checks
from cbam_keras.data.arrays import from_arrays
from cbam_keras.data.digits import EMBEDDED, from_embedded
from cbam_keras.data.folder import from_folder
from cbam_keras.data.tfds import from_tfds, is_tfds_name

# What paths begin with, and names of datasets never.
PATH_STARTS = (".", "~", "/", "\\")


def find_source(name, fraction, seed, *, in_memory, **options):
    """Returns the dataset that `name` stands for, from whichever source."""
    if not isinstance(name, str | os.PathLike | tuple | list | Mapping):
        raise TypeError(
            "`name` must be a string, a path or arrays (images, labels). "
            f"Received: name of type {type(name).__name__}"
        )
    is_folder = _is_folder(name)
    # A plain word may also be the name of a dataset.
    is_word = isinstance(name, str) and not name.startswith(PATH_STARTS)
    if is_folder and is_word and options["data_dir"] is not None:
        is_folder = False
    if isinstance(name, str) and name not in EMBEDDED and not is_folder:
        return from_tfds(
            name,
            fraction,
            seed,
            in_memory=in_memory,
            embedded=tuple(EMBEDDED),
            **options,
        )
    for option in ("data_dir", "manual_dir"):
        if options[option] is not None:
            raise ValueError(
                f"`{option}` is only for datasets of TensorFlow Datasets. "
                f'Received: {option}="{os.fspath(options[option])}"'
            )
    if is_folder and is_word and is_tfds_name(name):
        _checks.warn(
            f'"{name}" is a folder here and a dataset of TensorFlow '
            f'Datasets; the folder is read. Write "./{name}" for the '
            "folder, or give data_dir= (--data-dir) for the dataset"
        )
    if is_folder:
        return from_folder(name, fraction, seed)
    if isinstance(name, str):
        return from_embedded(name, fraction, seed)
    return from_arrays(name, fraction, seed)


def _is_folder(name):
    return isinstance(name, os.PathLike) or (
        isinstance(name, str)
        and name not in EMBEDDED
        and (os.path.isdir(name) or name.startswith(PATH_STARTS))
    )


def dataset_name(name):
    """Returns the `name` that the `ImageData` will have, without loading."""
    if _is_folder(name):
        return pathlib.Path(name).expanduser().resolve().name
    return name if isinstance(name, str) else "arrays"
