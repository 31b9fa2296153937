"""Datasets of a few images, and what their batches hold."""

import itertools
import json
import re

import numpy as np
from PIL import Image

from cbam_keras import data

SPLITS = ("train", "validation", "test")


def arrays(per_class=14, classes=5, shape=(12, 10, 3), seed=0):
    """Returns random images, with labels in random order."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(classes), per_class))
    images = rng.integers(0, 256, (len(labels), *shape)).astype("uint8")
    return images, labels


def whole(given, **options):
    """Loads the splits of a dataset as arrays."""
    return data.load(given, batch_size=None, **options)


def epoch(split):
    """Returns the batches of an epoch, and begins the next."""
    batches = list(split)
    split.on_epoch_end()
    return batches


def joined(batches):
    return tuple(np.concatenate(parts) for parts in zip(*batches, strict=True))


def assert_same(first, second):
    """Compares the batches of two epochs."""
    np.testing.assert_equal([*first], [*second])


def as_set(images):
    return {image.tobytes() for image in images}


def write_folder(root, per_class=10, classes=("cat", "dog"), size=None, seed=0):
    """Writes a folder of class folders, and returns its images by name.

    As PNG, which loses nothing; of different sizes unless `size` is given.
    """
    rng = np.random.default_rng(seed)
    written = {}
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for number in range(per_class):
            height, width = size or (16 + number, 20 - label)
            image = rng.integers(0, 256, (height, width, 3)).astype("uint8")
            path = root / name / f"{number}.png"
            Image.fromarray(image).save(path)
            written[path.relative_to(root).as_posix()] = image
    return written


def builder(name, examples, folder, file_format=None, **features):
    """Prepares examples as a dataset of TensorFlow Datasets.

    `examples` maps each split to a list of dictionaries by feature.
    """
    import tensorflow_datasets as tfds

    first, *_ = next(iter(examples.values()))
    channels = first["image"].shape[-1]
    given = features or {
        "image": tfds.features.Image(shape=(None, None, channels)),
        "label": tfds.features.ClassLabel(names=["ant", "bee"]),
    }

    tfds.dataset_builders.store_as_tfds_dataset(
        name,
        "1.0.0",
        features=tfds.features.FeaturesDict(given),
        split_datasets={x: enumerate(rows) for x, rows in examples.items()},
        data_dir=folder,
        file_format=file_format,
        download_config=tfds.download.DownloadConfig(num_shards=2),
    )


def plain_json(value):
    return json.loads(json.dumps(value))


def write_tree(root, tree, count=8):
    """Writes different images of 4 x 3 pixels of 0 and 255, and returns them.

    <a|b> is a or b, # a number, and + a space; trees are separated by spaces.
    All files are of one format, whatever their names end with.
    """
    rng = np.random.default_rng(0)
    written = []
    for line in tree.split():
        pieces = re.split("[<>]", line.replace("+", " "))
        choices = [piece.split("|") for piece in pieces]
        for name in map("".join, itertools.product(*choices)):
            numbers = range(count) if "#" in name else range(1)
            for number in numbers:
                path = root / name.replace("#", str(number))
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = 255 * rng.integers(0, 2, 12, "uint8")
                pixels[:2] = 0, 255
                # The comment makes each file another one.
                head = f"P5\n#{len(written)}\n4 3\n255\n".encode()
                path.write_bytes(head + pixels.tobytes())
                written.append(path)
    return written
