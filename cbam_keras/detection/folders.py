"""Folders of images with boxes, in the layouts of COCO and of Pascal VOC."""

import json
import math
import pathlib
from collections.abc import Hashable
from typing import NamedTuple

import numpy as np

from cbam_keras import _checks
from cbam_keras._terminal import watched
from cbam_keras.data import ENDINGS, headers, image_files, stratified
from cbam_keras.detection.batches import OBJECT, Examples, scale_of

# Annotations round coordinates, in pixels.
TOLERANCE = 1.0
# The lists of images that VOC's folder `ImageSets/Main` may hold.
LISTS = ("train", "val", "trainval", "test")
CORNERS = ("xmin", "ymin", "xmax", "ymax")
# What shows a layout.
COCO, VOC = "annotations/instances_*.json", "Annotations/*.xml"


class Object(NamedTuple):
    """An object, as annotated."""

    # What an error shows.
    entry: object
    # A key of the classes.
    label: Hashable
    # Left, top, right and bottom in pixels, from 0.
    box: tuple[float, float, float, float]
    is_counted: bool
    # The area is in pixels; NaN stands for that of the box.
    area: float = math.nan


class Annotated(NamedTuple):
    """An image and its objects, as every layout gives them."""

    path: pathlib.Path
    # The file with the annotations, and what an error shows of them.
    file: pathlib.Path
    entry: object
    # Height and width as annotated, `None` if they are not.
    size: tuple[int, int] | None
    objects: list[Object]


def from_folder(
    path: pathlib.Path,
) -> tuple[dict[str, Examples], tuple[str, ...]]:
    """Returns the splits of a folder in either layout, and its classes."""
    inside = sorted(path.iterdir()) if path.is_dir() else []
    # An archive may have a folder around the layout.
    for folders in [path], inside:
        found = [
            (read, folder)
            for folder in folders
            for mark, read in ((COCO, _coco), (VOC, _voc))
            if any(folder.glob(mark))
        ]
        if found:
            break
    if len(found) != 1:
        raise ValueError(
            f"A folder of images with boxes must be as COCO's, with {COCO}, "
            f'or as VOC\'s, with {VOC}. Received: data="{path}" with '
            f"{[str(folder) for _, folder in found] or 'neither'}"
        )
    read, folder = found[0]
    splits, classes = read(folder)
    labels = {key: label for label, key in enumerate(classes)}
    examples = {name: _examples(name, splits[name], labels) for name in splits}
    return examples, tuple(classes.values())


def _examples(split, images, labels):
    """Returns the images of a split, after checks common to all layouts."""
    paths = [str(image.path) for image in images]
    heads = headers(paths, f"Reading headers of {split}")
    rows = []
    for number, (image, head) in enumerate(zip(images, heads, strict=True)):
        _check(image, head)
        for each in image.objects:
            label = labels[each.label]
            rows.append((number, label, each.is_counted, each.box, each.area))
    objects = np.array(rows, OBJECT)
    sizes = np.array([head[:2] for head in heads], "int32").reshape(-1, 2)
    limits = scale_of(sizes[objects["image"]])
    boxes = objects["box"].astype("float32")
    objects["box"] = np.clip(boxes, 0, limits) / limits
    contents = [head.content for head in heads]
    return Examples(np.array(paths, object), sizes, objects, contents)


def _check(image, head):
    """Raises unless an image is as annotated, and its boxes are in it."""
    if head is None:
        raise _wrong(
            f"The image {image.path} must exist and be complete",
            (image.entry, image.file),
            "Copy it again, or remove it from the annotations",
        )
    high, wide = head[:2]
    if image.size not in (None, (high, wide)):
        raise _wrong(
            "An annotated size must be that of the file, turned as its EXIF "
            f"orientation says: height {high} and width {wide}",
            (image.entry, image.file),
            "Correct the size, or the image and its boxes",
        )
    for each in image.objects:
        left, top, right, bottom = each.box
        for low, end, limit in (left, right, wide), (top, bottom, high):
            # NaN fails each comparison.
            if not low < end:
                raise _wrong(
                    "A box must have an area, its right edge be right of its "
                    "left one, and its bottom edge below its top one",
                    (each.entry, image.file),
                    "Swap its corners, or remove the object",
                )
            inside = -TOLERANCE <= low and end <= limit + TOLERANCE
            if not (inside and max(low, 0) < min(end, limit)):
                raise _wrong(
                    f"A box must lie in its image, of height {high} and width "
                    f"{wide}",
                    (each.entry, image.file),
                    "Clip it to the image, or remove the object",
                )


