"""`study`: named variants x seeds; resuming is in test_study_resuming.py."""

import dataclasses
import functools
import itertools
import json
import re
import shutil

import numpy as np
import pretended
import pytest
from folder_checks import epochs, files
from study_checks import (
    GATED,
    NARROW,
    WIDE,
    content_of,
    narrow,
    network_files,
    planned,
    rewrite,
    statuses,
)
from training_checks import SHORT

from cbam_keras import study

pd = pytest.importorskip("pandas", reason="what data frames are of")
pytest.importorskip("scipy.stats", reason="intervals need SciPy")
# NumPy warns of what Keras does, and `pytest.warns` would report that.
pytestmark = [
    pytest.mark.usefixtures("few_digits", "quick"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture(scope="module")
def ran(few_digits, tmp_path_factory):
    """Returns the results of two variants with three seeds."""
    options = {"seeds": (0, 1, 2), "baseline": "narrow"}
    both = planned(NARROW, GATED, **options)
    with pytest.MonkeyPatch.context() as patch:
        pretended.install(patch)
        return study.run(both, tmp_path_factory.mktemp("ran") / "mine")


# Results; their statistics are in test_study_statistics.py.


def test_a_study_is_a_row_per_variant(ran):
    frame = ran.to_dataframe()
    assert list(frame["variant"]) == ["narrow", "gated"]
    assert list(frame["seeds"]) == [3, 3]
    outcomes = content_of(ran.output)["outcomes"]
    assert [(x.variant, x.seed) for x in outcomes] == [
        (name, seed) for seed in range(3) for name in ("narrow", "gated")
    ]
    accuracies = [x.test_accuracy for x in outcomes]
    assert len(set(accuracies)) > 2
    assert frame["mean"][1] == pytest.approx(np.mean(accuracies[1::2]))
    assert frame["parameters"][0] == (9 + 1) * 4 + (4 + 1) * 10
    assert frame["macs"][0] == 13 * 13 * 9 * 4 + 4 * 10
    assert "gated" in ran.verdict and "; 3 seeds" in ran.verdict
    assert ran.verdict[:40] in str(ran)
    assert json.loads(ran.json())["verdict"] == ran.verdict


def test_networks_are_trained_in_the_order_of_the_study(tmp_path, capsys):
    study.run(planned(NARROW, GATED, seeds=(0, 1)), tmp_path)
    titles = re.findall(r"(\w+), seed (\d) \((\d)", capsys.readouterr().out)
    assert titles == [
        *(("narrow", "0", "1"), ("gated", "0", "2")),
        *(("narrow", "1", "3"), ("gated", "1", "4")),
    ]


def test_a_folder_is_read_as_what_its_run_returned(ran):
    found = study.Results.read(ran.output)
    assert found == ran
    names = {run.name for run in found.planned_runs}
    assert set(found.settings["data"]) == names
    pd.testing.assert_frame_equal(found.to_dataframe(), ran.to_dataframe())
    written = pd.read_csv(ran.output / "history.csv")
    history = pd.DataFrame(ran.history)[[*written]]
    pd.testing.assert_frame_equal(written, history)
    assert set(files(ran.output)) == {
        *("history.csv", "results.json", "study.json"),
        *network_files(ran),
    }
    with pytest.raises(ValueError, match="be the output folder of a study"):
        study.Results.read(ran.output.parent)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"variants": ()}, ValueError, "one or several with different names"),
        ({"variants": ["x"]}, TypeError, "must hold study.Variant"),
        ({"task": "mnist5k"}, TypeError, "`task` must be a study.Task"),
        ({"variants": (NARROW, NARROW)}, ValueError, "different names"),
        ({"baseline": "none"}, ValueError, 'must be one of "narrow"'),
        ({"recipe": {"epochs": 1}}, TypeError, "`recipe` must be a Recipe or"),
        ({"settings": {"x": object()}}, TypeError, "must be plain values"),
        (
            {"variants": [study.Variant("a", narrow, {"x": [float("nan")]})]},
            ValueError,
            "Out of range float values are not JSON",
        ),
        ({"seeds": 0}, ValueError, "`seeds` must be a positive integer"),
        ({"seeds": [1, 1]}, ValueError, "different ones. Received: seeds="),
        ({"seeds": [-1]}, ValueError, "`seeds` must be an integer from 0"),
    ],
)
def test_a_study_that_cannot_be_is_refused(changed, error, message, tmp_path):
    with pytest.raises(error, match=message):
        wrong = dataclasses.replace(planned(NARROW), **changed)
        study.run(wrong, tmp_path / "run")
    assert not (tmp_path / "run").exists()


