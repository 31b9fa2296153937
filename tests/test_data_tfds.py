"""Datasets of TensorFlow Datasets, generated on disk and mocked."""

import re
import socket
import time

import numpy as np
import pytest
from data_checks import (
    SPLITS,
    as_set,
    assert_same,
    assert_trains,
    builder,
    declare_large,
    epoch,
    joined,
    mock_files,
    write_folder,
)

tf = pytest.importorskip("tensorflow", reason="TFDS reads by TensorFlow")
tfds = pytest.importorskip("tensorflow_datasets", reason="needs TFDS")

from cbam_keras import data  # noqa: E402
from cbam_keras.data import tfds_download  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


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


@pytest.fixture
def insects(tmp_path):
    """Returns a function that prepares splits and loads them."""

    def load(splits, sizes=True, features=None, streamed=False, **options):
        examples = {
            split: _examples(seed=i, sizes=sizes, **given)
            for i, (split, given) in enumerate(splits.items())
        }
        prepared = builder("insects", examples, tmp_path, **(features or {}))
        if streamed:
            declare_large(prepared)
        loaded = data.load("insects", data_dir=tmp_path, **options)
        return loaded, examples

    return load


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


def test_a_generated_set_holds_its_images(insects):
    loaded, examples = insects(
        {"train": {}, "test": {"count": 6}}, sizes=False, batch_size=None
    )
    assert loaded.sizes == {"train": 18, "validation": 2, "test": 6}
    assert loaded.class_names == ("ant", "bee")
    # Alike, so they stay as they are.
    assert loaded.image_shape == (12, 16, 3)
    given = [example["image"] for example in examples["test"]]
    assert as_set(loaded.test[0]) == as_set(given)
    rest = as_set(loaded.train[0]) | as_set(loaded.validation[0])
    assert rest == as_set(e["image"] for e in examples["train"])


def test_labels_stay_with_their_images(insects):
    loaded, examples = insects({"train": {}}, sizes=False, batch_size=None)
    known = {e["image"].tobytes(): e["label"] for e in examples["train"]}
    for images, labels in loaded:
        assert [known[i.tobytes()] for i in images] == labels.tolist()


@pytest.mark.parametrize(
    ("splits", "sizes"),
    [
        ({"train": {}}, (14, 2, 4)),
        ({"train": {}, "test": {"count": 6}}, (18, 2, 6)),
        ({"train": {}, "validation": {"count": 6}}, (16, 6, 4)),
        (
            {"train": {}, "validation": {"count": 8}, "test": {"count": 6}},
            (20, 8, 6),
        ),
        # As ImageNet's: its validation is for testing.
        (
            {
                "train": {},
                "validation": {"count": 8},
                "test": {"count": 6, "secret": True},
            },
            (18, 2, 8),
        ),
        ({"train": {}, "test": {"count": 6, "secret": True}}, (14, 2, 4)),
    ],
    ids=["train", "test", "validation", "all", "secret", "secret_alone"],
)
@pytest.mark.parametrize("streamed", [False, True], ids=["memory", "stream"])
def test_splits_that_are_missing_are_made(insects, splits, sizes, streamed):
    loaded, _ = insects(splits, image_size=8, streamed=streamed)
    assert tuple(loaded.sizes.values()) == sizes
    for split in SPLITS:
        images, labels = joined(epoch(getattr(loaded, split)))
        assert len(images) == loaded.sizes[split]
        assert set(labels) <= {0, 1}


def test_images_of_different_sizes_become_224_wide(insects):
    loaded, _ = insects({"train": {}})
    assert loaded.image_shape == (224, 224, 3)


@pytest.mark.every_backend
@pytest.mark.parametrize("augment", ["flip", "random_resized_crop", "mixup"])
def test_epochs_come_again(insects, tmp_path, augment):
    loaded, _ = insects(
        {"train": {}}, image_size=8, batch_size=4, augment=augment
    )
    epochs = [epoch(loaded.train) for _ in range(3)]
    again = data.load(
        "insects",
        data_dir=tmp_path,
        image_size=8,
        batch_size=4,
        augment=augment,
    )
    again.set_epoch(2)
    assert_same(epoch(again.train), epochs[2])