def _wrong(expected, received, mend):
    entry, file = received
    return ValueError(f'{expected}. Received: {entry} in "{file}". {mend}')


def _coco(folder):
    """Returns the images of both splits, and the classes by their ids."""
    files = _coco_file(folder, "train"), _coco_file(folder, "test", "val")
    train, classes = _coco_images(files[0], {})
    test, _ = _coco_images(files[1], classes)
    return {"train": train, "test": test}, dict(sorted(classes.items()))


def _coco_file(path, *prefixes):
    """Returns the file for a folder that begins with the first prefix found."""
    files = []
    for prefix in prefixes:
        matches = path.glob(f"annotations/instances_{prefix}*.json")
        files = files or sorted(matches)
    if len(files) != 1:
        raise ValueError(
            "A folder in COCO's layout must hold annotations/"
            "instances_train.json beside a folder train/, and the same with "
            "val or test (COCO's own train2017 and val2017 count too). "
            f'Received: data="{path}" without a file for '
            f"{' or '.join(prefixes)}, or with several: "
            f"{_checks.first_few([file.name for file in files])}"
        )
    return files[0]


def _coco_images(file, classes):
    """Returns the images of a file, and the names of its categories by id.

    `classes` are those of the training images, if they are known.
    """
    folder = file.parents[1] / file.stem.removeprefix("instances_")
    images, entry = {}, None
    try:
        content = json.loads(file.read_bytes())
        here = {}
        for entry in content["categories"]:
            identity, name = entry["id"], entry["name"]
            if not isinstance(name, str):
                raise TypeError("the name must be text")
            if identity in here or classes.get(identity, name) != name:
                raise ValueError(f"another category has the id {identity}")
            here[identity] = name
        for entry in content["images"]:
            if entry["id"] in images:
                raise ValueError(f"another image has the id {entry['id']}")
            path = folder / entry["file_name"]
            size = entry["height"], entry["width"]
            images[entry["id"]] = Annotated(path, file, entry, size, [])
        known = classes or here
        for entry in content["annotations"]:
            if entry["category_id"] not in known:
                raise ValueError("no category of the training images")
            left, top, width, height = map(float, entry["bbox"])
            area = math.nan if entry.get("area") is None else entry["area"]
            images[entry["image_id"]].objects.append(
                Object(
                    entry,
                    entry["category_id"],
                    (left, top, left + width, top + height),
                    not entry.get("iscrowd"),
                    float(area),
                )
            )
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            "Annotations must be COCO's JSON: images, each with id, "
            f'file_name (in "{folder}"), height and width; annotations, each '
            "with the image_id of one of them, the category_id of a category "
            "of the training images, and bbox, four numbers; categories, each "
            f'with id and name. Received: {entry} in "{file}" '
            f"({type(error).__name__}: {error})"
        ) from error
    return list(images.values()), here


