"""CSV files and data frames of image files."""

import os

import numpy as np
import pandas
import pytest
from data_checks import assert_same, whole, write_folder

from cbam_keras import data, study


@pytest.fixture
def pictures(tmp_path):
    """Returns the images that are written, by their names."""
    return write_folder(tmp_path / "images", size=(6, 5))


def _rows(pictures, **more):
    names = [f"images/{name}" for name in pictures]
    labels = [name.split("/")[0] for name in pictures]
    return pandas.DataFrame({"path": names, "kind": labels, **more})


def test_a_csv_file_names_images_and_classes(tmp_path, pictures):
    _rows(pictures).to_csv(tmp_path / "pets.csv", index=False)
    loaded = whole(tmp_path / "pets.csv")
    assert (loaded.name, loaded.class_names) == ("pets", ("cat", "dog"))
    assert loaded.sizes == {"train": 14, "validation": 2, "test": 4}
    labels = {i.tobytes(): "dog" in name for name, i in pictures.items()}
    for images, given in loaded:
        assert [labels[image.tobytes()] for image in images] == given.tolist()


def test_a_data_frame_has_paths_from_the_current_folder(
    tmp_path, pictures, monkeypatch
):
    rows = _rows(pictures)
    rows.to_csv(tmp_path / "pets.csv", index=False)
    monkeypatch.chdir(tmp_path)
    task = study.Classification(rows)
    assert task.name == whole(rows).name == "table"
    assert_same(whole(rows), whole("pets.csv"))
    # Absolute ones too.
    rows["path"] = [str(tmp_path / name) for name in rows["path"]]
    assert_same(whole(rows), whole("pets.csv"))
    other = rows.assign(kind=rows["kind"].replace({"cat": "cow"}))
    assert whole(other).fingerprint != whole(rows).fingerprint


def test_columns_are_found_or_named(pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    expected = whole(_rows(pictures))
    rows = _rows(pictures, age=range(20)).rename(columns={"kind": "Label"})
    assert_same(whole(rows), expected)
    rows = _rows(pictures, mask=[f"images/{name}" for name in pictures])
    for options, wrong in (
        ({"label_column": "kind"}, "image_column=None"),
        ({"image_column": "path"}, "label_column=None"),
        ({"image_column": "file"}, "image_column='file'"),
    ):
        message = rf"one of \['path', 'kind', 'mask'\]. Received: {wrong}"
        with pytest.raises(ValueError, match=message):
            data.load(rows, **options)
    options = {"image_column": "path", "label_column": "kind"}
    assert_same(whole(rows, **options), expected)
    with pytest.raises(ValueError, match="only for CSV files and data frames"):
        data.load("images", **options)


def test_classes_may_be_numbers_and_missing(pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = _rows(pictures, target=[10, 9] * 10).drop(columns="kind")
    rows.loc[[3, 7], "target"] = np.nan
    rows.loc[5, "path"] = "images/gone.png"
    with pytest.warns(UserWarning, match="1 missing.*: images/gone.png"):
        loaded = data.load(rows, group_by_folder=False)
    assert loaded.class_names == ("9", "10")
    assert loaded.notes == ("3 left out: 2 without a label, 1 missing",)
    rows = _rows(pictures).replace({"kind": {"cat": "None"}})
    rows.to_csv("pets.csv", index=False)
    assert data.load("pets.csv").class_names == ("None", "dog")


def test_folders_of_a_table_are_not_split_either(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("cbam_keras.data.loading.DECODED_BYTES", 0)
    patients = [f"scans/p{number}" for number in range(5)]
    pictures = write_folder(tmp_path, 4, patients, size=(6, 5))
    rows = pandas.DataFrame({"image": [*pictures], "label": [0, 1] * 10})

    def folders(**options):
        loaded = data.load(rows, **options)
        return [{*map(os.path.dirname, x.examples.images)} for x in loaded]

    parts = folders()
    assert [*map(len, parts)] == [3, 1, 1] and len(set.union(*parts)) == 5
    assert len(folders(group_by_folder=False)[0]) > 3


@pytest.mark.parametrize("content", [None, b"", b"a,b\n1,2,3\n4,5\n6,7,8,9\n"])
def test_what_is_no_csv_file_is_refused(tmp_path, content):
    path = tmp_path / "labels.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match='a CSV file that.*labels.csv"'):
        data.load(path)


def test_a_run_knows_where_the_table_is(tmp_path, pictures):
    rows = _rows(pictures, mask="none")
    rows.to_csv(tmp_path / "pets.csv", index=False)
    options = {"image_column": "path", "label_column": "kind"}
    loaded = data.load(tmp_path / "pets.csv", group_by_folder=False, **options)
    assert loaded.source["name"] == str(tmp_path / "pets.csv")
    source = data.Source.from_description(loaded.source)
    assert source.split().fingerprint == loaded.fingerprint
