"""Signals, volumes, vectors and several inputs as data."""

import re

import keras
import numpy as np
import pandas
import pytest
from data_checks import SPLITS, joined, whole

from cbam_keras import data

LABELS = np.arange(40) % 2


def numbers(*shape, count=40):
    """Returns numbers of another mean and deviation in each channel."""
    draws = np.random.default_rng(0).normal(size=(count, *shape))
    channels = np.arange(shape[-1] if shape else 1)
    return draws * (1 + channels) + 100 * channels - 5


LEVELS = numbers(6, 6).astype("uint8")
BOTH = {"signal": numbers(12, 2), "age": numbers()}


@pytest.mark.parametrize(
    ("given", "options", "kind", "input_shape"),
    [
        (numbers(7), {}, "vectors", (7,)),
        (numbers(12, 2), {"kind": "signals"}, "signals", (12, 2)),
        (numbers(12), {"kind": "signals"}, "signals", (12, 1)),
        (numbers(6, 6), {"kind": "signals"}, "signals", (6, 6)),
        (LEVELS[:, :, :5], {}, "images", (6, 5, 1)),
        (LEVELS / 2, {}, "images", (6, 6, 1)),
        (LEVELS[:, :, :5] / 2, {"kind": "images"}, "images", (6, 5, 1)),
        (numbers(4, 5, 6, 2), {}, "volumes", (4, 5, 6, 2)),
        (numbers(4, 5, 6), {"kind": "volumes"}, "volumes", (4, 5, 6, 1)),
        (BOTH, {}, "inputs", {"signal": (12, 2), "age": (1,)}),
    ],
)
def test_arrays_of_any_rank_are_data(given, options, kind, input_shape):
    loaded = data.load((given, LABELS), batch_size=5, **options)
    assert (loaded.kind, loaded.input_shape) == (kind, input_shape)
    assert loaded.output_shape == (2,)
    noun = {"inputs": "example"}.get(kind, kind[:-1])
    assert loaded.summary.startswith(f"28 {noun}s of 2 classes (0, 1) in train")
    assert ("standardized" in loaded.summary) == (kind != "images")
    raw = data.load((given, LABELS), standardize=False, **options)
    assert not raw.standardization and "standardized" not in raw.summary
    inputs, labels = loaded.test[0]
    shapes = keras.tree.map_structure(lambda x: x.shape[1:], inputs)
    assert (shapes, labels.shape) == (input_shape, (5,))


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        ("mnist5k", {"kind": "signals"}, "`kind` is only for arrays"),
        (numbers(12, 2), {}, r'images\[..., None\] .*kind="signals" \(--kind'),
        (numbers(12, 2, 3), {"kind": "signals"}, "Data must be signals"),
        (numbers(7), {"kind": "sound"}, '"signals".*Received: kind='),
        (
            numbers(7),
            {"augment": "flip"},
            "augmentations work for images",
        ),
        (
            BOTH,
            {"augment": keras.layers.GaussianNoise(1)},
            "for images only",
        ),
        (numbers(7), {"image_size": 8}, "`image_size` and .* work for images"),
        (numbers(7) * np.nan, {}, "infinite values in 40 vectors"),
        (BOTH | {"age": [1, 2]}, {}, r"all of one length N.*'age': \(2, 1\)"),
        (BOTH | {"age": ["old"] * 40}, {}, "not numbers"),
    ],
)
def test_other_data_are_refused(given, options, message):
    given = given if isinstance(given, str) else (given, LABELS)
    with pytest.raises(ValueError, match=message):
        data.load(given, **options)


