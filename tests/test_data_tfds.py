"""Datasets of TensorFlow Datasets, generated on disk and mocked."""

import numpy as np
import pytest
from data_checks import as_set, builder, epoch, joined, write_folder

tfds = pytest.importorskip("tensorflow_datasets", reason="needs TFDS")

from cbam_keras import data  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(params=["tfrecord", "array_record"])
def file_format(request):
    return request.param


def _examples(count=20, secret=False, sizes=False, channels=3):
    rng = np.random.default_rng(0)
    labels = [-1 if secret else number % 2 for number in range(count)]
    shapes = [(12 + number * sizes, 16, channels) for number in range(count)]
    images = [rng.integers(0, 256, shape, "uint8") for shape in shapes]
    pairs = zip(images, labels, strict=True)
    return [{"image": image, "label": label} for image, label in pairs]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_generated_set_holds_its_images_with_their_labels(
    tmp_path, file_format, channels
):
    examples = _examples(channels=channels)
    builder("alike", {"train": examples}, tmp_path, file_format)
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


def test_images_of_different_sizes_become_of_one(tmp_path, file_format):
    examples = {"train": _examples(sizes=True), "test": _examples(6)[::2]}
    builder("sizes", examples, tmp_path, file_format)
    loaded = data.load("sizes", data_dir=tmp_path, batch_size=4)
    assert loaded.image_shape == loaded.train[0][0].shape[1:] == (224, 224, 3)
    loaded = data.load("sizes", data_dir=tmp_path, image_size=(12, 16))
    images, labels = joined(epoch(loaded.test))
    known = as_set([example["image"] for example in examples["test"]])
    assert as_set(images.astype("uint8")) == known
    # A published split may lack a class.
    assert labels.tolist() == [0, 0, 0]


@pytest.mark.parametrize("changed", ["image", "label"])
def test_a_set_that_was_prepared_again_from_other_examples_is_noticed(
    tmp_path, file_format, changed
):
    found = []
    for number in (0, 1):
        examples = _examples()
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
        "train": _examples(),
        "validation": _examples(8),
        "test": _examples(6, secret=True),
    }
    builder("wasps", examples, tmp_path, file_format)
    loaded = data.load("wasps", data_dir=tmp_path, image_size=8)
    assert tuple(loaded.sizes.values()) == (18, 2, 8)
    labels = np.concatenate([joined(epoch(split))[1] for split in loaded])
    assert np.bincount(labels).tolist() == [14, 14]


def test_a_name_is_of_a_folder_unless_data_dir_is_given(tmp_path, monkeypatch):
    builder("insects", {"train": _examples()}, tmp_path / "sets")
    write_folder(tmp_path / "insects", 5, ("eel", "fox"), (8, 8))
    monkeypatch.chdir(tmp_path)
    loaded = data.load("insects", data_dir="sets", image_size=8)
    assert loaded.class_names == ("ant", "bee")
    # Where it is holds in every folder.
    assert loaded.source == {
        "name": "insects",
        "data_dir": str(tmp_path / "sets"),
        "validation_fraction": 0.1,
        "standardize": True,
    }
    assert data.load("insects").class_names == ("eel", "fox")


def test_what_is_downloaded_is_read_by_every_backend(tmp_path, monkeypatch):
    found = []
    monkeypatch.setattr(
        tfds.core.DatasetBuilder,
        "download_and_prepare",
        lambda self, **options: found.append(options) or 1 / 0,
    )
    options = {"data_dir": tmp_path}
    with pytest.raises(ZeroDivisionError):
        data.load("cifar10", download=True, **options)
    assert found[0]["file_format"] == "array_record"
    assert not found[0]["download_config"].try_download_gcs


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cifar10", {}, '"cifar10" must be prepared in .*--download'),
        ("coco/2017", {"download": True}, "one class per image.*'objects'"),
        ("cifra-10", {}, r"no folder \(nor is it a name of .*\)$"),
        ("missing", {}, r"no folder \(nor is it a name of .*\)$"),
        ("a.zip", {}, "which is a file .* unpack it"),
        ("https://a.org/x", {}, "or an address: download"),
        ("imagenette/12px", {}, "12px not found with version 1.0.0. Here are"),
    ],
)
def test_what_cannot_be_read_is_refused(
    tmp_path, monkeypatch, name, options, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.zip").write_text("")
    with pytest.raises(ValueError, match=message):
        data.load(name, **{"data_dir": "sets", **options})


def test_training_images_are_needed(tmp_path):
    builder("tested", {"test": _examples(3)}, tmp_path)
    with pytest.raises(ValueError, match="'train'.*'test'"):
        data.load("tested", data_dir=tmp_path)


def test_datasets_larger_than_memory_are_refused(tmp_path, monkeypatch):
    builder("bees", {"train": _examples()}, tmp_path)
    monkeypatch.setattr("cbam_keras.data.tfds.MOST_BYTES", 0)
    with pytest.raises(ValueError, match="fit into memory.*a folder for each"):
        data.load("bees", data_dir=tmp_path)
