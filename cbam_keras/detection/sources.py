"""Where images with boxes come from: scenes of digits, COCO's layout, TFDS."""

import functools
import json
import math
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from cbam_keras import _checks, data
from cbam_keras._terminal import watched
from cbam_keras.detection.batches import (
    OBJECT,
    Records,
    overlaps,
    scale_of,
    table,
)

# The splits by name, and the names of the classes.
Source = tuple[dict[str, Records], tuple[str, ...]]

# Of `"digit_scenes"`. Sides in pixels: of a scene, and of a digit with the
# margin of its image.
CANVAS = 64
MIN_SIDE, MAX_SIDE = 22, 44
# Fragments of other digits in each scene, and their side.
FRAGMENTS, FRAGMENT = 8, 8
MAX_DIGITS = 3
# Two boxes overlap by at most this, as intersection over union.
MAX_OVERLAP = 0.3
# Darker pixels of a digit do not count for its box.
INK = 32

LAYOUT = (
    "annotations/instances_train.json beside a folder train/, and the same "
    "with val or test (COCO's own train2017 and val2017 count too)"
)
# Annotations round coordinates, in pixels.
TOLERANCE = 1.0

# Features of an object in TensorFlow Datasets that exclude it.
IGNORED = ("is_difficult", "is_crowd")


def digit_scenes(seed: int) -> Source:
    """Returns scenes with digits of several sizes among clutter."""
    digits, labels = data.mnist_digits()
    indices = data.stratified(labels, None, seed)
    splits = {}
    for split, seed_of_split, share in (("train", seed, 1), ("test", 0, 2)):
        rows = indices[split]
        rng = np.random.default_rng([seed_of_split, *split.encode()])
        count = max(1, len(rows) // share)
        splits[split] = _scenes(digits[rows], labels[rows], count, rng)
    return splits, tuple(str(digit) for digit in range(10))


def _scenes(digits, labels, count, rng):
    """Returns records of `count` scenes of these digits."""
    images = np.zeros((count, CANVAS, CANVAS, 1), "uint8")
    objects = []
    for number, canvas in enumerate(images[..., 0]):
        for source in digits[rng.integers(len(digits), size=FRAGMENTS)]:
            # From the middle of a digit, where the ink is.
            y, x = rng.integers(4, source.shape[0] - 3 - FRAGMENT, size=2)
            top, left = rng.integers(0, CANVAS - FRAGMENT + 1, size=2)
            patch = source[y : y + FRAGMENT, x : x + FRAGMENT]
            _overlay(canvas, patch, top, left)
        boxes = np.zeros((0, 4), "float32")
        kept = []
        chosen = rng.integers(len(digits), size=rng.integers(1, MAX_DIGITS + 1))
        for index in chosen:
            box = _add_digit(canvas, digits[index], boxes, rng)
            if box is not None:
                boxes = np.concatenate([boxes, box[None]])
                kept.append(labels[index])
        objects.append(table(number, kept, boxes / CANVAS))
    sizes = np.full((count, 2), CANVAS, "int32")
    return Records(images, sizes, np.concatenate(objects))


def _add_digit(canvas, digit, others, rng):
    """Adds a digit, and returns its box; `None` where there is no room."""
    side = int(rng.integers(MIN_SIDE, MAX_SIDE + 1))
    weights = _weights(digit.shape[0], side)
    patch = np.rint(weights @ digit @ weights.T).astype("uint8")
    rows, columns = (np.flatnonzero((patch >= INK).any(a)) for a in (1, 0))
    extent = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    for _ in range(10):
        top, left = rng.integers(0, CANVAS - side + 1, size=2)
        box = np.array([left, top, left, top], "float32") + extent
        if overlaps(box[None], others).max(initial=0) <= MAX_OVERLAP:
            _overlay(canvas, patch, top, left)
            return box
    return None


def _overlay(canvas, patch, top, left):
    place = canvas[top : top + patch.shape[0], left : left + patch.shape[1]]
    # Of overlapping pixels the brighter one stays.
    np.maximum(place, patch, out=place)


@functools.cache
def _weights(old, new):
    """Returns the matrix `(new, old)` of linear interpolation."""
    position = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    distance = np.abs(position[:, None] - np.arange(old))
    return np.clip(1 - distance, 0, None)


def from_coco_folder(path: pathlib.Path) -> Source:
    """Returns a folder of images with annotations in COCO's JSON.

    `"test"` is the folder that begins with test, otherwise with val.
    """
    files = {
        "train": _annotations(path, "train"),
        "test": _annotations(path, "test", "val"),
    }
    names: dict[Any, str] = {}
    splits = {
        split: _coco_records(file, names) for split, file in files.items()
    }
    return splits, tuple(names[identity] for identity in sorted(names))


def _annotations(path, *prefixes):
    """Returns the file for a folder that begins with the first prefix found."""
    for prefix in prefixes:
        files = sorted(path.glob(f"annotations/instances_{prefix}*.json"))
        if len(files) == 1:
            return files[0]
        if files:
            break
    raise ValueError(
        f"A folder of images with boxes must hold {LAYOUT}. Received: "
        f'name="{path}" without a file for {" or ".join(prefixes)}, or with '
        f"several: {_checks.first_few([file.name for file in files])}"
    )


def _coco_records(file, names):
    """Returns the images of one file of annotations, with their objects."""
    folder = file.parents[1] / file.stem.removeprefix("instances_")
    numbers, paths, sizes, rows, entry = {}, [], [], [], None
    try:
        content = json.loads(file.read_text())
        here = {}
        for entry in content["categories"]:
            identity, name = entry["id"], entry["name"]
            if not isinstance(name, str):
                raise TypeError("the name must be text")
            if identity in here or names.get(identity, name) != name:
                raise ValueError(f"another category has the id {identity}")
            here[identity] = name
        names.update({} if names else here)
        labels = {identity: i for i, identity in enumerate(sorted(names))}
        for entry in content["images"]:
            if entry["id"] in numbers:
                raise ValueError(f"another image has the id {entry['id']}")
            numbers[entry["id"]] = len(paths)
            paths.append(str(folder / entry["file_name"]))
        heads = data.headers(paths, f"Reading headers of {folder.name}")
        for entry, path, head in zip(
            content["images"], paths, heads, strict=True
        ):
            if head is None:
                raise ValueError(f'"{path}" is missing or truncated')
            if head[:2] != (entry["height"], entry["width"]):
                raise ValueError(
                    f'"{path}", turned as its EXIF orientation says, is of '
                    f"height {head[0]} and width {head[1]}"
                )
            sizes.append(head[:2])
        for entry in content["annotations"]:
            left, top, width, height = map(float, entry["bbox"])
            number = numbers[entry["image_id"]]
            label = labels[entry["category_id"]]
            is_counted = not entry.get("iscrowd")
            area = math.nan if entry.get("area") is None else entry["area"]
            box = left, top, width, height
            rows.append((number, label, is_counted, box, float(area)))
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            "Annotations must be COCO's JSON: images, each with id, "
            f'file_name (in "{folder}"), height and width; annotations, each '
            "with the image_id of one of them, the category_id of a category "
            "of the training images, and bbox, four numbers; categories, each "
            f'with id and name. Received: {entry} in "{file}" '
            f"({type(error).__name__}: {error})"
        ) from error
    objects = np.array(rows, OBJECT)
    shapes = np.array(sizes, "int32").reshape(-1, 2)
    limits = scale_of(shapes[objects["image"]])
    boxes = objects["box"].astype("float32")
    boxes[:, 2:] += boxes[:, :2]
    inside = (boxes >= -TOLERANCE) & (boxes <= limits + TOLERANCE)
    boxes = np.clip(boxes, 0, limits)
    wrong = ~inside.all(axis=1) | (boxes[:, 2:] <= boxes[:, :2]).any(axis=1)
    for number in np.flatnonzero(wrong)[:1]:
        image = objects["image"][number]
        raise ValueError(
            "A box must lie in its image, and have an area. Received: "
            f'{content["annotations"][number]} in "{file}", of the image '
            f'"{paths[image]}" of height and width {sizes[image]}. Correct or '
            "remove it"
        )
    objects["box"] = boxes / limits
    objects = objects[np.argsort(objects["image"], kind="stable")]
    return Records(np.array(paths, object), shapes, objects)