LONG = "漢" * 63 + "a"


@pytest.mark.parametrize(
    "name",
    [
        *("", "..", "a/b", "a\\b", "a-seed0", "a-Seed10", 3, LONG + "c"),
        *(".unfinished-a", ".UNFINISHED-a", ".training", "a."),
    ],
)
def test_a_variant_is_named_as_a_file_may_be(name):
    with pytest.raises(ValueError, match="names of networks.*Received"):
        study.Variant(name, narrow)


def test_the_longest_name_fits_with_all_that_is_put_around_it(tmp_path):
    assert len(LONG.encode()) == 190
    long = study.Variant(LONG, narrow)
    results = study.run(planned(long, seeds=(0, 2**32 - 1)), tmp_path)
    assert statuses(results) == ["finished"] * 2
    assert study.Results.read(tmp_path) == results


def test_networks_at_chance_have_not_learned(tmp_path, monkeypatch):
    monkeypatch.setattr("pretended.numbers", lambda *key: (2.3, 0.1))
    both = planned(NARROW, GATED, seeds=(0, 1), baseline="narrow")
    found = study.run(both, tmp_path)
    assert found.guess == 0.1
    assert found.verdict.startswith("No network is better than chance")
    assert study.Results.read(tmp_path) == found
    # As far as is known where no labels are.
    change = functools.partial(dict.update, commonest=None)
    rewrite(tmp_path / "study.json", change)
    assert study.Results.read(tmp_path).guess == 1 / 10


def test_a_variant_has_a_learning_rate_of_its_own(tmp_path):
    rates = []

    class Noting(study.Classification):
        def compile(self, model, recipe, data):
            rates.append(recipe.learning_rate)
            super().compile(model, recipe, data)

    fast = dataclasses.replace(WIDE, learning_rate=0.5)
    study.run(planned(NARROW, fast, task=Noting("mnist5k")), tmp_path)
    assert rates == [SHORT.learning_rate, 0.5]
    with pytest.raises(ValueError, match="wide.learning_rate was 0.5"):
        study.run(planned(NARROW, WIDE), tmp_path)


def test_the_data_of_each_seed_must_be_those_of_the_run(tmp_path):
    counts = {0: 100, 1: 100}

    class Counted(study.Classification):
        def load(self, recipe):
            images = super().load(recipe)
            described = {**images.describe(), "count": counts[recipe.seed]}
            object.__setattr__(images, "describe", lambda: described)
            return images

    options = {"task": Counted("mnist5k"), "seeds": (0, 1)}
    study.run(planned(NARROW, **options), tmp_path)
    counts[1] = 99
    with pytest.raises(ValueError, match="data.count was 100, is 99"):
        study.run(planned(NARROW, WIDE, **options), tmp_path)


# Variants that fail.


def failing_later(error):
    """Returns what builds a network that is checked, and not the next one."""
    builds = itertools.count()

    def build(data):
        if next(builds):
            raise error
        return narrow(data)

    return build


def diverging(data):
    model = narrow(data)
    model.layers[-1].set_weights([np.full((4, 10), np.nan), np.zeros(10)])
    return model


