"""Folds of a cross-validation: each image is tested once."""

import re

import numpy as np
import pytest
from data_checks import arrays, as_set, assert_same, builder, whole

from cbam_keras import data

FOLDS = 4


def each_fold(given, folds=FOLDS, **options):
    return [whole(given, folds=folds, fold=x, **options) for x in range(folds)]


def unequal(few=5):
    """Returns 5, 9 and 14 images of three classes, in random order."""
    images, _ = arrays(per_class=28, classes=1)
    rng = np.random.default_rng(1)
    return images, rng.permutation(np.repeat([0, 1, 2], [few, 9, 19 - few]))


def test_every_image_is_tested_once_and_trained_in_the_other_folds():
    images, labels = unequal()
    label_of = dict(zip(map(np.ndarray.tobytes, images), labels, strict=True))
    tested = []
    for loaded in each_fold((images, labels)):
        parts = [as_set(split) for split, _ in loaded]
        assert sum(map(len, parts)) == len(images)
        assert set.union(*parts) == set(label_of)
        for split, given in loaded:
            found = [label_of[image.tobytes()] for image in split]
            np.testing.assert_array_equal(found, given)
        tested += parts[2]
    assert sorted(tested) == sorted(label_of)


def test_folds_are_equally_large_and_have_equally_many_of_each_class():
    folds = each_fold(unequal(), validation_fraction=0.25)
    counts = np.array([np.bincount(x.test[1]) for x in folds])
    assert counts.sum(axis=0).tolist() == [5, 9, 14]
    assert np.ptp(counts, axis=0).max() == 1
    assert counts.sum(axis=1).tolist() == [7] * 4
    # A quarter of the others, of each class.
    for loaded, tested in zip(folds, counts, strict=True):
        expected = np.round((np.array([5, 9, 14]) - tested) / 4)
        validated = np.bincount(loaded.validation[1])
        np.testing.assert_array_equal(validated, expected)


def test_a_seed_has_the_same_folds_again_and_another_one_others():
    given = unequal()
    for loaded, again in zip(each_fold(given), each_fold(given), strict=True):
        assert_same(loaded, again)
    first, other = each_fold(given), each_fold(given, seed=1)
    sets = [[as_set(x.test[0]) for x in folds] for folds in (first, other)]
    assert not any(fold in sets[1] for fold in sets[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": 1}, "`folds` must be at least 2, or None. Received: f"),
        ({"fold": 1}, "`folds` must be a positive integer. Received: folds=N"),
        ({"folds": 3, "fold": 3}, "`fold` must be at most 2. Received: fold=3"),
        ({"folds": 3, "fold": -1}, "`fold` must be an integer from 0"),
        ({"folds": 2}, "at least 4 images for folds=2. Received: arrays, with"),
        (
            {"folds": 6},
            "Each class must have at least 6 images for folds=6. Received: "
            'arrays, with fewer of class "0" (3). Number labels from 0 without '
            "gaps, add images, or remove the class everywhere, or use fewer",
        ),
    ],
)
def test_folds_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        data.load(unequal(few=3), **options)


def test_folds_pool_published_splits(tmp_path):
    pytest.importorskip("tensorflow_datasets", reason="needs TFDS")
    rng = np.random.default_rng(0)
    rows = [
        {"image": rng.integers(0, 256, (4, 4, 3), "uint8"), "label": i % 2}
        for i in range(12)
    ]
    splits = {"train": rows[:8], "test": rows[8:]}
    builder("pooled", splits, tmp_path, "array_record")
    folds = each_fold("pooled", folds=2, data_dir=tmp_path)
    assert [loaded.sizes["test"] for loaded in folds] == [6, 6]