def test_a_folder_prepared_by_tfds_is_read(tmp_path):
    written = {}
    for i, split in enumerate(("train", "test")):
        root = tmp_path / "pets" / split
        written[split] = write_folder(root, size=(9, 11), seed=i)
    source = tfds.ImageFolder(str(tmp_path / "pets"))
    prepared = {
        split: source.as_dataset(split=split, shuffle_files=False)
        for split in ("train", "test")
    }
    for split, dataset in prepared.items():
        prepared[split] = dataset.map(
            lambda e: {"image": e["image"], "label": e["label"]}
        )
    tfds.dataset_builders.store_as_tfds_dataset(
        name="stored",
        version="1.0.0",
        data_dir=tmp_path / "tfds",
        split_datasets=prepared,
        features=tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(
                    shape=(None, None, 3), encoding_format="png"
                ),
                "label": tfds.features.ClassLabel(names=["cat", "dog"]),
            }
        ),
    )
    loaded = data.load("stored", data_dir=tmp_path / "tfds", batch_size=None)
    assert loaded.class_names == ("cat", "dog")
    assert as_set(loaded.test[0]) == as_set(written["test"].values())


def test_the_fingerprint_tells_versions_of_a_set_apart(insects, tmp_path):
    loaded, _ = insects({"train": {}}, image_size=8)
    again = data.load("insects", data_dir=tmp_path, image_size=8, seed=3)
    assert loaded.fingerprint == again.fingerprint
    builder("wasps", {"train": _examples()}, tmp_path)
    other = data.load("wasps", data_dir=tmp_path, image_size=8)
    assert other.fingerprint != loaded.fingerprint


def test_plain_integers_are_labels_too(insects):
    features = {
        "image": tfds.features.Image(shape=(None, None, 3)),
        "label": tfds.features.Scalar(np.int64),
    }
    loaded, _ = insects({"train": {}}, features=features, image_size=8)
    assert loaded.class_names == ("0", "1")


def test_plain_integers_are_no_labels_of_a_stream(insects):
    features = {
        "image": tfds.features.Image(shape=(None, None, 3)),
        "label": tfds.features.Scalar(np.int64),
    }
    with pytest.raises(ValueError, match="must be a ClassLabel.*in_memory=Tr"):
        insects({"train": {}}, features=features, streamed=True)


@pytest.mark.every_backend
def test_networks_train_on_a_set(insects):
    loaded, _ = insects({"train": {}}, image_size=8, batch_size=4)
    assert_trains(loaded)


# Streams.


def test_a_stream_gives_every_image_once_an_epoch(insects):
    loaded, examples = insects(
        {"train": {}},
        sizes=False,
        streamed=True,
        image_size=(12, 16),
        batch_size=4,
    )
    assert isinstance(loaded.train, tf.data.Dataset)
    kept = [joined(epoch(split))[0].astype("uint8") for split in loaded]
    assert [len(split) for split in kept] == list(loaded.sizes.values())
    every = as_set(example["image"] for example in examples["train"])
    assert set.union(*map(as_set, kept)) == every


def test_a_stream_has_a_new_order_each_epoch(insects):
    loaded, _ = insects(
        {"train": {}}, streamed=True, image_size=8, batch_size=4
    )
    orders = [joined(epoch(loaded.train))[0] for _ in range(2)]
    assert (orders[0] != orders[1]).any()
    assert as_set(orders[0]) == as_set(orders[1])


@pytest.mark.parametrize("split", SPLITS)
def test_the_order_of_a_stream_does_not_depend_on_the_global_seed(
    insects, tmp_path, split
):
    loaded, _ = insects(
        {"train": {}}, streamed=True, image_size=8, batch_size=4
    )
    first = epoch(getattr(loaded, split))
    tf.random.set_seed(7)
    again = data.load("insects", data_dir=tmp_path, image_size=8, batch_size=4)
    assert_same(epoch(getattr(again, split)), first)
    other = data.load(
        "insects", data_dir=tmp_path, image_size=8, batch_size=4, seed=1
    )
    differs = joined(epoch(other.train))[0] != joined(epoch(again.train))[0]
    assert differs.any()


