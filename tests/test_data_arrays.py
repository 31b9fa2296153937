"""Arrays become datasets: split, resized and described."""

import keras
import numpy as np
import pytest
from data_checks import (
    SPLITS,
    arrays,
    as_set,
    assert_same,
    assert_trains,
    epoch,
    joined,
    plain_json,
)

from cbam_keras import data

# Of 14 images of each class, a fifth tests; a tenth of 11 validates.
COUNTS = {"train": 10, "validation": 1, "test": 3}


def _whole(given, **options):
    return data.load(given, batch_size=None, **options)


# What is taken.


@pytest.mark.parametrize("split", SPLITS)
def test_arrays_are_split_class_by_class(split):
    loaded = _whole(arrays())
    counts = np.bincount(getattr(loaded, split)[1])
    assert counts.tolist() == [COUNTS[split]] * 5
    assert loaded.sizes[split] == 5 * COUNTS[split]


def test_every_array_lands_in_one_split_with_its_label():
    images, labels = arrays()
    known = {
        i.tobytes(): label for i, label in zip(images, labels, strict=True)
    }
    loaded = _whole((images, labels))
    found = {
        image.tobytes(): label
        for split in loaded
        for image, label in zip(*split, strict=True)
    }
    assert found == known
    assert sum(loaded.sizes.values()) == len(images)


@pytest.mark.parametrize("given", [("test",), ("validation",), SPLITS[1:]])
def test_splits_that_are_given_stay_as_they_are(given):
    parts = {name: arrays(seed=i) for i, name in enumerate(("train", *given))}
    loaded = _whole(parts, seed=3)
    for name in given:
        np.testing.assert_array_equal(getattr(loaded, name)[0], parts[name][0])
        np.testing.assert_array_equal(getattr(loaded, name)[1], parts[name][1])
    own = [s for s in SPLITS if s not in given]
    kept = [as_set(getattr(loaded, name)[0]) for name in own]
    assert set.union(*kept) == as_set(parts["train"][0])
    assert sum(map(len, kept)) == 70


def test_test_images_are_the_same_for_every_seed():
    first, other = _whole(arrays(), seed=0), _whole(arrays(), seed=1)
    np.testing.assert_array_equal(first.test[0], other.test[0])
    assert as_set(first.train[0]) != as_set(other.train[0])


@pytest.mark.parametrize(
    ("change", "dtype"),
    [
        (lambda x: x.astype("int64"), np.uint8),
        (lambda x: x.astype("float64"), np.uint8),
        (lambda x: x + np.float32(0) - (x > 9) / 2, np.float32),
    ],
    ids=["int64", "whole_float64", "fractions"],
)
def test_values_are_kept_whatever_the_type(change, dtype):
    images, labels = arrays()
    given = change(images)
    kept = _whole({"train": (images, labels), "test": (given, labels)}).test[0]
    assert kept.dtype == dtype
    np.testing.assert_array_equal(kept, given)


def test_images_without_channels_get_one():
    images, labels = arrays(shape=(12, 10))
    loaded = _whole((images, labels[:, None]))
    assert loaded.image_shape == (12, 10, 1)
    assert loaded.train[1].shape == (50,)


@pytest.mark.every_backend
@pytest.mark.parametrize("split", SPLITS)
def test_batches_hold_what_the_arrays_hold(split):
    loaded = data.load(arrays(), batch_size=16)
    images, labels = joined(epoch(getattr(loaded, split)))
    whole = getattr(_whole(arrays()), split)
    assert (images.dtype, labels.dtype) == (np.float32, np.int32)
    assert as_set(images.astype("uint8")) == as_set(whole[0])
    assert len(images) == len(whole[0])


@pytest.mark.every_backend
def test_set_epoch_gives_the_fourth_epoch_of_an_undisturbed_one():
    loaded, fresh = (data.load(arrays(), batch_size=16) for _ in range(2))
    fourth = [epoch(loaded.train) for _ in range(4)][3]
    fresh.set_epoch(3)
    assert_same(epoch(fresh.train), fourth)


