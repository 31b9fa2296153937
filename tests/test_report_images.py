"""The images to explain: read from files, folders and datasets, and chosen."""

import numpy as np
import pytest
from data_checks import builder
from explain_files_checks import picture

from cbam_keras import data
from cbam_keras.data import tfds
from cbam_keras.report.images import RunData, from_data, from_paths


def groups(images):
    """Returns the name of the folder of each image, "" for none."""
    return [
        (*images.dataset.class_names, "")[label]
        for label in images.examples.labels
    ]


def test_files_are_taken_all_and_a_folder_in_part_with_its_subfolders(
    tmp_path,
):
    names = ["all/a/z.png", "all/b/c/x.PNG", "all/y.jpg", "1.png", "2.png"]
    for number, name in enumerate(names):
        picture(tmp_path / name, seed=number)
    (tmp_path / "all/notes.txt").write_text("none")
    folder, *files = (tmp_path / name for name in ("all", "1.png", "2.png"))
    whole = from_paths([folder], None, 0)
    assert dict(zip(whole.names, groups(whole), strict=True)) == {
        str(folder / "a/z.png"): "a",
        # Not in a folder of a class.
        str(folder / "y.jpg"): "",
        str(folder / "b/c/x.PNG"): "b",
    }
    (inside,) = groups(from_paths([folder / "b"], None, 0))
    assert inside == "c"
    assert len(from_paths([folder], 1, 0)) == 1
    assert [*from_paths(files, 1, 0).names] == list(map(str, files))


def test_damaged_images_of_a_folder_are_left_out_as_in_training(tmp_path):
    picture(tmp_path / "all/a/whole.png")
    half = tmp_path / "all/b/half.png"
    picture(half)
    half.write_bytes(half.read_bytes()[:-20])
    with pytest.warns(UserWarning, match="1 image .* left out: .*half.png"):
        kept = from_paths([tmp_path / "all"], None, 0)
    assert [*kept.names] == [str(tmp_path / "all/a/whole.png")]
    assert (groups(kept), kept.dataset.class_names) == (["a"], ("a", "b"))
    assert kept.dataset.shape == (8, 8)
    # There is no other image, or it is asked for by name.
    for paths in ([half.parent], [half, tmp_path / "all/a/whole.png"]):
        with pytest.raises(ValueError, match="Received: .*half.png"):
            from_paths(paths, None, 0)


def test_images_are_spread_evenly_over_classes(tmp_path):
    sizes = np.array([2, 3, 1, 4, 30])
    for group, size in enumerate(sizes):
        for number in range(size):
            picture(tmp_path / str(group) / f"{number:02}.png", size=(1, 1))
    chosen = from_paths([tmp_path], 13, 0)
    assert len(set(chosen.names)) == len(chosen) == 13
    counts = np.bincount(np.array(groups(chosen), int), minlength=5)
    # None has two more than another that has any left.
    assert counts.max() - counts[counts < sizes].min() <= 1
    # A smaller choice is the beginning of a larger one.
    fewer = from_paths([tmp_path], 9, 0)
    assert [*fewer.names] == [*chosen.names[:9]]
    others = from_paths([tmp_path], 13, 4)
    assert [*others.names] != [*chosen.names]


def test_the_split_is_that_of_training(few_digits):
    source = data.Source("cluttered_mnist")
    run = RunData(source, 3)
    assert len(from_data(source, run, "train", None)) == 140
    loaded = data.load("cluttered_mnist", batch_size=None, seed=3, boxes=True)
    images, labels, boxes = loaded.train
    few = from_data(source, run, "train", 10)
    rows = [int(name.removeprefix("train ")) for name in few.names]
    assert sorted(labels[rows]) == list(range(10))
    np.testing.assert_array_equal(few.examples.labels, labels[rows])
    size, half = (48, 48), (24, 24)
    colours = np.repeat(images[rows], 3, axis=-1)
    np.testing.assert_array_equal(few.view(size, size), colours)
    np.testing.assert_array_equal(few.boxes_in_view(size, size), boxes[rows])
    # In half the size, rounded outwards.
    own = boxes[rows] / 2
    outer = np.concatenate([np.floor(own[:, :2]), np.ceil(own[:, 2:])], 1)
    np.testing.assert_array_equal(few.boxes_in_view(half, half), outer)


def test_data_can_be_of_tensorflow_datasets(tmp_path, monkeypatch):
    datasets = pytest.importorskip(
        "tensorflow_datasets", reason="prepares a dataset"
    )
    images = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 1), "uint8")
    rows = [{"image": x, "label": i % 2} for i, x in enumerate(images)]
    builder(
        "insects",
        {"train": rows[:20], "test": rows[20:]},
        tmp_path,
        "array_record",
        image=datasets.features.Image(shape=(8, 8, 1)),
        label=datasets.features.ClassLabel(names=["ant", "bee"]),
    )

    def chosen(count):
        source = data.Source("insects", data_dir=tmp_path)
        return from_data(source, RunData(source, 0), "test", count)

    assert len(chosen(None)) == 10
    # As if it did not fit into memory.
    monkeypatch.setattr(tfds, "IN_MEMORY_BYTES", 0)
    with pytest.raises(ValueError, match="`count` must be a number"):
        chosen(None)
    examples = chosen(4)
    assert examples.dataset.class_names == ("ant", "bee")
    assert sorted(examples.examples.labels) == [0, 0, 1, 1]
    seen = examples.view((8, 8), (8, 8))
    found = {image[..., 0].tobytes() for image in seen}
    assert found < {image.tobytes() for image in images[20:]}
