"""Datasets of TensorFlow Datasets with boxes, as `voc/2007`, `coco/2017`."""

import os
from collections.abc import Sequence

import numpy as np

from cbam_keras import data
from cbam_keras._terminal import watched
from cbam_keras.detection.records import Records

# Features of an object that exclude it.
IGNORED = ("is_difficult", "is_crowd")


def from_tfds(
    name: str,
    *,
    data_dir: str | os.PathLike | None,
    download: bool,
    embedded: Sequence[str],
) -> tuple[dict[str, Records], tuple[str, ...]]:
    """Returns the splits and the names of the classes of a dataset.

    Encoded images are kept in memory. If the test images have boxes, the
    validation images are used for training, as is common for VOC; otherwise
    they are used for testing, as for COCO.
    """
    tfds, builder = data.prepared_builder(
        name, _check, data_dir=data_dir, download=download, embedded=embedded
    )
    available = builder.info.splits
    found = {
        split: _records(tfds, builder, split)
        for split in data.SPLITS
        if split in available
    }
    if "test" in found and not any(map(len, found["test"].labels)):
        del found["test"]
    train = [found[s] for s in ("train", "validation") if s in found]
    if "test" not in found:
        found["test"] = train.pop() if len(train) > 1 else None
    if "train" not in found or found["test"] is None:
        raise ValueError(
            'A dataset must have the split "train", and "validation" or '
            f'"test" with boxes. Received: name="{name}", which has '
            f"{', '.join(map(str, available))}"
        )
    classes = builder.info.features["objects"]["label"].names
    return {
        "train": _joined(train),
        "test": found["test"],
    }, tuple(map(str, classes))


def _check(tfds, builder, name):
    features = builder.info.features
    try:
        kinds = [
            features["image"],
            features["objects"]["bbox"],
            features["objects"]["label"],
        ]
    except (KeyError, TypeError):
        kinds = [None] * 3
    wanted = ("Image", "BBoxFeature", "ClassLabel")
    if not all(
        isinstance(kind, getattr(tfds.features, one))
        for kind, one in zip(kinds, wanted, strict=True)
    ):
        raise ValueError(
            'A dataset must have the features "image" and "objects" with '
            f'"bbox" and "label". Received: name="{name}", which has '
            f"{', '.join(map(str, features))}"
        )


def _records(tfds, builder, split):
    read = builder.as_dataset(
        split=split,
        decoders={"image": tfds.decode.SkipDecoding()},
        read_config=tfds.ReadConfig(try_autocache=False),
    ).as_numpy_iterator()
    total = builder.info.splits[split].num_examples
    images, boxes, labels, ignored = [], [], [], []
    for example in watched(read, total, f"Reading {split}"):
        objects = example["objects"]
        top, left, bottom, right = objects["bbox"].reshape(-1, 4).T
        # Some annotations of COCO have no area.
        kept = (bottom > top) & (right > left)
        images.append(example["image"])
        # TensorFlow Datasets checks that they lie within 0 and 1.
        found = np.stack([left, top, right, bottom], axis=1)
        boxes.append(found[kept].astype("float32"))
        labels.append(objects["label"][kept].astype("int32"))
        out = np.zeros(len(kept), bool)
        for key in IGNORED:
            out |= objects.get(key, out)
        ignored.append(out[kept])
    encoded = np.empty(len(images), object)
    encoded[:] = images
    heads = data.headers(images, f"Reading headers of {split}")
    sizes = np.array([head[:2] for head in heads], "int32").reshape(-1, 2)
    return Records(encoded, sizes, boxes, labels, ignored)


def _joined(parts):
    return Records(
        np.concatenate([part.images for part in parts]),
        np.concatenate([part.sizes for part in parts]),
        *(
            [row for part in parts for row in getattr(part, key)]
            for key in ("boxes", "labels", "ignored")
        ),
    )