@pytest.mark.every_backend
def test_networks_train_on_arrays():
    loaded = data.load(arrays(), batch_size=16)
    assert_trains(loaded)


# Sizes.


def _ramp(height, width, axis):
    """Returns two classes of images that grow by 2 a pixel along an axis."""
    steps = 2 * np.indices((height, width))[axis - 1]
    images = np.repeat(steps[None, ..., None], 20, axis=0).astype("uint8")
    return images, np.arange(20) % 2


@pytest.mark.every_backend
@pytest.mark.parametrize("axis", [1, 2], ids=["down", "right"])
@pytest.mark.parametrize(
    ("given", "size"),
    [
        ((40, 60), (20, 20)),
        ((60, 40), (20, 20)),
        ((40, 60), (24, 50)),
        ((100, 64), (128, 128)),
        ((110, 120), (160, 130)),
    ],
)
def test_resizing_keeps_the_middle_at_the_right_scale(given, size, axis):
    # Linear in, linear out: the value tells where a pixel comes from.
    loaded = _whole(_ramp(*given, axis), image_size=size)
    image = loaded.test[0][0, ..., 0].astype("float64")
    covered = [round(s * 256 / 224) if min(size) >= 128 else s for s in size]
    pixel = min(given[0] / covered[0], given[1] / covered[1])
    place = np.arange(size[axis - 1]) + 0.5 - size[axis - 1] / 2
    expected = 2 * (given[axis - 1] / 2 + place * pixel - 0.5)
    found = image.mean(axis=2 - axis)
    # At the borders there is nothing beyond to average with.
    inner = slice(3, -3)
    np.testing.assert_allclose(found[inner], expected[inner], atol=0.51)


@pytest.mark.every_backend
def test_resizing_averages_what_it_leaves_out():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, 64, 64, 5)).astype("uint8")
    loaded = _whole((images, np.arange(20) % 2), image_size=8)
    assert loaded.image_shape == (8, 8, 5)
    # Eight by eight pixels become one: noise of deviation 74 nearly vanishes.
    assert loaded.test[0].std() < 74 / 6
    assert abs(loaded.test[0].mean() - 127.5) < 3


def test_images_of_the_right_size_are_left_alone():
    resized = _whole(arrays(), image_size=(12, 10))
    assert_same([resized.test], [_whole(arrays()).test])


# Descriptions.


def test_a_description_is_plain_json():
    described = data.load(
        arrays(), batch_size=8, seed=2, image_size=10, augment="flip"
    ).describe()
    assert plain_json(described) == described
    assert described.pop("fingerprint")
    assert described == {
        "name": "arrays",
        "sizes": {"train": 50, "validation": 5, "test": 15},
        "image_shape": [10, 10, 3],
        "classes": 5,
        "batch_size": 8,
        "seed": 2,
        "augment": ["flip"],
    }


def test_class_names_are_the_labels():
    assert data.load(arrays()).class_names == tuple("01234")


def test_the_fingerprint_is_of_the_data_alone():
    images, labels = arrays()
    first = data.load((images, labels)).fingerprint
    again = data.load((images.copy(), labels), seed=1, batch_size=4)
    assert again.fingerprint == first
    images[3, 2, 1, 0] ^= 1
    assert data.load((images, labels)).fingerprint != first
    images[3, 2, 1, 0] ^= 1
    other = np.where(labels == 0, 1, np.where(labels == 1, 0, labels))
    assert data.load((images, other)).fingerprint != first


@pytest.mark.every_backend
def test_channels_may_come_first():
    keras.config.set_image_data_format("channels_first")
    loaded = data.load(arrays(), batch_size=7)
    whole = _whole(arrays())
    assert loaded.image_shape == whole.image_shape == (3, 12, 10)
    images = joined(epoch(loaded.test))[0]
    np.testing.assert_array_equal(images, whole.test[0])
    keras.config.set_image_data_format("channels_last")
    np.testing.assert_array_equal(
        np.moveaxis(images, 1, -1), _whole(arrays()).test[0]
    )


