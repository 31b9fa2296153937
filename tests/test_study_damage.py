"""Files of a run that are damaged, missing, left behind or overwritten."""

import shutil

import numpy as np
import pytest
from study_checks import GATED, NARROW, planned

from cbam_keras import _files, study
from cbam_keras.study.files.checkpoints import State, save_state
from cbam_keras.study.files.options import RunOptions
from cbam_keras.study.results.predictions import read_predictions

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
        except Exception as error:
            assert "is damaged: delete it" in error.__notes__[0]
            continue
        # The bit is one that no reader looks at.
        for name, values in vars(found).items():
            assert np.array_equal(values, vars(expected)[name])


def test_tables_say_of_how_many_seeds_they_are(run):
    predictions_of(run).unlink()
    results = study.Results.read(run)
    frame = results.per_class()
    counts = dict(zip(frame["variant"], frame["seeds"], strict=True))
    assert counts == {"narrow": 2, "gated": 1}
    assert [*results.calibration()["seeds"]] == [2, 1]


# States.


def test_a_state_that_cannot_be_written_stays_as_it_is(tmp_path, monkeypatch):
    state = State("narrow", 0, None, {}, {})

    def full(*_):
        raise OSError(28, "full")

    monkeypatch.setattr(_files, "write_json", full)
    with pytest.raises(OSError, match="full"):
        save_state(tmp_path, state, latest="epoch-1.keras")
    assert state.latest is None


# What is left, and overwritten.


def test_nobody_overwrites_a_run_whose_page_is_drawn(tmp_path):
    seen = []

    def draw(folder, results):
        with pytest.raises(ValueError, match="is in use by"):
            study.run(planned(NARROW), folder, overwrite=True)
        seen.append(results)

    options = RunOptions(tmp_path / "run", on_end=draw)
    results = study.execute(planned(NARROW), options)
    assert seen == [results]
    assert [x.name for x in tmp_path.iterdir()] == ["run"]
    assert not [*(tmp_path / "run").glob(".lock*")]