def test_class_folders_of_arrays_are_read_by_a_pattern(tmp_path):
    signals = numbers(12, 2)
    for number, signal in enumerate(signals):
        folder = tmp_path / "data" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"p{number // 4}_{number}.npy", signal)
    options = {"pattern": "{class}/{group}_*.npy", "kind": "signals"}
    loaded = data.load(tmp_path / "data", batch_size=99, **options)
    assert loaded.class_names == ("a", "b")
    groups = []
    for split in SPLITS:
        batches = getattr(loaded, split)
        numbers_of = [int(x.split("_")[-1][:-4]) for x in batches.names]
        read = batches.read(np.arange(len(numbers_of)))
        np.testing.assert_array_equal(read, signals[numbers_of].astype("f4"))
        groups.append({number // 4 for number in numbers_of})
    assert not groups[0] & groups[1] and not groups[0] & groups[2]
    np.save(folder / "p0_99.npy", signals[0, 1:])
    with pytest.raises(ValueError, match=r"arrays of equal shape.*\(11, 2\)"):
        data.load(tmp_path / "data", **options)


class Batched(keras.utils.PyDataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        rows = slice(10 * index, 10 * index + 10)
        return {x: y[rows] for x, y in BOTH.items()}, LABELS[rows]


def test_batches_of_several_inputs_are_read():
    train = whole(Batched()).train
    assert train[0]["signal"].shape == (28, 12, 2)
    rows = [np.argmin(abs(BOTH["age"] - age)) for age in train[0]["age"][:, 0]]
    np.testing.assert_array_equal(LABELS[rows], train[1])


def _check_rows(loaded, given):
    """Compares what is read with rows by their content, and their labels."""
    values, labels = given
    for part in loaded:
        batches, read = joined([*part])
        for example, label in zip(batches, read, strict=True):
            (row,) = np.flatnonzero(
                np.isclose(values.reshape(40, -1), example.ravel()).all(axis=1)
            )
            assert int(loaded.class_names[label]) == labels[row]


SIGNALS = numbers(12, 2)
SUBJECTS = np.arange(40) // 5


@pytest.mark.parametrize("form", ["npy", "npz", "folder", "table", "rows"])
def test_signals_as_people_have_them(tmp_path, form):
    path = tmp_path / "X_train.npy"
    if form == "npy":
        np.save(path, SIGNALS)
        np.save(tmp_path / "y_train.npy", LABELS)
    elif form == "npz":
        path = tmp_path / "a.npz"
        np.savez(path, X_train=SIGNALS, Y_train=LABELS)
    elif form == "rows":
        # As MIT-BIH: no names of columns, and the label comes last.
        path = tmp_path / "a.csv"
        np.savetxt(path, np.c_[SIGNALS[..., 0], LABELS], "%.17g", ",")
        loaded = data.load(path, kind="signals", label_column="12")
        assert loaded.input_shape == (12, 1)
        return _check_rows(loaded, (SIGNALS[..., 0], LABELS))
    else:
        rows = ["image,label"]
        for number, label in enumerate(LABELS):
            name = f"{label}/{number}.npy"
            (tmp_path / "data" / str(label)).mkdir(parents=True, exist_ok=True)
            np.save(tmp_path / "data" / name, SIGNALS[number])
            rows.append(f"data/{name},{label}")
        (tmp_path / "a.csv").write_text("\n".join(rows))
        path = tmp_path / ("data" if form == "folder" else "a.csv")
    loaded = data.load(path, kind="signals")
    assert sum(loaded.sizes.values()) == 40 and loaded.kind == "signals"
    _check_rows(loaded, (SIGNALS, LABELS))


def test_rows_of_a_table_are_vectors_in_splits_and_groups(tmp_path):
    frame = pandas.DataFrame(numbers(3), columns=["a", "b", "c"])
    frame.insert(0, "Unnamed: 0", [f"X.{row}" for row in range(40)])
    frame["y"], frame["subject"] = LABELS, SUBJECTS
    frame.to_csv(tmp_path / "a.tsv", sep="\t", index=False)
    message = r'no column "label" .*label_column="\.\.\." \(--label-column\)'
    with pytest.raises(ValueError, match=message):
        data.load(tmp_path / "a.tsv", kind="vectors")
    options = {"kind": "vectors", "label_column": "y"}
    loaded = data.load(
        tmp_path / "a.tsv", group_column="subject", batch_size=99, **options
    )
    assert loaded.input_shape == (3,) and "Unnamed: 0" in loaded.notes[0]
    _check_rows(loaded, (numbers(3), LABELS))
    groups = [{*part.groups} for part in loaded]
    assert len(set.union(*groups)) == sum(map(len, groups)) == 8
    rows = {"train": frame[:30], "test": frame[30:]}
    del rows["test"]["subject"], rows["train"]["subject"]
    loaded = data.load(rows, batch_size=99, **options)
    assert loaded.sizes["test"] == 10
    assert loaded.test.names[:2].tolist() == ["test 0", "test 1"]
    plain = pandas.DataFrame(np.c_[numbers(3), LABELS])
    loaded = data.load(plain, kind="vectors", label_column="3")
    assert loaded.input_shape == (3,)
    # Paths are no numbers.
    frame["path"] = [f"records/{row}" for row in range(40)]
    with pytest.raises(ValueError, match='no column "image" .*image_column='):
        data.load(frame, **options)


def test_recordings_of_a_folder_stay_in_one_split(tmp_path):
    for subject in range(8):
        rows = SUBJECTS == subject
        file = tmp_path / f"night{subject}.npz"
        np.savez(file, x=SIGNALS[rows], y=LABELS[rows], rate=100)
    loaded = data.load(tmp_path, kind="signals")
    _check_rows(loaded, (SIGNALS, LABELS))
    groups = [{*part.groups} for part in loaded]
    assert len(set.union(*groups)) == sum(map(len, groups)) == 8
    np.savez(tmp_path / "z.npz", x=SIGNALS[:, 1:], y=LABELS)
    with pytest.raises(
        ValueError, match=r"equal shapes except for N.*\(11, 2\)"
    ):
        data.load(tmp_path, kind="signals")
    np.savez(tmp_path / "z.npz", signal=SIGNALS)
    with pytest.raises(ValueError, match=r"z.npz\" with \['signal'\]"):
        data.load(tmp_path, kind="signals")


@pytest.mark.parametrize("dtype", ["float64", "int64"])
def test_numbers_that_float32_rounds_lose_their_mean_first(dtype):
    seconds = (1.7e9 + 60 * np.arange(40)).astype(dtype)
    both = np.stack([seconds, seconds % 7, np.full(40, 10**12)], axis=1)
    train, _, _ = loaded = data.load((both, LABELS), batch_size=None)
    start = float(re.search(r"round it: (\d+) of channel 0;", str(loaded))[1])
    assert set(train[0][:, 0]) <= {*(seconds - start)}
    assert set(train[0][:, 1]) == {*(seconds % 7)}
    assert (train[0][:, 2] == 1e12).all()


def test_examples_of_one_group_stay_together(tmp_path):
    np.savez(
        tmp_path / "a.npz",
        x_train=SIGNALS,
        y_train=LABELS,
        groups_train=SUBJECTS,
    )
    held_out = {
        "x_val": SIGNALS[:5],
        "y_val": LABELS[:5],
        "groups_val": [9] * 5,
    }
    given = {"x_train": SIGNALS[5:], "y_train": LABELS[5:]}
    given["groups_train"] = SUBJECTS[5:]
    np.savez(tmp_path / "b.npz", **given, **held_out)
    loaded = data.load(tmp_path / "b.npz", kind="signals")
    assert {*loaded.validation.groups} == {"9"}
    for given, options in (
        ((SIGNALS, LABELS), {"groups": SUBJECTS}),
        (tmp_path / "a.npz", {}),
    ):
        loaded = data.load(given, kind="signals", **options)
        groups = [{*part.groups} for part in loaded]
        assert len(set.union(*groups)) == sum(map(len, groups)) == 8
    with pytest.raises(ValueError, match=r"`groups` must have one group per"):
        data.load((SIGNALS, LABELS), kind="signals", groups=SUBJECTS[1:])
    with pytest.raises(TypeError, match="pass groups with groups="):
        data.load((SIGNALS, LABELS, SUBJECTS), kind="signals")


@pytest.mark.parametrize("shape", [(7, 7, 7), (9, 8, 5)])
def test_volumes_are_not_taken_for_images_of_many_channels(shape):
    volumes = LEVELS.repeat(20, 2)[:, :1, :1, None] * np.ones(shape, "uint8")
    with pytest.raises(ValueError, match="4-D arrays are ambiguous"):
        data.load((volumes, LABELS))
    loaded = data.load((volumes, LABELS), kind="volumes")
    assert loaded.input_shape == (*shape, 1)
    assert data.load((volumes, LABELS), kind="images").input_shape == shape


def test_a_folder_of_other_files_is_refused_with_the_forms(tmp_path):
    (tmp_path / "a.txt").write_text("1 2")
    with pytest.raises(ValueError, match="X_train.npy beside.*.txt': 1"):
        data.load(tmp_path, kind="signals")
