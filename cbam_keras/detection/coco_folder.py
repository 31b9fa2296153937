"""A folder of images with annotations in COCO's JSON."""

import json
import pathlib
from typing import Any

import numpy as np

from cbam_keras import _checks
from cbam_keras.detection.records import Records, relative

LAYOUT = (
    "annotations/instances_train.json beside a folder train/, and the same "
    "with val or test (COCO's own train2017 and val2017 count too)"
)
# What the entries of COCO's JSON must have.
KEYS = {
    "images": ("id", "file_name", "height", "width"),
    "annotations": ("image_id", "category_id", "bbox"),
    "categories": ("id", "name"),
}


def from_coco_folder(
    path: pathlib.Path,
) -> tuple[dict[str, Records], tuple[str, ...]]:
    """Returns the splits and the names of the classes of a folder.

    `"test"` is the folder that begins with test, otherwise with val.
    """
    found = {
        "train": _annotations(path, "train"),
        "test": _annotations(path, "test", "val"),
    }
    read = {split: _read(file) for split, file in found.items()}
    classes = {
        category["id"]: category["name"]
        for category in read["train"]["categories"]
    }
    order = {identity: i for i, identity in enumerate(sorted(classes))}
    splits = {
        split: _records(path, found[split], read[split], order)
        for split in ("train", "test")
    }
    return splits, tuple(classes[identity] for identity in order)


def _annotations(path, *prefixes):
    """Returns the file for a folder that begins with the first prefix found."""
    for prefix in prefixes:
        files = sorted(path.glob(f"annotations/instances_{prefix}*.json"))
        if len(files) > 1:
            raise ValueError(
                "A folder must have one file of annotations per split. "
                f'Received: name="{path}" with '
                f"{_checks.first_few([file.name for file in files])}"
            )
        if files:
            return files[0]
    raise ValueError(
        f"A folder of images with boxes must hold {LAYOUT}. Received: "
        f'name="{path}" without a file for {" or ".join(prefixes)}'
    )


def _read(file):
    try:
        content = json.loads(file.read_text())
        for key, needed in KEYS.items():
            for entry in content[key]:
                [entry[one] for one in needed]
    except (ValueError, KeyError, TypeError) as error:
        expected = "; ".join(
            f"{key}, each with {', '.join(needed)}"
            for key, needed in KEYS.items()
        )
        raise ValueError(
            f"Annotations must be COCO's JSON, with the keys {expected}. "
            f'Received: "{file}" ({type(error).__name__}: {error})'
        ) from error
    return content


def _records(root, file, content, order):
    folder = root / file.stem.removeprefix("instances_")
    own: dict[Any, list] = {image["id"]: [] for image in content["images"]}
    for annotation in content["annotations"]:
        if annotation["image_id"] not in own:
            raise ValueError(
                "Each annotation must be of a listed image. Received: "
                f'"{file}" with image_id={annotation["image_id"]!r}'
            )
        if annotation["category_id"] not in order:
            raise ValueError(
                "Each annotation must be of a category of the training "
                f'images. Received: "{file}" with category_id='
                f"{annotation['category_id']!r}"
            )
        own[annotation["image_id"]].append(annotation)
    images, sizes, boxes, labels, ignored = [], [], [], [], []
    for image in content["images"]:
        path = folder / image["file_name"]
        if not path.is_file():
            raise ValueError(
                f'Each image of "{file}" must be in the folder "{folder}". '
                f"Received: file_name={_checks.quoted(image['file_name'])}"
            )
        found = own[image["id"]]
        images.append(str(path))
        sizes.append((image["height"], image["width"]))
        boxes.append(
            relative(
                [annotation["bbox"] for annotation in found],
                "xywh",
                image["height"],
                image["width"],
                f'"{path}"',
            )
        )
        labels.append(
            np.array([order[a["category_id"]] for a in found], "int32")
        )
        ignored.append(np.array([bool(a.get("iscrowd")) for a in found], bool))
    listed = np.empty(len(images), object)
    listed[:] = images
    return Records(
        listed, np.array(sizes, "int32").reshape(-1, 2), boxes, labels, ignored
    )
