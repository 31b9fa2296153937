"""Folders of images become datasets, or errors that name what is wrong."""

import pathlib

import pytest
from data_checks import as_set, epoch, joined, write_folder

from cbam_keras import data


def _splits(root, *names, **options):
    return {
        name: write_folder(root / name, seed=i, **options)
        for i, name in enumerate(names)
    }


# Layouts.


def test_class_folders_are_divided_among_the_splits(tmp_path):
    written = write_folder(tmp_path / "pets", size=(9, 11))
    whole = data.load(tmp_path / "pets", batch_size=None)
    assert whole.name == "pets"
    assert whole.sizes == {"train": 14, "validation": 2, "test": 4}
    assert whole.class_names == ("cat", "dog")
    assert whole.image_shape == (9, 11, 3)
    kept = [as_set(split[0]) for split in whole]
    assert set.union(*kept) == as_set(written.values())
    labels = {i.tobytes(): "dog" in name for name, i in written.items()}
    for images, given in whole:
        assert [labels[image.tobytes()] for image in images] == given.tolist()


def test_folders_of_splits_are_taken_as_they_are(tmp_path):
    written = _splits(tmp_path, "Train", "VAL", "test", size=(9, 11))
    whole = data.load(tmp_path, batch_size=None)
    for split, folder in zip(whole, written, strict=True):
        assert as_set(split[0]) == as_set(written[folder].values())


@pytest.mark.parametrize(
    ("folders", "sizes"),
    [(("train", "test"), (18, 2, 20)), (("train", "valid"), (16, 20, 4))],
    ids=lambda names: "+".join(map(str, names)),
)
def test_splits_that_are_missing_come_from_training(tmp_path, folders, sizes):
    # Of different sizes, so that all are resized.
    _splits(tmp_path, *folders)
    loaded = data.load(tmp_path)
    assert tuple(loaded.sizes.values()) == sizes
    assert loaded.image_shape == (224, 224, 3)


def test_what_is_no_image_is_left_alone(tmp_path):
    write_folder(tmp_path, size=(8, 8))
    (tmp_path / "cat" / "notes.txt").write_text("soft")
    (tmp_path / "cat" / ".hidden.png").write_text("")
    (tmp_path / ".cache").mkdir()
    (tmp_path / "__MACOSX").mkdir()
    images = data.load(tmp_path)
    assert sum(images.sizes.values()) == 20
    assert images.skipped == ()


def test_images_in_other_places_are_reported(tmp_path):
    write_folder(tmp_path, size=(8, 8))
    (tmp_path / "cat" / "deep").mkdir()
    others = ("cat/deep/first.png", "cat/first.JFIF", "cat/first.tif")
    for name in others:
        (tmp_path / name).write_bytes(b"")
    with pytest.warns(UserWarning, match=f"left out: {others[0]}"):
        images = data.load(tmp_path)
    assert images.skipped == others


# Sizes.


def test_images_of_the_right_size_are_left_alone(tmp_path):
    # From 128 pixels on, others would lose their margin.
    written = write_folder(tmp_path, per_class=3, size=(130, 130))
    images = data.load(tmp_path, image_size=130, in_memory=False)
    found = joined(epoch(images.train))[0].astype("uint8")
    assert as_set(found) < as_set(written.values())


# Fingerprints.


def test_the_fingerprint_is_of_names_and_sizes(tmp_path):
    for copy in ("first", "second"):
        write_folder(tmp_path / copy, size=(8, 8))
    first = data.load(tmp_path / "first").fingerprint
    assert data.load(tmp_path / "second", seed=1).fingerprint == first
    path = tmp_path / "second" / "cat" / "0.png"
    path.write_bytes(path.read_bytes() + b" ")
    assert data.load(tmp_path / "second").fingerprint != first


# Mistakes.


def _empty(root, *classes):
    for name in classes:
        (root / name).mkdir(parents=True, exist_ok=True)
        for file in (root / name).iterdir():
            file.unlink()


def _empty_class(root):
    write_folder(root)
    _empty(root, "dog")


def _missing_class(root):
    _splits(root, "train")
    write_folder(root / "test", classes=("cat",))


def _unknown_class(root):
    _splits(root, "train")
    write_folder(root / "val", classes=("cat", "dog", "eel"))


def _unreadable_class(root):
    write_folder(root, classes=("cat", "dog", "eel"))
    for path in (root / "eel").iterdir():
        path.write_text("no")


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (
            lambda root: (root / "notes.png").write_text(""),
            r"at least two classes.*\(a folder per class, of .*has 0",
        ),
        (
            lambda root: write_folder(root, classes=("cat",)),
            "at least two classes.*has 1: cat",
        ),
        (_empty_class, 'split "train" has none of class "dog"'),
        (_missing_class, 'split "test" has none of class "dog"'),
        (_unknown_class, 'split "train" has none of class "eel"'),
        (_unreadable_class, '"train" has none of class "eel"'),
        (
            lambda root: _splits(root, "train", "val", "valid"),
            'with "val" and "valid"',
        ),
        (
            lambda root: write_folder(root, per_class=2),
            'at least 3 training images.*"cat", "dog"',
        ),
    ],
)
def test_folders_that_make_no_dataset_are_refused(tmp_path, prepare, message):
    prepare(tmp_path)
    with pytest.raises(ValueError, match=message) as caught:
        data.load(tmp_path)
    assert f'Received: name="{tmp_path}"' in str(caught.value)


@pytest.mark.parametrize(
    "name", ["./nowhere", "~/nowhere", pathlib.Path("nowhere")]
)
def test_a_missing_folder_is_refused(name):
    with pytest.raises(ValueError, match="must be a folder that exists"):
        data.load(name)
