"""Finds the source of a dataset and loads its images at their final size."""

import dataclasses
import math
import os
import pathlib
from collections.abc import Mapping

import numpy as np

from cbam_keras import _checks
from cbam_keras.data.arrays import from_arrays
from cbam_keras.data.digits import EMBEDDED, from_embedded
from cbam_keras.data.folder import from_folder
from cbam_keras.data.preloading import decode_all, resize_all
from cbam_keras.data.records import Records
from cbam_keras.data.splitting import check_classes
from cbam_keras.data.tfds import from_tfds, is_tfds_name

# The size to which images of different sizes are resized, as on ImageNet.
SIDE = 224
# What paths begin with, and names of datasets never.
PATH_STARTS = (".", "~", "/", "\\")
# Images of more bytes are not kept decoded in memory.
DECODED_BYTES = 2 * 2**30


def find_source(name, fraction, seed, *, in_memory, **options):
    """Returns the dataset that `name` stands for, from whichever source."""
    if not isinstance(name, str | os.PathLike | tuple | list | Mapping):
        raise TypeError(
            "`name` must be a string, a path or arrays (images, labels). "
            f"Received: name of type {type(name).__name__}"
        )
    folder = _is_folder(name)
    if options["data_dir"] is not None and _may_be_either(name):
        folder = False
    if isinstance(name, str) and name not in EMBEDDED and not folder:
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
    if folder:
        if _may_be_either(name) and is_tfds_name(name):
            _checks.warn(
                f'"{name}" is a folder here and a dataset of TensorFlow '
                f'Datasets; the folder is read. Write "./{name}" for the '
                "folder, or give data_dir= (--data-dir) for the dataset"
            )
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


def _may_be_either(name):
    """Returns whether `name` may be a dataset's although a folder has it."""
    return isinstance(name, str) and not name.startswith(PATH_STARTS)


def dataset_name(name):
    """Returns the `name` that the `ImageData` will have, without loading."""
    if _is_folder(name):
        return pathlib.Path(name).expanduser().resolve().name
    return name if isinstance(name, str) else "arrays"


def resized(source, size, augment, in_memory):
    """Returns a dataset with images of one size, decoded if they may be.

    Training images for random resized crops stay as they are, unless files
    are to be decoded with `in_memory=True`.
    """
    size = size or source.shape or (SIDE, SIDE)
    random_crop = "random_resized_crop" in augment
    encoded = [
        split
        for split, records in source.splits.items()
        if isinstance(records, Records) and not records.decoded
    ]
    if in_memory is None:
        if random_crop:
            encoded = [split for split in encoded if split != "train"]
        images = sum(len(source.splits[split]) for split in encoded)
        in_memory = images * math.prod(size) * source.channels <= DECODED_BYTES
    splits, skipped = dict(source.splits), []
    for split, records in source.splits.items():
        if split in encoded and in_memory:
            splits[split], bad = decode_all(
                records, size, source.channels, f"Decoding {split}"
            )
            skipped += _names(source, split, bad)
        elif isinstance(records, Records) and records.decoded:
            if split != "train" or not random_crop:
                images = resize_all(records.images, size)
                splits[split] = dataclasses.replace(records, images=images)
    if skipped:
        kept = {s: splits[s] for s in splits if isinstance(splits[s], Records)}
        check_classes(kept, source.class_names, f'name="{source.name}"')
    return dataclasses.replace(
        source,
        splits=splits,
        shape=size,
        skipped=(*source.skipped, *skipped),
    )


def _names(source, split, indices):
    """Returns images by their paths in the folder, or by their numbers."""
    return [
        os.path.relpath(item, source.root)
        if isinstance(item, str)
        else f"{split} {index}"
        for index, item in zip(
            indices, source.splits[split].images[indices], strict=True
        )
    ]


def as_arrays(source, channels_first):
    """Returns the arrays of each split: images, labels and boxes, if any."""
    arrays = {}
    for split, records in source.splits.items():
        images = records.images
        if channels_first:
            images = np.moveaxis(images, -1, 1)
        boxes = () if records.boxes is None else (records.boxes,)
        arrays[split] = (images, records.labels, *boxes)
    return arrays