@pytest.mark.parametrize(
    "augment",
    [
        (),
        "random_resized_crop",
        # Keras' layers in tf.data, whichever the backend.
        pytest.param("mixup", marks=pytest.mark.every_backend),
    ],
)
def test_streams_come_again_and_can_be_sharded(insects, tmp_path, augment):
    options = {"image_size": 8, "batch_size": 4, "augment": augment}
    loaded, _ = insects({"train": {"count": 25}}, streamed=True, **options)
    whole = loaded.sharded(0, 1, 2)
    second = [epoch(whole.train) for _ in range(2)][1]
    parts = [
        data.load("insects", data_dir=tmp_path, **options).sharded(i, 2, 2)
        for i in range(2)
    ]
    for part in parts:
        part.set_epoch(1)
    for split, expected in (
        ("train", second),
        ("validation", epoch(whole.validation)),
        ("test", epoch(whole.test)),
    ):
        batches = zip(*(epoch(getattr(p, split)) for p in parts), strict=True)
        assert_same([joined(batch) for batch in batches], expected, atol=1e-3)
    assert joined(epoch(whole.test))[2].sum() == loaded.sizes["test"]


def test_large_datasets_become_arrays_only_in_memory(insects, tmp_path):
    insects({"train": {}}, streamed=True, image_size=8)
    options = {"data_dir": tmp_path, "image_size": 8, "batch_size": None}
    with pytest.raises(ValueError, match="too large for memory must come"):
        data.load("insects", **options)
    whole = data.load("insects", in_memory=True, **options)
    assert whole.train[0].shape == (14, 8, 8, 3)


# Mocked, for names that need the network.


@pytest.mark.parametrize(
    ("name", "splits", "shape", "sizes"),
    [
        ("cifar10", ("train", "test"), (32, 32, 3), (30, 10, 40)),
        (
            "imagenette/160px-v2",
            ("train", "validation"),
            (224, 224, 3),
            (None, 40, None),
        ),
    ],
    ids=["cifar10", "imagenette"],
)
def test_names_that_need_the_network_work_with_mock_data(
    tmp_path, attempts, name, splits, shape, sizes
):
    mock_files(name, tmp_path, dict.fromkeys(splits, 40))
    with tfds.testing.mock_data(
        num_examples=40,
        data_dir=str(tmp_path),
        policy=tfds.testing.MockPolicy.USE_FILES,
    ):
        loaded = data.load(name, batch_size=8)
    assert loaded.image_shape == shape
    assert len(loaded.class_names) == 10
    found = tuple(loaded.sizes.values())
    assert all(
        size in (None, own) for size, own in zip(sizes, found, strict=True)
    )
    images, labels = epoch(loaded.train)[0]
    assert images.shape == (8, *shape)
    assert set(labels) <= set(range(10))
    assert not attempts


# Not there.


def test_a_set_that_is_not_prepared_says_what_to_do(tmp_path, attempts):
    with pytest.raises(ValueError, match="is not prepared in") as caught:
        data.load("cifar10", data_dir=tmp_path)
    for part in (str(tmp_path), "download=True", "--download", "data_dir="):
        assert part in str(caught.value)
    assert not attempts


def test_files_to_fetch_by_hand_are_named(tmp_path, attempts):
    with pytest.raises(ValueError, match="ILSVRC2012_img_train.tar") as caught:
        data.load("imagenet2012", data_dir=tmp_path)
    assert str(tmp_path / "downloads" / "manual") in str(caught.value)
    assert not attempts


def test_without_an_answer_nothing_is_downloaded(tmp_path, attempts):
    with pytest.raises(ValueError, match="no answer from .*toronto"):
        data.load("cifar10", data_dir=tmp_path, download=True)
    # One knock at the door, no download.
    assert [arguments[0] for arguments in attempts] == [
        ("www.cs.toronto.edu", 443)
    ]


def test_a_proxy_is_asked_in_place_of_the_host(tmp_path, attempts, monkeypatch):
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    monkeypatch.delenv("no_proxy", raising=False)
    with pytest.raises(ValueError, match="no answer from proxy.example:3128"):
        data.load("cifar10", data_dir=tmp_path, download=True)


def test_one_answer_is_enough(monkeypatch):
    class Answer:
        def close(self):
            pass

    def connect(address, timeout):
        if address[0] == "silent":
            raise OSError
        return Answer()

    monkeypatch.setattr(socket, "create_connection", connect)
    assert tfds_download.reachable(["silent:443", "open:80"])
    assert not tfds_download.reachable(["silent:443"])


def test_a_name_server_that_hangs_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(tfds_download, "TIMEOUT", -0.9)

    def hang(*_):
        time.sleep(60)
        raise TimeoutError

    monkeypatch.setattr(socket, "create_connection", hang)
    assert not tfds_download.reachable(["slow:443"])


