"""Datasets of TensorFlow Datasets, generated on disk and mocked."""

import socket
import sys

import numpy as np
import pytest
from data_checks import assert_same, builder, epoch, joined, write_folder

tfds = pytest.importorskip("tensorflow_datasets", reason="needs TFDS")

from cbam_keras import data  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def large(monkeypatch):
    """Datasets of any size are too large for memory."""
    monkeypatch.setattr("cbam_keras.data.tfds.IN_MEMORY_BYTES", 0)


@pytest.fixture(params=["memory", "disk"])
def file_format(request):
    """Images are kept in memory, or read from disk."""
    if request.param == "memory":
        return "tfrecord"
    request.getfixturevalue("large")
    return "array_record"


def _examples(count=20, secret=False, sizes=True, channels=3):
    rng = np.random.default_rng(0)
    labels = [-1 if secret else number % 2 for number in range(count)]
    shapes = [(12 + number * sizes, 16, channels) for number in range(count)]
    images = [rng.integers(0, 256, shape, "uint8") for shape in shapes]
    pairs = zip(images, labels, strict=True)
    return [{"image": image, "label": label} for image, label in pairs]


@pytest.fixture
def attempts(monkeypatch):
    """Counts what would reach for the network, and lets nothing through."""
    found = []

    def refuse(*arguments, **options):
        found.append(options)
        raise OSError("no network")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(
        tfds.core.DatasetBuilder, "download_and_prepare", refuse
    )
    return found


@pytest.mark.parametrize("channels", [1, 3])
def test_a_generated_set_holds_its_images_with_their_labels(
    tmp_path, file_format, channels
):
    examples = _examples(sizes=False, channels=channels)
    builder("alike", {"train": examples}, tmp_path, file_format)
    # What is read from disk has no known size.
    options = {"image_size": (12, 16), "validation_fraction": 0.25}
    loaded = data.load("alike", data_dir=tmp_path, **options)
    assert loaded.image_shape == (12, 16, channels)
    assert loaded.class_names == ("ant", "bee")
    assert tuple(loaded.sizes.values()) == (12, 4, 4)
    held = [
        image.astype("uint8").tobytes() + bytes([label])
        for split in loaded
        for image, label in zip(*joined(epoch(split)), strict=True)
    ]
    assert sorted(held) == sorted(
        example["image"].tobytes() + bytes([example["label"]])
        for example in examples
    )


@pytest.mark.parametrize("changed", ["image", "label"])
def test_a_set_that_was_prepared_again_from_other_examples_is_noticed(
    tmp_path, file_format, changed
):
    found = []
    for number in (0, 1):
        examples = _examples(sizes=False)
        if number:
            examples[0][changed] = examples[1][changed]
        folder = tmp_path / str(number)
        builder("again", {"train": examples}, folder, file_format)
        found.append(data.load("again", data_dir=folder, image_size=8))
    assert found[0].sizes == found[1].sizes
    assert found[0].fingerprint != found[1].fingerprint


def test_validation_images_replace_test_images_of_secret_labels(
    tmp_path, file_format
):
    """As ImageNet's."""
    examples = {
        "train": _examples(sizes=False),
        "validation": _examples(8),
        "test": _examples(6, secret=True),
    }
    builder("wasps", examples, tmp_path, file_format)
    loaded = data.load("wasps", data_dir=tmp_path, image_size=8)
    assert tuple(loaded.sizes.values()) == (18, 2, 8)
    labels = np.concatenate([joined(epoch(split))[1] for split in loaded])
    assert np.bincount(labels).tolist() == [14, 14]


def test_a_published_split_may_lack_a_class(tmp_path):
    examples = {"train": _examples(), "test": _examples(6)[::2]}
    builder("ants", examples, tmp_path)
    labels = joined(epoch(data.load("ants", data_dir=tmp_path).test))[1]
    assert labels.tolist() == [0, 0, 0]


def test_where_a_dataset_is_holds_in_every_folder(tmp_path, monkeypatch):
    builder("bees", {"train": _examples()}, tmp_path)
    monkeypatch.chdir(tmp_path)
    loaded = data.load("bees", data_dir=".", image_size=8)
    assert loaded.source == {
        "name": "bees",
        "data_dir": str(tmp_path),
        "validation_fraction": 0.1,
        "group_by_folder": True,
    }


