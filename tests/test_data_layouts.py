"""Folders as people have them: layouts, subfolders, formats, copies."""

import pathlib
import shutil

import numpy as np
import pytest
from data_checks import as_set, whole, write_folder
from PIL import Image

from cbam_keras import data

PETS = ("cat", "dog")


def _write(root, names):
    """Writes different images of the size 6 x 5."""
    rng = np.random.default_rng(0)
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image = rng.integers(0, 256, (6, 5, 3)).astype("uint8")
        Image.fromarray(image).save(path)


def _pets(folder=".", count=4):
    return [f"{folder}/{pet}/{i}.png" for pet in PETS for i in range(count)]


@pytest.mark.parametrize(
    ("folders", "sizes"),
    [
        (("Training", "Testing"), (6, 2, 8)),
        (("training_set", "val", "test set"), (8, 8, 8)),
        # They share another part of their names.
        (("seg_train", "seg_test"), (6, 2, 8)),
        # As archives have it, with a folder around each split too.
        (("a/b/seg/train/train", "a/b/seg/test/test"), (6, 2, 8)),
    ],
)
def test_splits_have_many_names_and_folders_around_them(
    tmp_path, folders, sizes
):
    written = [
        write_folder(tmp_path / folder, 4, size=(6, 5), seed=number)
        for number, folder in enumerate(folders)
    ]
    loaded = whole(tmp_path)
    assert tuple(loaded.sizes.values()) == sizes
    assert loaded.class_names == PETS
    for split, folder in zip(loaded, (0, -2, -1), strict=True):
        assert as_set(split[0]) <= as_set(written[folder].values())


@pytest.mark.parametrize(
    ("others", "reasons"),
    [
        (["test/1.png", "test/2.png"], "2 in test/"),
        (["test/unknown/1.png"], "1 in test/"),
        (["extra/a/1.png", "extra/2.png", "docs/notes.txt"], "2 in extra/"),
        (["train/1.png"], "1 in no class folder"),
    ],
)
def test_images_without_a_class_are_left_out_with_a_word(
    tmp_path, others, reasons
):
    _write(tmp_path, [x for x in others if x.endswith(".png")])
    _write(tmp_path, _pets("train"))
    with pytest.warns(UserWarning, match=f"left out: {reasons}$"):
        loaded = data.load(tmp_path)
    assert loaded.sizes == {"train": 4, "validation": 2, "test": 2}
    assert loaded.notes[0].endswith(f"left out: {reasons}")


@pytest.mark.parametrize(
    "names",
    [
        ("bus", "train"),
        ("mask", "no_mask"),
        ("test_tube", "train_station"),
    ],
)
def test_classes_may_have_names_like_parts_of_datasets(tmp_path, names):
    _write(tmp_path, [f"{name}/{i}.png" for name in names for i in range(4)])
    assert data.load(tmp_path).class_names == names


SPLIT_OR_CLASS = r"\['cat', 'dog'\].*is a split, move .* is a class, rename"


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        *(
            (f"cat dog {split}", SPLIT_OR_CLASS)
            for split in "test VAL dev Training test1 val_set train/cat".split()
        ),
        ("test val", '"test", "val" beside'),
        ("train test1", "3 images in no such folder, .*Pass a data frame"),
        ("cat dog unlabelled", "'unlabelled'. hold another part"),
        ("images/cat images/dog labels", "'labels'. hold another part"),
        ("original augmented", "'augmented'. hold another part"),
        ("train/images train/labels", "'labels'. hold another part"),
        ("", r"a folder a folder of images for.*\[\]"),
        ("cat", r"at least two classes.*\['cat'\]"),
        ("cat dog cow/.hidden", 'images in "train".*class "cow"'),
        ("train/cat val/cat valid/cat", "'val', 'valid'"),
    ],
)
def test_folders_that_make_no_dataset_are_refused(tmp_path, folders, message):
    names = [f"{x}/{i}.png" for x in folders.split() for i in range(3)]
    _write(tmp_path, names)
    with pytest.raises(ValueError, match=message) as caught:
        data.load(tmp_path)
    assert f'Received: data="{tmp_path}"' in str(caught.value)