def from_tfds(
    name: str,
    *,
    data_dir: str | os.PathLike | None,
    download: bool,
    embedded: Sequence[str],
) -> Source:
    """Returns a dataset of TensorFlow Datasets, as voc/2007 or coco/2017.

    Encoded images are kept in memory. If the test images have boxes, the
    validation images are used for training, as is common for VOC; otherwise
    they are used for testing, as for COCO.
    """
    tfds, builder = data.prepared_builder(
        name, _check, data_dir=data_dir, download=download, embedded=embedded
    )
    available = builder.info.splits
    known = [split for split in data.SPLITS if split in available]
    tested = None
    if "test" in known:
        known.remove("test")
        tested = _tfds_records(tfds, builder, ["test"])
    if tested is None or not len(tested.objects):
        tested = _tfds_records(tfds, builder, known[1:])
        known = known[:1]
    if known[:1] != ["train"] or not len(tested):
        raise ValueError(
            'A dataset must have the split "train", and "validation" or '
            f'"test" with boxes. Received: name="{name}", which has '
            f"{', '.join(map(str, available))}"
        )
    classes = builder.info.features["objects"]["label"].names
    splits = {"train": _tfds_records(tfds, builder, known), "test": tested}
    return splits, tuple(map(str, classes))


def _check(tfds, builder, name):
    features = dict(builder.info.features.items())
    objects = getattr(features.get("objects"), "feature", ())
    if not ("image" in features and "bbox" in objects and "label" in objects):
        raise ValueError(
            'A dataset must have the features "image" and "objects" with '
            f'"bbox" and "label". Received: name="{name}", which has '
            f"{', '.join(map(str, features))}"
        )


def _tfds_records(tfds, builder, splits):
    """Returns the images of one or several splits."""
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
            found = example["objects"]
            top, left, bottom, right = found["bbox"].reshape(-1, 4).T
            boxes = np.stack([left, top, right, bottom], axis=1)
            ignored = np.zeros(len(boxes), bool)
            for key in IGNORED:
                ignored |= found.get(key, False)
            rows = table(
                *(len(images), found["label"], boxes, ~ignored),
                found.get("area", math.nan),
            )
            # Some annotations of COCO have no area.
            objects.append(rows[(bottom > top) & (right > left)])
            images.append(example["image"])
    heads = data.headers(images, "Reading headers")
    sizes = np.array([head[:2] for head in heads], "int32").reshape(-1, 2)
    return Records(np.array(images, object), sizes, np.concatenate(objects))