@pytest.mark.parametrize("manual", [None, "manual"], ids=["default", "given"])
def test_without_files_fetched_by_hand_nothing_starts(
    tmp_path, attempts, manual
):
    folder = tmp_path / manual if manual else None
    with pytest.raises(ValueError, match="is empty or missing.*register on"):
        data.load(
            "imagenet2012",
            data_dir=tmp_path,
            manual_dir=folder,
            download=True,
        )
    assert not attempts


def test_a_file_missing_among_those_fetched_is_named(tmp_path):
    (tmp_path / "manual").mkdir()
    (tmp_path / "manual" / "notes.txt").write_text("")
    with pytest.raises(ValueError, match="must be in the folder manual_dir="):
        data.load(
            "imagenet2012",
            data_dir=tmp_path / "tfds",
            manual_dir=tmp_path / "manual",
            download=True,
        )


def test_with_data_dir_a_name_is_no_folder(insects, tmp_path, monkeypatch):
    write_folder(tmp_path / "here" / "insects", 5, ("eel", "fox"), (8, 8))
    monkeypatch.chdir(tmp_path / "here")
    loaded, _ = insects({"train": {}}, image_size=8)
    assert loaded.class_names != ("eel", "fox")
    assert data.load("insects").class_names == ("eel", "fox")
    with pytest.raises(ValueError, match="`data_dir` is only for datasets of"):
        data.load("./insects", data_dir=tmp_path)


def test_a_folder_with_the_name_of_a_dataset_is_read_with_a_warning(
    tmp_path, monkeypatch
):
    write_folder(tmp_path / "cifar10", 5, ("eel", "fox"), (8, 8))
    monkeypatch.chdir(tmp_path)
    with pytest.warns(
        UserWarning,
        match='"cifar10" is a folder here and a dataset of .*; the folder is '
        'read. Write "./cifar10" for the folder, or .*--data-dir',
    ):
        assert data.load("cifar10").class_names == ("eel", "fox")
    assert data.load("./cifar10").class_names == ("eel", "fox")


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("cifra10", 'Did you mean "cifar10"?'),
        ("mnist5", 'Did you mean "mnist5k"?'),
        ("nothing_like_it", 'Received: name="nothing_like_it"'),
        ("no/such/set", "(Parsing builder name string"),
        ("", 'Received: name=""'),
        ("imagenette/12px", "it has the configurations full-size-v2, 320px"),
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


# Datasets that are not for image classification.


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (
            {
                "photo": tfds.features.Image(shape=(None, None, 3)),
                "label": tfds.features.ClassLabel(num_classes=2),
            },
            'features "image" and "label".*has .*photo',
        ),
        (
            {
                "image": tfds.features.Image(
                    shape=(None, None, 1), dtype=np.uint16
                ),
                "label": tfds.features.ClassLabel(num_classes=2),
            },
            "an image of uint8",
        ),
        (
            {
                "image": tfds.features.Image(shape=(None, None, 3)),
                "label": tfds.features.Sequence(
                    tfds.features.ClassLabel(num_classes=2)
                ),
            },
            "one class per image",
        ),
    ],
    ids=["names", "16_bits", "several_labels"],
)
def test_other_features_are_refused(tmp_path, features, message):
    example = {
        "photo": np.zeros((4, 4, 3), "uint8"),
        "image": np.zeros((4, 4, 3), "uint8"),
        "label": 0,
    }
    if "uint16" in repr(features["label"] and features.get("image")):
        example["image"] = np.zeros((4, 4, 1), "uint16")
    if isinstance(features["label"], tfds.features.Sequence):
        example["label"] = [0, 1]
    example = {name: example[name] for name in features}
    builder("insects", {"train": [example] * 3}, tmp_path, **features)
    with pytest.raises(ValueError, match=message):
        data.load("insects", data_dir=tmp_path)


def test_other_features_are_refused_before_anything_is_downloaded(tmp_path):
    with pytest.raises(ValueError, match='features "image" and "label".*coco'):
        data.load("coco/2017", data_dir=tmp_path)


def test_a_split_for_training_is_needed(tmp_path):
    builder("insects", {"test": _examples()}, tmp_path)
    with pytest.raises(ValueError, match='split "train".*which has test'):
        data.load("insects", data_dir=tmp_path)


def test_training_labels_are_not_secret(insects):
    with pytest.raises(ValueError, match='label from 0.*split "train"'):
        insects({"train": {"secret": True}})


def test_without_tfds_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tensorflow_datasets", None)
    with pytest.raises(ImportError, match=re.escape('"cbam_keras[data]"')):
        data.load("cifar10")