def test_the_folder_of_a_class_is_refused_with_that_of_all(tmp_path):
    _write(tmp_path / "photos", _pets("."))
    message = f'Pass "{tmp_path}/photos", which has classes, or a data frame'
    with pytest.raises(ValueError, match=message):
        data.load(tmp_path / "photos/cat")


@pytest.fixture
def paths(monkeypatch):
    """Returns the paths of the images of each split."""
    monkeypatch.setattr("cbam_keras.data.loading.DECODED_BYTES", 0)

    def found(*arguments, **options):
        loaded = data.load(*arguments, **options)
        return [[*map(pathlib.Path, x.examples.images)] for x in loaded]

    return found


def _visits(pets=5):
    """Returns names of images in subfolders, some of them for both classes."""
    return [
        f"{pet}/p{patient}/2020/{i}.png"
        for start, pet in enumerate(PETS)
        for patient in range(start, start + pets)
        for i in range(2 + patient)
    ]


def test_a_subfolder_is_never_split(tmp_path, paths):
    _write(tmp_path, [*_visits(), *(f"cat/{i}.png" for i in range(9))])
    validated = set()
    for seed in range(4):
        found = paths(tmp_path, seed=seed)
        assert len({path for each in found for path in each}) == 20 + 25 + 9
        parts = [[x.relative_to(tmp_path).parts for x in y] for y in found]
        groups = [{x[1] for x in each} for each in parts]
        pets = [{x[0] for x in each} for each in parts]
        assert sum(map(len, groups)) == len(set.union(*groups))
        assert pets == [{*PETS}] * 3
        assert found[2] == paths(tmp_path, seed=9)[2]
        validated.add(tuple(found[1]))
    assert len(validated) > 1


def test_names_say_which_images_stay_together(tmp_path, paths):
    """Each patient is in both classes, once."""
    _write(tmp_path, [f"{x}/OAS1_{i:04}_a.png" for x in PETS for i in range(9)])
    splits = paths(tmp_path, group_by="OAS1_[0-9]+")
    assert [*map(len, splits)] == [12, 2, 4]
    for parts in splits, paths(tmp_path, group_by="_(.+)_", folds=3):
        assert sum(len({x.name for x in part}) for part in parts) == 9
    message = "does not match 18 of 18: cat/OAS1_0000_a.png, cat/OAS1_0001"
    with pytest.raises(ValueError, match=message):
        data.load(tmp_path, group_by="OAS2_")
    with pytest.raises(ValueError, match="must be a regular expression"):
        data.load(tmp_path, group_by="(")


def test_images_in_no_subfolder_are_folds_on_their_own(tmp_path, paths):
    visits = [f"train/{pet}/p{i}/0.png" for pet in PETS for i in range(6)]
    # A single folder in each class is none.
    other = [f"test/{pet}/all/{i}.png" for pet in PETS for i in range(6)]
    _write(tmp_path, [*_pets("train", 6), *visits, *other])
    tested = [paths(tmp_path, folds=3, fold=fold)[2] for fold in range(3)]
    assert [*map(len, tested)] == [12, 12, 12]
    patients = [
        {x.parent.name for x in part if "p" in x.parent.name} for part in tested
    ]
    assert sum(map(len, patients)) == 6


def test_parts_of_groups_have_about_the_fractions():
    sizes = np.array([100, 7, 3, 9, 1, 5, 4, 6, 2, 8, 30])
    groups = np.repeat(np.arange(len(sizes)), sizes)
    labels = np.zeros(len(groups), int)
    for seed in range(5):
        rows = data.stratify(labels, None, seed, groups=groups)
        # A fifth of 175 is 35; the small groups fill the part up to one.
        assert abs(len(rows["test"]) - 35) < 10
    # A group larger than a part is trained on, in whatever order they come.
    groups = np.repeat(range(3), (10, 10, 100))
    labels = np.zeros(120, int)
    for seed in range(5):
        rows = data.stratify(labels, 0.2, seed, test=False, groups=groups)
        assert len(rows["validation"]) == 20
    # One that is larger than the smallest part alone comes first, too.
    labels, groups = np.zeros(20, int), np.repeat(range(11), [10] + [1] * 10)
    for seed in range(12):
        rows = data.stratify(labels, 0.2, seed, test=False, groups=groups)
        assert len(rows["validation"]) == 4
    # As many groups as parts, whatever their sizes.
    labels, groups = np.repeat([0, 1], 60), np.repeat(range(6), 20)
    for rows in data.stratify(labels, 0.1, 0, groups=groups).values():
        assert np.bincount(labels[rows]).tolist() == [20, 20]


