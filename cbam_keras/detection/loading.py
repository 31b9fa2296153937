"""`load_data`: images with boxes, from whichever source."""

import dataclasses
import math
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from cbam_keras import _checks
from cbam_keras._terminal import watched
from cbam_keras.data import (
    PATH_STARTS,
    ImageData,
    Source,
    check_augmentations,
    digest,
    ensure_prepared,
    find_builder,
    headers,
    wrong_features,
)
from cbam_keras.detection.anchors import Anchors
from cbam_keras.detection.batches import (
    AUGMENTATIONS,
    Batches,
    Examples,
    table,
)
from cbam_keras.detection.folders import from_folder
from cbam_keras.detection.scenes import digit_scenes

EMBEDDED = ("digit_scenes",)
# The size to which images of different sizes are resized.
SIDE = 320
# Features of an object in TensorFlow Datasets that exclude it.
IGNORED = ("is_difficult", "is_crowd")


@dataclasses.dataclass(frozen=True)
class DetectionData(ImageData):
    """Training and test images with boxes.

    A `data.ImageData` whose `validation` is `None`, and whose `train` gives
    batches for `fit`: images `(B, H, W, C)` in [0, 255], and a dictionary of
    `"boxes"` `(B, N, 4)`, as `"xyxy"` in pixels, and `"labels"` `(B, N)`, -1
    where there is no object. `test` gives such batches of the test images.

    Attributes:
        anchors: The anchors that `compare` chooses from the training boxes;
            `None` elsewhere.
    """

    anchors: Anchors | None = None

    def describe(self) -> dict[str, object]:
        """Returns a description of the dataset, as plain JSON values."""
        described = super().describe()
        if self.anchors is not None:
            described["anchors"] = dataclasses.asdict(self.anchors)
        return described


