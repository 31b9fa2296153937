"""Augmentation changes training images alone, and the same way again."""

import keras
import numpy as np
import pytest
from data_checks import SPLITS, arrays, assert_same, epoch, joined, write_folder

from cbam_keras import data
from cbam_keras.data import augmentation, decoding

NAMES = data.AUGMENTATIONS
KINDS = {
    "flip": ("flip",),
    "crop": ("crop",),
    "random_resized_crop": ("random_resized_crop",),
    "rand_augment": ("rand_augment",),
    "mixup": ("mixup",),
    "cutmix": ("cutmix",),
    "all": ("flip", "random_resized_crop", "rand_augment", "mixup", "cutmix"),
}
QUICK = [kind for kind in KINDS if kind not in ("rand_augment", "all")]
# RandAugment compiles hundreds of operations: once, among all, will do.
kinds = pytest.mark.parametrize("kind", [*QUICK, "all"])
# Images that tell where each pixel lay.
HEIGHT, WIDTH = 16, 24
PLACES = np.stack(np.indices((HEIGHT, WIDTH)) * 10, axis=-1).astype("uint8")


def _load(kind="flip", **options):
    options = {"batch_size": 16, "augment": KINDS[kind], **options}
    return data.load(arrays(), **options)


def _places(augment, count=200, **options):
    """Returns a training batch of `count` equal images, and its epoch's."""
    images = np.repeat(PLACES[None], 300, axis=0)
    loaded = data.load(
        (images, np.arange(300) % 2),
        batch_size=count,
        augment=augment,
        **options,
    )
    return epoch(loaded.train)[0][0]


# Again the same.


@pytest.mark.every_backend
@kinds
def test_the_same_epochs_come_again(kind):
    first, again = _load(kind), _load(kind)
    epochs = [epoch(first.train) for _ in range(3)]
    # Out of order, as after a crash.
    again.set_epoch(2)
    assert_same(epoch(again.train), epochs[2])
    again.set_epoch(0)
    assert_same(epoch(again.train), epochs[0])


@pytest.mark.parametrize("kind", QUICK)
def test_epochs_and_seeds_are_augmented_differently(kind):
    # One image many times: only augmentation can tell them apart.
    images = np.repeat(arrays()[0][:1], 40, axis=0)
    images[1::2] = 255 - images[1::2]
    given = (images, np.arange(40) % 2)
    options = {"batch_size": 32, "augment": KINDS[kind]}
    loaded = data.load(given, **options)
    other = data.load(given, seed=1, **options)
    first, second = epoch(loaded.train)[0][0], epoch(loaded.train)[0][0]
    assert (first != second).any()
    assert (first != epoch(other.train)[0][0]).any()


@kinds
def test_what_was_drawn_before_does_not_matter(kind):
    loaded = _load(kind)
    first = epoch(loaded.train)
    keras.utils.set_random_seed(5)
    keras.random.uniform((3,))
    np.random.rand(3)
    loaded.set_epoch(0)
    assert_same(epoch(loaded.train), first)


@kinds
def test_augmentation_leaves_the_global_generators_alone(kind):
    def drawn():
        import random

        return random.random(), np.random.rand()

    keras.utils.set_random_seed(3)
    expected = drawn()
    keras.utils.set_random_seed(3)
    _load(kind)
    assert drawn() == expected


# Only training, and in range.


@pytest.mark.every_backend
@pytest.mark.parametrize("kind", QUICK)
@pytest.mark.parametrize("split", SPLITS[1:])
def test_evaluation_sees_images_as_they_are(kind, split):
    images = joined(epoch(getattr(_load(kind), split)))[0]
    whole = getattr(data.load(arrays(), batch_size=None), split)[0]
    np.testing.assert_array_equal(images, whole)


@kinds
def test_images_stay_floats_from_0_to_255(kind):
    keras.config.set_dtype_policy("mixed_bfloat16")
    loaded = _load(kind)
    batches = epoch(loaded.train)
    assert [len(batch[0]) for batch in batches] == [16, 16, 16, 2]
    images = joined(batches)[0]
    assert images.dtype == np.float32
    assert images.shape[1:] == loaded.image_shape == (12, 10, 3)
    assert images.min() >= 0
    assert images.max() <= 255
    assert (images > 100).any()


@kinds
def test_channels_first_moves_axes_alone(kind):
    last = epoch(_load(kind).train)
    keras.config.set_image_data_format("channels_first")
    loaded = _load(kind)
    assert loaded.image_shape == (3, 12, 10)
    first = [
        (np.moveaxis(images, 1, -1), labels)
        for images, labels in epoch(loaded.train)
    ]
    assert_same(first, last, atol=1e-3)


