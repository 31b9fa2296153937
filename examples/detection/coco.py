"""COCO's annotations: a JSON file of each split, named by many tools."""

import collections
import json
import pathlib
import re

import numpy as np

from cbam_keras import _checks
from examples.detection.annotations import (
    Annotated,
    Annotation,
    Problems,
    is_true,
    parse_numbers,
)
from examples.detection.layouts import Folder, divide, index, match, split_of

# Parts of COCO's JSON, each quoted.
PARTS = (b'"images"', b'"annotations"', b'"categories"')


def find_coco(folder: Folder) -> list[pathlib.Path]:
    """Returns COCO's files in a folder: those of its names, or of any name."""
    files = folder.find(".json")
    named = [
        file
        for file in files
        if file.name.startswith("instances_") or "_annotations." in file.name
    ]
    return named or [
        file
        for file in files
        if all(part in file.read_bytes() for part in PARTS)
    ]


def read_coco(folder: Folder, files: list[pathlib.Path]) -> Annotated:
    """Reads a file of each split, or one that is split at random."""
    of_split = collections.defaultdict(list)
    for file in files:
        parts = file.relative_to(folder.root).with_suffix("").parts
        of_split[split_of(*parts)].append(file)
    if len(files) > 1:
        of_split.pop("", None)
    counts = {split: len(files) for split, files in of_split.items()}
    is_divided = "train" in counts and len(counts) > 1
    if not (is_divided or "" in counts) or max(counts.values()) > 1:
        raise ValueError(
            "A folder in COCO's layout must hold one annotations/"
            "instances_train.json beside a folder train/, and the same with "
            "val or test (COCO's own train2017 and val2017 count too), or "
            "train/_annotations.coco.json and the same in valid/ or test/. "
            f'Received: data="{folder.root}" with '
            f"{[str(file.relative_to(folder.root)) for file in files]}"
        )
    problems, used = Problems(), set()
    splits, categories = {}, {}
    for split, (file,) in of_split.items():
        try:
            # The reader of pycocotools prints, and needs ids of annotations.
            content = json.loads(file.read_bytes())
            categories[split] = content["categories"]
            splits[split] = _read_file(content, folder, split, problems)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                "Annotations must be COCO's JSON, with images (id, file_name), "
                "annotations of these (image_id, category_id, bbox) and "
                f'categories (id, name). Received: "{file}" '
                f"({type(error).__name__}: {error})"
            ) from error
        used |= {x.class_name for _, entry in splits[split] for x in entry}
    of_train = categories["train" if "train" in categories else ""]
    # Roboflow writes a category 0 that is the heading of the others.
    headings = {
        each.get("supercategory")
        for each in of_train
        if each.get("supercategory") != each["name"]
    } - used
    names = _class_names(of_train)
    ids = sorted(names, key=lambda key: (isinstance(key, str), key))
    class_names = dict.fromkeys(names[key] for key in ids)
    return Annotated(
        divide(splits),
        tuple(name for name in class_names if name not in headings),
        problems,
    )


def _read_file(content, folder, split, problems):
    """Returns the images of a file, with their objects."""
    keys = index(folder.images)
    names = _class_names(content["categories"])
    entries: dict[str, list[Annotation]] = {}
    of_image = {}
    for each in content["images"]:
        # An image that is listed twice is one.
        path = _find_image(each["file_name"], folder, keys, split)
        of_image[_as_id(each["id"])] = entries.setdefault(path, [])
    for each in content["annotations"]:
        image = _as_id(each.get("image_id"))
        if image not in of_image:
            place = f"image_id {image}"
            problems.add("box", "left out", "of no image", place)
            continue
        box = each.get("bbox") or _enclose(each.get("segmentation"))
        left, top, width, height = parse_numbers(box)
        category = _as_id(each.get("category_id"))
        annotation = Annotation(
            names.get(category, f"category_id {category}"),
            np.array([left, top, left + width, top + height]),
            is_true(each.get("iscrowd")),
        )
        of_image[image].append(annotation)
    return list(entries.items())


def _find_image(name, folder, keys, split):
    """Returns the path of an image, one that does not exist if missing."""
    key = match(name, keys, split)
    file_name = re.split(r"[\\/]", name)[-1]
    for file in folder.images.get(key, ()):
        if file.name.lower() == file_name.lower():
            return str(file)
    return str(folder.root / split / name)


def _enclose(segmentation):
    """Returns the box of polygons or of a run-length encoded mask."""
    if isinstance(segmentation, dict):
        mask = _checks.require("pycocotools.mask", extra="detect")
        if isinstance(segmentation["counts"], list):
            segmentation = mask.frPyObjects(segmentation, *segmentation["size"])
        return mask.toBbox(segmentation)
    points = np.concatenate([np.ravel(x) for x in segmentation or [[]]])
    points = points[: len(points) // 2 * 2].reshape(-1, 2)
    return (
        [*points.min(axis=0), *np.ptp(points, axis=0)] if len(points) else None
    )


def _class_names(categories):
    return {_as_id(x["id"]): str(x["name"]).strip() for x in categories}


def _as_id(value):
    """Returns one number for 7, 7.0 and "7"; other ids are text."""
    text = str(value)
    is_number = re.fullmatch(r"(0|[1-9]\d*)(\.0+)?", text)
    return int(text.split(".")[0]) if is_number else text
