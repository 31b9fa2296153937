"""Folders of images with boxes, in the layouts of COCO and of Pascal VOC."""

import json
import pathlib
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np

from cbam_keras import _checks
from cbam_keras._terminal import watched
from cbam_keras.data import ENDINGS, headers, image_files, stratified
from examples.detection.pictures import Object, Picture

# A folder with such files has the layout.
COCO, VOC = "annotations/instances_*.json", "Annotations/*.xml"
# VOC's folder `ImageSets/Main` may hold these lists of images.
LISTS = ("train", "val", "trainval", "test")
CORNERS = ("xmin", "ymin", "xmax", "ymax")
# Annotations round coordinates, by up to so many pixels.
TOLERANCE = 1.0


class Annotated(NamedTuple):
    """An image and its objects; errors show the `entry` in the `file`."""

    path: pathlib.Path
    file: pathlib.Path
    entry: object
    # Height and width as annotated, `None` if they are not.
    size: tuple[int, int] | None
    objects: list[Object]


def from_folder(
    path: pathlib.Path,
) -> tuple[dict[str, list[Picture]], tuple[str, ...]]:
    """Returns the images of each split, in either layout, and the classes."""
    # An archive may have a folder around the layout.
    layouts = _layouts([path]) or _layouts(sorted(path.glob("*")))
    if len(layouts) != 1:
        raise ValueError(
            f"A folder of images with boxes must be as COCO's, with {COCO}, "
            f'or as VOC\'s, with {VOC}. Received: data="{path}" with '
            f"{[str(folder) for _, folder in layouts] or 'neither'}"
        )
    read, folder = layouts[0]
    images, classes = read(folder)
    labels = {key: label for label, key in enumerate(classes)}
    splits = {name: _as_pictures(images[name], labels) for name in images}
    return splits, tuple(classes.values())


def _layouts(folders):
    """Returns the folders that have a layout, each with what reads it."""
    readers = (COCO, _read_coco), (VOC, _read_voc)
    return [
        (read, folder)
        for folder in folders
        for pattern, read in readers
        if any(folder.glob(pattern))
    ]


def _as_pictures(images, labels):
    """Returns annotated images, after checks common to both layouts."""
    heads = headers([str(image.path) for image in images], "Reading headers")
    pictures = []
    for image, head in zip(images, heads, strict=True):
        _check(image, head)
        limits = [head.width, head.height] * 2
        objects = [
            Object(
                labels[x.label],
                np.clip(x.box, 0, limits).tolist(),
                x.confidence,
            )
            for x in image.objects
        ]
        size = head.height, head.width
        pictures.append(Picture(str(image.path), size, objects, head.content))
    return pictures


def _check(image, head):
    """Raises unless an image is as annotated, and its boxes are in it."""
    if head is None:
        raise _error(
            f"The image {image.path} must exist and be complete",
            image.entry,
            image.file,
            "Copy it again, or remove it from the annotations",
        )
    high, wide = head.height, head.width
    if image.size not in (None, (high, wide)):
        raise _error(
            "An annotated size must be that of the file, turned as its EXIF "
            f"orientation says: height {high} and width {wide}",
            image.entry,
            image.file,
            "Correct the size, or the image and its boxes",
        )
    for each in image.objects:
        left, top, right, bottom = each.box
        # NaN fails each comparison.
        if not (left < right and top < bottom):
            raise _error(
                "A box must have an area, its right edge be right of its left "
                "one, and its bottom edge below its top one",
                each.entry,
                image.file,
                "Swap its corners, or remove the object",
            )
        is_seen = min(right, bottom) > 0 and left < wide and top < high
        is_near = min(left, top) >= -TOLERANCE and (
            right <= wide + TOLERANCE and bottom <= high + TOLERANCE
        )
        if not (is_seen and is_near):
            raise _error(
                f"A box must lie in its image, of height {high} and width "
                f"{wide}",
                each.entry,
                image.file,
                "Clip it to the image, or remove the object",
            )


def _error(expected, entry, file, mend):
    return ValueError(f'{expected}. Received: {entry} in "{file}". {mend}')


def _read_coco(folder):
    """Returns the images of both splits, and the classes by their ids."""
    train, classes = _coco_images(_coco_file(folder, "train"), {})
    test, _ = _coco_images(_coco_file(folder, "test", "val"), classes)
    return {"train": train, "test": test}, dict(sorted(classes.items()))


