"""Files are whole or not there; output folders can be written to."""

import json

import pytest

from cbam_keras import _files


@pytest.mark.parametrize("old", [None, "old"], ids=["new", "existing"])
def test_replacing_puts_the_new_file_in_place(tmp_path, old):
    path = tmp_path / "file.txt"
    if old is not None:
        path.write_text(old)
    with _files.replacing(path) as beside:
        beside.write_text("new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_replacing_takes_a_string(tmp_path):
    with _files.replacing(str(tmp_path / "file.txt")) as beside:
        beside.write_text("new")
    assert (tmp_path / "file.txt").read_text() == "new"


def test_what_is_written_to_lies_beside_and_ends_alike(tmp_path):
    with _files.replacing(tmp_path / "network.keras") as beside:
        beside.touch()
    assert beside.parent == tmp_path
    assert beside.name != "network.keras"
    assert beside.suffix == ".keras"


def test_the_old_file_is_whole_until_the_new_one_is(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with _files.replacing(path) as beside:
        beside.write_text("ne")
        assert path.read_text() == "old"


@pytest.mark.parametrize(
    "error",
    [RuntimeError, OSError, KeyboardInterrupt],
    ids=["error", "disk", "ctrl_c"],
)
def test_an_error_leaves_the_old_file_and_no_leftovers(tmp_path, error):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(error), _files.replacing(path) as beside:
        beside.write_text("ne")
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_no_new_file(tmp_path):
    with (
        pytest.raises(RuntimeError),
        _files.replacing(tmp_path / "file.txt") as beside,
    ):
        beside.write_text("ne")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_nothing_written_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), _files.replacing(path):
        pass
    assert path.read_text() == "old"


def test_write_json_keeps_the_value(tmp_path):
    path = tmp_path / "file.json"
    value = {"numbers": [1, 0.1, 1e-17], "text": "é", "nothing": None}
    _files.write_json(path, value)
    assert json.loads(path.read_text()) == value
    assert path.read_text().endswith("\n")


def test_what_is_no_json_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.json"
    _files.write_json(path, {"old": 1})
    with pytest.raises(TypeError, match="not JSON serializable"):
        _files.write_json(path, {"new": object()})
    assert json.loads(path.read_text()) == {"old": 1}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kind", [str, lambda path: path], ids=["str", "path"])
def test_an_output_folder_is_made_with_its_parents(tmp_path, kind):
    folder = _files.output_folder(kind(tmp_path / "one" / "two"))
    assert folder == tmp_path / "one" / "two"
    assert folder.is_dir()
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    "name",
    [
        "file.txt",
        "probe",
    ],
)
def test_an_output_folder_keeps_what_it_holds(tmp_path, name):
    (tmp_path / name).write_text("mine")
    _files.output_folder(tmp_path)
    assert (tmp_path / name).read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    "below", ["", "one", "one/two"], ids=["itself", "below", "deep_below"]
)
def test_an_output_below_a_file_is_refused(tmp_path, below):
    (tmp_path / "file").write_text("mine")
    path = tmp_path / "file" / below
    with pytest.raises(ValueError, match="`output` must be a folder") as caught:
        _files.output_folder(path)
    assert f'output="{path}"' in str(caught.value)
    assert (tmp_path / "file").read_text() == "mine"