def _voc(folder):
    """Returns the images of both splits, and the names of the classes.

    If there is a list of test images, those of `val` are used for training, as
    is common for VOC; otherwise for testing. Without any of both, a fifth of
    the images is tested on, the same for each seed.
    """
    files = {file.stem: file for file in folder.glob("Annotations/*.xml")}
    lists = {}
    for name in LISTS:
        file = folder / "ImageSets" / "Main" / f"{name}.txt"
        if file.is_file():
            lists[name] = _voc_names(file, files)
    train, test = lists.get("train", []), lists.get("val", [])
    if "test" in lists:
        train, test = lists.get("trainval", train + test), lists["test"]
    elif not test:
        names = lists.get("trainval", train) if lists else sorted(files)
        rows = stratified(np.zeros(len(names)), None, 0)
        train, test = ([names[i] for i in rows[x]] for x in ("train", "test"))
    both = sorted({*train} & {*test})
    if not train or not test or both:
        shared = f", {len(both)} of both: {_checks.first_few(both)}"
        raise ValueError(
            "A folder in VOC's layout must have images to train and others to "
            f'test. Received: data="{folder}", with {len(train)} and '
            f"{len(test)} images{shared if both else ''}. Correct the lists "
            "in ImageSets/Main, or delete them for a split at random"
        )
    images = {}
    for path in image_files(folder / "JPEGImages"):
        images.setdefault(path.stem, []).append(path)
    splits = {
        split: [
            _voc_image(folder, files[name], images.get(name, []))
            for name in watched(names, len(names), f"Reading XML of {split}")
        ]
        for split, names in (("train", train), ("test", test))
    }
    classes = sorted(
        {
            each.label
            for split in splits.values()
            for image in split
            for each in image.objects
        }
    )
    return splits, {name: name for name in classes}


def _voc_names(file, known):
    """Returns the names of the images in a list."""
    lines = file.read_text(encoding="utf-8-sig").splitlines()
    names = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    for name in names or [""]:
        if name not in known:
            raise _wrong(
                "A list of images must have at least one line, and each must "
                "be the name of a file in Annotations without .xml and nothing "
                "else",
                (f'"{name}"', file),
                "Correct the line, or add the file"
                f"{_checks.did_you_mean(name, known)}",
            )
    return names


def _voc_image(folder, file, images):
    """Returns an image as its XML describes it."""
    tree = _checks.require("defusedxml.ElementTree", extra="detect")
    if len(images) != 1:
        raise _wrong(
            f'The image of annotations must be in "{folder / "JPEGImages"}", '
            f"{file.stem} with one of the endings {', '.join(ENDINGS)}",
            (f"{len(images)} such files for the annotations", file),
            "Copy it there, or remove its annotations and its name in lists",
        )
    entry, size, objects = f"image {images[0].name}", None, []
    try:
        root = tree.parse(file).getroot()
        for number, node in enumerate(root.findall("object"), 1):
            name = node.findtext("name") or ""
            texts = _texts(node.find("bndbox"), CORNERS)
            entry = f'object {number}, "{name}", with {texts}'
            if not name or name != name.strip():
                raise ValueError(f'its name is "{name}"')
            left, top, right, bottom = map(float, texts.values())
            # Pixels are counted from 1, and the last one is in the box.
            box = left - 1, top - 1, right, bottom
            difficult = node.findtext("difficult", "").strip().lower()
            is_counted = difficult not in ("1", "true")
            objects.append(Object(entry, name, box, is_counted))
        entry = f"image {images[0].name}"
        node = root.find("size")
        if node is not None:
            texts = _texts(node, ("height", "width"))
            entry += f" with {texts}"
            height, width = map(int, texts.values())
            size = height, width
    # `SyntaxError` is that of the parser.
    except (SyntaxError, TypeError, ValueError) as error:
        raise ValueError(
            "Annotations must be VOC's XML: for each object an <object> with "
            "<name>, that neither begins nor ends with a space, and <bndbox>, "
            "that has the numbers <xmin>, <ymin>, <xmax> and <ymax>; and, if "
            "known, <size> with the integers <height> and <width>. Received: "
            f'{entry} in "{file}" ({type(error).__name__}: {error}). Correct '
            "the file"
        ) from error
    return Annotated(images[0], file, entry, size, objects)


def _texts(node, names):
    """Returns the text of elements in another, `None` where one is missing."""
    return {
        name: None if node is None else node.findtext(name) for name in names
    }
