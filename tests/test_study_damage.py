"""Files of a run that are damaged, missing, left behind or overwritten."""

import io
import json
import pathlib
import shutil
import warnings

import numpy as np
import pytest
from folder_checks import epochs
from study_checks import GATED, NARROW, planned, rewrite

from cbam_keras import _files, report, study
from cbam_keras.study.files.checkpoints import State, save_state
from cbam_keras.study.files.folder import STUDY
from cbam_keras.study.results.kept import read_predictions

pytest.importorskip("pandas")
pytest.importorskip("sklearn")
pytest.importorskip("scipy.stats")


pytestmark = pytest.mark.usefixtures("eagerly")
SEEDS = {"seeds": (0, 1), "baseline": "narrow"}


@pytest.fixture(scope="module")
def ran(few_digits, eagerly, tmp_path_factory):
    """The folder of two variants with two seeds, really trained."""
    folder = tmp_path_factory.mktemp("ran") / "run"
    study.run(planned(NARROW, GATED, **SEEDS), folder)
    return folder


@pytest.fixture
def run(ran, tmp_path):
    return shutil.copytree(ran, tmp_path / "run")


def predictions_of(folder):
    return folder / f"gated-seed1/gated-seed1{_files.PREDICTIONS}"


# Predictions.


def test_flipped_bits_of_predictions_are_found_or_change_nothing(ran, tmp_path):
    whole = predictions_of(ran).read_bytes()
    outcome = next(
        x
        for x in study.Results.read(ran).runs
        if x.predictions in str(predictions_of(ran))
    )
    expected = read_predictions(ran, outcome)["test"]
    path = tmp_path / outcome.predictions
    path.parent.mkdir()
    rng = np.random.default_rng(0)
    for bit in rng.choice(8 * len(whole), 40, replace=False):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        try:
            found = read_predictions(tmp_path, outcome).get("test", expected)
        except ValueError as error:
            assert str(error).startswith(f'"{path}" is damaged (')
            continue
        # The bit is one that no reader looks at.
        for name, values in vars(found).items():
            assert np.array_equal(values, vars(expected)[name])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 8
    path.write_bytes(content)


def exchange(path):
    """Puts the predictions of another network in the place of these."""
    other = path.parent.parent / f"narrow-seed0/narrow-seed0{path.suffixes[-1]}"
    shutil.copy(other.with_name(f"narrow-seed0{_files.PREDICTIONS}"), path)


def swap(path):
    """Exchanges columns of classes, so that another one is predicted."""
    with np.load(path) as file:
        arrays = dict(file)
    scores, labels = arrays["test/probabilities"], arrays["test/labels"]
    right = [
        (np.roll(scores, x, axis=1).argmax(axis=1) == labels).sum()
        for x in range(10)
    ]
    shift = int(np.argmax(np.abs(np.subtract(right, right[0]))))
    scores = np.roll(scores, shift, axis=1)
    _files.write_arrays(path, arrays | {"test/probabilities": scores})


DAMAGES = [
    (flip, "is damaged"),
    (pathlib.Path.unlink, "is missing"),
    (exchange, "is of another network"),
    (swap, "gives a test_accuracy of .*, and 0.* was measured"),
]


@pytest.mark.parametrize(("damage", "words"), DAMAGES)
def test_results_go_on_without_predictions_that_are_damaged(damage, words, run):
    damage(predictions_of(run))
    results = study.Results.read(run)
    with pytest.warns(UserWarning, match=f"left out: .*gated-seed1.*{words}"):
        frame = results.per_class()
    # It is said once.
    counts = dict(zip(frame["variant"], frame["seeds"], strict=True))
    assert counts == {"narrow": 2, "gated": 1}
    assert [*results.calibration()["seeds"]] == [2, 1]
    assert results.confusion("gated").to_numpy().sum() == results.test_images
    assert len(results.runs) == 4


def test_a_page_says_of_how_many_trainings_its_tables_are(run):
    flip(predictions_of(run))
    with pytest.warns(UserWarning, match="left out") as told:
        text = report.write(run).read_text()
    assert len(told) == 1
    assert "Predictions are used from 1 of 2 runs of gated." in text
    assert "Predictions: &#34;gated-seed1/gated-seed1.predictions" in text


def test_the_same_call_computes_predictions_again(run):
    kept = {x: x.read_bytes() for x in run.glob(f"*/*{_files.PREDICTIONS}")}
    for damage, path in zip([flip, exchange, swap], [*kept], strict=False):
        damage(path)
    [*kept][-1].unlink()
    with epochs() as trained:
        results = study.run(planned(NARROW, GATED, **SEEDS), run)
    assert not trained
    assert not results.files_left_out and len(results.tested) == 2
    for path, content in kept.items():
        with np.load(path) as found, np.load(io.BytesIO(content)) as expected:
            assert {*found} == {*expected}
            for name in found:
                if name.endswith("probabilities"):
                    np.testing.assert_allclose(
                        found[name], expected[name], atol=1e-6
                    )
                else:
                    assert (found[name] == expected[name]).all()


