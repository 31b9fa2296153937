"""A data set by whatever names it, its images in their final size."""

import dataclasses
import math
import os
import pathlib
from collections.abc import Mapping

import numpy as np

from cbam_keras.data.arrays import from_arrays
from cbam_keras.data.digits import EMBEDDED, from_embedded
from cbam_keras.data.folder import from_folder
from cbam_keras.data.preloading import decode_all, resize_all
from cbam_keras.data.records import Records
from cbam_keras.data.splitting import check_classes
from cbam_keras.data.tfds import from_tfds

# What images of different sizes are brought to, as on ImageNet.
SIDE = 224
# More is not kept decoded in memory.
DECODED_BYTES = 2 * 2**30


def find_source(name, fraction, seed, *, in_memory, **options):
    """Returns the data set that `name` stands for, whichever kind it is."""
    if not isinstance(name, str | os.PathLike | tuple | list | Mapping):
        raise TypeError(
            "`name` must be a string, a path or arrays (images, labels). "
            f"Received: name of type {type(name).__name__}"
        )
    folder = _is_folder(name)
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
                f"`{option}` is for sets of TensorFlow Datasets alone. "
                f'Received: {option}="{os.fspath(options[option])}"'
            )
    if folder:
        return from_folder(name, fraction, seed)
    if isinstance(name, str):
        return from_embedded(name, fraction, seed)
    return from_arrays(name, fraction, seed)


def _is_folder(name):
    return isinstance(name, os.PathLike) or (
        isinstance(name, str)
        and name not in EMBEDDED
        and (os.path.isdir(name) or name[:1] in (".", "~", "/", "\\"))
    )


def dataset_name(name):
    """Returns the `name` that the `ImageData` will have, without loading."""
    if _is_folder(name):
        return pathlib.Path(name).expanduser().resolve().name
    return name if isinstance(name, str) else "arrays"


def sized(source, size, augment, in_memory):
    """Returns a data set with its final size, decoded where it may be."""
    size = size or source.shape or (SIDE, SIDE)
    cropped = "random_resized_crop" in augment
    encoded = [
        split
        for split, records in source.splits.items()
        if isinstance(records, Records) and not records.decoded
    ]
    if in_memory is None:
        encoded = [s for s in encoded if s != "train" or not cropped]
        images = sum(len(source.splits[split]) for split in encoded)
        in_memory = images * math.prod(size) * source.channels <= DECODED_BYTES
    splits, skipped = dict(source.splits), list(source.skipped)
    for split, records in source.splits.items():
        if split in encoded and in_memory:
            splits[split], bad = decode_all(
                records, size, source.channels, f"Decoding {split}"
            )
            skipped += [
                os.path.relpath(item, source.root)
                if isinstance(item, str)
                else f"{split} {number}"
                for number, item in zip(bad, records.images[bad], strict=True)
            ]
        elif isinstance(records, Records) and records.decoded:
            # Random crops come from the images as they were.
            if split != "train" or not cropped:
                images = resize_all(records.images, size)
                splits[split] = dataclasses.replace(records, images=images)
    if len(skipped) > len(source.skipped):
        kept = {s: splits[s] for s in splits if isinstance(splits[s], Records)}
        check_classes(kept, source.class_names, f'name="{source.name}"')
    return dataclasses.replace(
        source, splits=splits, shape=size, skipped=tuple(skipped)
    )


def whole(source, channels_first):
    """Returns the arrays of each split."""
    arrays = {}
    for split, records in source.splits.items():
        images = records.images
        if channels_first:
            images = np.moveaxis(images, -1, 1)
        boxes = () if records.boxes is None else (records.boxes,)
        arrays[split] = (images, records.labels, *boxes)
    return arrays
