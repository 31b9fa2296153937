"""Keras' random layers as augmentation."""

import json

import keras
import numpy as np
import pytest
from data_checks import arrays, assert_same, epoch, joined
from folder_checks import Killed, at_files
from networks import linear
from training_checks import numbers

from cbam_keras import data, training

# JAX compiles their many operations for each shape.
SLOW = ("aug_mix", "rand_augment")
ON_EVERY_BACKEND = ("random_erasing", "random_rotation")


def _marked(name):
    marks = []
    if name in ON_EVERY_BACKEND:
        marks = [pytest.mark.every_backend]
    if name in SLOW:
        marks = [pytest.mark.every_backend, pytest.mark.exhaustive]
    return pytest.param(name, marks=marks)


SHAPE = 12, 10, 3


def _load(augment, given=None, **options):
    # Five batches.
    options = {"batch_size": 10, "augment": augment, **options}
    return data.load(given or arrays(), **options)


@pytest.mark.parametrize("name", [_marked(name) for name in data.LAYERS])
def test_a_batch_follows_from_seed_epoch_and_number(name):
    # Whatever the precision of networks.
    keras.config.set_dtype_policy("mixed_bfloat16")
    loaded = _load(("flip", name))
    first, second = epoch(loaded.train), epoch(loaded.train)
    images, labels = joined(first)
    assert images.shape[1:] == SHAPE
    assert images.dtype == np.float32
    assert 0 <= images.min() < images.max() <= 255
    assert len({batch[0].tobytes() for batch in first + second}) == 10
    # As after a crash, and as another process begins in between.
    again = _load((name, "flip"))
    again.set_epoch(1)
    assert_same([again.train[2], again.train[0]], [second[2], second[0]])
    # What the layer draws, and not only the order of images, has changed.
    plain = _load("flip")
    plain.set_epoch(1)
    assert any((plain.train[i][0] != second[i][0]).any() for i in range(5))


@pytest.mark.every_backend
@pytest.mark.parametrize("name", ["mix_up", "cut_mix"])
def test_labels_are_mixed_as_images_are(name):
    # The value of each pixel is its class.
    labels = np.arange(140) % 5
    images = np.broadcast_to(labels[:, None, None, None], (140, 40, 40, 1))
    loaded = _load(name, (images + 100, labels), batch_size=100)
    assert loaded.one_hot
    images, labels = loaded.train[0]
    assert labels.shape == (100, 5)
    np.testing.assert_allclose(labels.sum(axis=1), 1, atol=1e-6)
    mixed = (labels > 0).sum(axis=1)
    assert set(mixed) == {1, 2}
    # The box of `cut_mix` ends between pixels, of 40 a side.
    means = images.mean(axis=(1, 2, 3)) - 100
    np.testing.assert_allclose(means, labels @ range(5), atol=0.3)
    spread = images.std(axis=(1, 2, 3)) > 0.1
    assert spread.any() == (name == "cut_mix")
    for batches in (loaded.validation, loaded.test):
        _, labels = joined(epoch(batches))
        assert labels.dtype == np.float32
        assert set(labels.max(axis=1)) == set(labels.sum(axis=1)) == {1}


@pytest.mark.parametrize("name", ["random_contrast", "random_color_jitter"])
def test_channels_first_moves_axes_alone(name):
    last = joined(epoch(_load(name).train))[0]
    keras.config.set_image_data_format("channels_first")
    first = joined(epoch(_load(name).train))[0]
    # Sums of floats in another order.
    np.testing.assert_allclose(np.moveaxis(first, 1, -1), last, atol=0.01)


def test_a_layer_is_its_name_and_arguments():
    given = keras.layers.RandomBrightness(0.05, seed=3, name="it")
    recipe = training.Recipe(augment=["mix_up", given, "flip"])
    loaded = _load(recipe.augment)
    described = {"random_brightness": {"factor": (-0.05, 0.05)}}
    assert loaded.augment == ("flip", "mix_up", described)
    # As it is written beside results.
    read = json.loads(json.dumps(loaded.describe()["augment"]))
    assert_same(epoch(_load(read).train), epoch(loaded.train))
    white = np.full((70, *SHAPE), 255, "uint8")
    images = joined(epoch(_load(given, (white, arrays()[1])).train))[0]
    assert 241 < images.min() < 245


@pytest.mark.parametrize(
    ("augment", "message"),
    [
        ("mixup", 'Did you mean "mix_up"'),
        ("random_hue", r'"random_hue" for images of shape \(12, 10, 1\)'),
        (keras.layers.RandomCrop(3, 3), "RandomCrop"),
        (["flip", 3], "names and layers"),
        (["random_zoom", keras.layers.RandomZoom(0.1)], "at most once"),
    ],
)
def test_what_cannot_be_applied_is_refused(augment, message):
    images, labels = arrays(shape=(12, 10, 1))
    with pytest.raises(ValueError, match=f"`augment` must .*{message}"):
        _load(augment, (images, labels))


@pytest.mark.every_backend
def test_training_resumes_exactly(tmp_path):
    augment = ("crop", "random_contrast", "mix_up")
    recipe = training.Recipe(epochs=3, batch_size=25, augment=augment)
    networks = {"it": lambda: linear(shape=(14, 14, 3), classes=5)}
    given = arrays(shape=(14, 14, 3))

    def die(count, source):
        if "epoch-3" in source.name:
            raise Killed

    expected = training.train(networks, given, recipe, output=tmp_path / "one")
    cut = tmp_path / "cut"
    with at_files(tmp_path, die), pytest.raises(Killed):
        training.train(networks, given, recipe, output=cut)
    found = training.train(networks, given, recipe, output=cut)
    assert numbers(found) == numbers(expected)
