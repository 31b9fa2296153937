"""Arrays become datasets; splits, descriptions and arguments of `load`."""

import functools

import keras
import numpy as np
import pytest
from data_checks import (
    arrays,
    as_set,
    assert_same,
    joined,
    plain_json,
    whole,
    write_folder,
)

from cbam_keras import data, study
from cbam_keras.data.batches import Batches


def assert_labels_of_arrays(splits):
    labels = dict(zip(map(bytes, arrays()[0]), arrays()[1], strict=True))
    for images, given in splits:
        assert [labels[bytes(image)] for image in images] == given.tolist()


def test_arrays_are_split_class_by_class_with_their_labels():
    loaded = whole(arrays())
    # A fifth of 14 images of each class tests; a tenth of 11 validates.
    counts = [np.bincount(labels).tolist() for _, labels in loaded]
    assert counts == [[10] * 5, [1] * 5, [3] * 5]
    assert loaded.sizes == {"train": 50, "validation": 5, "test": 15}
    assert set.union(*(as_set(x) for x, _ in loaded)) == as_set(arrays()[0])
    assert_labels_of_arrays(loaded)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_class_of_few_images_is_trained_first(count):
    labels = np.repeat([0, 1], [count, 20])
    rows = data.stratify(labels, None, seed=0)
    assert 0 in labels[rows["train"]]
    assert (0 in labels[rows["test"]]) == (count > 2)


def test_test_images_are_the_same_for_every_seed_and_fraction():
    first, other = whole(arrays(), seed=0), whole(arrays(), seed=1)
    half = whole(arrays(), validation_fraction=0.5)
    assert_same([first.test] * 2, [other.test, half.test])
    assert as_set(first.train[0]) != as_set(other.train[0])
    assert as_set(first.validation[0]) != as_set(other.validation[0])


# Each class keeps one image on either side.
@pytest.mark.parametrize(
    ("fraction", "validation"), [(0.5, 6), (1e-6, 1), (1 - 1e-6, 10)]
)
def test_validation_fraction_is_of_the_training_images(fraction, validation):
    loaded = whole(arrays(), validation_fraction=fraction)
    assert loaded.sizes["validation"] == 5 * validation
    assert loaded.sizes["train"] == 5 * (11 - validation)


@pytest.mark.parametrize(
    ("divisor", "dtype"), [(1.0, "uint8"), (np.float32(2), "float32")]
)
def test_values_are_kept_of_any_type(divisor, dtype):
    images, labels = arrays(shape=(12, 10))
    given = images / divisor
    splits = {"train": (images, labels), "test": (given, labels)}
    loaded = whole(splits)
    assert loaded.image_shape == (12, 10, 1)
    assert whole(splits, image_size=6).test[0].dtype == dtype
    kept = loaded.test[0][..., 0]
    assert kept.dtype == dtype
    np.testing.assert_array_equal(kept, given)


def shuffled(seed, size=8):
    """Returns the images of `arrays` in batches, in an order of their own."""
    return Batches(data.Examples(*arrays()), size, (12, 10), 3, seed)


def tensors(batches):
    tf = pytest.importorskip("tensorflow", reason="makes a tf.data.Dataset")
    dataset = tf.data.Dataset.from_tensor_slices(joined(batches))
    dataset = dataset.batch(batches.batch_size)
    # As `image_dataset_from_directory` has them.
    dataset.class_names = ["ant", "bee", "cat", "dog", "eel"]
    return dataset


def loader(batches):
    torch = pytest.importorskip("torch", reason="makes a DataLoader").utils.data
    parts = zip(*joined(batches), strict=True)
    return torch.DataLoader([*parts], batches.batch_size, shuffle=True)


