"""Datasets of TensorFlow Datasets, generated on disk and mocked."""

import re
import shutil
import socket
import sys

import numpy as np
import pytest
from data_checks import (
    builder,
    declare_large,
    epoch,
    joined,
    write_folder,
)

tfds = pytest.importorskip("tensorflow_datasets", reason="needs TFDS")

from cbam_keras import data  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
INTEGERS = {
    "image": tfds.features.Image(shape=(None, None, 3)),
    "label": tfds.features.Scalar(np.int64),
}


def _examples(count=20, secret=False, seed=0, sizes=True):
    rng = np.random.default_rng(seed)
    return [
        {
            "image": rng.integers(0, 256, (12 + number * sizes, 16, 3)).astype(
                "uint8"
            ),
            "label": -1 if secret else number % 2,
        }
        for number in range(count)
    ]


@pytest.fixture(scope="module")
def insects(tmp_path_factory):
    """Returns a folder with sets of 20 training images of two classes."""
    folder = tmp_path_factory.mktemp("insects")
    builder("insects", {"train": _examples()}, folder)
    builder("alike", {"train": _examples(sizes=False)}, folder)
    builder("integers", {"train": _examples(5)}, folder, **INTEGERS)
    return folder


@pytest.fixture
def large(insects, tmp_path):
    """Returns a folder with the same sets, streamed as if they were large."""
    shutil.copytree(insects, tmp_path / "large")
    for name in ("insects", "alike", "integers"):
        declare_large(tfds.builder(name, data_dir=tmp_path / "large"))
    return tmp_path / "large"


@pytest.fixture
def attempts(monkeypatch):
    """Counts what would reach for the network, and lets nothing through."""
    found = []

    def refuse(*arguments, **options):
        found.append(arguments)
        raise OSError("no network")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(
        tfds.core.DatasetBuilder, "download_and_prepare", refuse
    )
    return found


# From files on disk.


@pytest.mark.parametrize("is_large", [False, True], ids=["memory", "disk"])
@pytest.mark.parametrize("file_format", ["tfrecord", "array_record"])
def test_a_generated_set_holds_its_images_with_their_labels(
    tmp_path, file_format, is_large
):
    examples = _examples(sizes=False)
    prepared = builder(
        "alike", {"train": examples}, tmp_path, file_format=file_format
    )
    if is_large:
        declare_large(prepared)
    # What is read from disk has no known size.
    options = {"data_dir": tmp_path, "image_size": (12, 16)}
    loaded, other = (
        data.load("alike", seed=seed, **options) for seed in (0, 1)
    )
    assert loaded.image_shape == (12, 16, 3)
    assert loaded.class_names == ("ant", "bee")
    assert tuple(loaded.sizes.values()) == (14, 2, 4)
    assert loaded.fingerprint == other.fingerprint
    orders = [
        [
            image.astype("uint8").tobytes() + bytes([label])
            for split in each
            for image, label in zip(*joined(epoch(split)), strict=True)
        ]
        for each in (loaded, other)
    ]
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(
        example["image"].tobytes() + bytes([example["label"]])
        for example in examples
    )


@pytest.mark.parametrize(
    ("splits", "sizes"),
    [
        ({"validation": {"count": 6}}, (16, 6, 4)),
        # As ImageNet's: its validation is for testing.
        (
            {
                "validation": {"count": 8},
                "test": {"count": 6, "secret": True},
            },
            (18, 2, 8),
        ),
    ],
    ids=["validation", "secret"],
)
def test_splits_that_are_missing_are_made(tmp_path, splits, sizes):
    examples = {s: _examples(**given) for s, given in splits.items()}
    examples["train"] = _examples(sizes=False)
    prepared = builder("wasps", examples, tmp_path)
    loaded = data.load("wasps", data_dir=tmp_path, image_size=8)
    assert tuple(loaded.sizes.values()) == sizes
    declare_large(prepared)
    stream = data.load("wasps", data_dir=tmp_path, image_size=8)
    assert tuple(stream.sizes.values()) == sizes
    for split, size in zip(stream, sizes, strict=True):
        labels = joined(epoch(split))[1]
        assert len(labels) == size
        assert set(labels) <= {0, 1}


def test_plain_integers_are_labels_too_unless_streamed(insects, large):
    loaded = data.load("integers", data_dir=insects, image_size=8)
    assert loaded.class_names == ("0", "1")
    with pytest.raises(ValueError, match="must be a ClassLabel.*in_memory=Tr"):
        data.load("integers", data_dir=large)


def test_large_datasets_become_arrays_only_in_memory(large):
    options = {"data_dir": large, "image_size": 8, "batch_size": None}
    with pytest.raises(ValueError, match="too large for memory must come"):
        data.load("insects", **options)
    whole = data.load("insects", in_memory=True, **options)
    assert whole.train[0].shape == (14, 8, 8, 3)
    other = data.load("alike", data_dir=large, image_size=8)
    assert other.fingerprint != whole.fingerprint