# Mistakes.

IMAGES, LABELS = arrays()
RARE = np.where(np.arange(70) < 1, 0, 1 + np.arange(70) % 4)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"test": (IMAGES, LABELS)}, ValueError, 'must be "train" and'),
        (
            {"train": (IMAGES, LABELS), "tset": (IMAGES, LABELS)},
            ValueError,
            "Received: name with the keys .*tset",
        ),
        ((IMAGES, LABELS, LABELS), TypeError, r"as \(images, labels\)"),
        ({"train": IMAGES}, TypeError, "Received: ndarray for the split"),
        ((IMAGES[:0], LABELS[:0]), ValueError, "and not empty"),
        ((IMAGES[0, 0], LABELS), ValueError, r"\(N, H, W, C\) or"),
        ((IMAGES, LABELS[:9]), ValueError, r"labels \(9,\)"),
        (
            (IMAGES, np.eye(5)[LABELS]),
            ValueError,
            r"one class per image.*labels \(70, 5\).*argmax.*other-tasks.md",
        ),
        ((IMAGES, LABELS + 0.0), TypeError, "of type float64.*argmax"),
        ((IMAGES, LABELS - 1), ValueError, "the label -1"),
        ((IMAGES, LABELS * 2), ValueError, 'none of class "1", "3", "5", ...'),
        ((IMAGES, LABELS * 0), ValueError, "at least two classes"),
        ((IMAGES, LABELS * 10**9), ValueError, "the label 4000000000 among 70"),
        (
            (IMAGES, LABELS + 2**32 * (LABELS == 4)),
            ValueError,
            "the label 4294",
        ),
        (([[1, 2], [3]], LABELS), ValueError, "of one shape.*inhomogeneous"),
        (
            ((IMAGES, LABELS), (IMAGES, LABELS)),
            ValueError,
            "of one shape.*inhomogeneous",
        ),
        ((IMAGES, RARE), ValueError, 'at least 3 training.*class "0"'),
        ((IMAGES / 255, LABELS), ValueError, "Multiply them by 255"),
        ((IMAGES / 127.5 - 1, LABELS), ValueError, "values from -1.0 to"),
        ((IMAGES * 2.0, LABELS), ValueError, "values from 0.0 to 510.0"),
        ((IMAGES * np.nan, LABELS), ValueError, "must be finite numbers"),
        ((IMAGES.astype(str), LABELS), TypeError, r"numbers in \[0, 255\]"),
        (
            {"train": (IMAGES, LABELS), "test": (IMAGES[:, 1:], LABELS)},
            ValueError,
            r'"test" with \(11, 10, 3\)',
        ),
        (
            {"train": (IMAGES, LABELS), "test": (IMAGES[:2], LABELS[:2])},
            ValueError,
            'split "test" has none of class',
        ),
        (
            {
                "train": (IMAGES[LABELS < 4], LABELS[LABELS < 4]),
                "test": (IMAGES, LABELS),
            },
            ValueError,
            'split "train" has none of class "4"',
        ),
    ],
)
def test_arrays_that_make_no_dataset_are_refused(given, error, message):
    with pytest.raises(error, match=message) as caught:
        data.load(given)
    assert "Received: " in str(caught.value)


@pytest.mark.parametrize("option", ["data_dir", "manual_dir"])
def test_folders_of_tensorflow_datasets_are_only_for_those(option):
    with pytest.raises(
        ValueError, match=f'`{option}` is only for .*{option}="x"'
    ):
        data.load(arrays(), **{option: "x"})


@pytest.mark.parametrize(
    "options",
    [{"augment": "flip"}, {"image_size": 24}],
    ids=["augment", "size"],
)
def test_boxes_are_those_of_unchanged_images(few_digits, options):
    with pytest.raises(ValueError, match="`boxes` fit only images that stay"):
        data.load("cluttered_mnist", boxes=True, **options)
