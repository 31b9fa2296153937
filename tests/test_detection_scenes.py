"""The embedded scenes; batches, and augmentation that moves boxes along."""

import numpy as np
import pytest
from data_checks import plain_json
from detection_checks import bright_box, one_box_each

from cbam_keras import data, detection
from cbam_keras.detection.batches import PADDING, Batches


@pytest.fixture(scope="module")
def scenes(few_digits):
    return detection.load_data(batch_size=4)


def test_scenes_have_digits_in_their_boxes(scenes):
    assert scenes.sizes == {"train": 80, "test": 10}
    assert scenes.image_shape == (64, 64, 1)
    assert plain_json(scenes.describe()) == scenes.describe()
    objects = scenes.train.examples.objects
    assert set(np.bincount(objects["image"])) == {1, 2, 3}
    assert set(objects["label"]) == set(range(10))
    boxes = objects["box"]
    assert boxes.min() >= 0 and boxes.max() <= 1
    # Noise fills the image of a digit.
    sides = 64 * (boxes[:, 2:] - boxes[:, :2])
    assert 21 <= sides.min() < 24 and 42 < sides.max() <= 44


def test_test_scenes_are_the_same_for_every_seed(scenes):
    other = detection.load_data(seed=1)
    first, second = (
        (x.train.examples, x.test.examples) for x in (scenes, other)
    )
    np.testing.assert_array_equal(first[1].images, second[1].images)
    assert first[0].images.shape == second[0].images.shape
    assert (first[0].images != second[0].images).any()


def test_scenes_stay_what_they_were(few_digits):
    loaded = detection.load_data(augment=detection.AUGMENTATIONS)
    examples, (images, objects) = loaded.train.examples, loaded.train[0]
    drawn = examples.images, examples.objects["box"], images, objects["boxes"]
    assert data.digest(*drawn) == "cf3802bac6960d4f"


def test_batches_hold_each_image_once_in_an_order_of_their_own(scenes):
    orders = []
    for epoch in (0, 1, 0):
        scenes.set_epoch(epoch)
        orders.append(scenes.train.order)
    assert (orders[0] == orders[2]).all() and (orders[0] != orders[1]).any()
    assert sorted(orders[1]) == list(range(80))
    images, objects = scenes.train[1]
    assert images.shape == (4, 64, 64, 1) and images.dtype == "float32"
    rows = orders[0][4:8]
    assert (images == scenes.train.examples.images[rows]).all()
    known = scenes.train.examples.objects
    for row, boxes, labels in zip(rows, *objects.values(), strict=True):
        own = known[known["image"] == row]
        np.testing.assert_array_equal(labels[: len(own)], own["label"])
        assert (labels[len(own) :] == -1).all()
        np.testing.assert_allclose(
            boxes[: len(own)], 64 * own["box"], atol=1e-4
        )
        assert (boxes[len(own) :] == PADDING).all()


def batches_of(images, box, augment):
    """Returns batches of images with one box each, in pixels."""
    count, height, width = images.shape[:3]
    boxes = np.tile(np.divide(box, [width, height] * 2), (count, 1))
    examples = one_box_each(boxes, (height, width), images)
    return Batches(examples, images.shape[1:], count, 0, (augment,))


@pytest.mark.parametrize("name", detection.AUGMENTATIONS)
def test_boxes_follow_the_pixels(name):
    images = np.zeros((8, 40, 50, 1), "uint8")
    images[:, 14:26, 12:22] = 200
    batches = batches_of(images, [12, 14, 22, 26], name)
    moved, objects = batches[0]
    assert (moved != images).any()
    assert (objects["labels"] == 0).all()
    for image, box in zip(moved[..., 0], objects["boxes"][:, 0], strict=True):
        np.testing.assert_allclose(bright_box(image), box, atol=1.01)
    np.testing.assert_array_equal(batches[0][0], moved)
    batches.set_epoch(1)
    assert (batches[0][0] != moved).any()


def test_objects_that_leave_are_no_longer_learned():
    images = np.full((2, 40, 40, 1), 9, "uint8")
    batches = batches_of(images, [0, 0, 0.8, 20], "translate")
    gone = []
    for epoch in range(5):
        batches.set_epoch(epoch)
        _, objects = batches[0]
        away = objects["labels"] == -1
        assert (objects["boxes"][away] == PADDING).all()
        gone.append(away.any())
    assert any(gone)