def test_names_are_kept_in_the_order_of_application():
    loaded = data.load(arrays(), augment=["mixup", "flip"])
    assert loaded.augment == ("flip", "mixup")


# What each does.


@pytest.mark.every_backend
def test_flips_turn_half_of_the_images():
    images = _places("flip")
    turned = (images == PLACES[:, ::-1]).all(axis=(1, 2, 3))
    kept = (images == PLACES).all(axis=(1, 2, 3))
    assert (turned ^ kept).all()
    # Five deviations of 200 coins.
    assert abs(turned.sum() - 100) < 35


@pytest.mark.every_backend
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


@pytest.mark.every_backend
def test_random_resized_crops_have_the_areas_and_ratios_of_inception():
    rng = np.random.default_rng(0)
    height, width = np.float32(300), np.float32(400)
    boxes = np.array(
        [
            decoding.random_box(
                np, height, width, rng.random((10, 4), dtype="float32")
            )
            for _ in range(3000)
        ]
    )
    top, left, high, wide = boxes.T
    assert (boxes >= 0).all()
    assert (top + high <= height).all()
    assert (left + wide <= width).all()
    np.testing.assert_array_equal(boxes, np.round(boxes))
    areas = high * wide / (height * width)
    # Uniform from 0.08 to 1, less what would not fit, of the largest.
    assert 0.079 < areas.min() < 0.09
    assert areas.max() > 0.9
    small = areas < 0.54
    assert abs(np.median(areas[small]) - 0.31) < 0.02
    ratios = np.log((wide / high)[small])
    assert np.abs(ratios).max() < np.log(4 / 3) + 0.02
    # Even for the logarithm, where all shapes fit.
    assert abs(ratios.mean()) < 0.02
    assert abs(ratios.std() - 2 * np.log(4 / 3) / np.sqrt(12)) < 0.01
    # Everywhere: at the middle on average.
    assert abs((left + wide / 2).mean() - 200) < 5
    assert abs((top + high / 2).mean() - 150) < 4


@pytest.mark.parametrize(
    ("sides", "expected"),
    [((100, 1000), (0, 433, 100, 133)), ((1000, 90), (440, 0, 120, 90))],
    ids=["wide", "high"],
)
def test_a_shape_that_never_fits_gives_the_largest_in_the_middle(
    sides, expected
):
    # Ten times the whole area at an extreme ratio.
    draws = np.full((10, 4), 0.999, "float32")
    box = decoding.random_box(np, *map(np.float32, sides), draws)
    np.testing.assert_allclose(box, expected, atol=1)


@pytest.mark.every_backend
def test_random_resized_crops_show_parts_at_full_size():
    images = _places("random_resized_crop", image_size=(8, 12))
    assert images.shape == (200, 8, 12, 2)
    # How many levels lie between two columns: the part's width.
    steps = np.diff(images[..., 1], axis=2).mean(axis=(1, 2)) * 12 / 240
    assert steps.min() < 0.45
    assert 0.7 < steps.max() <= 1.01
    assert (np.diff(images[..., 0].mean(axis=2), axis=1) > 0).all()


@pytest.mark.every_backend
def test_mixup_mixes_images_as_it_mixes_labels():
    # Each class has one grey, so that labels tell the grey of a mixture.
    greys = np.array([10, 80, 160, 250])
    labels = np.arange(80) % 4
    images = np.broadcast_to(
        greys[labels][:, None, None, None], (80, 6, 6, 3)
    ).astype("uint8")
    loaded = data.load((images, labels), batch_size=16, augment="mixup")
    mixed, weights = joined(epoch(loaded.train))
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(
        mixed,
        np.broadcast_to((weights @ greys)[:, None, None, None], mixed.shape),
        atol=1e-3,
    )
    assert ((weights > 0.01).sum(axis=1) == 2).any()


@pytest.mark.every_backend
def test_cutmix_pastes_as_much_as_labels_say():
    greys = np.array([10, 80, 160, 250])
    labels = np.arange(80) % 4
    images = np.broadcast_to(
        greys[labels][:, None, None, None], (80, 32, 32, 3)
    ).astype("uint8")
    loaded = data.load((images, labels), batch_size=16, augment="cutmix")
    mixed, weights = joined(epoch(loaded.train))
    # No grey but those there were.
    assert set(np.unique(mixed)) <= set(greys)
    shown = (mixed[:, ..., :1] == greys).mean(axis=(1, 2))
    # Up to a row and a column of the pasted part.
    np.testing.assert_allclose(shown, weights, atol=0.07)
    assert ((weights > 0.05).sum(axis=1) == 2).any()


