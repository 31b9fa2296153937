"""The images to explain: read from files, folders and datasets, and chosen."""

import numpy as np
import pytest
from data_checks import builder
from explain_files_checks import picture
from PIL import Image

from cbam_keras import _explanations, data
from cbam_keras.data import tfds


def shown(examples, size=(8, 8)):
    """Returns all images as a model of that size gets them, and the boxes."""
    ((_, views),) = examples.batches(1000, [size])
    return views[size]


def test_images_of_any_kind_become_colours(tmp_path):
    grey = np.random.default_rng(0).integers(0, 256, (8, 8)).astype("uint8")
    colour = picture(tmp_path / "a_colour.bmp")
    Image.fromarray(grey).save(tmp_path / "b_grey.png")
    Image.fromarray(np.dstack([colour, grey])).save(tmp_path / "c_alpha.png")
    sixteen = Image.fromarray(grey.astype("uint16") * 256 + 9)
    sixteen.save(tmp_path / "d_sixteen.png")
    examples = _explanations.from_paths(sorted(tmp_path.iterdir()), None, 0)
    threefold = np.repeat(grey[..., None], 3, axis=-1)
    np.testing.assert_array_equal(
        shown(examples)[0], [colour, threefold, colour, threefold]
    )


def test_files_are_taken_all_and_folders_in_part_with_their_subfolders(
    tmp_path,
):
    names = ["all/a/z.png", "all/b/c/x.PNG", "all/y.jpg", "1.png", "2.png"]
    for number, name in enumerate(names):
        picture(tmp_path / name, seed=number)
    (tmp_path / "all/notes.txt").write_text("none")
    folder, *files = (tmp_path / name for name in ("all", "1.png", "2.png"))
    whole = _explanations.from_paths([*files, folder], None, 0)
    assert dict(zip(whole.names, whole.groups, strict=True)) == {
        # Not in a folder of a class.
        **{str(tmp_path / x): "" for x in ("1.png", "2.png", "all/y.jpg")},
        str(folder / "a/z.png"): "a",
        str(folder / "b/c/x.PNG"): "c",
    }
    part = _explanations.from_paths([*files, folder], 1, 0)
    assert part.names[:2] == list(map(str, files)) and len(part) == 3


def test_damaged_images_of_a_folder_are_left_out_as_in_training(tmp_path):
    picture(tmp_path / "all/a/whole.png")
    half = tmp_path / "all/b/half.png"
    picture(half)
    half.write_bytes(half.read_bytes()[:-20])
    with pytest.warns(UserWarning, match="1 images .* left out: .*half.png"):
        kept = _explanations.from_paths([tmp_path / "all"], None, 0)
    assert kept.names == [str(tmp_path / "all/a/whole.png")]
    assert (kept.groups, kept.folders) == (["a"], ("a", "b"))
    assert kept.size == (8, 8)
    # There is no other image, or it is asked for by name.
    for paths in ([half.parent], [half, tmp_path / "all/a"]):
        with pytest.raises(ValueError, match="Received: .*half.png"):
            _explanations.from_paths(paths, None, 0)


def test_images_are_spread_evenly_over_classes(tmp_path):
    sizes = np.array([2, 3, 1, 4, 30])
    for group, size in enumerate(sizes):
        for number in range(size):
            picture(tmp_path / str(group) / f"{number:02}.png", size=(1, 1))
    chosen = _explanations.from_paths([tmp_path], 13, 0)
    assert len(set(chosen.names)) == len(chosen) == 13
    counts = np.bincount(np.array(chosen.groups, int), minlength=5)
    # None has two more than another that has any left.
    assert counts.max() - counts[counts < sizes].min() <= 1
    # A smaller choice is the beginning of a larger one.
    assert _explanations.from_paths([tmp_path], 9, 0).names == chosen.names[:9]
    assert _explanations.from_paths([tmp_path], 13, 4).names != chosen.names


def test_the_split_is_that_of_training(few_digits):
    given = "cluttered_mnist", "train"
    assert len(_explanations.from_data(*given, None, 3, {})) == 140
    loaded = data.load("cluttered_mnist", batch_size=None, seed=3, boxes=True)
    images, labels, boxes = loaded.train
    few = _explanations.from_data(*given, 10, 3, {})
    numbers = [int(name.removeprefix("train ")) for name in few.names]
    assert sorted(labels[numbers]) == list(range(10))
    np.testing.assert_array_equal(few.labels(few.class_names), labels[numbers])
    found, own = shown(few, (48, 48))
    np.testing.assert_array_equal(found[..., :1], images[numbers])
    np.testing.assert_array_equal(own, boxes[numbers])
    # In half the size, rounded outwards.
    half = boxes[numbers] / 2
    outer = np.concatenate([np.floor(half[:, :2]), np.ceil(half[:, 2:])], 1)
    np.testing.assert_array_equal(shown(few, (24, 24))[1], outer)


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
        image=datasets.features.Image(shape=(8, 8, 1)),
        label=datasets.features.ClassLabel(names=["ant", "bee"]),
    )

    def chosen(count):
        options = {"data_dir": tmp_path}
        return _explanations.from_data("insects", "test", count, 0, options)

    assert len(chosen(None)) == 10
    # As if it did not fit into memory.
    monkeypatch.setattr(tfds, "IN_MEMORY_BYTES", 0)
    with pytest.raises(ValueError, match="`count` must be a number"):
        chosen(None)
    examples = chosen(4)
    assert examples.class_names == ("ant", "bee")
    assert sorted(examples.labels(examples.class_names)) == [0, 0, 1, 1]
    found = {image[..., 0].tobytes() for image in shown(examples)[0]}
    assert found < {image.tobytes() for image in images[20:]}