def test_both_formats_hold_the_same_images_in_the_same_order(tmp_path):
    for file_format in ("tfrecord", "array_record"):
        folder = tmp_path / file_format
        builder("alike", {"train": _examples(40)}, folder, file_format)
    first, second = (
        data.load("alike", data_dir=folder, image_size=8)
        for folder in tmp_path.iterdir()
    )
    assert first.fingerprint == second.fingerprint
    assert_same(epoch(first.train), epoch(second.train))


def test_tfrecords_are_for_tensorflow_and_for_memory(tmp_path, monkeypatch):
    builder("bees", {"train": _examples()}, tmp_path)
    with monkeypatch.context() as without_tensorflow:
        without_tensorflow.setitem(sys.modules, "tensorflow", None)
        with pytest.raises(ImportError, match="tensorflow.*extra `tensorflow`"):
            data.load("bees", data_dir=tmp_path)
    monkeypatch.setattr("cbam_keras.data.tfds.IN_MEMORY_BYTES", 0)
    with pytest.raises(ValueError, match="in the format array_record.*convert"):
        data.load("bees", data_dir=tmp_path)


def test_large_datasets_come_in_batches(tmp_path, large):
    builder("bees", {"train": _examples()}, tmp_path, "array_record")
    with pytest.raises(ValueError, match="More than 2 GiB need batches"):
        data.load("bees", data_dir=tmp_path, batch_size=None)


def test_a_set_that_is_not_prepared_says_what_to_do(tmp_path, attempts):
    with pytest.raises(ValueError, match="is not prepared in") as caught:
        data.load("cifar10", data_dir=tmp_path)
    for part in (str(tmp_path), "download=True", "--download", "data_dir="):
        assert part in str(caught.value)
    assert not attempts
    with pytest.raises(ValueError, match=r"failed \(no network\)"):
        data.load("cifar10", data_dir=tmp_path, download=True)
    # Every backend reads it.
    assert [options["file_format"] for options in attempts] == ["array_record"]


def test_files_downloaded_by_hand_must_be_there(tmp_path):
    options = {"data_dir": tmp_path, "manual_dir": tmp_path, "download": True}
    with pytest.raises(ValueError, match=f"{tmp_path}.* by hand .*registe"):
        data.load("imagenet2012", **options)


def test_a_name_is_of_a_folder_unless_data_dir_is_given(tmp_path, monkeypatch):
    builder("insects", {"train": _examples()}, tmp_path / "sets")
    write_folder(tmp_path / "insects", 5, ("eel", "fox"), (8, 8))
    monkeypatch.chdir(tmp_path)
    loaded = data.load("insects", data_dir="sets", image_size=8)
    assert loaded.class_names == ("ant", "bee")
    assert data.load("insects").class_names == ("eel", "fox")


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("cifra10", 'Did you mean "cifar10"?'),
        ("mnsit", 'Did you mean "mnsitt"?'),
        ("notes", "which is a file"),
        ("imagenette/12px", "12px not found with version 1.0.0. Here are 10"),
        # Looking those up asks the network.
        ("huggingface:mnist", 'Received: data="huggingface:mnist"'),
    ],
)
def test_unknown_names_are_refused_at_once(
    tmp_path, attempts, monkeypatch, name, part
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mnsitt").mkdir()
    (tmp_path / "notes").write_text("")
    with pytest.raises(
        ValueError, match='`data` must be one of "mnist5k", "cluttered_mnist", '
    ) as caught:
        data.load(name)
    assert part in str(caught.value)
    assert not attempts


def test_features_are_checked_before_a_download(tmp_path, attempts):
    with pytest.raises(ValueError, match="one class per image.*'objects'"):
        data.load("coco/2017", data_dir=tmp_path, download=True)
    assert not attempts


def test_training_images_are_needed(tmp_path):
    builder("test", {"test": _examples(3)}, tmp_path)
    with pytest.raises(ValueError, match='split "train".*test'):
        data.load("test", data_dir=tmp_path)