@pytest.mark.parametrize("kind", [lambda batches: batches, tensors, loader])
def test_batches_are_read_whatever_their_order(kind):
    first, again = whole(kind(shuffled(0))), whole(kind(shuffled(1, 11)))
    assert_same(first, again)
    assert first.fingerprint == again.fingerprint
    assert_labels_of_arrays(first)
    both = kind(shuffled(0)), kind(shuffled(1))
    named = dict(zip(("train", "test"), both, strict=True))
    assert whole(named).sizes == {"train": 65, "validation": 5, "test": 70}
    with pytest.raises(ValueError, match="data.1.}, or .validation"):
        whole(both)
    if kind is tensors:
        assert first.class_names == ("ant", "bee", "cat", "dog", "eel")
        study.Classification(both[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x.repeat(), "infinite.*Remove .repeat"),
        (lambda x: x.filter(lambda x, y: True), "unknown.*assert_cardinality"),
        (lambda x: x.unbatch(), r"Dataset.batch.*shape=\(\)"),
        (lambda x: x.map(lambda x, y: x), "a batch of EagerTensor"),
        (lambda x: x.map(lambda x, y: (x, y, y)), "a batch of"),
        (lambda x: x.map(lambda x, y: {"x": x}), r"batch of dict.*.map\("),
        (lambda x: x.map(lambda x, y: (BRIGHT(x), y)), "70 of 70 .*in .map"),
        (
            lambda x: x.shuffle(9).take(5),
            "of 38 .*reshuffle_each_iteration",
        ),
        (lambda x: x.map(lambda x, y: (x, y - 1)), "from -1 .*np.unique"),
        (lambda x: x.map(lambda x, y: (x / 255, y)), "values .*255 . images"),
    ],
)
def test_batches_of_other_forms_are_refused_in_their_words(change, message):
    batches = tensors(shuffled(0))
    with pytest.raises(ValueError, match=message):
        data.load(change(batches))


@pytest.mark.parametrize("form", ["float32", "bool"])
@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_whole_numbers_of_any_type_are_labels(form, shape):
    images, labels = arrays(classes=2)
    loaded = whole((images, labels.astype(form).reshape(shape)))
    assert_same(loaded, whole((images, labels)))


@pytest.mark.parametrize("mode", ["int", "binary", "categorical"])
def test_keras_loaders_are_read_in_each_of_their_modes(tmp_path, mode):
    tf = pytest.importorskip("tensorflow", reason="makes a tf.data.Dataset")
    write_folder(tmp_path, size=(6, 6))
    options = {"image_size": (6, 6), "verbose": False}
    load = functools.partial(
        keras.utils.image_dataset_from_directory, tmp_path, **options
    )
    expected = whole(load())
    assert_same(whole(load(label_mode=mode)), expected)
    generator = tf.keras.preprocessing.image.ImageDataGenerator()
    iterator = generator.flow_from_directory(
        tmp_path, (6, 6), class_mode={"int": "sparse"}.get(mode, mode)
    )
    assert_same(whole(iterator), expected)
    assert whole(iterator).class_names == ("cat", "dog")


def test_a_description_is_plain_json():
    loaded = data.load(
        arrays(), batch_size=8, seed=2, image_size=10, augment=["crop", "flip"]
    )
    described = loaded.describe()
    assert plain_json(described) == described
    assert described.pop("fingerprint")
    assert described == {
        "name": "arrays",
        "sizes": {"train": 50, "validation": 5, "test": 15},
        "input_shape": [10, 10, 3],
        "classes": 5,
        "batch_size": 8,
        "seed": 2,
        # In the order of application.
        "augment": ["flip", "crop"],
    }
    assert loaded.class_names == tuple("01234")
    assert str(loaded).startswith("arrays: 50 images of 5 classes (0, 1,")


def test_the_fingerprint_is_of_the_data_alone():
    images, labels = arrays()
    first = data.load((images, labels)).fingerprint
    again = data.load((images.copy(), labels), seed=1, batch_size=4)
    assert again.fingerprint == first
    other = np.where(labels < 2, 1 - labels, labels)
    assert data.load((images, other)).fingerprint != first
    images[3, 2, 1, 0] ^= 1
    assert data.load((images, labels)).fingerprint != first