# Not there.


def test_a_set_that_is_not_prepared_says_what_to_do(tmp_path, attempts):
    with pytest.raises(ValueError, match="is not prepared in") as caught:
        data.load("cifar10", data_dir=tmp_path)
    for part in (str(tmp_path), "download=True", "--download", "data_dir="):
        assert part in str(caught.value)
    with pytest.raises(ValueError, match="ILSVRC2012_img_train.tar") as caught:
        data.load("imagenet2012", data_dir=tmp_path)
    assert str(tmp_path / "downloads" / "manual") in str(caught.value)
    assert not attempts


def test_a_failed_download_says_what_to_do(tmp_path, attempts):
    with pytest.raises(
        ValueError, match=r"cannot be downloaded and prepared \(no network\)"
    ) as caught:
        data.load("cifar10", data_dir=tmp_path, download=True)
    for part in (str(tmp_path), "with network access", "--data-dir"):
        assert part in str(caught.value)
    assert len(attempts) == 1


def test_files_downloaded_by_hand_must_be_there(tmp_path):
    for options in ({}, {"manual_dir": tmp_path / "manual"}):
        with pytest.raises(ValueError, match="by hand, into .*manual.*registe"):
            data.load(
                "imagenet2012", data_dir=tmp_path, download=True, **options
            )


def test_a_name_is_of_a_folder_unless_data_dir_is_given(
    insects, tmp_path, monkeypatch
):
    for name in ("insects", "cifar10"):
        write_folder(tmp_path / name, 5, ("eel", "fox"), (8, 8))
    monkeypatch.chdir(tmp_path)
    loaded = data.load("insects", data_dir=insects, image_size=8)
    assert loaded.class_names == ("ant", "bee")
    for name in ("insects", "./cifar10"):
        assert data.load(name).class_names == ("eel", "fox")
    with pytest.warns(
        UserWarning,
        match='"cifar10" is a folder here and a dataset of .*; the folder is '
        'read. Write "./cifar10" for the folder, or .*--data-dir',
    ):
        assert data.load("cifar10").class_names == ("eel", "fox")
    with pytest.raises(ValueError, match="`data_dir` is only for datasets of"):
        data.load("./insects", data_dir=insects)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("cifra10", 'Did you mean "cifar10"?'),
        ("no/such/set", "(Parsing builder name string"),
        ("", 'Received: name=""'),
        ("imagenette/12px", "12px not found with version 1.0.0. Here are 10"),
        ("cifar10:99.0.0", "cannot be loaded at version 99.0.0"),
        # Looking those up asks the network.
        ("huggingface:mnist", 'Received: name="huggingface:mnist"'),
    ],
)
def test_unknown_names_are_refused_at_once(tmp_path, attempts, name, part):
    with pytest.raises(
        ValueError,
        match='`name` must be one of "mnist5k", "cluttered_mnist", ',
    ) as caught:
        data.load(name, data_dir=tmp_path)
    assert part in str(caught.value)
    assert not attempts


def test_other_features_are_refused(tmp_path):
    label = tfds.features.ClassLabel(num_classes=2)
    several = tfds.features.Sequence(label)
    image, pixels = tfds.features.Image(), np.zeros((4, 4, 3), "uint8")
    wide = tfds.features.Image(shape=(None, None, 1), dtype=np.uint16)
    grey = np.zeros((4, 4, 1), "uint16")
    for name, features, values, message in (
        (
            "photos",
            {"photo": image, "label": label},
            (pixels, 0),
            'features "image", .*has .*photo.*image=None',
        ),
        (
            "wide",
            {"image": wide, "label": label},
            (grey, 0),
            "an image of uint8.*image=Image.*uint16",
        ),
        (
            "several",
            {"image": image, "label": several},
            (pixels, [0, 1]),
            r"one class per image.*label=Sequence",
        ),
    ):
        example = dict(zip(features, values, strict=True))
        builder(name, {"train": [example] * 3}, tmp_path, **features)
        with pytest.raises(ValueError, match=message):
            data.load(name, data_dir=tmp_path)
    # Before anything is downloaded.
    with pytest.raises(ValueError, match='features "image", .*coco'):
        data.load("coco/2017", data_dir=tmp_path)


def test_training_images_with_labels_are_needed(tmp_path):
    for name, examples, message in (
        ("test", {"test": _examples(3)}, 'split "train".*which has test'),
        ("secret", {"train": _examples(3, secret=True)}, "label from 0"),
    ):
        builder(name, examples, tmp_path)
        with pytest.raises(ValueError, match=message):
            data.load(name, data_dir=tmp_path)


def test_without_tfds_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(ImportError, match=re.escape('"cbam_keras[data]"')):
        data.load("cifar10")
