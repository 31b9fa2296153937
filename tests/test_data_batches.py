"""Batches: order and augmentation."""

import hashlib
import random

import keras
import numpy as np
import pytest
from data_checks import SPLITS, arrays, assert_same, epoch, joined, whole
from keras import layers

from cbam_keras import data
from cbam_keras.data import augmentation


class OfPython(layers.Layer):
    """Draws from Python's generator, as Keras' `AugMix`."""

    def call(self, inputs, training=False):
        return inputs * random.random()


KINDS = {
    "plain": (),
    "pixels": ("crop", "flip"),
    "boxes": ("random_resized_crop", "flip"),
    "layers": (OfPython(), layers.RandomZoom(0.2, seed=1), "flip"),
}
# Images that tell where each pixel lay.
HEIGHT, WIDTH = 16, 24
PLACES = np.stack(np.indices((HEIGHT, WIDTH)) * 10, axis=-1).astype("uint8")


def _load(kind="plain", **options):
    options = {"batch_size": 16, "augment": KINDS[kind], **options}
    return data.load(arrays(), **options)


@pytest.mark.parametrize("boxes", [False, True], ids=["plain", "boxes"])
def test_batches_hold_what_the_arrays_hold(few_digits, boxes):
    options = {"boxes": boxes, "seed": 4}
    given = "cluttered_mnist" if boxes else arrays()
    loaded = data.load(given, batch_size=16, **options)
    for split, expected in zip(loaded, whole(given, **options), strict=True):
        found = joined(epoch(split))
        assert len(found) == len(expected) == 2 + boxes
        assert (found[0].dtype, found[1].dtype) == (np.float32, np.int32)
        # Training images are shuffled: bring both into the same order.
        rows = [
            np.hstack([part.reshape(len(part), -1) for part in side])
            for side in (found, expected)
        ]
        np.testing.assert_array_equal(*(r[np.lexsort(r.T)] for r in rows))


def test_batches_say_what_they_are():
    loaded = _load("pixels", seed=3)
    count = len(loaded.train.examples)
    assert repr(loaded.train) == (
        f"<Batches: {count} examples in batches of 16, shuffled with seed 3, "
        "augmented by flip, crop>"
    )
    count = len(loaded.test.examples)
    assert repr(loaded.test) == f"<Batches: {count} examples in batches of 16>"


@pytest.mark.parametrize("kind", ["plain", "pixels", "boxes"])
def test_training_images_alone_change_and_stay_floats_to_255(kind):
    keras.config.set_dtype_policy("mixed_bfloat16")
    loaded, kept = _load(kind), whole(arrays())
    images, _ = joined(epoch(loaded.train))
    assert images.dtype == np.float32
    assert images.shape[1:] == loaded.image_shape == (12, 10, 3)
    assert 0 <= images.min() < 100 < images.max() <= 255
    for name in SPLITS[1:]:
        found = joined(epoch(getattr(loaded, name)))
        assert_same([found], [getattr(kept, name)])


def test_channels_first_moves_axes_alone():
    last, kept = epoch(_load("pixels").train), whole(arrays()).test[0]
    keras.config.set_image_data_format("channels_first")
    loaded = _load("pixels")
    assert loaded.image_shape == (3, 12, 10)
    first = epoch(loaded.train)
    assert_same([(np.moveaxis(x, 1, -1), y) for x, y in first], last)
    images = whole(arrays()).test[0]
    np.testing.assert_array_equal(images, np.moveaxis(kept, -1, 1))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("pixels", "94703784b745"), ("boxes", "b6e923111646")],
)
def test_batches_stay_what_they_were(kind, expected):
    loaded = _load(kind, seed=3)
    code = hashlib.sha256()
    for _ in range(2):
        for part in joined(epoch(loaded.train)):
            code.update(part.tobytes())
    assert code.hexdigest()[:12] == expected


def test_each_epoch_of_a_fit_has_its_own_images_alone():
    loaded, expected = _load("boxes"), []
    for number in (2, 3):
        loaded.train.set_epoch(number)
        expected.append(3 * joined(epoch(loaded.train))[0].mean())
    pool = keras.layers.GlobalAveragePooling2D()
    total = keras.layers.Dense(1, kernel_initializer="ones")
    model = keras.Sequential([keras.Input(loaded.image_shape), pool, total])
    model.compile(keras.optimizers.SGD(0.0), lambda y, outputs: outputs)
    # A resumed run begins so.
    begin = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda number, logs: loaded.set_epoch(number)
    )
    options = {"epochs": 4, "initial_epoch": 2, "shuffle": False, "verbose": 0}
    fitted = model.fit(loaded.train, callbacks=[begin], **options)
    assert fitted.history["loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", ["pixels", "boxes", "layers"])
def test_the_same_epochs_come_again_in_any_order(kind):
    state = random.getstate()
    first = _load(kind, seed=2**32 - 1)
    epochs = [epoch(first.train) for _ in range(3)]
    orders = {tuple(joined(batches)[1]) for batches in epochs}
    means = {joined(batches)[0].mean() for batches in epochs}
    assert len(orders) == len(means) == 3
    # As after a crash.
    again = _load(kind, seed=2**32 - 1)
    for number in (2, 0):
        again.set_epoch(number)
        assert_same(epoch(again.train), epochs[number])
    assert_same([again.train[i] for i in (3, 2, 1, 0)][::-1], epochs[1])
    assert random.getstate() == state


