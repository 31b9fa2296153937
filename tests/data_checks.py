"""Datasets of a few images, and what their batches hold."""

import json
import pathlib
import struct
import zlib

import keras
import numpy as np
from PIL import Image

SPLITS = ("train", "validation", "test")


def arrays(per_class=14, classes=5, shape=(12, 10, 3), seed=0):
    """Returns random images, with labels in random order."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(classes), per_class))
    images = rng.integers(0, 256, (len(labels), *shape)).astype("uint8")
    return images, labels


def epoch(split):
    """Returns the batches of an epoch as NumPy arrays, as `fit` sees them."""
    batches = [
        tuple(keras.ops.convert_to_numpy(part) for part in batch)
        for batch in split
    ]
    if isinstance(split, keras.utils.PyDataset):
        split.on_epoch_end()
    return batches


def joined(batches):
    return tuple(np.concatenate(parts) for parts in zip(*batches, strict=True))


def assert_same(first, second, atol=0):
    """Compares the batches of two epochs."""
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        for part, same in zip(one, other, strict=True):
            np.testing.assert_allclose(part, same, atol=atol)


def assert_trains(loaded):
    """Fits a network, and checks that it used both splits."""
    model = keras.Sequential(
        [
            keras.Input(loaded.image_shape),
            keras.layers.Flatten(),
            keras.layers.Dense(len(loaded.class_names)),
        ]
    )
    model.compile(
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    history = model.fit(
        loaded.train,
        validation_data=loaded.validation,
        verbose=0,
        shuffle=False,
    ).history
    assert set(history) == {"loss", "val_loss"}


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


def write_bomb(path):
    """Writes a small file with the header of an image of 900 megapixels."""

    def chunk(kind, content):
        checksum = zlib.crc32(kind + content)
        return struct.pack(
            f">I4s{len(content)}sI", len(content), kind, content, checksum
        )

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(1000)))
        + chunk(b"IEND", b"")
    )


def builder(name, examples, folder, **features):
    """Prepares examples as a dataset of TensorFlow Datasets.

    `examples` maps each split to a list of dictionaries by feature.
    """
    import tensorflow_datasets as tfds

    given = features or {
        "image": tfds.features.Image(shape=(None, None, 3)),
        "label": tfds.features.ClassLabel(names=["ant", "bee"]),
    }

    class Generated(
        tfds.core.GeneratorBasedBuilder,
        # So that it is found by its files only.
        skip_registration=True,
    ):
        VERSION = tfds.core.Version("1.0.0")
        pkg_dir_path = pathlib.Path(folder)

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(given)
            )

        def _split_generators(self, manager):
            return {
                split: (
                    (number, example) for number, example in enumerate(rows)
                )
                for split, rows in examples.items()
            }

        def _generate_examples(self):
            raise NotImplementedError

    Generated.name = name
    made = Generated(data_dir=folder)
    made.download_and_prepare()
    return made


def declare_large(builder):
    """Has a prepared dataset claim 3 GiB, which is too large for memory."""
    path = pathlib.Path(builder.data_dir) / "dataset_info.json"
    info = json.loads(path.read_text())
    for split in info["splits"]:
        split["numBytes"] = str(3 * 2**30)
    path.write_text(json.dumps(info))


def mock_files(name, folder, splits):
    """Writes the description of a dataset that cannot be downloaded here.

    `tfds.testing.mock_data` then needs to generate only the examples.
    """
    import tensorflow_datasets as tfds

    made = tfds.builder(name, data_dir=folder, try_gcs=False)
    made.info.set_splits(
        tfds.core.splits.SplitDict(
            [
                tfds.core.splits.SplitInfo(
                    name=split,
                    shard_lengths=[size],
                    num_bytes=size,
                    filename_template=tfds.core.ShardedFileTemplate(
                        data_dir=pathlib.Path(made.data_dir),
                        dataset_name=made.name,
                        split=split,
                        filetype_suffix="tfrecord",
                    ),
                )
                for split, size in splits.items()
            ]
        )
    )
    pathlib.Path(made.data_dir).mkdir(parents=True)
    made.info.write_to_directory(made.data_dir)


def plain_json(value):
    return json.loads(json.dumps(value))
