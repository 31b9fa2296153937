"""Random layers of Keras as augmentation: what they do, and their seeds."""

import random

import keras
import numpy as np
import pytest
from data_checks import arrays, assert_same, epoch, joined
from keras import layers

from cbam_keras import data

# A ramp from top to bottom.
RAMP = np.broadcast_to(np.arange(60, 180, 5)[:, None, None], (24, 24, 1))


def _slopes(images):
    """Returns the rise per pixel in the middle, down and to the right."""
    middle = images[:, 8:16, 8:16, 0]
    return [np.diff(middle, axis=axis).mean(axis=(1, 2)) for axis in (1, 2)]


def _turn(images):
    down, right = _slopes(images)
    return np.arctan2(right, down) / (2 * np.pi)


MEASURES = {
    "rotate": _turn,
    "zoom": lambda images: _slopes(images)[0] / 5 - 1,
    "brightness": lambda images: (images - RAMP).mean(axis=(1, 2, 3)) / 255,
    "contrast": lambda images: images.std(axis=(1, 2, 3)) / RAMP.std() - 1,
}


@pytest.mark.every_backend
@pytest.mark.parametrize("word", MEASURES)
def test_a_word_changes_each_image_by_up_to_a_tenth(word):
    images = np.repeat(RAMP[None].astype("uint8"), 80, axis=0)
    loaded = data.load((images, np.arange(80) % 2), augment=word)
    changes = MEASURES[word](joined(epoch(loaded.train))[0])
    # Interpolation is in float32.
    assert np.abs(changes).max() <= 0.1 + 1e-3
    assert changes.min() < -0.05 < 0.05 < changes.max()
    assert (loaded.test[0][0] == RAMP).all()


class OfPython(layers.Layer):
    """Draws from Python's generator, as Keras' `AugMix`."""

    def call(self, inputs, training=False):
        return inputs + random.random()


@pytest.mark.every_backend
def test_images_repeat_by_seed_and_epoch_alone():
    images = arrays()
    augment = [OfPython(), layers.RandomZoom(0.2, seed=1), "flip"]
    load = data.load
    first, same = (load(images, batch_size=16, augment=augment) for _ in "ab")
    other = load(images, batch_size=16, augment=augment, seed=1)
    before = random.getstate()
    batches = epoch(first.train)
    assert random.getstate() == before
    assert_same(batches, [same.train[i] for i in (3, 2, 1, 0)][::-1])
    again, others = epoch(first.train), epoch(other.train)
    assert not np.array_equal(batches[0][0], again[0][0])
    assert not np.array_equal(batches[0][0], others[0][0])
    first.set_epoch(0)
    assert_same(batches, epoch(first.train))


@pytest.mark.every_backend
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
    "layer", [layers.Rescaling(1 / 255), layers.MixUp(), OfImages()]
)
def test_layers_that_do_not_suit_are_refused(layer):
    images, labels = arrays(classes=2)
    masks = np.broadcast_to(labels[:, None, None], images.shape[:3])
    with pytest.raises(ValueError, match="`augment` must take `training`.*<"):
        data.load_masks(images, masks, augment=keras.Sequential([layer]))
