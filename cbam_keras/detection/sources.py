"""Where images with boxes come from: scenes of digits, COCO's layout, TFDS."""

import functools
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from cbam_keras import _checks, data
from cbam_keras._terminal import watched
from cbam_keras.detection.records import Records, listed, overlaps, relative

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
# What the entries of COCO's JSON must have.
KEYS = {
    "images": ("id", "file_name", "height", "width"),
    "annotations": ("image_id", "category_id", "bbox"),
    "categories": ("id", "name"),
}

# Features of an object in TensorFlow Datasets that exclude it.
IGNORED = ("is_difficult", "is_crowd")


def digit_scenes(seed: int) -> Source:
    """Returns scenes with digits of several sizes among clutter.

    A training scene per digit for training, and half as many scenes as digits
    for testing; the test scenes are the same for every seed.
    """
    digits, labels = data.mnist_digits()
    indices = data.stratified(labels, None, seed)
    splits = {}
    for split, share in (("train", 1), ("test", 2)):
        rows = indices[split]
        rng = np.random.default_rng(
            [0 if split == "test" else seed, *split.encode()]
        )
        splits[split] = _scenes(
            digits[rows], labels[rows], max(1, len(rows) // share), rng
        )
    return splits, tuple(str(digit) for digit in range(10))


def _scenes(digits, labels, count, rng):
    """Returns records of `count` scenes of these digits."""
    images = np.zeros((count, CANVAS, CANVAS, 1), "uint8")
    boxes, classes = [], []
    for canvas in images[..., 0]:
        for source in digits[rng.integers(len(digits), size=FRAGMENTS)]:
            # From the middle of a digit, where the ink is.
            y, x = rng.integers(4, source.shape[0] - 3 - FRAGMENT, size=2)
            top, left = rng.integers(0, CANVAS - FRAGMENT + 1, size=2)
            patch = source[y : y + FRAGMENT, x : x + FRAGMENT]
            _overlay(canvas, patch, top, left)
        shown = np.zeros((0, 4), "float32")
        kept = []
        chosen = rng.integers(len(digits), size=rng.integers(1, MAX_DIGITS + 1))
        for index in chosen:
            box = _add_digit(canvas, digits[index], shown, rng)
            if box is not None:
                shown = np.concatenate([shown, box[None]])
                kept.append(labels[index])
        boxes.append(shown / CANVAS)
        classes.append(np.array(kept, "int32"))
    return Records(
        images=images,
        sizes=np.full((count, 2), CANVAS, "int32"),
        boxes=boxes,
        labels=classes,
        ignored=[np.zeros(len(kept), bool) for kept in classes],
    )


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
    content = {split: _read(file) for split, file in files.items()}
    classes = {
        category["id"]: category["name"]
        for category in content["train"]["categories"]
    }
    order = {identity: i for i, identity in enumerate(sorted(classes))}
    splits = {
        split: _folder_records(path, file, content[split], order)
        for split, file in files.items()
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
                [entry[name] for name in needed]
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


def _folder_records(root, file, content, order):
    folder = root / file.stem.removeprefix("instances_")
    by_image: dict[Any, list] = {image["id"]: [] for image in content["images"]}
    for annotation in content["annotations"]:
        for key, known, expected in (
            ("image_id", by_image, "listed image"),
            ("category_id", order, "category of the training images"),
        ):
            if annotation[key] not in known:
                raise ValueError(
                    f"Each annotation must be of a {expected}. Received: "
                    f'"{file}" with {key}={annotation[key]!r}'
                )
        by_image[annotation["image_id"]].append(annotation)
    paths, boxes, labels, ignored = [], [], [], []
    for image in content["images"]:
        path = folder / image["file_name"]
        if not path.is_file():
            raise ValueError(
                f'Each image of "{file}" must be in the folder "{folder}". '
                f"Received: file_name={_checks.quoted(image['file_name'])}"
            )
        objects = by_image[image["id"]]
        corners = [annotation["bbox"] for annotation in objects]
        size = image["height"], image["width"]
        paths.append(str(path))
        boxes.append(relative(corners, *size, f'"{path}"'))
        labels.append(
            np.array([order[a["category_id"]] for a in objects], "int32")
        )
        ignored.append(
            np.array([bool(a.get("iscrowd")) for a in objects], bool)
        )
    sizes = [(image["height"], image["width"]) for image in content["images"]]
    sizes = np.array(sizes, "int32").reshape(-1, 2)
    return Records(listed(paths), sizes, boxes, labels, ignored)


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
    splits = {
        split: _tfds_records(tfds, builder, split)
        for split in data.SPLITS
        if split in available
    }
    if "test" in splits and not any(map(len, splits["test"].labels)):
        del splits["test"]
    train = [splits[s] for s in ("train", "validation") if s in splits]
    if "test" not in splits and len(train) > 1:
        splits["test"] = train.pop()
    if not {"train", "test"} <= set(splits):
        raise ValueError(
            'A dataset must have the split "train", and "validation" or '
            f'"test" with boxes. Received: name="{name}", which has '
            f"{', '.join(map(str, available))}"
        )
    classes = builder.info.features["objects"]["label"].names
    splits = {"train": _joined(train), "test": splits["test"]}
    return splits, tuple(map(str, classes))


def _check(tfds, builder, name):
    features, kinds = builder.info.features, tfds.features
    try:
        objects = features["objects"]
        fits = (
            isinstance(features["image"], kinds.Image)
            and isinstance(objects["bbox"], kinds.BBoxFeature)
            and isinstance(objects["label"], kinds.ClassLabel)
        )
    except (KeyError, TypeError):
        fits = False
    if not fits:
        raise ValueError(
            'A dataset must have the features "image" and "objects" with '
            f'"bbox" and "label". Received: name="{name}", which has '
            f"{', '.join(map(str, features))}"
        )


def _tfds_records(tfds, builder, split):
    examples = builder.as_dataset(
        split=split,
        decoders={"image": tfds.decode.SkipDecoding()},
        read_config=tfds.ReadConfig(try_autocache=False),
    ).as_numpy_iterator()
    total = builder.info.splits[split].num_examples
    images, boxes, labels, ignored = [], [], [], []
    for example in watched(examples, total, f"Reading {split}"):
        objects = example["objects"]
        top, left, bottom, right = objects["bbox"].reshape(-1, 4).T
        # Some annotations of COCO have no area.
        kept = (bottom > top) & (right > left)
        images.append(example["image"])
        # TensorFlow Datasets checks that they lie within 0 and 1.
        corners = np.stack([left, top, right, bottom], axis=1)
        boxes.append(corners[kept].astype("float32"))
        labels.append(objects["label"][kept].astype("int32"))
        flagged = np.zeros(len(kept), bool)
        for key in IGNORED:
            flagged |= objects.get(key, flagged)
        ignored.append(flagged[kept])
    heads = data.headers(images, f"Reading headers of {split}")
    sizes = np.array([head[:2] for head in heads], "int32").reshape(-1, 2)
    return Records(listed(images), sizes, boxes, labels, ignored)


def _joined(splits):
    """Returns the records of several splits as those of one."""
    images, sizes, *objects = zip(
        *(vars(records).values() for records in splits), strict=True
    )
    return Records(
        np.concatenate(images),
        np.concatenate(sizes),
        *([row for rows in lists for row in rows] for lists in objects),
    )