@pytest.mark.every_backend
def test_rounding_in_layers_does_not_pass_the_highest_level(monkeypatch):
    # As seen with `RandAugment` under JAX, for some of its draws.
    monkeypatch.setattr(
        augmentation.BatchLayers,
        "__call__",
        lambda self, images, labels, *draws: (images * 1.001 - 0.01, labels),
    )
    found = joined(epoch(_load("mixup").train))[0]
    assert found.min() == 0
    assert found.max() == 255


def test_rand_augment_changes_images():
    images = joined(epoch(_load("rand_augment").train))[0]
    before = joined(epoch(data.load(arrays(), batch_size=16).train))[0]
    assert (images != before).any(axis=(1, 2, 3)).mean() > 0.5


# One-hot labels.


@pytest.mark.every_backend
@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
@pytest.mark.parametrize("split", SPLITS)
def test_mixing_needs_one_hot_labels_everywhere(kind, split):
    loaded = _load(kind)
    labels = joined(epoch(getattr(loaded, split)))[1]
    assert loaded.one_hot
    assert labels.dtype == np.float32
    assert labels.shape == (loaded.sizes[split], 5)
    if split != "train":
        plain = getattr(data.load(arrays(), batch_size=None), split)[1]
        np.testing.assert_array_equal(labels, np.eye(5)[plain])


@pytest.mark.parametrize("augment", [(), "flip", "rand_augment"])
def test_other_labels_stay_integers(augment):
    assert not data.load(arrays(), augment=augment).one_hot


@pytest.mark.every_backend
def test_with_both_mixtures_each_batch_gets_one():
    greys = np.array([10, 250])
    labels = np.arange(300) % 2
    images = np.broadcast_to(
        greys[labels][:, None, None, None], (300, 8, 8, 3)
    ).astype("uint8")
    loaded = data.load(
        (images, labels), batch_size=16, augment=("mixup", "cutmix")
    )
    pasted = [
        set(np.unique(batch)) <= {10, 250} for batch, _ in epoch(loaded.train)
    ]
    assert 0 < sum(pasted) < len(pasted)


# Both engines.


@pytest.mark.parametrize("augment", [("crop",), ("flip",), ("crop", "flip")])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_arrays_and_tensors_are_changed_alike(augment, dtype):
    tf = pytest.importorskip("tensorflow", reason="there is one engine only")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (50, 17, 24, 3)).astype(dtype)
    draws = rng.random((50, 3), dtype="float32")
    tensors = augmentation.tf_flip_and_crop(
        tf, tf.constant(images), draws, augment
    )
    changed = augmentation.flip_and_crop(images, draws, augment)
    np.testing.assert_array_equal(changed, tensors)
    assert (changed != images).any()


def test_boxes_of_arrays_and_tensors_are_alike():
    tf = pytest.importorskip("tensorflow", reason="there is one engine only")
    draws = np.random.default_rng(0).random((30, 10, 4), dtype="float32")
    sides = np.float32(375), np.float32(500)
    for given in draws:
        np.testing.assert_array_equal(
            decoding.random_box(np, *sides, given),
            decoding.random_box(
                tf, *map(tf.constant, sides), tf.constant(given)
            ),
        )


@pytest.mark.every_backend
def test_files_are_augmented_again_the_same(tmp_path):
    write_folder(tmp_path)
    options = {"image_size": 8, "batch_size": 4, "augment": KINDS["all"][:2]}
    first, again = (data.load(tmp_path, **options) for _ in range(2))
    second = [epoch(first.train) for _ in range(2)][1]
    again.set_epoch(1)
    assert_same(epoch(again.train), second)


# Mistakes.


def test_two_kinds_of_crops_are_refused():
    with pytest.raises(ValueError, match='one of "crop" and "random_resized'):
        data.load(arrays(), augment=("crop", "random_resized_crop"))


def test_whole_arrays_are_not_augmented():
    with pytest.raises(
        ValueError, match="`augment` needs batches.*batch_size=None"
    ):
        data.load(arrays(), augment="flip", batch_size=None)


def test_a_keras_whose_layers_take_no_seeds_is_reported(monkeypatch):
    name = "_get_seed_generator"
    (owner,) = (c for c in keras.layers.MixUp.__mro__ if name in vars(c))
    monkeypatch.delattr(owner, name)
    with pytest.raises(ImportError, match=f"This needs `{name}` of Keras"):
        epoch(_load("mixup").train)


def test_rand_augment_is_for_colours():
    with pytest.raises(ValueError, match='"rand_augment" changes colours'):
        data.load(arrays(shape=(8, 8, 1)), augment="rand_augment")
