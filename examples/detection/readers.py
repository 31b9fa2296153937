"""Pictures of folders and of TensorFlow Datasets.

Each reader returns the pictures of the splits "train" and "test", and the names
of the classes.
"""

import os
import pathlib

import numpy as np

from cbam_keras import data
from examples.detection.annotations import (
    Annotated,
    Annotation,
    Splits,
    make_pictures,
)
from examples.detection.coco import find_coco, read_coco
from examples.detection.labels import (
    find_voc,
    find_yolo,
    read_voc,
    read_yolo,
)
from examples.detection.layouts import Folder, divide

# How the annotations of a layout are found and read. The first that are found
# are read.
LAYOUTS = ((find_coco, read_coco), (find_voc, read_voc), (find_yolo, read_yolo))
# TensorFlow Datasets marks objects that are ignored by one of these.
IGNORED = ("is_difficult", "is_crowd")


def read_folder(path: pathlib.Path) -> tuple[Splits, tuple[str, ...]]:
    """Reads a folder in COCO's, VOC's or YOLO's layout, or one around it."""
    for root in (path, *sorted(path.glob("*/"))):
        folder = Folder(root)
        for find, read in LAYOUTS:
            if files := find(folder):
                annotated = read(folder, files)
                return make_pictures(annotated, root), annotated.class_names
    raise ValueError(
        "A folder of images with boxes must be as COCO's (annotations/"
        "instances_train.json or train/_annotations.coco.json), as VOC's "
        "(Annotations/*.xml, or XML beside the images) or as YOLO's (labels/"
        "*.txt, or text beside the images). Received: "
        f'data="{path}" with neither. Convert it to one of them'
    )


def read_tfds(
    name: str, data_dir: str | os.PathLike | None, download: bool
) -> tuple[Splits, tuple[str, ...]]:
    """Reads a dataset of TensorFlow Datasets."""
    builder = data.find_builder(name, ["digit_scenes"], data_dir)
    features = dict(builder.info.features.items())
    inner = getattr(features.get("objects"), "feature", {})
    if not ("image" in features and "bbox" in inner and "label" in inner):
        needed = '"image" and "objects" with "bbox" and "label"'
        raise data.wrong_features(name, needed, features)
    data.ensure_prepared(name, builder, download)
    class_names = tuple(map(str, inner["label"].names))
    names = {"train": "train", "val": "validation", "test": "test"}
    splits = {
        split: _read_split(builder, name, class_names)
        for split, name in names.items()
        if name in builder.info.splits
    }
    annotated = Annotated(divide(splits), class_names, in_fractions=True)
    return make_pictures(annotated, builder.data_dir), class_names


def _read_split(builder, split, class_names):
    """Returns the images of a split, with their objects."""
    import tensorflow_datasets as tfds

    examples = builder.as_dataset(
        split=split,
        decoders={"image": tfds.decode.SkipDecoding()},
        read_config=tfds.ReadConfig(try_autocache=False),
    )
    names = dict(enumerate(class_names))
    entries = []
    for example in examples.as_numpy_iterator():
        objects, of_image = example["objects"], []
        flags = [objects[name] for name in IGNORED if name in objects]
        boxes = objects["bbox"].astype("float64")
        for row, (top, left, bottom, right) in enumerate(boxes):
            label = int(objects["label"][row])
            annotation = Annotation(
                names.get(label, f"label {label}"),
                np.array([left, top, right, bottom]),
                any(flag[row] for flag in flags),
            )
            of_image.append(annotation)
        entries.append((example["image"], of_image))
    return entries