def _places(augment):
    """Returns a training batch of 200 images that were equal."""
    images = np.repeat(PLACES[None], 300, axis=0)
    given = images, np.arange(300) % 2
    loaded = data.load(given, batch_size=200, augment=augment)
    return epoch(loaded.train)[0][0]


def test_flips_turn_half_of_the_images():
    images = _places("flip")
    turned = (images == PLACES[:, ::-1]).all(axis=(1, 2, 3))
    kept = (images == PLACES).all(axis=(1, 2, 3))
    assert (turned ^ kept).all()
    # Five deviations of 200 coins.
    assert abs(turned.sum() - 100) < 35


def test_crops_shift_by_up_to_an_eighth_and_mirror_the_margin():
    images = _places("crop")
    # The middle of an image is always its own.
    shifts = images[:, 8, 12] / 10 - (8, 12)
    assert set(shifts[:, 0]) == {-2, -1, 0, 1, 2}
    assert set(shifts[:, 1]) == {-3, -2, -1, 0, 1, 2, 3}
    rows, columns = np.indices((HEIGHT, WIDTH))
    for image, (down, right) in zip(images[:20], shifts[:20], strict=True):
        y, x = rows + down, columns + right
        # Minus one is the edge itself again.
        y = np.where(y < 0, -1 - y, np.where(y > 15, 31 - y, y))
        x = np.where(x < 0, -1 - x, np.where(x > 23, 47 - x, x))
        np.testing.assert_array_equal(image, np.stack([y, x], axis=-1) * 10)


def test_random_resized_crops_have_the_areas_and_ratios_of_inception():
    rng = np.random.default_rng(0)
    draws = rng.random((3000, 10, 4), dtype="float32")
    boxes = [augmentation.draw_box((300, 400), draw) for draw in draws]
    boxes = np.array(boxes)
    top, left, high, wide = boxes.T
    assert (boxes >= 0).all()
    assert (top + high <= 300).all()
    assert (left + wide <= 400).all()
    areas = high * wide / (300 * 400)
    # Uniform from 0.08 to 1, less what would not fit, of the largest.
    assert 0.079 < areas.min() < 0.09
    assert areas.max() > 0.9
    small = areas < 0.54
    assert abs(np.median(areas[small]) - 0.31) < 0.02
    # Even for the logarithm, where all shapes fit.
    ratios = np.log((wide / high)[small])
    assert abs(ratios.mean()) < 0.02
    assert abs(ratios.std() - 2 * np.log(4 / 3) / np.sqrt(12)) < 0.01


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("kind", ["pixels", "boxes", "layers"])
def test_fit_and_loops_read_the_batches_of_each_epoch(kind, data_format):
    keras.config.set_image_data_format(data_format)
    train = _load(kind).train
    expected = []
    for number in range(2):
        train.set_epoch(number)
        expected.append([train[index] for index in range(len(train))])
    read = data.for_fit(train)
    train.set_epoch(0)
    for number in range(2):
        found = [tuple(map(np.asarray, batch)) for batch in read]
        assert_same(found, expected[number])
        assert found[0][0].dtype == np.float32
        if read is train:
            train.on_epoch_end()
    train.set_epoch(1)
    assert_same(epoch(train), expected[1])


def test_batches_for_fit_are_a_dataset_under_tensorflow():
    train = _load().train
    read = data.for_fit(train)
    if keras.backend.backend() != "tensorflow":
        assert read is train
        return
    # With it, the end of an epoch waits for a thread that sleeps.
    assert read.options().autotune.enabled is False
    assert read.cardinality() == len(train)
    # Copied as they are stored, and made floats by TensorFlow.
    stored = next(train.read_epoch())[0]
    assert stored.dtype == np.uint8
    np.testing.assert_array_equal(stored, train[0][0])


# Random layers of Keras as augmentation.


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_masks_move_with_their_images(data_format):
    keras.config.set_image_data_format(data_format)
    masks = np.random.default_rng(0).integers(0, 2, (20, 16, 12))
    images = np.repeat(100 + 100 * masks[..., None], 3, -1).astype("uint8")
    options = {"interpolation": "nearest", "fill_mode": "constant"}
    chain = keras.Sequential(
        [layers.RandomFlip("vertical"), layers.RandomRotation(0.2, **options)]
    )
    loaded = data.load_masks(images, masks, augment=["flip", chain])
    for _ in range(2):
        moved, found = joined(epoch(loaded.train))
        moved = moved[:, 0] if "first" in data_format else moved[..., 0]
        # Where a layer has filled the image, no class is known.
        assert set(np.unique(found)) == {0, 1, 255}
        values = np.select([found == 0, found == 1], [100, 200], 0)
        np.testing.assert_array_equal(moved, values)


class OfImages(layers.Layer):
    def call(self, inputs, training=False):
        return inputs


@pytest.mark.parametrize(
    ("layer", "end"),
    [
        (layers.Rescaling(1 / 255), ">"),
        (layers.MixUp(), ">"),
        (OfImages(), ">"),
        # For images in [0, 1]: those to 255 become black.
        (layers.RandomBrightness(0.2, value_range=(0, 1)), "from 0 to 1 of"),
        (layers.RandomCrop(6, 5), r"makes \(6, 5, 3\) .* \(12, 10, 3\) from"),
    ],
)
def test_layers_that_do_not_suit_are_refused(layer, end):
    images, labels = arrays(classes=2)
    masks = np.broadcast_to(labels[:, None, None], images.shape[:3])
    with pytest.raises(ValueError, match=f"must take `training`.*<.*{end}"):
        data.load_masks(images, masks, augment=keras.Sequential([layer]))