@_checks.former_names(name="data")
def load_data(
    data: str | os.PathLike = "digit_scenes",
    *,
    batch_size: int = 16,
    image_size: int | tuple[int, int] | None = None,
    augment: str | Sequence[str] = (),
    seed: int = 0,
    data_dir: str | os.PathLike | None = None,
    download: bool = False,
) -> DetectionData:
    """Loads images with boxes, for detectors.

    Objects marked as difficult (VOC) or as a crowd (COCO) are not learned, and
    ignored when detections are counted. Images are resized to one size,
    without regard to their aspect ratio.

    Args:
        data: `"digit_scenes"`, 4,000 training and 500 test scenes of 64x64
            pixels with one to three digits of several sizes among clutter;
            the path of a folder with COCO's annotations,
            `annotations/instances_train.json` beside the folder `train`, and
            the same with val or test, or with Pascal VOC's, `JPEGImages`,
            `Annotations` and, optionally, `ImageSets/Main`, without which a
            fifth is tested on; or a dataset of TensorFlow Datasets with boxes,
            as `"voc/2007"` or `"coco/2017"`. Defaults to `"digit_scenes"`.
        batch_size: Positive integer, images per batch. Defaults to `16`.
        image_size: Positive integer or `(H, W)`. Defaults to `None`, which
            means the size of all images, or 320 if they differ.
        augment: One or several of `"flip"` (left to right), `"translate"`
            (by up to a tenth), `"zoom"` (by up to a fifth) and `"colour"`
            (brightness and contrast), for training images; boxes move along.
            Defaults to `()`.
        seed: Integer from 0, of the order of images, of their augmentation,
            and of the training scenes of `"digit_scenes"`. Defaults to `0`.
        data_dir: Path of the folder of TensorFlow Datasets. Defaults to
            `None`, which means its default folder.
        download: Boolean, whether to download and prepare a dataset of
            TensorFlow Datasets if necessary. Defaults to `False`.

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
    augment = check_augmentations(augment, AUGMENTATIONS)
    seed = _checks.seed("seed", seed)
    _checks.boolean("download", download)
    label = Source(data).name
    path = pathlib.Path(data).expanduser()
    if data in EMBEDDED:
        splits, class_names = digit_scenes(seed)
    elif path.is_dir() or str(data).startswith(PATH_STARTS):
        splits, class_names = from_folder(path)
    else:
        splits, class_names = _from_tfds(label, data_dir, download)
    content: list[object] = [class_names]
    for split, examples in splits.items():
        objects, labels = examples.objects, examples.learned["label"]
        content += [split, examples.sizes, objects["box"], objects["label"]]
        content += examples.contents
        if not len(labels) or labels.min() < 0:
            raise ValueError(
                "A split must have at least one box that is not of a crowd or "
                "difficult (an image may have none), and labels from 0. "
                f'Received: data="{data}", split "{split}" with the labels '
                f"{np.unique(labels).tolist()}"
            )
    seen = {
        split: [class_names[i] for i in np.unique(each.learned["label"])]
        for split, each in splits.items()
    }
    if not set.intersection(*map(set, seen.values())):
        raise ValueError(
            "The images to train and to test with must have a class in "
            f'common. Received: data="{data}" with objects of {seen}. Split '
            "the images again"
        )
    if image_size is None:
        sizes = np.concatenate([each.sizes for each in splits.values()])
        is_same = (sizes == sizes[0]).all()
        image_size = tuple(sizes[0].tolist()) if is_same else SIDE
    images = splits["train"].images
    sides = _checks.height_and_width(image_size)
    shape = (*sides, images.shape[-1] if images.ndim == 4 else 3)
    train = Batches(splits["train"], shape, batch_size, seed, augment)
    return DetectionData(
        name=label,
        image_shape=shape,
        class_names=class_names,
        sizes={split: len(examples) for split, examples in splits.items()},
        batch_size=train.batch_size,
        seed=seed,
        boxes=True,
        train=train,
        validation=None,
        test=Batches(splits["test"], shape, batch_size, seed),
        augment=augment,
        fingerprint=digest(*content),
    )


def _from_tfds(name, data_dir, download):
    """Returns the splits of a dataset of TensorFlow Datasets, and its classes.

    If the test images have boxes, the validation images are used for
    training, as is common for VOC; otherwise for testing, as for COCO.
    """
    builder = find_builder(name, EMBEDDED, data_dir)
    features = dict(builder.info.features.items())
    described = getattr(features.get("objects"), "feature", ())
    if not (
        "image" in features and "bbox" in described and "label" in described
    ):
        needed = '"image" and "objects" with "bbox" and "label"'
        raise wrong_features(name, needed, features)
    ensure_prepared(name, builder, download)
    available = builder.info.splits
    trained = [split for split in ("train", "validation") if split in available]
    tested = [split for split in available if split == "test"]
    test = _tfds_examples(builder, tested)
    if not len(test.objects):
        test = _tfds_examples(builder, trained[1:])
        trained = trained[:1]
    classes = described["label"].names
    splits = {"train": _tfds_examples(builder, trained), "test": test}
    return splits, tuple(map(str, classes))


def _tfds_examples(builder, splits):
    """Returns the images of one or several splits."""
    tfds = _checks.require("tensorflow_datasets", extra="data")
    images = []
    objects = [table(0, [], np.zeros((0, 4)))]
    for split in splits:
        examples = builder.as_dataset(
            split=split,
            decoders={"image": tfds.decode.SkipDecoding()},
            read_config=tfds.ReadConfig(try_autocache=False),
        ).as_numpy_iterator()
        total = builder.info.splits[split].num_examples
        for example in watched(examples, total, f"Reading {split}"):
            truth = example["objects"]
            top, left, bottom, right = truth["bbox"].reshape(-1, 4).T
            boxes = np.stack([left, top, right, bottom], axis=1)
            ignored = np.zeros(len(boxes), bool)
            for key in IGNORED:
                ignored |= truth.get(key, False)
            area = truth.get("area", math.nan)
            rows = table(len(images), truth["label"], boxes, ~ignored, area)
            # Some annotations of COCO have no area.
            objects.append(rows[(bottom > top) & (right > left)])
            images.append(example["image"])
    heads = headers(images, "Reading headers")
    if None in heads:
        raise ValueError(
            "The images of a dataset must be complete. Received: "
            f'"{builder.name}" in {builder.data_dir}, {heads.count(None)} of '
            "whose images cannot be read. Prepare it again"
        )
    sizes = np.array([head[:2] for head in heads], "int32").reshape(-1, 2)
    return Examples(
        np.array(images, object),
        sizes,
        np.concatenate(objects),
        [head.content for head in heads],
    )