def test_fashion_mnist_is_loaded_by_keras(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    train, test = (arrays(8, 10, (28, 28), seed) for seed in range(2))
    # Two pairs, with labels of either shape.
    pairs = train, (test[0], test[1][:, None])
    loader = keras.datasets.fashion_mnist
    monkeypatch.setattr(loader, "load_data", lambda: print("100 %") or pairs)
    loaded = whole("fashion_mnist")
    assert loaded.name == "fashion_mnist"
    assert loaded.class_names[9] == "Ankle boot"
    # That is for results.
    assert "100 %" not in capsys.readouterr().out
    assert_same([loaded.test], [(test[0][..., None], test[1])])
    assert loaded.sizes == {"train": 70, "validation": 10, "test": 80}


@pytest.mark.parametrize(
    "names", [("x_{}", "y_{}"), ("{}_images", "{}_labels")]
)
def test_a_file_of_arrays_is_read(tmp_path, names):
    """As Keras and MedMNIST write it."""
    splits = {x: arrays(seed=seed) for seed, x in enumerate(("train", "val"))}
    held = {
        name.format(split): part
        for split, pair in splits.items()
        for name, part in zip(names, pair, strict=True)
    }
    np.savez(tmp_path / "blood.npz", **held)
    loaded = whole(str(tmp_path / "blood.npz"))
    assert_same(loaded, whole(splits))
    assert (loaded.name, loaded.sizes["validation"]) == ("blood", 70)
    source = data.Source.from_description(plain_json(loaded.source))
    assert source.split().fingerprint == loaded.fingerprint
    np.savez(tmp_path / "other.npz", images=IMAGES)
    with pytest.raises(ValueError, match=r"x_train and .* \['images'\]. Pass"):
        data.load(tmp_path / "other.npz")


IMAGES, LABELS = arrays()
BOTH = IMAGES, LABELS
SPOILT = IMAGES.astype("float32")
SPOILT[[7, 9], 2, 3, 0] = np.nan, np.inf
BRIGHT = keras.layers.RandomBrightness(0.9)
ONE_HOT = r"labels \(70, 5\) of float64.*argmax.*multi_label"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"test": BOTH}, 'must be "train" and'),
        ({"train": BOTH, "tset": BOTH}, "with the keys .*tset"),
        ((IMAGES[:0], LABELS[:0]), "images are empty"),
        ((np.zeros((70, 3, 9, 9)), LABELS), r"np.moveaxis\(images, 1, -1\)"),
        ((IMAGES, LABELS[:9]), "70 images, but 9 labels"),
        ((IMAGES, np.eye(5)[LABELS]), ONE_HOT),
        ((IMAGES, LABELS.astype(str)), "labels from 0 to 4 .*: names, lab"),
        ((IMAGES, LABELS - 1), "labels from -1.*np.unique"),
        ((IMAGES, LABELS + 1), 'class "0" .0.. Number labels from 0'),
        ((IMAGES, LABELS / 2), "non-integer labels"),
        ((IMAGES, LABELS + 66), "labels from 66 to 70 for 70 images"),
        ((IMAGES, LABELS * 2), '3 images in "train".*"3" .0., .*without gaps'),
        ((IMAGES / 255, LABELS), "255 . images of .0, 1"),
        ((IMAGES / 127.5 - 1, LABELS), r"127.5 . \(images . 1\)"),
        (
            (IMAGES / 51.0 - 2, LABELS),
            "from -2.0 to 3.0. Remove the earlier",
        ),
        ((SPOILT, LABELS), "infinite values in 2 images"),
        (
            {"train": BOTH, "test": (IMAGES[:, 1:], LABELS)},
            r"one shape.*'test': \(11, 10, 3\)",
        ),
    ],
)
def test_arrays_that_make_no_dataset_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        data.load(given)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"data": IMAGES}, TypeError, r"a path or arrays \(images, labels\)"),
        ({"data": iter([BOTH])}, TypeError, "iterator. Join .*np.concat"),
        (
            {"data": (*BOTH, LABELS)},
            TypeError,
            "sample weights.*tuple of 3",
        ),
        ({"augment": "mix_up"}, ValueError, "one or more of.*RandAugment"),
        ({"augment": {"flip": 0.5}}, ValueError, "one or more of"),
        ({"augment": "flip", "batch_size": None}, ValueError, "needs batches"),
        ({"validation_fraction": 1}, ValueError, "must be less than 1"),
        ({"seed": 2**32}, ValueError, "`seed` must be an integer from 0"),
        ({"image_size": (8, "8")}, ValueError, "`image_size` must .*positive"),
        ({"data_dir": "x"}, ValueError, "`data_dir` is only for .*_dir="),
        (
            {"boxes": True, "augment": "flip"},
            ValueError,
            "cannot be combined",
        ),
        ({"boxes": True}, ValueError, '`boxes` need digits.* "arrays"'),
    ],
)
def test_wrong_arguments_are_named(options, error, message):
    with pytest.raises(error, match=message):
        data.load(**{"data": BOTH, **options})


def test_a_class_may_be_absent_from_the_test_images():
    images, labels = np.zeros((12, 8, 8, 3), "uint8"), np.arange(12) % 3
    with pytest.warns(UserWarning, match='"test" has no images of class "2"'):
        loaded = data.load(((images, labels), (images[:2], labels[:2])))
    assert loaded.class_names == ("0", "1", "2")
