"""The images to explain: of a run, files and folders, and which of them."""

import functools

import numpy as np
import pytest
from data_checks import builder
from explain_files_checks import picture, write_run
from report_checks import change

from cbam_keras import data
from cbam_keras.data import tfds
from cbam_keras.report import read_run
from cbam_keras.report.images import find_images


@pytest.fixture
def run(here):
    """A run whose classes are folders called 0 to 4."""
    return read_run(write_run(here / "run", classes="01234"))


def on(run, source, **images):
    """Returns a run on other data."""
    described = run.content["settings"]["data"]["0"] | images
    settings = {**run.content["settings"], "data": {"0": described}}
    change(run.folder, settings=settings, source=source.describe())
    return read_run(run.folder)


def test_files_are_taken_all_and_a_folder_in_part_with_its_subfolders(
    run, here
):
    names = ["all/0/z.png", "all/1/c/x.PNG", "all/y.jpg", "1.png", "2.png"]
    for number, name in enumerate(names):
        picture(here / name, seed=number)
    (here / "all/notes.txt").write_text("none")
    whole = find_images(run, ["all"])
    assert dict(zip(whole.names, whole.labels, strict=True)) == {
        "all/0/z.png": 0,
        # Not in a folder of a class.
        "all/y.jpg": -1,
        "all/1/c/x.PNG": 1,
    }
    assert len(find_images(run, ["all"], count=1)) == 1
    assert [*find_images(run, names[3:], count=1).names] == names[3:]


def test_damaged_images_of_a_folder_are_left_out_as_in_training(run, here):
    picture(here / "all/0/whole.png")
    half = here / "all/1/half.png"
    picture(half)
    half.write_bytes(half.read_bytes()[:-20])
    with pytest.warns(UserWarning, match="1 image .* left out: .*half.png"):
        kept = find_images(run, ["all"])
    assert [*kept.names] == ["all/0/whole.png"] and kept.labels == [0]
    # There is no other image, or it is asked for by name.
    for paths in (["all/1"], ["all/1/half.png", "all/0/whole.png"]):
        with pytest.raises(ValueError, match="Received: .*half.png"):
            find_images(run, paths)


def test_images_are_spread_evenly_over_classes(run, here):
    sizes = np.array([2, 3, 1, 4, 30])
    for group, size in enumerate(sizes):
        for number in range(size):
            picture(here / "all" / str(group) / f"{number:02}.png", size=(1, 1))
    chosen = find_images(run, ["all"], count=13)
    assert len(set(chosen.names)) == len(chosen) == 13
    counts = np.bincount(chosen.labels, minlength=5)
    # None has two more than another that has any left.
    assert counts.max() - counts[counts < sizes].min() <= 1
    # A smaller choice is the beginning of a larger one.
    fewer = find_images(run, ["all"], count=9)
    assert [*fewer.names] == [*chosen.names[:9]]
    others = find_images(run, ["all"], count=13, seed=4)
    assert [*others.names] != [*chosen.names]


def test_the_split_is_that_of_training(run, few_digits):
    loaded = data.load("cluttered_mnist", batch_size=None, seed=3, boxes=True)
    images, labels, boxes = loaded.train
    source = data.Source("cluttered_mnist")
    run = on(run, source, seed=3, image_shape=[48, 48, 1])
    assert len(find_images(run, split="train")) == 140
    few = find_images(run, split="train", count=10)
    rows = [int(name.removeprefix("train ")) for name in few.names]
    assert sorted(labels[rows]) == list(range(10))
    np.testing.assert_array_equal(few.labels, labels[rows])
    np.testing.assert_array_equal(few.pixels(), images[rows])
    np.testing.assert_array_equal(few.boxes(), boxes[rows])
    # In half the size, rounded outwards.
    run = on(run, source, seed=3, image_shape=[24, 24, 1])
    few = find_images(run, split="train", count=10)
    own = boxes[rows] / 2
    outer = np.concatenate([np.floor(own[:, :2]), np.ceil(own[:, 2:])], 1)
    np.testing.assert_array_equal(few.boxes(), outer)


def test_data_can_be_of_tensorflow_datasets(run, here, monkeypatch):
    datasets = pytest.importorskip(
        "tensorflow_datasets", reason="prepares a dataset"
    )
    images = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 1), "uint8")
    rows = [{"image": x, "label": i % 2} for i, x in enumerate(images)]
    builder(
        "insects",
        {"train": rows[:20], "test": rows[20:]},
        here,
        "array_record",
        image=datasets.features.Image(shape=(8, 8, 1)),
        label=datasets.features.ClassLabel(names=["ant", "bee"]),
    )
    source = functools.partial(data.Source, "insects", data_dir=here)
    run = on(run, source(), image_shape=[8, 8, 1])
    assert len(find_images(run)) == 10
    # As if it did not fit into memory.
    monkeypatch.setattr(tfds, "IN_MEMORY_BYTES", 0)
    run = on(run, source(), image_shape=[8, 8, 1])
    with pytest.raises(ValueError, match="`count` must be a number"):
        find_images(run)
    few = find_images(run, count=4)
    assert sorted(few.labels) == [0, 0, 1, 1]
    found = {image.tobytes() for image in few.pixels()}
    assert found < {image.tobytes() for image in images[20:]}