FAILING = (
    ("error", failing_later(KeyError("stage9")), "KeyError: 'stage9'"),
    ("error", failing_later(MemoryError()), "MemoryError: no message"),
    ("diverged", diverging, "The training loss became nan in epoch 1"),
)


@pytest.mark.parametrize(("status", "build", "message"), FAILING)
def test_a_variant_that_fails_is_recorded_and_the_others_go_on(
    status, build, message, tmp_path
):
    failing = planned(
        *(study.Variant("bad", build), NARROW),
        baseline="narrow",
    )
    with pytest.warns(UserWarning, match=f'out: "bad" with seed 0: {status}'):
        results = study.run(failing, tmp_path)
    assert statuses(results) == [status, "finished"]
    assert message in results.outcomes[0].message
    assert "Traceback" in results.outcomes[0].traceback
    assert list(results.to_dataframe()["seeds"]) == [0, 1]
    assert f"seed 0: {status}" in str(results)
    assert study.Results.read(tmp_path) == results
    # Another attempt may have more memory, or a package more.
    good = study.Variant("bad", narrow)
    mended = dataclasses.replace(failing, variants=(good, NARROW))
    with epochs() as trained:
        if status == "error":
            again = study.run(mended, tmp_path)
            assert statuses(again) == ["finished"] * 2
        else:
            with pytest.warns(UserWarning, match="left out"):
                assert study.run(mended, tmp_path) == results
            assert not trained


def test_if_all_fail_the_error_is_raised_and_nothing_is_left(
    tmp_path, monkeypatch
):
    def build(data):
        raise KeyError("stage9")

    wrong = study.Variant("bad", build)
    with pytest.raises(KeyError, match="stage9"):
        study.run(planned(NARROW, wrong), tmp_path)
    assert not [*tmp_path.iterdir()]
    lost = study.Variant("lost", diverging)
    with pytest.raises(
        RuntimeError, match=r"No training run finished \(1 failed\)"
    ):
        study.run(planned(lost), tmp_path)

    def numbers(model, *key):
        return (np.nan if "validation" in key else 1.0), 0.5

    monkeypatch.setattr(pretended, "numbers", numbers)
    with pytest.raises(RuntimeError, match="The validation loss was nan"):
        study.run(planned(NARROW), tmp_path, overwrite=True)


# Folders that others have written.


@pytest.mark.parametrize("key", ["variant", "seed", "file"])
def test_nothing_outside_the_folder_is_touched(key, ran, tmp_path):
    folder = shutil.copytree(ran.output, tmp_path / "run")
    (tmp_path / "mine.keras").mkdir()
    value = "x/../../../mine.keras"

    def change(content):
        content["settings"]["variants"][value] = {}

    rewrite(folder / "study.json", change)
    with pytest.raises(ValueError, match="study.json.*Received"):
        study.Results.read(folder)
    with pytest.raises(ValueError, match="study.json is damaged"):
        study.run(planned(NARROW, seeds=(0, 3)), folder)
    state = folder / "narrow-seed0/state.json"
    shutil.copy(ran.output / "study.json", folder)

    def steer(content):
        place = content["ended"] if key == "file" else content
        place[key] = value

    rewrite(state, steer)
    with pytest.raises(ValueError, match="networks cannot be read"):
        study.Results.read(folder)
    study.run(planned(NARROW), folder, overwrite=True)
    assert (tmp_path / "mine.keras").is_dir()


def test_a_run_of_an_earlier_version_is_refused(ran, tmp_path):
    folder = shutil.copytree(ran.output, tmp_path / "run")
    rewrite(folder / "study.json", lambda content: content.update(format=3))
    before = files(folder)
    said = "`format` must be 5. Received: 3, of another version"
    with pytest.raises(ValueError, match=f"run.*{said}"):
        study.Results.read(folder)
    with pytest.raises(ValueError, match=f"of another version.*{said}"):
        study.run(planned(NARROW), folder)
    assert files(folder) == before
