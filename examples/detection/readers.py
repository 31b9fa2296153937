"""Pictures of COCO's and VOC's folders and of TensorFlow Datasets.

Each reader returns the pictures of the splits "train" and "test", and the names
of the classes. All make them by `_make_pictures`, which checks every box.
"""

import json
import os
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cbam_keras import _checks, data
from examples.detection.pictures import Picture

Splits = dict[str, list[Picture]]
# A folder with such files has the layout.
COCO, VOC = "annotations/instances_*.json", "Annotations/*.xml"
# TensorFlow Datasets marks objects that are ignored by one of these.
IGNORED = ("is_difficult", "is_crowd")
# Annotations round coordinates, by up to so many pixels.
TOLERANCE = 1.0


class Annotation(NamedTuple):
    """An annotated object, not checked yet."""

    class_name: str
    # Left, top, right and bottom.
    box: np.ndarray
    is_ignored: bool


def read_folder(path: pathlib.Path) -> tuple[Splits, tuple[str, ...]]:
    """Reads a folder in COCO's or VOC's layout, or a folder around one."""
    for folder in (path, *sorted(path.glob("*"))):
        if any(folder.glob(COCO)):
            return _read_coco(folder)
        if any(folder.glob(VOC)):
            return _read_voc(folder)
    raise ValueError(
        f"A folder of images with boxes must be as COCO's, with {COCO}, or as "
        f'VOC\'s, with {VOC}. Received: data="{path}" with neither'
    )


def _read_coco(folder):
    train = sorted(folder.glob("annotations/instances_train*.json"))
    test = sorted(folder.glob("annotations/instances_test*.json"))
    test = test or sorted(folder.glob("annotations/instances_val*.json"))
    if len(train) != 1 or len(test) != 1:
        files = [file.name for file in (*train, *test)]
        raise ValueError(
            "A folder in COCO's layout must hold one annotations/"
            "instances_train.json beside a folder train/, and the same with "
            "val or test (COCO's own train2017 and val2017 count too). "
            f'Received: data="{folder}" with {files}'
        )
    class_names, pictures = _read_coco_file(train[0])
    _, tested = _read_coco_file(test[0], class_names)
    return {"train": pictures, "test": tested}, class_names


def _read_coco_file(file, class_names=()):
    """Returns the classes, its own by default, and the pictures of a file."""
    folder = file.parents[1] / file.stem.removeprefix("instances_")
    try:
        # The reader of pycocotools prints, and needs ids of annotations.
        content = json.loads(file.read_bytes())
        names = {entry["id"]: entry["name"] for entry in content["categories"]}
        images = content["images"]
        paths = [str(folder / entry["file_name"]) for entry in images]
        annotations = {entry["id"]: [] for entry in images}
        for entry in content["annotations"]:
            category = entry["category_id"]
            left, top, width, height = _numbers(entry["bbox"])
            annotation = Annotation(
                names.get(category, f"category_id {category}"),
                np.array([left, top, left + width, top + height]),
                bool(entry.get("iscrowd")),
            )
            annotations[entry["image_id"]].append(annotation)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            "Annotations must be COCO's JSON, with images (id, file_name), "
            "annotations of these (image_id, category_id, bbox) and categories "
            f'(id, name). Received: "{file}" ({type(error).__name__}: {error})'
        ) from error
    class_names = class_names or tuple(names[key] for key in sorted(names))
    pictures = _make_pictures(paths, annotations.values(), class_names, file)
    return class_names, pictures


def _read_voc(folder):
    images = folder / "JPEGImages"
    paths = {path.stem: path for path in data.find_image_files(images)}
    splits = _voc_splits(folder)
    annotations = {
        name: _voc_annotations(folder / "Annotations" / f"{name}.xml")
        for name in (*splits["train"], *splits["test"])
    }
    objects = [x for in_image in annotations.values() for x in in_image]
    class_names = tuple(sorted({x.class_name for x in objects}))
    pictures = {
        split: _make_pictures(
            [str(paths.get(name, images / name)) for name in names],
            [annotations[name] for name in names],
            class_names,
            folder / "Annotations",
        )
        for split, names in splits.items()
    }
    return pictures, class_names


def _voc_splits(folder):
    """Returns the names of the images of each split.

    If there is a list of test images, those of `val` are used for training, as
    is common for VOC; otherwise for testing. Without either, a fifth of the
    images is tested on, the same for each seed.
    """
    lists = {}
    for split in ("train", "val", "trainval", "test"):
        file = folder / "ImageSets" / "Main" / f"{split}.txt"
        text = file.read_text(encoding="utf-8-sig") if file.exists() else ""
        names = dict.fromkeys(line.strip() for line in text.splitlines())
        lists[split] = [name for name in names if name]
    train, test = lists["train"], lists["val"]
    trainval = lists["trainval"] or train + test
    if lists["test"]:
        train, test = trainval, lists["test"]
    elif not test:
        names = trainval or sorted(path.stem for path in folder.glob(VOC))
        rows = data.stratify(np.zeros(len(names)), None, seed=0)
        train, test = ([names[i] for i in rows[x]] for x in ("train", "test"))
    both = sorted({*train} & {*test})
    if both or not train or not test:
        raise ValueError(
            "A folder in VOC's layout must have images to train and others to "
            f'test. Received: data="{folder}" with {len(train)} and '
            f"{len(test)} images, {len(both)} of both: "
            f"{_checks.first_few(both)}. Correct the lists in ImageSets/Main, "
            "or delete them for a split at random"
        )
    return {"train": train, "test": test}


