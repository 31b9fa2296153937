"""Augmentation that moves boxes along."""

import numpy as np
import pytest
from detection_checks import bright_box

from cbam_keras import detection
from cbam_keras.detection.augmentation import Augmentation
from cbam_keras.detection.batches import PADDING, Batches
from cbam_keras.detection.records import Records


@pytest.mark.parametrize("name", detection.AUGMENTATIONS)
def test_boxes_follow_the_pixels(name):
    images = np.zeros((8, 40, 50, 1), "float32")
    images[:, 14:26, 12:22] = 200
    boxes = np.tile(np.array([12.0, 14, 22, 26], "float32"), (8, 1, 1))
    labels = np.zeros((8, 1), "float32")
    augment = Augmentation((name,))
    moved, found, kept = augment(images, boxes, labels, [0, 1, 2])
    assert (moved != images).any()
    assert (kept == 0).all()
    for image, box in zip(moved[..., 0], found[:, 0], strict=True):
        np.testing.assert_allclose(bright_box(image), box, atol=1.01)
    again = augment(images, boxes, labels, [0, 1, 2])[0]
    np.testing.assert_array_equal(again, moved)
    other = augment(images, boxes, labels, [0, 2, 2])[0]
    assert (other != moved).any()


def test_objects_that_leave_are_no_longer_learned():
    records = Records(
        np.full((2, 40, 40, 1), 9, "uint8"),
        np.full((2, 2), 40),
        [np.array([[0, 0, 0.02, 0.5]], "float32")] * 2,
        [np.zeros(1, "int32")] * 2,
        [np.zeros(1, bool)] * 2,
    )
    batches = Batches(records, (40, 40), 1, 2, 0, ("translate",))
    gone = []
    for epoch in range(5):
        batches.set_epoch(epoch)
        _, objects = batches[0]
        away = objects["labels"] == -1
        assert (objects["boxes"][away] == PADDING).all()
        gone.append(away.any())
    assert any(gone)
