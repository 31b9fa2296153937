"""`load_data`: images with boxes, from whichever source."""

import dataclasses
import os
import pathlib
from typing import Any

import numpy as np

from cbam_keras import _checks, data
from cbam_keras.detection.augmentation import check_augmentations
from cbam_keras.detection.batches import Batches
from cbam_keras.detection.coco_folder import from_coco_folder
from cbam_keras.detection.records import Records, check_labels
from cbam_keras.detection.scenes import digit_scenes
from cbam_keras.detection.tfds_objects import from_tfds

EMBEDDED = ("digit_scenes",)
# The size to which images of different sizes are resized.
SIDE = 320


@dataclasses.dataclass(frozen=True)
class DetectionData:
    """Training and test images with boxes.

    Attributes:
        name: String, the name of the dataset.
        image_shape: Tuple `(H, W, C)`.
        class_names: Tuple of strings, one per class, in label order.
        sizes: Dictionary, the number of images of `"train"` and `"test"`.
        seed: Integer, the seed that the images were loaded with.
        augment: Tuple of strings, how training images are augmented.
        train: Batches for `fit`, in a new order each epoch: images
            `(B, H, W, C)` in [0, 255], and a dictionary of `"boxes"`
            `(B, N, 4)`, as `"xyxy"` in pixels, and `"labels"` `(B, N)`, -1
            where there is no object.
        test: Batches of the test images, for `images` and `records`.
        fingerprint: String, a short hash of the dataset.
        validation: `None`: there are no validation images.
    """

    name: str
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    sizes: dict[str, int]
    seed: int
    augment: tuple[str, ...]
    train: Batches
    test: Batches
    fingerprint: str
    # Read by `training.fit`.
    validation: None = None

    def set_epoch(self, epoch: int) -> None:
        """Sets which epoch comes next, as a resumed run needs it.

        Args:
            epoch: Integer from 0.
        """
        self.train.set_epoch(epoch)

    def describe(self) -> dict[str, Any]:
        """Returns a description of the dataset, as plain JSON values."""
        return {
            "name": self.name,
            "sizes": dict(self.sizes),
            "image_shape": list(self.image_shape),
            "classes": len(self.class_names),
            "batch_size": self.train.batch_size,
            "seed": self.seed,
            "augment": list(self.augment),
            "fingerprint": self.fingerprint,
        }


def load_data(
    name: str | os.PathLike = "digit_scenes",
    *,
    batch_size: int = 16,
    image_size: int | tuple[int, int] | None = None,
    augment: str | tuple[str, ...] = (),
    seed: int = 0,
    data_dir: str | os.PathLike | None = None,
    download: bool = False,
) -> DetectionData:
    """Loads images with boxes, for detectors.

    Objects marked as difficult (VOC) or as a crowd (COCO) are not learned, and
    ignored when detections are counted. Images are resized to one size,
    without regard to their aspect ratio.

    Args:
        name: `"digit_scenes"`, 4,000 training and 500 test scenes of 64x64
            pixels with one to three digits of several sizes among fragments
            of others, from an installed package; the path of a folder with
            COCO's annotations, `annotations/instances_train.json` beside the
            folder `train`, and the same with val or test; or a dataset of
            TensorFlow Datasets with boxes, as `"voc/2007"` or `"coco/2017"`,
            whose encoded images are kept in memory. Defaults to
            `"digit_scenes"`.
        batch_size: Positive integer, images per batch. Defaults to `16`.
        image_size: Positive integer or `(H, W)`. Defaults to `None`, which
            means the size of all images, or 320 if they differ.
        augment: One or several of `"flip"` (left to right), `"translate"`
            (by up to a tenth), `"zoom"` (by up to a fifth) and `"colour"`
            (brightness and contrast), for training images; boxes move along.
            Defaults to `()`.
        seed: Integer from 0 to 2**32 - 1, of the order of images, of their
            augmentation, and of the training scenes of `"digit_scenes"`.
            Defaults to `0`.
        data_dir: Path of the folder of TensorFlow Datasets. Defaults to
            `None`, which means its own default.
        download: Boolean, whether TensorFlow Datasets may download. Defaults
            to `False`.

    Returns:
        A `DetectionData`.

    Raises:
        ValueError: If an argument is out of range; if annotations are
            incomplete, a box leaves its image or has no area, a label is of
            no class, or a split has no box.
        ImportError: If a package for the data is missing.

    Example:
        >>> loaded = load_data("digit_scenes")
        >>> images, objects = loaded.train[0]
        >>> images.shape, objects["boxes"].shape, objects["labels"].shape
        ((16, 64, 64, 1), (16, 3, 4), (16, 3))
    """
    batch_size = _checks.positive_integer("batch_size", batch_size)
    image_size = _checks.image_size("image_size", image_size)
    augment = check_augmentations(augment)
    seed = _checks.seed("seed", seed)
    _checks.boolean("download", download)
    splits, class_names, label = _find(name, seed, data_dir, download)
    for split, records in splits.items():
        check_labels(
            records, len(class_names), f'name="{name}", split "{split}"'
        )
    size = image_size or _common_size(splits)
    if isinstance(size, int):
        size = (size, size)
    images = splits["train"].images
    channels = images.shape[-1] if images.ndim == 4 else 3
    batches = {
        split: Batches(
            records,
            size,
            channels,
            batch_size,
            seed,
            augment if split == "train" else (),
        )
        for split, records in splits.items()
    }
    return DetectionData(
        name=label,
        image_shape=(*size, channels),
        class_names=class_names,
        sizes={split: len(records) for split, records in splits.items()},
        seed=seed,
        augment=augment,
        train=batches["train"],
        test=batches["test"],
        fingerprint=_fingerprint(splits, class_names),
    )


def _find(name, seed, data_dir, download):
    """Returns the splits, the classes, and what the dataset is called."""
    if not isinstance(name, str | os.PathLike):
        raise TypeError(
            "`name` must be a string or a path. Received: name of type "
            f"{type(name).__name__}"
        )
    if name in EMBEDDED:
        return *digit_scenes(seed), name
    path = pathlib.Path(name).expanduser()
    if path.is_dir() or str(name).startswith(data.PATH_STARTS):
        return *from_coco_folder(path), path.resolve().name
    found = from_tfds(
        str(name), data_dir=data_dir, download=download, embedded=EMBEDDED
    )
    return *found, str(name)


def _common_size(splits):
    sizes = np.unique(
        np.concatenate([records.sizes for records in splits.values()]), axis=0
    )
    return tuple(sizes[0].tolist()) if len(sizes) == 1 else SIDE


def _fingerprint(splits: dict[str, Records], class_names):
    parts: list[Any] = [class_names]
    for split, records in splits.items():
        parts += [split, records.sizes, np.concatenate(records.boxes)]
        parts += [np.concatenate(records.labels)]
    return data.digest(*parts)
