"""`load_data`: images with boxes, from whichever source."""

import dataclasses
import os
import pathlib
from typing import Any

import numpy as np

from cbam_keras import _checks, data
from cbam_keras.detection.batches import AUGMENTATIONS, Batches
from cbam_keras.detection.sources import (
    digit_scenes,
    from_coco_folder,
    from_tfds,
)

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
        anchors: The anchors that `compare` chooses from the training boxes;
            `None` elsewhere.
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
    anchors: Any = None
    # Read by the engine.
    validation: None = None

    @property
    def batch_size(self) -> int:
        """Images per batch."""
        return self.train.batch_size

    def set_epoch(self, epoch: int) -> None:
        """Sets which epoch comes next, as a resumed run needs it."""
        self.train.set_epoch(epoch)

    def describe(self) -> dict[str, Any]:
        """Returns a description of the dataset, as plain JSON values."""
        anchors = self.anchors and {"anchors": dataclasses.asdict(self.anchors)}
        return data.describe(self) | (anchors or {})


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
        seed: Integer from 0 to `2**32 - 1`, of the order of images, of their
            augmentation, and of the training scenes of `"digit_scenes"`.
            Defaults to `0`.
        data_dir: Path of the folder of TensorFlow Datasets. Defaults to
            `None`, which means its own default.
        download: Boolean, whether TensorFlow Datasets may download. Defaults
            to `False`.

    Returns:
        A `DetectionData`.

    Raises:
        ValueError: If an argument is out of range, if annotations are
            incomplete or a box is not in its image, or if a split has no box.
        ImportError: If a package for the data is missing.

    Example:
        >>> loaded = load_data("digit_scenes")
        >>> images, objects = loaded.train[0]
        >>> images.shape, objects["boxes"].shape, objects["labels"].shape
        ((16, 64, 64, 1), (16, 3, 4), (16, 3))
    """
    batch_size = _checks.positive_integer("batch_size", batch_size)
    image_size = _checks.image_size("image_size", image_size)
    if augment:
        chosen = _checks.subset("augment", augment, AUGMENTATIONS)
        augment = tuple(name for name in AUGMENTATIONS if name in chosen)
    seed = _checks.seed("seed", seed)
    _checks.boolean("download", download)
    label = data.dataset_name(name)
    path = pathlib.Path(name).expanduser()
    if name in EMBEDDED:
        splits, class_names = digit_scenes(seed)
    elif path.is_dir() or str(name).startswith(data.PATH_STARTS):
        splits, class_names = from_coco_folder(path)
    else:
        splits, class_names = from_tfds(
            label, data_dir=data_dir, download=download, embedded=EMBEDDED
        )
    for split, records in splits.items():
        labels = records.learned["label"]
        if not len(labels) or labels.min() < 0:
            raise ValueError(
                "A split must have at least one box that is not of a crowd or "
                "difficult (an image may have none), and labels from 0. "
                f'Received: name="{name}", split "{split}" with the labels '
                f"{np.unique(labels).tolist()}"
            )
    sizes = np.concatenate([records.sizes for records in splits.values()])
    if image_size is None:
        image_size = SIDE
        if (sizes == sizes[0]).all():
            image_size = tuple(sizes[0].tolist())
    if isinstance(image_size, int):
        image_size = image_size, image_size
    images = splits["train"].images
    shape = (*image_size, images.shape[-1] if images.ndim == 4 else 3)
    content: list[Any] = [class_names]
    for split, records in splits.items():
        objects = records.objects
        content += [split, records.sizes, objects["box"], objects["label"]]
    return DetectionData(
        name=label,
        image_shape=shape,
        class_names=class_names,
        sizes={split: len(records) for split, records in splits.items()},
        seed=seed,
        augment=tuple(augment),
        train=Batches(splits["train"], shape, batch_size, seed, tuple(augment)),
        test=Batches(splits["test"], shape, batch_size, seed),
        fingerprint=data.digest(*content),
    )
