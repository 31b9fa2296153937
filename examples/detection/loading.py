"""`load`: images with boxes, from folders, TensorFlow Datasets or scenes."""

import dataclasses
import os
import pathlib

import numpy as np

from cbam_keras import _checks, data
from cbam_keras._terminal import watched
from cbam_keras.recipes import Recipe
from examples.detection.folders import from_folder
from examples.detection.pictures import AUGMENTATIONS, Batches, Object, Picture
from examples.detection.scenes import digit_scenes

EMBEDDED = ("digit_scenes",)
# Images of different sizes are resized to squares of this side.
SIDE = 320
# TensorFlow Datasets marks objects that are ignored by one of these.
IGNORED = ("is_difficult", "is_crowd")


@dataclasses.dataclass(frozen=True)
class DetectionData:
    """Training and test images with boxes, as `study.Task` asks for them."""

    name: str
    class_names: tuple[str, ...]
    image_shape: tuple[int, ...]
    batch_size: int
    sizes: dict[str, int]
    train: Batches
    test: Batches
    # A hash by which a resumed run notices other images or boxes.
    fingerprint: str
    validation: None = None

    def set_epoch(self, epoch: int) -> None:
        self.train.set_epoch(epoch)

    def describe(self) -> dict[str, object]:
        shape = list(self.image_shape)
        return {"image_shape": shape, "fingerprint": self.fingerprint}


def load(
    source: str | os.PathLike,
    recipe: Recipe,
    *,
    data_dir: str | os.PathLike | None = None,
    download: bool = False,
) -> DetectionData:
    """Loads images with boxes.

    `source` is `"digit_scenes"` (4,000 training and 500 test scenes of 64 x 64
    pixels with one to three digits among clutter), a folder in COCO's or VOC's
    layout, or a dataset of TensorFlow Datasets with boxes. The `augment` of the
    recipe holds names of `AUGMENTATIONS`; its `image_size` is by default the
    size of all images, or 320 if they differ. Raises a `ValueError` that names
    an annotation that is incomplete, or a box that is not in its image.
    """
    if recipe.augment:
        _checks.subset("augment", recipe.augment, AUGMENTATIONS)
    augment = tuple(x for x in AUGMENTATIONS if x in recipe.augment)
    path = pathlib.Path(source).expanduser()
    if source in EMBEDDED:
        splits, class_names = digit_scenes(recipe.seed)
    elif path.is_dir() or str(source).startswith(data.PATH_STARTS):
        splits, class_names = from_folder(path)
    else:
        splits, class_names = _from_tfds(str(source), data_dir, download)
    _check_classes(source, splits, class_names)
    shape = _image_shape(splits, recipe.image_size)
    train, test = (
        Batches(splits[name], shape, recipe.batch_size, recipe.seed, steps)
        for name, steps in (("train", augment), ("test", ()))
    )
    content: list[object] = [class_names]
    for pictures in splits.values():
        for picture in pictures:
            content += [picture.size, picture.objects, picture.content]
    return DetectionData(
        name=name_of(source),
        class_names=class_names,
        image_shape=shape,
        batch_size=train.batch_size,
        sizes={name: len(pictures) for name, pictures in splits.items()},
        train=train,
        test=test,
        fingerprint=data.digest(*content),
    )


def name_of(source: str | os.PathLike) -> str:
    """Returns what a source is called, without loading it."""
    path = pathlib.Path(source).expanduser()
    return path.resolve().name if path.is_dir() else str(source)


def _image_shape(splits, image_size):
    """Returns the shape to which images are resized."""
    if image_size is None:
        sizes = {x.size for pictures in splits.values() for x in pictures}
        image_size = sizes.pop() if len(sizes) == 1 else SIDE
    image = splits["train"][0].image
    channels = image.shape[-1] if isinstance(image, np.ndarray) else 3
    return (*_checks.height_and_width(image_size), channels)


def _check_classes(source, splits, class_names):
    """Raises unless both splits have objects, of one class at least."""
    classes = {}
    for name, pictures in splits.items():
        objects = [x for picture in pictures for x in picture.objects]
        labels = sorted({x.label for x in objects if x.confidence > 0})
        if not labels or labels[0] < 0:
            raise ValueError(
                "A split must have at least one box that is not of a crowd or "
                "difficult (an image may have none), and labels from 0. "
                f'Received: data="{source}", split "{name}" with the labels '
                f"{labels}"
            )
        classes[name] = [class_names[label] for label in labels]
    if not set.intersection(*map(set, classes.values())):
        raise ValueError(
            "The images to train and to test with must have a class in "
            f'common. Received: data="{source}" with objects of {classes}. '
            "Split the images again"
        )


def _from_tfds(name, data_dir, download):
    """Returns the images of each split of a dataset, and its classes.

    If the test images have boxes, the validation images are used for
    training, as is common for VOC; otherwise for testing, as for COCO.
    """
    builder = data.find_builder(name, EMBEDDED, data_dir)
    features = dict(builder.info.features.items())
    inner = getattr(features.get("objects"), "feature", ())
    if not ("image" in features and "bbox" in inner and "label" in inner):
        needed = '"image" and "objects" with "bbox" and "label"'
        raise data.wrong_features(name, needed, features)
    data.ensure_prepared(name, builder, download)
    pictures = {
        split: _read_tfds(builder, split)
        for split in ("train", "validation", "test")
        if split in builder.info.splits
    }
    train, test = pictures["train"], pictures.get("test", [])
    validation = pictures.get("validation", [])
    if any(picture.objects for picture in test):
        train = train + validation
    else:
        test = validation
    names = tuple(map(str, inner["label"].names))
    return {"train": train, "test": test}, names


def _read_tfds(builder, split):
    """Returns the images of a split."""
    tfds = _checks.require("tensorflow_datasets", extra="data")
    examples = builder.as_dataset(
        split=split,
        decoders={"image": tfds.decode.SkipDecoding()},
        read_config=tfds.ReadConfig(try_autocache=False),
    ).as_numpy_iterator()
    total = builder.info.splits[split].num_examples
    read = [*watched(examples, total, f"Reading {split}")]
    heads = data.headers([x["image"] for x in read], "Reading headers")
    if None in heads:
        raise ValueError(
            "The images of a dataset must be complete. Received: "
            f'"{builder.name}" in {builder.data_dir}, {heads.count(None)} of '
            "whose images cannot be read. Prepare it again"
        )
    pictures = []
    for example, head in zip(read, heads, strict=True):
        truth, objects = example["objects"], []
        scale = [head.height, head.width] * 2
        for row, box in enumerate(truth["bbox"].reshape(-1, 4) * scale):
            top, left, bottom, right = box.tolist()
            is_ignored = any(truth[x][row] for x in IGNORED if x in truth)
            # Some annotations of COCO have no area.
            if top < bottom and left < right:
                label, corners = (
                    int(truth["label"][row]),
                    (left, top, right, bottom),
                )
                objects.append(
                    Object(label, corners, 0.0 if is_ignored else 1.0)
                )
        size = head.height, head.width
        pictures.append(Picture(example["image"], size, objects, head.content))
    return pictures
