"""Embedded datasets: digits, canvases and boxes, on made-up digits."""

import hashlib

import digits
import numpy as np
import pytest
from data_checks import SPLITS, as_set, assert_same, whole

from cbam_keras import data

# Canvases of each digit in training, validation and test.
COPIES = {
    "cluttered_mnist": (2, 1, 1),
    "crowded_mnist": (10, 4, 4),
    "mnist5k": (1, 1, 1),
}
each_name = pytest.mark.parametrize("name", COPIES)


def test_canvases_stay_what_they_were():
    """Those of version 0.1.0, which published figures are about."""
    images = whole("cluttered_mnist", seed=3, boxes=True)
    code = hashlib.sha256()
    for split in images:
        for array in split:
            code.update(array.tobytes())
    assert code.hexdigest()[:12] == "c85200d55462"
    assert images.sizes == {"train": 7200, "validation": 400, "test": 1000}


@each_name
def test_the_seed_decides_all_but_the_test_images(grey_digits, name):
    first, again, other = (whole(name, seed=seed) for seed in (3, 3, 1))
    assert_same(first, again)
    assert_same([first.test], [other.test])
    for one, another in zip([*first][:2], [*other][:2], strict=True):
        assert as_set(one[0]) != as_set(another[0])


@each_name
def test_every_digit_is_shown_with_its_label(grey_digits, name):
    classes = digits.grey()[1]
    split_of = data.stratify(classes, 0.1, seed=0)
    loaded = whole(name, boxes=name != "mnist5k")
    for split, copies in zip(SPLITS, COPIES[name], strict=True):
        images, labels, *boxes = getattr(loaded, split)
        boxes = boxes[0] if boxes else [(0, 0, 28, 28)] * len(images)
        # The brighter pixel stays and the fragments cannot cover a whole
        # digit, so the darkest pixel in its box is its own grey.
        shown = [
            image[top:bottom, left:right].min() - 1
            for image, (top, left, bottom, right) in zip(
                images, boxes, strict=True
            )
        ]
        # Canvases of one digit follow one another.
        np.testing.assert_array_equal(shown, np.repeat(split_of[split], copies))
        np.testing.assert_array_equal(classes[shown], labels)


def test_the_part_of_the_commonest_class_is_known():
    images = np.zeros((8, 4, 4), "uint8")
    train, test = [0, 1] * 4, [1, 0, 1, 1, 1, 1, 0, 1]
    loaded = data.load(((images, train), (images, test)), batch_size=3)
    assert loaded.commonest == 6 / 8


def test_crowded_mnist_in_batches_of_32_is_the_default(grey_digits):
    images = data.load()
    assert (images.name, images.batch_size) == ("crowded_mnist", 32)
    assert (images.seed, images.image_shape) == (0, (48, 48, 1))
    assert images.class_names == tuple("0123456789")


def test_nothing_is_downloaded_because_a_run_says_so():
    described = {"name": "cifar10", "data_dir": "/d", "download": True}
    found = data.Source.from_description(described)
    assert found == data.Source("cifar10", data_dir="/d")