def _coco_file(path, *prefixes):
    """Returns the file of the first prefix for which there is one."""
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

    `classes` are those of the training images, if they have been read.
    """
    folder = file.parents[1] / file.stem.removeprefix("instances_")
    images, categories, entry = {}, {}, None
    try:
        content = json.loads(file.read_bytes())
        for entry in content["categories"]:
            number, name = entry["id"], entry["name"]
            if not isinstance(name, str):
                raise TypeError("the name must be text")
            if number in categories or classes.get(number, name) != name:
                raise ValueError(f"another category has the id {number}")
            categories[number] = name
        for entry in content["images"]:
            if entry["id"] in images:
                raise ValueError(f"another image has the id {entry['id']}")
            path = folder / entry["file_name"]
            size = entry["height"], entry["width"]
            images[entry["id"]] = Annotated(path, file, entry, size, [])
        for entry in content["annotations"]:
            if entry["category_id"] not in (classes or categories):
                raise ValueError("no category of the training images")
            left, top, width, height = map(float, entry["bbox"])
            box = left, top, left + width, top + height
            confidence = 0.0 if entry.get("iscrowd") else 1.0
            images[entry["image_id"]].objects.append(
                Object(entry["category_id"], box, confidence, entry)
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
    return list(images.values()), categories


def _read_voc(folder):
    """Returns the images of both splits, and the names of the classes.

    If there is a list of test images, those of `val` are used for training, as
    is common for VOC; otherwise for testing. Without either, a fifth of the
    images is tested on, the same for each seed.
    """
    files = {file.stem: file for file in folder.glob(VOC)}
    lists = {
        file.stem: _voc_names(file, files)
        for file in folder.glob("ImageSets/Main/*.txt")
        if file.stem in LISTS
    }
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
    paths = {}
    for path in image_files(folder / "JPEGImages"):
        paths.setdefault(path.stem, []).append(path)
    images, classes = {}, set()
    for split, names in (("train", train), ("test", test)):
        images[split] = [
            _voc_image(folder, files[name], paths.get(name, []))
            for name in watched(names, len(names), f"Reading XML of {split}")
        ]
        for image in images[split]:
            classes |= {each.label for each in image.objects}
    return images, {name: name for name in sorted(classes)}


def _voc_names(file, annotated):
    """Returns the names of the images in a list."""
    lines = file.read_text(encoding="utf-8-sig").splitlines()
    names = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    for name in names or [""]:
        if name not in annotated:
            raise _error(
                "A list of images must have at least one line, and each must "
                "be the name of a file in Annotations without .xml and nothing "
                "else",
                f'"{name}"',
                file,
                "Correct the line, or add the file"
                f"{_checks.did_you_mean(name, annotated)}",
            )
    return names


def _voc_image(folder, file, paths):
    """Returns an image as its XML describes it."""
    tree = _checks.require("defusedxml.ElementTree", extra="detect")
    if len(paths) != 1:
        raise _error(
            f'The image of annotations must be in "{folder / "JPEGImages"}", '
            f"{file.stem} with one of the endings {', '.join(ENDINGS)}",
            f"{len(paths)} such files for the annotations",
            file,
            "Copy it there, or remove its annotations and its name in lists",
        )
    entry, size, objects = f"image {paths[0].name}", None, []
    try:
        root = tree.parse(file).getroot()
        for number, node in enumerate(root.findall("object"), 1):
            entry = f"object {number}, {_line(node)},"
            name = node.findtext("name") or ""
            if not name or name != name.strip():
                raise ValueError(f'its name is "{name}"')
            corners = (node.findtext(f"bndbox/{x}") for x in CORNERS)
            left, top, right, bottom = map(float, corners)
            # Pixels are counted from 1, and the last one is in the box.
            box = left - 1, top - 1, right, bottom
            difficult = node.findtext("difficult", "").strip().lower()
            confidence = 0.0 if difficult in ("1", "true") else 1.0
            objects.append(Object(name, box, confidence, entry))
        entry = f"image {paths[0].name}"
        node = root.find("size")
        if node is not None:
            entry += f" with {_line(node)}"
            size = int(node.findtext("height")), int(node.findtext("width"))
    # The parser raises a `SyntaxError`.
    except (SyntaxError, TypeError, ValueError) as error:
        raise ValueError(
            "Annotations must be VOC's XML: for each object an <object> with "
            "<name>, that neither begins nor ends with a space, and <bndbox>, "
            "that has the numbers <xmin>, <ymin>, <xmax> and <ymax>; and, if "
            "known, <size> with the integers <height> and <width>. Received: "
            f'{entry} in "{file}" ({type(error).__name__}: {error}). Correct '
            "the file"
        ) from error
    return Annotated(paths[0], file, entry, size, objects)


def _line(node):
    """Returns the XML of an element, in one line."""
    text = ElementTree.tostring(node, "unicode", short_empty_elements=False)
    return " ".join(text.split())