def _voc_annotations(file):
    """Returns the objects that an XML file describes."""
    tree = _checks.require("defusedxml.ElementTree", extra="detect")
    try:
        nodes = tree.parse(file).getroot().findall("object")
    # The parser raises a `SyntaxError`, or a `ValueError` for entities.
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(
            f'An image must have VOC\'s XML. Received: "{file}" ({error})'
        ) from error
    annotations = []
    for node in nodes:
        corners = [
            node.findtext(f"bndbox/{corner}")
            for corner in ("xmin", "ymin", "xmax", "ymax")
        ]
        difficult = node.findtext("difficult", "").strip().lower()
        annotation = Annotation(
            node.findtext("name", "").strip(),
            # Pixels are counted from 1, and the last one is in the box.
            _numbers(corners) - [1, 1, 0, 0],
            difficult in ("1", "true"),
        )
        annotations.append(annotation)
    return annotations


def read_tfds(
    name: str, data_dir: str | os.PathLike | None, download: bool
) -> tuple[Splits, tuple[str, ...]]:
    """Reads a dataset of TensorFlow Datasets.

    If the test images have boxes, the validation images are used for
    training, as is common for VOC; otherwise for testing, as for COCO.
    """
    builder = data.find_builder(name, ["digit_scenes"], data_dir)
    features = dict(builder.info.features.items())
    inner = getattr(features.get("objects"), "feature", {})
    if not ("image" in features and "bbox" in inner and "label" in inner):
        needed = '"image" and "objects" with "bbox" and "label"'
        raise data.wrong_features(name, needed, features)
    data.ensure_prepared(name, builder, download)
    class_names = tuple(map(str, inner["label"].names))
    train, validation, test = (
        _tfds_pictures(builder, split, class_names)
        for split in ("train", "validation", "test")
    )
    if any(len(picture.boxes) for picture in test):
        return {"train": train + validation, "test": test}, class_names
    return {"train": train, "test": validation}, class_names


def _tfds_pictures(builder, split, class_names):
    """Returns the pictures of a split, none if there is no such split."""
    import tensorflow_datasets as tfds

    if split not in builder.info.splits:
        return []
    examples = builder.as_dataset(
        split=split,
        decoders={"image": tfds.decode.SkipDecoding()},
        read_config=tfds.ReadConfig(try_autocache=False),
    )
    names = dict(enumerate(class_names))
    images, annotations = [], []
    for example in examples.as_numpy_iterator():
        objects, of_image = example["objects"], []
        flags = [objects[name] for name in IGNORED if name in objects]
        boxes = objects["bbox"].astype("float64")
        for row, (top, left, bottom, right) in enumerate(boxes):
            # Some annotations of COCO have no area.
            if top < bottom and left < right:
                label = int(objects["label"][row])
                annotation = Annotation(
                    names.get(label, f"label {label}"),
                    np.array([left, top, right, bottom]),
                    any(flag[row] for flag in flags),
                )
                of_image.append(annotation)
        images.append(example["image"])
        annotations.append(of_image)
    return _make_pictures(
        images, annotations, class_names, builder.data_dir, in_fractions=True
    )


def _numbers(values):
    """Returns four numbers, NaN in place of anything else."""
    try:
        numbers = np.array(values, "float64")
    except (TypeError, ValueError):
        numbers = np.array(np.nan)
    return numbers if numbers.shape == (4,) else np.full(4, np.nan)


def _make_pictures(
    images: Sequence[str | bytes],
    annotations: Sequence[Sequence[Annotation]],
    class_names: Sequence[str],
    source: str | os.PathLike,
    in_fractions: bool = False,
) -> list[Picture]:
    """Returns pictures of images that can be read, with boxes in them."""
    heads = data.read_headers(images, "Reading headers")
    pictures: list[Picture] = []
    for image, head, objects in zip(images, heads, annotations, strict=True):
        name = image if isinstance(image, str) else len(pictures)
        if head is None:
            raise ValueError(
                "An image must exist and be complete. Received: the image "
                f'{name} of "{source}". Copy it, or remove its annotations'
            )
        limits = np.array([head.width, head.height] * 2)
        boxes = np.array([each.box for each in objects]).reshape(-1, 4)
        boxes = boxes * limits if in_fractions else boxes
        for each, box in zip(objects, boxes, strict=True):
            expected = _fault(each.class_name, box, limits, class_names)
            if expected:
                raise ValueError(
                    f"A box must {expected}. Received: left, top, right and "
                    f'bottom {box.tolist()} of a "{each.class_name}" in the '
                    f'image {name} of "{source}". Correct or remove it'
                )
        labels = [class_names.index(each.class_name) for each in objects]
        pictures.append(
            Picture(
                image=image,
                size=(head.height, head.width),
                boxes=np.clip(boxes, 0, limits),
                labels=np.array(labels, int),
                scores=np.array([1.0 - each.is_ignored for each in objects]),
                content=head.content,
            )
        )
    return pictures


def _fault(class_name, box, limits, class_names):
    """Returns what a box must do and does not, if anything."""
    if not class_name or class_name not in class_names:
        return f"be of one of the classes {list(class_names)}"
    if not np.isfinite(box).all():
        return "be four numbers"
    if not (box[:2] < box[2:]).all():
        return "have an area, with left < right and top < bottom"
    is_seen = (box[2:] > 0).all() and (box[:2] < limits[:2]).all()
    is_near = (np.abs(np.clip(box, 0, limits) - box) <= TOLERANCE).all()
    if not (is_seen and is_near):
        width, height = limits[:2]
        return f"lie in its image, of height {height} and width {width}"
    return None
