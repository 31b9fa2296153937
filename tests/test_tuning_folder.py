"""Searches that are killed, resumed, changed, and whose files are damaged."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import keras
import pytest
import tuning_checks
from tuning_checks import Killed, answer

from cbam_keras import _files, data, training, tuning
from cbam_keras.tuning import folder as tuning_folder

keras_tuner = pytest.importorskip("keras_tuner")

pytestmark = pytest.mark.usefixtures("few_digits")

NAMES = ("random", "hyperband", "bayesian", "grid")


def lives(quick, output, count, **options):
    """Searches, and dies each time at that file, until all is done."""
    for life in range(1, 200):
        with quick.context() as patch:
            tuning_checks.kill_at(patch, count)
            try:
                return tuning_checks.search(output, **options), life
            except Killed:
                continue
    raise AssertionError("The search does not get on.")


@pytest.mark.parametrize(
    "name, count", [*((name, 6) for name in NAMES), ("random", 11)]
)
def test_a_search_that_dies_again_and_again_ends_as_one_that_does_not(
    quick, tmp_path, name, count
):
    options = {"algorithm": name, "max_trials": 5}
    if name == "hyperband":
        # Enough for trials that continue others.
        options = {"algorithm": name, "recipe": tuning_checks.THREE}
    whole = tuning_checks.search(tmp_path / "whole", **options)
    broken, life = lives(quick, tmp_path / "broken", count, **options)
    assert life > 3
    assert answer(broken) == answer(whole)
    assert tuning_checks.checkpoints(broken.output) == (
        tuning_checks.checkpoints(whole.output)
    )


@pytest.fixture(scope="module")
def whole(few_digits, tmp_path_factory):
    """Returns the results of one trial without training."""
    with pytest.MonkeyPatch.context() as patch:
        tuning_checks.without_training(patch)
        output = tmp_path_factory.mktemp("whole") / "run"
        return tuning_checks.search(output, max_trials=1)


@pytest.mark.parametrize("count", range(1, 12))
def test_a_search_may_die_at_any_file(quick, tmp_path, whole, count):
    with quick.context() as patch:
        tuning_checks.kill_at(patch, count)
        with pytest.raises(Killed):
            tuning_checks.search(tmp_path / "broken", max_trials=1)
    broken = tuning_checks.search(tmp_path / "broken", max_trials=1)
    assert answer(broken) == answer(whole)


def test_finished_epochs_are_not_trained_again(quick, tmp_path):
    began, pretend = [], tuning_checks.pretend

    def noting(model, name, images, recipe, progress, **options):
        state = progress.load(name)
        began.append(state.epochs if state else 0)
        return pretend(model, name, images, recipe, progress, **options)

    quick.setattr(training, "fit", noting)
    # Within the second epoch of the first trial, then of the second.
    for count in (6, 10):
        with quick.context() as patch:
            tuning_checks.kill_at(patch, count)
            with pytest.raises(Killed):
                tuning_checks.search(tmp_path / "run", max_trials=2)
    tuning_checks.search(tmp_path / "run", max_trials=2)
    assert began == [0, 1, 0, 1]


@pytest.mark.slow
def test_a_search_resumes_after_kill_9(tmp_path):
    # While the checkpoint of the second epoch is written; when the trial has
    # written its outcome, and the search has not.
    for count in (6, 4):
        assert script(tmp_path / "broken", count) == -9
    begun = json.loads((tmp_path / "broken/oracle.json").read_text())
    assert (begun["start_order"], begun["end_order"]) == (["0001"], [])
    assert (tmp_path / "broken/trial_0001/outcome.json").exists()
    # While a checkpoint of the confirmation is written.
    assert script(tmp_path / "broken", 20) == -9
    (seed,) = (tmp_path / "broken/confirmation").iterdir()
    assert not list(seed.glob("*/outcome.json"))
    options = {"max_trials": 2, "confirm": 1}
    whole = tuning_checks.search(tmp_path / "whole", **options)
    broken = tuning_checks.search(tmp_path / "broken", **options)
    for own, other in zip(broken.confirmation, whole.confirmation, strict=True):
        assert own.trial == other.trial
        assert own.test_accuracy == pytest.approx(other.test_accuracy)
    assert broken.best.number == whole.best.number
    assert broken.test_accuracy == pytest.approx(whole.test_accuracy, abs=1e-6)
    for own, other in zip(broken.trials, whole.trials, strict=True):
        assert own.values == other.values
        assert own.epochs == other.epochs == 2
        assert own.val_accuracy == pytest.approx(other.val_accuracy, abs=1e-6)
        assert own.val_loss == pytest.approx(other.val_loss, abs=1e-5)


def script(folder, count):
    path = pathlib.Path(__file__).with_name("tuning_script.py")
    command = [sys.executable, path, folder, str(count)]
    return subprocess.run(command, stdout=subprocess.DEVNULL).returncode


# What is resumed must be the same search.


def other_space(hp):
    units = hp.Choice("units", [2, 3])
    return tuning_checks.network(units)


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"hypermodel": other_space}, "space.units.values was"),
        ({"recipe": tuning_checks.THREE}, "recipe.epochs was 2, is 3"),
        (
            {"recipe": dataclasses.replace(tuning_checks.TWO, seed=1)},
            "recipe.seed was 0, is 1",
        ),
        ({"algorithm": "grid"}, "algorithm was 'random', is 'grid'"),
        ({"max_parameters": 10_000}, "budget.parameters was None, is 10000"),
        ({"max_macs": 1e9}, "budget.macs was None, is 10000"),
        ({"settings": {"note": "b"}}, "note was 'a', is 'b'"),
        ({"max_trials": 1}, "raised when a search is resumed, not lowered"),
        ({"resume": False}, "resume=False"),
    ],
)
def test_a_changed_search_is_not_resumed(quick, tmp_path, changed, message):
    options = {"settings": {"note": "a"}, "max_trials": 2}
    tuning_checks.search(tmp_path / "run", **options)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path).rglob("*")}
    with pytest.raises(ValueError, match=message):
        tuning_checks.search(tmp_path / "run", **{**options, **changed})
    assert before == {
        path: path.stat().st_mtime_ns for path in (tmp_path).rglob("*")
    }


def test_other_data_are_reported_on_resuming(quick, tmp_path):
    tuning_checks.search(tmp_path / "run", max_trials=1)
    images = data.load("mnist5k", batch_size=35, seed=4)
    with pytest.raises(ValueError, match="data.seed was 0, is 4"):
        tuning.search(
            tuning_checks.mlp,
            images,
            tuning_checks.TWO,
            output=tmp_path / "run",
            max_trials=1,
        )


def test_another_network_is_reported_on_resuming(quick, tmp_path):
    def wider(hp):
        model = tuning_checks.mlp(hp)
        model.add(keras.layers.Rescaling(2.0))
        return model

    wider.__name__ = "mlp"
    tuning_checks.search(tmp_path / "run", max_trials=1)
    with pytest.raises(ValueError, match="changed: network was '"):
        tuning_checks.search(tmp_path / "run", hypermodel=wider, max_trials=1)


def test_a_network_that_changed_for_some_values_is_reported(quick, tmp_path):
    def build(hp):
        units = hp.Choice("units", [2, 3])
        return tuning_checks.network(units, use_bias=units == 2 or same)

    def search():
        return tuning_checks.search(
            tmp_path / "run", "grid", hypermodel=build, max_trials=2
        )

    same = True
    with quick.context() as patch:
        # In the second trial, after its first epoch.
        tuning_checks.kill_at(patch, 15)
        with pytest.raises(Killed):
            search()
    same = False
    with pytest.raises(ValueError, match="the layers of trial_0002"):
        search()
    same = True
    assert len(search().trials) == 2


def test_more_trials_continue_those_there_are(quick, tmp_path):
    few = tuning_checks.search(tmp_path / "run", max_trials=3)
    more = tuning_checks.search(tmp_path / "run", max_trials=5)
    assert more.trials[:3] == few.trials
    assert len(more.trials) == 5
    assert answer(more) == answer(
        tuning_checks.search(tmp_path / "whole", max_trials=5)
    )


def test_a_folder_with_other_files_is_left_alone(quick, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="other files: notes.txt"):
        tuning_checks.search(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_logs_of_workers_are_no_other_files(quick, tmp_path):
    (tmp_path / "logs").mkdir()
    assert len(tuning_checks.search(tmp_path, max_trials=1).trials) == 1


# Starting again.


def test_overwriting_leaves_nothing_of_the_search_before(quick, tmp_path):
    tuning_checks.search(tmp_path / "run", max_trials=3)
    (tmp_path / "run/logs").mkdir()
    (tmp_path / "run/logs/worker-0.log").write_text("trial 1")
    found = tuning_checks.search(
        tmp_path / "run", "grid", max_trials=1, overwrite=True
    )
    whole = tuning_checks.search(tmp_path / "whole", "grid", max_trials=1)
    assert answer(found) == answer(whole)
    assert names(tmp_path / "run") == names(tmp_path / "whole")


def names(folder):
    return sorted(path.relative_to(folder) for path in folder.rglob("*"))


@pytest.mark.parametrize("name", ["notes.txt", "trial_0001/notes.txt"])
def test_a_search_with_other_files_is_not_overwritten(quick, tmp_path, name):
    tuning_checks.search(tmp_path, max_trials=1)
    (tmp_path / name).write_text("mine")
    before = names(tmp_path)
    with pytest.raises(ValueError, match=f"also holds {name}"):
        tuning_checks.search(tmp_path, max_trials=1, overwrite=True)
    assert names(tmp_path) == before


def test_a_folder_in_use_is_refused(quick, tmp_path):
    with _files.locked(tmp_path):
        with pytest.raises(ValueError, match=f"by process {os.getpid()} on"):
            tuning_checks.search(tmp_path, max_trials=1)


def test_workers_are_not_locked_out(tmp_path):
    folder = tuning_folder.SearchFolder(tmp_path, {"note": 1}, 3)
    with folder.opened():
        worker = tuning_folder.SearchFolder(tmp_path, {"note": 1}, 3)
        worker.join()
    assert worker.content == folder.content


# Damaged files.


@pytest.mark.parametrize("content", ["", "{", "[]", '{"settings": {}}'])
@pytest.mark.parametrize("file", ["search.json", "oracle.json"])
def test_what_the_search_cannot_do_without_is_reported(
    quick, tmp_path, file, content
):
    tuning_checks.search(tmp_path / "run", max_trials=1)
    (tmp_path / "run" / file).write_text(content)
    with pytest.raises(ValueError, match=f"{file} is damaged"):
        tuning_checks.search(tmp_path / "run", max_trials=1)


def test_a_missing_state_of_a_search_is_reported(quick, tmp_path):
    tuning_checks.search(tmp_path / "run", max_trials=1)
    (tmp_path / "run/oracle.json").unlink()
    with pytest.raises(ValueError, match="oracle.json is missing"):
        tuning_checks.search(tmp_path / "run", max_trials=1)


@pytest.mark.parametrize(
    "file", ["checkpoints/state.json", "checkpoints/trial-1.keras"]
)
def test_a_trial_whose_state_is_damaged_begins_again(quick, tmp_path, file):
    whole = tuning_checks.search(tmp_path / "whole", max_trials=3)
    with quick.context() as patch:
        # In the second trial, at the checkpoint after its second epoch.
        tuning_checks.kill_at(patch, 15)
        with pytest.raises(Killed):
            tuning_checks.search(tmp_path / "run", max_trials=3)
    path = tmp_path / "run/trial_0002" / file
    path.write_bytes(path.read_bytes()[:40])
    with tuning_checks.warned(f"{path.name}.damaged"):
        found = tuning_checks.search(tmp_path / "run", max_trials=3)
    assert answer(found) == answer(whole)


def test_a_damaged_outcome_of_a_trial_under_way_is_reported_again(
    quick, tmp_path
):
    whole = tuning_checks.search(tmp_path / "whole", max_trials=2)
    with quick.context() as patch:
        # When the outcome is written, and the search does not know it.
        tuning_checks.kill_at(patch, 9)
        with pytest.raises(Killed):
            tuning_checks.search(tmp_path / "run", max_trials=2)
    path = tmp_path / "run/trial_0001/outcome.json"
    path.write_text('{"outcome": "finished"}')
    with tuning_checks.warned("outcome.json.damaged"):
        found = tuning_checks.search(tmp_path / "run", max_trials=2)
    assert answer(found) == answer(whole)


@pytest.mark.parametrize("content", [b"", None], ids=["damaged", "missing"])
def test_a_lost_best_model_is_trained_again(quick, tmp_path, content):
    whole = tuning_checks.search(tmp_path / "run", max_trials=3)
    best = f"trial_{whole.best.number:04d}"
    (name,) = tuning_checks.checkpoints(whole.output)[best]
    path = whole.output / best / "checkpoints" / name
    (whole.output / "best.keras").unlink()
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    with tuning_checks.warned("trained again") as reported:
        again = tuning_checks.search(tmp_path / "run", max_trials=3)
    assert answer(again) == answer(whole)
    assert (whole.output / "best.keras").exists()
    assert len(reported) == 1


def test_damage_leaves_the_rest_as_it_is(quick, tmp_path):
    whole = tuning_checks.search(tmp_path / "run", max_trials=3)
    (whole.output / "trial_0002/trial.json").write_text("{")
    with tuning_checks.warned("trial.json.damaged"):
        again = tuning_checks.search(tmp_path / "run", max_trials=5)
    assert again.trials[:3] == whole.trials
    assert len(again.trials) == 5