def test_only_where_nothing_is_left_it_is_an_error(run):
    for path in run.glob("*/*.[kp]*"):
        if "state" not in path.name:
            path.write_bytes(path.read_bytes()[:99])
    with pytest.warns(UserWarning, match="Delete its folder to train"):
        results = study.run(planned(NARROW, GATED, **SEEDS), run)
    assert len(results.runs) == 4
    with (
        pytest.warns(UserWarning, match="left out"),
        pytest.raises(ValueError, match="without any that can be used .*damag"),
    ):
        results.per_class()


# States.


def test_a_state_that_cannot_be_written_stays_as_it_is(tmp_path, monkeypatch):
    state = State("narrow", 0, None, {}, {})

    def full(*_):
        raise OSError(28, "full")

    monkeypatch.setattr(_files, "write_json", full)
    with pytest.raises(OSError, match="full"):
        save_state(tmp_path, state, {"latest": "epoch-1.keras"})
    assert state.latest is None


VALUES = (None, True, -3, 0.5, "x", [], ["x"], {}, {"x": 1})


def places_of(content):
    """Yields each object or list in JSON, and each place in it."""
    for place in content if isinstance(content, dict) else range(len(content)):
        yield content, place
        if isinstance(content[place], dict | list):
            yield from places_of(content[place])


def change_one(path, rng):
    """Gives one value in a file another type, and returns its field."""
    content = json.loads(path.read_text())
    holders = [*places_of(content)]
    holder, place = holders[rng.integers(len(holders))]
    kind = type(holder[place])
    # In JSON, an integer is a number, too.
    same = (int, float) if kind is float else (kind,)
    others = [x for x in VALUES if type(x) not in same]
    holder[place] = others[rng.integers(len(others))]
    path.write_text(json.dumps(content))
    return str(place), holder[place]


def read_whole(folder):
    """Reads and prints all that there is of a run."""
    results = study.Results.read(folder)
    text = f"{results}{results.json()}{results.latex()}{results.verdict}"
    frames = results.to_dataframe(), results.per_class(), results.calibration()
    return text, frames, results.unfinished(), results.plot(), results.history


def check_changes(folder, tmp_path, numbers):
    """Changes single values, which is an error that names the file."""
    refused = 0
    files = [folder / STUDY, *sorted(folder.glob("*/state.json"))]
    for number in numbers:
        rng = np.random.default_rng(number)
        path = files[rng.integers(2) * rng.integers(1, len(files))]
        whole = path.read_text()
        field, value = change_one(path, rng)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                read_whole(folder)
        except ValueError as error:
            refused += 1
            assert path.name in str(error), (field, value)
            assert "\n" not in str(error)
        path.write_text(whole)
    return refused


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        (STUDY, {"seeds": ["0"]}, r"`seeds\[0\]` must be an integer. .*'0'"),
        (STUDY, {"measures": {}}, "`measures` must be a list. Received"),
        (STUDY, {"seeds": []}, "`seeds` must not be empty"),
        (STUDY, {"baseline": 1}, "`baseline` must be a string or null"),
        (STUDY, {"settings": {}}, "data, recipe, variants of `settings` must"),
        (
            "narrow-seed0/state.json",
            {"fold": True},
            "`fold` must be an integer",
        ),
        (
            "narrow-seed0/state.json",
            {"history": [1]},
            r"`history\[0\]` must be",
        ),
        ("narrow-seed0/state.json", {"ended": {}}, ".*required .* .status."),
    ],
)
def test_a_field_of_another_type_is_named(file, change, words, run):
    rewrite(run / file, lambda content: content.update(change))
    with pytest.raises(ValueError, match=f'"{run / file}" is damaged: {words}'):
        study.Results.read(run)


def test_changed_types_are_errors_that_name_the_file(run, tmp_path):
    assert check_changes(run, tmp_path, range(12)) > 4


@pytest.mark.exhaustive
def test_any_changed_type_is_an_error_that_names_the_file(run, tmp_path):
    assert check_changes(run, tmp_path, range(400)) > 200


# What is left, and overwritten.


def test_nobody_overwrites_a_run_whose_page_is_drawn(tmp_path):
    seen = []

    def draw(folder, results):
        with pytest.raises(ValueError, match="is in use by"):
            study.run(planned(NARROW), folder, overwrite=True)
        seen.append(results)

    results = study.run(planned(NARROW), tmp_path / "run", on_end=draw)
    assert seen == [results]
    assert [x.name for x in tmp_path.iterdir()] == ["run"]
    assert not [*(tmp_path / "run").glob(".lock*")]


# Figures take seconds.
@pytest.mark.exhaustive
def test_a_run_whose_page_was_drawn_is_overwritten(run, tmp_path):
    page = report.write(run, draw=True)
    assert (run / "explain").is_dir() and page.exists()
    study.run(planned(NARROW), run, overwrite=True)
    before = tmp_path / "run.old-1"
    assert (before / page.name).exists() and (before / "explain").is_dir()
    assert not page.exists() and not (run / "explain").exists()
    assert (run / "narrow-seed0/narrow-seed0.keras").exists()
