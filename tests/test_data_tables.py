"""CSV files and data frames of image files."""

import os
import pathlib
import re

import numpy as np
import pandas
import pytest
from data_checks import assert_same, whole, write_folder
from PIL import Image

from cbam_keras import data, study

# Forty images, how they are divided, and patients of four images each.
ROWS = pandas.DataFrame(
    {
        "image": [f"{i}.png" for i in range(40)],
        "label": ["ab"[i % 2] for i in range(40)],
        "split": ["TRAIN"] * 24 + ["valid"] * 8 + ["test"] * 8,
        "group": [i // 4 for i in range(40)],
    }
)
PATIENTS, PAIRS = ROWS.drop(columns="split"), ROWS[["image", "label"]]
PARTS = {"test": PATIENTS[32:], "train": PATIENTS[:24], "val": PATIENTS[24:32]}


@pytest.fixture
def forty(tmp_path, monkeypatch):
    """Writes the images of `ROWS` into the current folder; returns them."""
    images = write_folder(tmp_path, 40, ["forty"], size=(6, 5))
    monkeypatch.setattr("cbam_keras.data.loading.DECODED_BYTES", 0)
    monkeypatch.chdir(tmp_path / "forty")
    return images.values()


def test_a_csv_file_names_images_and_classes(forty):
    PAIRS.assign(mask="none").to_csv("pets.csv", index=False)
    loaded = whole("pets.csv", image_column="image", label_column="label")
    assert (loaded.name, loaded.class_names) == ("pets", ("a", "b"))
    assert loaded.sizes == {"train": 28, "validation": 4, "test": 8}
    label_of = {image.tobytes(): i % 2 for i, image in enumerate(forty)}
    for images, labels in loaded:
        assert [label_of[image.tobytes()] for image in images] == [*labels]
    assert loaded.source["name"] == os.path.abspath("pets.csv")
    source = data.Source.from_description(loaded.source)
    assert source.split().fingerprint == loaded.fingerprint


def test_a_data_frame_has_paths_from_the_current_folder(forty):
    PAIRS.to_csv("pets.csv", index=False)
    assert study.Classification(PAIRS).name == whole(PAIRS).name == "table"
    assert_same(whole(PAIRS), whole("pets.csv"))
    # Absolute ones too.
    rows = PAIRS.assign(image=PAIRS["image"].map(os.path.abspath))
    assert_same(whole(rows), whole("pets.csv"))
    other = PAIRS.replace({"label": {"b": "c"}})
    assert whole(other).fingerprint != whole(PAIRS).fingerprint


@pytest.mark.parametrize(
    ("options", "column"),
    [
        ({"label_column": "kind"}, "image"),
        ({"image_column": "path"}, "label"),
        ({"image_column": "file"}, "file"),
    ],
)
def test_columns_have_our_names_or_are_named(forty, options, column):
    rows = PAIRS.set_axis(["path", "kind"], axis=1)
    message = rf'no column "{column}" among "path" \(0.png\), "kind" \(a\)\. W'
    with pytest.raises(ValueError, match=message + 'rite .*_column="..." .--'):
        data.load(rows, **options)
    options = {"image_column": "path", "label_column": "kind"}
    assert_same(whole(rows, **options), whole(PAIRS))


def test_classes_may_be_numbers_and_missing(forty):
    rows = PAIRS.assign(label=[10, 9] * 20)
    rows.loc[[3, 7], "label"] = np.nan
    rows.loc[5, "image"] = "gone.png"
    with pytest.warns(UserWarning, match="1 missing.*: gone.png"):
        loaded = data.load(rows)
    assert loaded.class_names == ("9", "10")
    assert loaded.notes == ("3 left out: 2 without a label, 1 missing",)
    rows = PAIRS.replace({"label": {"a": "None"}})
    rows.to_csv("pets.csv", index=False)
    assert data.load("pets.csv").class_names == ("None", "b")


def _names(loaded):
    return [{*map(os.path.basename, x.examples.images)} for x in loaded]


@pytest.mark.parametrize("kind", ["found", "named", "several tables"])
def test_splits_are_those_of_a_column_or_of_several_tables(forty, kind):
    table = {
        "found": ROWS,
        "named": ROWS.rename(columns={"split": "part"}),
        "several tables": PARTS,
    }[kind]
    split_column = "part" if kind == "named" else None
    loaded = data.load(table, split_column=split_column)
    images = ROWS["image"].groupby(ROWS["split"]).agg(set)
    assert _names(loaded) == [images[x] for x in ("TRAIN", "valid", "test")]
    assert loaded.notes[-1] == 'groups by the column "group"'


@pytest.mark.parametrize(
    "options",
    [{}, {"group_column": "who"}, {"folds": 4}],
)
def test_images_of_a_group_stay_together(forty, options):
    table, groups = PATIENTS.assign(age=1), ROWS["group"]
    if "group_column" in options:
        table = table.rename(columns={"group": "who"})
    table.to_csv("rows.csv")
    loaded = data.load("rows.csv", **options)
    assert re.match("columns not used: .*age", loaded.notes[0])
    of_image = dict(zip(ROWS["image"], groups, strict=True))
    parts = [{of_image[name] for name in names} for names in _names(loaded)]
    assert sum(map(len, parts)) == len({*groups})
    source = data.Source.from_description(loaded.source)
    again = source.split(folds=options.get("folds")).splits["test"].images
    assert [*again] == [*loaded.test.examples.images]


def test_groups_in_several_given_splits_are_named(forty):
    rows = ROWS.assign(group=["p1"] * 25 + [*range(15)])
    message = "1 group has images in several splits by group_column.*: p1. "
    with pytest.warns(UserWarning, match=message):
        data.load(rows)


def test_copies_of_an_image_stay_together(forty):
    """As in a table in which rare images are repeated."""
    rare = ROWS[ROWS.index % 5 == 0].drop(columns=["split", "group"])
    loaded = data.load(pandas.concat([PAIRS, rare, rare]))
    assert sum(loaded.sizes.values()) == 40 + 16
    assert sum(map(len, _names(loaded))) == 40
    assert loaded.notes == (
        "16 rows repeat an image, in the same split; class "
        "weights count each row",
    )
    crossed = pandas.concat([ROWS, ROWS[:1].assign(split="test")])
    with pytest.warns(UserWarning, match="0.png is 0.png"):
        assert data.load(crossed.drop(columns="group")).notes == (
            'splits by the column "split"',
        )
    # A patient is one wherever his images are repeated.
    twice = pandas.concat([PATIENTS, PATIENTS[:4].assign(group=9)])
    parts = [{int(x[:-4]) // 4 for x in y} for y in _names(data.load(twice))]
    assert sum(map(len, parts)) == 10


@pytest.mark.parametrize(
    ("start", "separator", "is_foreign"),
    [
        ("forty/", ",", False),
        ("./forty/", ";", False),
        ("forty\\", "\t", False),
        ("/content/drive/MyDrive/set/", ",", True),
        ("C:\\Users\\x\\set\\", ",", True),
        ("../input/set/", ";", True),
        ("file:///home/x/", ",", True),
        ("https://example.org/", ",", True),
    ],
)
def test_paths_are_those_of_other_programs_and_machines(
    forty, monkeypatch, start, separator, is_foreign
):
    monkeypatch.chdir("..")
    lines = [[start + name, label] for name, label in PAIRS.to_numpy()]
    with open("rows.tsv", "w", encoding="utf-8-sig") as file:
        rows = [["image", " label "], *lines]
        file.write("\n".join(map(separator.join, rows)))
    folder = "forty" if is_foreign else None
    loaded = data.load("rows.tsv", image_folder=folder)
    assert {*ROWS["image"]} == set.union(*_names(loaded))
    note = f'images by the ends of their paths, as "0.png" of "{start}0.png"'
    assert loaded.notes == ((note,) if is_foreign else ())


@pytest.mark.parametrize("is_one", [False, True])
def test_the_folder_of_a_split_is_no_group(forty, is_one):
    """As in GTSRB: `train.csv` has `train/0.png`."""
    rows = PAIRS.assign(split=["train"] * 28 + ["test"] * 12)
    rows["image"] = rows["split"] + "/" + rows["image"]
    for old, new in zip(ROWS["image"], rows["image"], strict=True):
        os.renames(old, new)
    for split, part in rows.groupby("split"):
        part[["image", "label"]].to_csv(f"{split}.csv", index=False)
    rows.to_csv("all.csv", index=False)
    tables = {"train": "train.csv", "test": "test.csv"}
    loaded = data.load("all.csv" if is_one else tables)
    assert loaded.sizes == {"train": 26, "validation": 2, "test": 12}


def test_ids_become_paths_as_the_refusal_says(forty, monkeypatch):
    """As in HAM10000, whose images are in two folders."""
    rows = ROWS[["group", "image", "label"]]
    for row, name in enumerate(rows["image"]):
        os.renames(name, f"part_{row % 2}/{name}")
    rows = rows.assign(image=[x[:-4] for x in rows["image"]])
    rows = rows.set_axis(["lesion_id", "image_id", "dx"], axis=1)
    options = {"image_column": "image_id", "label_column": "dx"}
    with pytest.raises(ValueError, match='none .* of them "0"') as caught:
        data.load(rows, **options)
    code = re.search(r"\.map\((.*)\)$", str(caught.value))[1]
    paths = eval(code, {"pathlib": pathlib})
    rows["image_id"] = rows["image_id"].map(paths)
    loaded = data.load(rows, **options, group_column="lesion_id")
    assert [*map(len, _names(loaded))] == [28, 4, 8]


def _labelled(*labels):
    return PAIRS.assign(label=(labels * 40)[:40])


# What is read as a CSV file, or a table, by the error.
REFUSED = {
    'a CSV file that exists.*data="none.csv" .*No such file': "none.csv",
    'a CSV file that.*data="rows.csv" .No columns': b"",
    "a CSV file that.*Expected 3 fields": b"a,b\n1,2,3\n4,5\n6,7,8,9\n",
    '"image" among "0" .0.png., "1" .a.': b"0.png,a\n1.png,b\n",
    "in UTF-8,.*can't decode": b"image,label\n0.png,\xe9\n",
    "in UTF-8,.*0xff": "image,label\n0.png,a\n".encode("utf-16"),
    "which is a file .* a data frame": "rows.xlsx",
    'none that is in .*, the first of them "9/99.png". Pass .* image_folder=': (
        b"image,label\n9/99.png,a\n"
    ),
    "URL.*https://a.b/99.png": b"image,label\nhttps://a.b/99.png,a\n",
    'the label "a.b".*multi_label': _labelled("a", "a|b"),
    'the label "a, b"': _labelled("a", "b", "c", "a, b"),
    "the label \"..b', 'a'": _labelled("a", ["b", "a"]),
    'fewer of class "0.0" .2.': _labelled(*(i / 8 for i in range(20))),
    "one class. Received: 5 with several: 1.png .a, b.": pandas.concat(
        [PAIRS, PAIRS[:10].assign(label="a")]
    ),
    'split_column.*also has "x"': ROWS.replace({"split": {"valid": "x"}}),
    'group_column.*also has "nan': ROWS.replace({"group": {3: None}}),
    "smaller groups by group_column": PATIENTS.assign(group=ROWS.index % 2),
    "the keys .'train', 'more'": {"train": PAIRS, "more": PAIRS},
}


@pytest.mark.parametrize(("message", "table"), REFUSED.items())
def test_tables_that_make_no_dataset_are_refused(forty, message, table):
    pathlib.Path("rows.xlsx").write_bytes(b"")
    if isinstance(table, bytes):
        pathlib.Path("rows.csv").write_bytes(table)
        table = "rows.csv"
    with pytest.raises(ValueError, match=message):
        data.load(table)


def _write_labels(folder, name, labels, count=4):
    """Writes images of some labels, and a table of them."""
    rows = ["image,label"]
    for number, label in enumerate(labels):
        for i in range(count):
            pixels = np.random.default_rng([number, i]).integers(0, 255, (4, 4))
            path = folder / f"{name}{number}_{i}.png"
            Image.fromarray(pixels.astype("uint8")).save(path)
            rows.append(f"{path.name},{label}")
    (folder / f"{name}.csv").write_text("\n".join(rows))
    return folder / f"{name}.csv"


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ("01 1 2", "01 1 2"),
        ("1e3 1000 5", "1000 1e3 5"),
        ("10 9 0", "0 9 10"),
        ("12345678901234567890123 12345678901234567890124 5", None),
    ],
)
def test_classes_are_the_texts_as_written(tmp_path, labels, names):
    loaded = data.load(_write_labels(tmp_path, "a", labels.split()))
    expected = names.split() if names else sorted(labels.split(), key=int)
    assert [*loaded.class_names] == expected


@pytest.mark.filterwarnings("ignore:.*has no images")
def test_tables_of_a_source_share_one_rule_for_classes(tmp_path):
    tables = {
        "train": _write_labels(tmp_path, "train", ["0", "1", "other"], 8),
        "test": _write_labels(tmp_path, "test", ["0", "1"]),
    }
    loaded = data.load(tables, batch_size=None)
    assert loaded.class_names == ("0", "1", "other")
    assert np.bincount(loaded.test[1]).tolist() == [4, 4]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("image,label\n", {}, "with none below its first line"),
        ("a.png,0\nb.png,1", {}, r'among "0" \(a.png\), "1" \(0\)'),
        ("image,A,B\na,1,0\nb,0,1", {}, r"frame\[\['A', 'B'\]\].idxmax"),
        (
            "image,label\na.png,x\nb.png,y\nc.png,x y",
            {},
            "label .x y..*multi_label=True",
        ),
        (
            "image,label,fold\na,x,1\nb,y,2",
            {"split_column": "fold"},
            "fold_column= .--fold-column. takes folds",
        ),
        (",".join(f"c{i}" for i in range(99)) + "\n" + 99 * "1,", {}, "c7"),
    ],
)
def test_what_a_table_lacks_is_said_with_what_helps(
    tmp_path, text, options, message
):
    for name in "abc":
        Image.new("L", (4, 4)).save(tmp_path / f"{name}.png")
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        data.load(tmp_path / "a.csv", **options)
    assert len(str(caught.value)) < 1000


def test_splits_may_be_numbered(tmp_path):
    path = _write_labels(tmp_path, "a", ["x", "y"], 9)
    frame = pandas.read_csv(path).assign(split=[*range(3)] * 6)
    loaded = data.load(frame, image_folder=tmp_path)
    assert loaded.sizes == {"train": 6, "validation": 6, "test": 6}