def test_subfolders_are_split_where_that_is_asked_for(tmp_path, paths):
    _write(tmp_path, _visits(2))
    message = 'in "validation".*class "cat" .0., "dog" .*--no-group-by-folder'
    with pytest.raises(ValueError, match=message):
        data.load(tmp_path)
    found = paths(tmp_path, group_by_folder=False)
    assert sum(map(len, found)) == 5 + 7


def test_what_is_trained_on_is_said_in_a_line(tmp_path):
    _write(tmp_path, [*_pets("train", 700), *_pets("test", 3)])
    for name in ("a.dcm", "b.dcm", "c.png"):
        (tmp_path / "train" / "cat" / name).write_text("")
    with pytest.warns(UserWarning, match="1 image .1 damaged"):
        loaded = data.load(tmp_path, validation_fraction=0.5)
    assert loaded.summary == (
        "700 images of 2 classes in train, 700 in validation, 6 in test; "
        "3 left out: 2 .dcm, 1 damaged"
    )
    # Where all are left out, the error says so.
    for path in tmp_path.glob("*/*/*.png"):
        path.rename(path.with_suffix(".nef"))
    with pytest.raises(ValueError, match="left out: 1,407 .nef, 2 .dcm"):
        data.load(tmp_path)


def test_the_same_picture_in_training_and_test_is_named(tmp_path):
    _write(tmp_path, [*_pets("train"), *_pets("test")])
    train, test = tmp_path / "train/cat/1.png", tmp_path / "test/dog/2.png"
    shutil.copy(train, test)
    message = "1 test image .*: test/dog/2.png is train/cat/1.png. Remove"
    with pytest.warns(UserWarning, match=message):
        data.load(tmp_path)
    train.unlink()
    shutil.copy(tmp_path / "train/cat/0.png", tmp_path / "train/dog/0.png")
    message = "1 image has several classes.*: train/dog/0.png is train/cat/0"
    with pytest.warns(UserWarning, match=message):
        data.load(tmp_path)


@pytest.mark.parametrize(("highest", "bits"), [(900, 10), (4095, 12), (9, 8)])
def test_deep_images_are_scaled_by_the_range_of_all(tmp_path, highest, bits):
    """As X-ray and microscope cameras write them."""
    rng = np.random.default_rng(0)
    written = rng.integers(0, highest, (16, 6, 5)).astype("uint16")
    # One image alone has the highest value.
    written[3, 2, 1] = highest
    for row, image in enumerate(written):
        path = tmp_path / PETS[row % 2] / f"{row}.{'png' if row < 8 else 'tif'}"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(path)
    expected = (written // 2 ** (bits - 8)).astype("uint8")
    note = f"16-bit images hold {bits} bits, scaled to 8"
    arrays = whole((written, np.arange(16) % 2))
    for loaded in (whole(tmp_path), whole(tmp_path, folds=2), arrays):
        images = np.concatenate([part[0] for part in loaded])
        assert as_set(images) == as_set(expected)
        is_noted = loaded is not arrays or highest > 255
        assert loaded.notes == ((note,) if is_noted else ())


@pytest.mark.parametrize(
    ("dtype", "lowest", "highest", "levels"),
    [
        ("int16", -1024, 3071, (0, 255)),
        ("int8", -128, 127, (0, 255)),
        ("int64", 0, 200, (0, 200)),
        ("float32", -1000.5, 3000, (0, 250)),
    ],
)
def test_arrays_of_several_splits_have_one_scale(
    dtype, lowest, highest, levels
):
    labels = np.arange(8) % 2
    splits = {
        "train": (np.full((8, 6, 5), lowest, dtype), labels),
        "test": (np.full((8, 6, 5), highest, dtype), labels),
        # Images of 8 bits stay as they are.
        "validation": (np.full((8, 6, 5), 7, "uint8"), labels),
    }
    loaded = whole(splits)
    (train, _), (validation, _), (test, _) = loaded
    assert ({*train.flat}, {*test.flat}) == ({levels[0]}, {levels[1]})
    assert (validation == 7).all()
    assert bool(loaded.notes) == (dtype != "int64")
