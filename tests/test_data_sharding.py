"""Several processes together read what a single process reads."""

import keras
import numpy as np
import pytest
from data_checks import (
    SPLITS,
    arrays,
    assert_same,
    epoch,
    joined,
    plain_json,
    write_folder,
)

from cbam_keras import data
from cbam_keras.data.sharding import BatchOptions, Shard, plan_epoch

AUGMENTS = {
    "plain": (),
    "pixels": ("crop", "flip"),
    "boxes": ("random_resized_crop", "flip"),
    "mixed": ("flip", "mixup"),
    "both": ("random_resized_crop", "mixup", "cutmix"),
}


def _load(kind="plain", batch_size=16, **options):
    options = {"augment": AUGMENTS[kind], **options}
    return data.load(arrays(), batch_size=batch_size, **options)


def _together(parts, split):
    """Returns the batches of several processes, put side by side."""
    batches = zip(*(epoch(getattr(p, split)) for p in parts), strict=True)
    return [joined(batch) for batch in batches]


@pytest.mark.every_backend
@pytest.mark.parametrize(
    ("kind", "count"), [*((kind, 2) for kind in AUGMENTS), ("plain", 4)]
)
def test_parts_make_up_the_batches_of_one_process(kind, count):
    loaded = _load(kind)
    whole = loaded.sharded(0, 1, 4)
    parts = [_load(kind).sharded(i, count, 4) for i in range(count)]
    # Twice: in the second epoch too.
    for _ in range(2):
        assert_same(_together(parts, "train"), epoch(whole.train), atol=1e-3)


@pytest.mark.every_backend
@pytest.mark.parametrize("split", SPLITS[1:])
def test_parts_make_up_evaluation_too(split):
    whole = _load().sharded(0, 1, 4)
    parts = [_load().sharded(i, 2, 4) for i in range(2)]
    assert_same(_together(parts, split), epoch(getattr(whole, split)))


@pytest.mark.slow
def test_parts_are_changed_alike_by_rand_augment():
    loaded = _load(augment="rand_augment")
    whole = epoch(loaded.sharded(0, 1, 2).train)
    second = epoch(loaded.sharded(1, 2, 2).train)
    halves = [
        tuple(array[len(array) // 2 :] for array in batch) for batch in whole
    ]
    assert_same(second, halves, atol=1e-3)


@pytest.mark.every_backend
@pytest.mark.parametrize("kind", ["plain", "mixed"])
def test_one_device_sees_what_an_undivided_set_gives(kind):
    loaded = _load(kind)
    assert_same(
        epoch(loaded.sharded(0, 1, 1).train), epoch(loaded.train), atol=1e-3
    )


@pytest.mark.every_backend
def test_each_process_gets_a_contiguous_part_of_the_same_size():
    whole = epoch(_load().train)[0]
    for index in range(4):
        part = epoch(_load().sharded(index, 4, 4).train)[0]
        own = slice(4 * index, 4 * index + 4)
        assert_same([part], [tuple(array[own] for array in whole)])


@pytest.mark.every_backend
@pytest.mark.parametrize(
    ("batch_size", "devices", "sizes"),
    [
        # Of 50 images.
        (16, 2, [16, 16, 16, 2]),
        (16, 4, [16, 16, 16]),
        (16, 16, [16, 16, 16]),
        (18, 4, [16, 16, 16]),
        (10, 3, [9, 9, 9, 9, 9, 3]),
        (49, 7, [49]),
        (64, 8, [48]),
    ],
)
def test_training_batches_divide_by_the_devices(batch_size, devices, sizes):
    shared = _load(batch_size=batch_size).sharded(0, 1, devices)
    batches = epoch(shared.train)
    assert [len(images) for images, _ in batches] == sizes
    assert len(shared.train) == len(sizes)


@pytest.mark.every_backend
def test_images_left_out_are_others_in_each_epoch():
    shared = _load().sharded(0, 1, 4)
    seen = [
        {image.tobytes() for image in joined(epoch(shared.train))[0]}
        for _ in range(4)
    ]
    assert all(len(images) == 48 for images in seen)
    assert len(set.union(*seen)) == 50


@pytest.mark.every_backend
@pytest.mark.parametrize("split", SPLITS[1:])
@pytest.mark.parametrize(("batch_size", "devices"), [(16, 4), (4, 4), (9, 2)])
def test_evaluation_counts_every_image_once(split, batch_size, devices):
    loaded = _load(batch_size=batch_size)
    shared = loaded.sharded(0, 1, devices)
    batches = epoch(getattr(shared, split))
    assert all(len(images) % devices == 0 for images, _, _ in batches)
    images, labels, weights = joined(batches)
    assert weights.dtype == np.float32
    assert set(weights) <= {0, 1}
    counted = weights > 0
    assert_same(
        [(images[counted], labels[counted])],
        [joined(epoch(getattr(loaded, split)))],
    )
    # Copies, not zeros: batch normalization sees them if nothing else does.
    assert images.std(axis=(1, 2, 3)).min() > 0


@pytest.mark.every_backend
def test_weighted_evaluation_equals_that_of_one_process():
    loaded = _load()
    model = keras.Sequential(
        [
            keras.Input(loaded.image_shape),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Flatten(),
            keras.layers.Dense(5),
        ]
    )
    model.compile(
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        weighted_metrics=["accuracy"],
    )
    alone = model.evaluate(loaded.test, verbose=0)
    shared = model.evaluate(loaded.sharded(0, 1, 4).test, verbose=0)
    np.testing.assert_allclose(shared[1], alone[1], atol=1e-6)


@pytest.mark.every_backend
def test_epochs_are_set_as_for_one_process():
    whole = _load("boxes").sharded(0, 1, 2)
    third = [epoch(whole.train) for _ in range(3)][2]
    parts = [_load("boxes").sharded(i, 2, 2) for i in range(2)]
    for part in parts:
        part.set_epoch(2)
    assert_same(_together(parts, "train"), third)


def test_a_part_describes_the_whole():
    loaded = _load("pixels", seed=4)
    part = loaded.sharded(1, 2, 2)
    assert part.describe() == plain_json(loaded.describe())
    assert part.sizes == loaded.sizes


@pytest.mark.every_backend
def test_a_shard_can_be_sharded_again():
    loaded = _load()
    part = loaded.sharded(1, 2, 2).sharded(0, 1, 1)
    assert_same(epoch(part.train), epoch(loaded.train))


@pytest.mark.every_backend
@pytest.mark.parametrize("in_memory", [False, None], ids=["files", "memory"])
def test_folders_are_shared_out_alike(tmp_path, in_memory):
    write_folder(tmp_path)
    options = {"image_size": 8, "batch_size": 4, "in_memory": in_memory}
    options["augment"] = "random_resized_crop"
    whole = data.load(tmp_path, **options).sharded(0, 1, 2)
    parts = [data.load(tmp_path, **options).sharded(i, 2, 2) for i in range(2)]
    for split in SPLITS:
        assert_same(_together(parts, split), epoch(getattr(whole, split)))


@pytest.mark.parametrize(
    ("augment", "read"), [((), 24), ("flip", 24), ("mixup", 48)]
)
def test_a_process_reads_its_own_part_unless_images_are_mixed(augment, read):
    options = BatchOptions(
        16,
        (8, 8),
        3,
        seed=0,
        augment=tuple(np.atleast_1d(augment)),
        shard=Shard(1, 2, 4),
    )
    assert len(plan_epoch(50, options).positions) == read


# Errors.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((2, 2, 2), "`index` must be one of 0, 1. Received: index=2"),
        ((-1, 2, 2), "`index` must be one of"),
        ((0, 0, 2), "`count` must be a positive integer"),
        ((0, 1, 0), "`devices` must be a positive integer"),
        ((0, 2, 3), "`devices` must be a multiple of `count`"),
        ((0, 1, 17), "Each device needs at least one image.*batch_size=16"),
    ],
)
def test_wrong_parts_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        _load().sharded(*arguments)


@pytest.mark.parametrize(
    "options", [{"batch_size": None}, {"boxes": True}], ids=["whole", "boxes"]
)
def test_only_batches_of_images_and_labels_are_shared(few_digits, options):
    loaded = data.load("cluttered_mnist", **options)
    with pytest.raises(ValueError, match="Only batches of images and labels"):
        loaded.sharded(0, 1, 1)
