"""`study`: named variants x seeds; resuming is in test_resuming.py."""

import dataclasses
import functools
import io
import json
import random
import shutil
import weakref

import keras
import numpy as np
import pretended
import pytest
from folder_checks import epochs, files
from keras import layers
from study_checks import (
    GATED,
    NARROW,
    WIDE,
    content_of,
    narrow,
    planned,
    statuses,
)
from training_checks import SHORT

from cbam_keras import data, study

pd = pytest.importorskip("pandas", reason="what data frames are of")
pytest.importorskip("scipy.stats", reason="intervals need SciPy")
# Of NumPy, by Keras; `pytest.warns` reports what it does not expect.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(autouse=True)
def quick(few_digits, monkeypatch):
    """Trains nothing."""
    pretended.install(monkeypatch)


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
    cells = content_of(ran.output)["cells"]
    assert [(cell["variant"], cell["seed"]) for cell in cells] == [
        (name, seed) for seed in range(3) for name in ("narrow", "gated")
    ]
    accuracies = [c["metrics"]["test_accuracy"] for c in cells]
    assert len(set(accuracies)) > 2
    assert frame["mean"][1] == pytest.approx(np.mean(accuracies[1::2]))
    assert frame["parameters"][0] == (9 + 1) * 4 + (4 + 1) * 10
    assert frame["macs"][0] == 13 * 13 * 9 * 4 + 4 * 10
    assert "gated" in ran.verdict and "over 3 seeds" in ran.verdict
    assert ran.verdict[:40] in str(ran)
    assert json.loads(ran.json())["verdict"] == ran.verdict


def test_a_folder_is_read_as_what_its_run_returned(ran):
    found = study.Results.read(ran.output)
    assert found == ran
    pd.testing.assert_frame_equal(found.to_dataframe(), ran.to_dataframe())
    names = {f"{o.variant}-seed{o.seed}.keras" for o in ran.outcomes}
    assert set(files(ran.output)) == {"history.csv", "results.json", *names}
    with pytest.raises(ValueError, match="be the output folder of a study"):
        study.Results.read(ran.output.parent)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"variants": ()}, ValueError, "one or several with different names"),
        ({"variants": ["x"]}, TypeError, "must hold study.Variant"),
        ({"variants": (NARROW, NARROW)}, ValueError, "different names"),
        ({"baseline": "none"}, ValueError, 'must be one of "narrow"'),
        ({"settings": {"x": object()}}, TypeError, "must be plain values"),
        (
            {"variants": [study.Variant("a", narrow, {"x": [float("nan")]})]},
            *(ValueError, 'must be finite. Received: .*"x": .NaN'),
        ),
        ({"seeds": 0}, ValueError, "`seeds` must be a positive integer"),
        ({"seeds": []}, ValueError, "be a number of seeds, or one or several"),
        ({"seeds": [1, 1]}, ValueError, "different ones. Received: seeds="),
        ({"seeds": [-1]}, ValueError, "`seeds` must be an integer from 0"),
    ],
)
def test_a_study_that_cannot_be_is_refused(changed, error, message, tmp_path):
    with pytest.raises(error, match=message):
        wrong = dataclasses.replace(planned(NARROW), **changed)
        study.run(wrong, tmp_path / "run")
    assert not (tmp_path / "run").exists()


LONG = "漢" * 66 + "ab"


@pytest.mark.parametrize("name", ["", "..", "a/b", "a-seed0", 3, LONG + "c"])
def test_a_variant_is_named_as_a_file_may_be(name):
    with pytest.raises(ValueError, match="names of networks.*Received"):
        study.Variant(name, narrow)


def test_the_longest_name_fits_with_all_that_is_put_around_it(tmp_path):
    assert len(LONG.encode()) == 200
    long = study.Variant(LONG, narrow)
    results = study.run(planned(long, seeds=(0, 2**32 - 1)), tmp_path)
    assert statuses(results) == ["finished"] * 2
    assert study.Results.read(tmp_path) == results


def test_results_are_drawn_and_written_for_tables(ran):
    (axes,) = ran.plot().axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["narrow", "gated"]
    points = [line.get_xdata() for line in axes.lines]
    assert sorted(map(len, points)) == [1, 1, 2, 2, 3, 3]
    row = ran.rows[1]
    ends = [line for line in points if len(line) == 2 and line[0] != line[1]]
    base = 100 * ran.rows[0].mean
    assert [ends[0][0] - base, ends[0][1] - base] == pytest.approx(
        [100 * end for end in row.interval]
    )
    pd.testing.assert_frame_equal(
        pd.read_csv(io.StringIO(ran.csv())), ran.to_dataframe()
    )
    assert "narrow & 3 & " in ran.latex()


def test_an_interval_is_drawn_from_the_line_of_the_baseline(ran):
    # Without one network, whose seed then counts in neither difference.
    some = [o for o in ran.outcomes if (o.variant, o.seed) != ("gated", 2)]
    fewer = dataclasses.replace(ran, outcomes=tuple(some))
    (axes,) = fewer.plot().axes
    (ends,) = (x.get_xdata() for x in axes.lines if x.get_marker() == "|")
    base = 100 * fewer.rows[0].mean
    expected = [base + 100 * end for end in fewer.rows[1].interval]
    assert list(ends) == pytest.approx(expected)


def test_one_seed_has_an_interval_of_the_test_images_alone(ran):
    one = dataclasses.replace(ran, seeds=(0,), outcomes=ran.outcomes[:2])
    row = one.rows[1]
    assert row.interval is not None and row.pairs == 1
    assert "with gated by" in one.verdict and "images alone" in one.verdict
    (axes,) = one.plot().axes
    assert "(test images alone)" in axes.get_xlabel()
    # Without the variation between seeds.
    assert one.to_dataframe()[["low", "high"]].isna().all(axis=None)


def test_networks_at_chance_have_not_learned(tmp_path, monkeypatch):
    monkeypatch.setattr("pretended.numbers", lambda *key: (2.3, 0.1))
    both = planned(NARROW, GATED, seeds=(0, 1), baseline="narrow")
    found = study.run(both, tmp_path)
    assert found.guess == 0.1
    assert found.verdict.startswith("No network is seen to have learned")
    assert study.Results.read(tmp_path) == found
    # As far as is known where no labels are.
    content = content_of(tmp_path) | {"commonest": None}
    (tmp_path / "results.json").write_text(json.dumps(content))
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


class Size:
    """A task of the user's, with a measure of its own."""

    measure, measure_name, metrics = "size", "sheer size", ("loss",)

    def load(self, recipe):
        return data.load("mnist5k", seed=recipe.seed, batch_size=35)

    def check(self, model, data):
        pass

    def compile(self, model, recipe, data):
        model.compile("sgd", "sparse_categorical_crossentropy")

    def evaluate(self, model, data):
        return {"size": model.count_params() / 1000}


def test_a_task_may_be_of_the_users_own(tmp_path):
    own = planned(NARROW, WIDE, task=Size(), baseline="narrow")
    results = study.run(own, tmp_path)
    assert list(results.to_dataframe()["mean"]) == [0.09, 0.17]
    assert "the sheer size changes with wide by +8.00" in results.verdict
    assert "sheer size (%)" in str(results)
    assert set(results.history[0]) == {"network", "epoch", "loss", "seconds"}


UNWRITABLE = {
    "nan": float("nan"),
    "infinite": np.float32("inf"),
    "truth": True,
    "list": [0.5],
    "text": "0.5",
    "array": np.ones(2),
}


def test_a_metric_that_is_no_finite_number_is_left_out_and_named(tmp_path):
    class Measuring(Size):
        def evaluate(self, model, data):
            numbers = {
                "count": np.int64(3),
                "tensor": keras.ops.ones(()) / 4,
                "none": None,
            }
            return super().evaluate(model, data) | UNWRITABLE | numbers

    with pytest.warns(UserWarning) as warned:
        results = study.run(planned(NARROW, task=Measuring()), tmp_path)
    assert results.outcomes[0].metrics == {
        "size": 0.09,
        "count": 3,
        "tensor": 0.25,
        "none": None,
    }
    texts = [str(w.message) for w in warned if w.category is UserWarning]
    for text, name in zip(texts, UNWRITABLE, strict=True):
        assert text.startswith(f'The metric "{name}" of "narrow" is left out')
    assert study.Results.read(tmp_path) == results
    assert study.run(planned(NARROW, task=Measuring()), tmp_path) == results


class Plain:
    """Data with as little as the protocol asks for."""

    name, sizes, batch_size = "plain", {"train": 70, "test": 20}, None
    validation = None

    def __init__(self, seed):
        loaded = data.load("mnist5k", seed=seed, batch_size=35)
        self.train, self.test = loaded.train, loaded.test
        self.image_shape = loaded.image_shape
        self.class_names = np.arange(10)

    def set_epoch(self, epoch):
        self.train.set_epoch(epoch)

    def describe(self):
        return {}


class Small(Size):
    def __init__(self, **changed):
        self.changed = changed

    def load(self, recipe):
        loaded = Plain(recipe.seed)
        for name, value in self.changed.items():
            setattr(loaded, name, value)
        return loaded


def test_data_may_hold_what_the_protocol_asks_for_alone(tmp_path, capsys):
    planned_small = planned(NARROW, task=Small())
    results = study.run(planned_small, tmp_path)
    assert "70 training images in batches of 35" in capsys.readouterr().out
    assert study.Results.read(tmp_path) == results
    assert (results.data, results.sizes) == ("plain", Plain.sizes)
    content = content_of(tmp_path)
    assert content["class_names"] == [str(number) for number in range(10)]
    assert study.run(planned_small, tmp_path) == results
    assert study.estimate(planned_small).costs[0].seconds_per_epoch > 0


@pytest.mark.parametrize(
    "changed",
    [
        {"name": None},
        {"sizes": None},
        {"sizes": {"train": 70}},
        {"sizes": {"train": 70, "test": 20.0}},
    ],
)
def test_data_without_a_name_or_sizes_are_refused(changed, tmp_path):
    with pytest.raises(ValueError, match="data of a task must have a `name`"):
        study.run(planned(NARROW, task=Small(**changed)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_task_without_a_name_needs_an_output(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ValueError, match="`output` must be a folder for a task"
    ):
        study.run(planned(NARROW, task=Size()))
    task = Size()
    task.name = "sizes"
    assert str(study.run(planned(NARROW, task=task)).output) == (
        "runs/study-sizes"
    )


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


def test_epochs_leave_what_is_compiled(tmp_path, monkeypatch):
    # TensorFlow forgets it with each seed of all generators.
    seeded, seed_all = [], keras.utils.set_random_seed
    monkeypatch.setattr(
        keras.utils,
        "set_random_seed",
        lambda s: seeded.append(s) or seed_all(s),
    )
    recipe = dataclasses.replace(SHORT, epochs=3)
    results = study.run(planned(NARROW, recipe=recipe), tmp_path)
    assert len(results.history) == 3
    assert seeded == [0]


class Mine(layers.GlobalAveragePooling2D):
    """A layer of the user's, known within a scope alone."""


def in_scope(data):
    pooled = keras.Input(data.image_shape)
    outputs = layers.Dense(10, "softmax")(Mine()(pooled))
    return keras.Model(pooled, outputs)


@pytest.mark.every_backend
def test_what_the_user_has_set_stays_set(tmp_path):
    devices = keras.distribution.DataParallel(devices=["cpu:0"])
    keras.distribution.set_distribution(devices)
    keras.config.disable_traceback_filtering()
    both = [study.Variant(name, in_scope) for name in ("first", "second")]
    try:
        with keras.saving.custom_object_scope({"Mine": Mine}):
            results = study.run(planned(*both), tmp_path)
            assert keras.saving.get_registered_object("Mine") is Mine
        assert statuses(results) == ["finished"] * 2
        assert keras.distribution.distribution() is devices
        assert not keras.config.is_traceback_filtering_enabled()
    finally:
        keras.distribution.set_distribution(None)
        keras.config.enable_traceback_filtering()


def test_layers_have_the_names_that_they_would_have_without_a_run(tmp_path):
    names = []

    def noting(data):
        model = narrow(data)
        names.append([layer.name for layer in model.layers])
        return model

    both = [study.Variant(name, noting) for name in ("first", "second")]
    study.run(planned(*both), tmp_path)
    assert names[0] == names[1]
    # Those that the user has built keep theirs to themselves.
    model = narrow(data.load("mnist5k"))
    assert [layer.name for layer in model.layers] == names[0]


def test_no_epoch_of_a_seed_draws_as_one_of_another_seed(tmp_path, monkeypatch):
    drawn, numbers = [], pretended.numbers

    def noting(model, *key):
        if key[0] in (0, 1):
            drawn.append((random.random(), np.random.random()))
        return numbers(model, *key)

    monkeypatch.setattr(pretended, "numbers", noting)
    recipe = dataclasses.replace(SHORT, epochs=2)
    study.run(planned(NARROW, seeds=(0, 1), recipe=recipe), tmp_path)
    for each in zip(*drawn, strict=True):
        assert len(set(each)) == 4


# Variants that fail.


class ResourceExhaustedError(Exception):
    """As TensorFlow names the lack of memory on a device."""


def raising(error):
    def build(data):
        raise error

    return build


def diverging(data):
    model = narrow(data)
    model.layers[-1].set_weights([np.full((4, 10), np.nan), np.zeros(10)])
    return model


def uncounted(data):
    einsum = layers.EinsumDense("abcd,de->abce", (None, None, 4), name="einsum")
    return narrow(data, attention=[einsum])


FAILING = (
    ("error", raising(KeyError("stage9")), "KeyError: 'stage9'"),
    ("error", uncounted, "einsum of other kinds"),
    ("out of memory", raising(ResourceExhaustedError("OOM")), "OOM"),
    ("out of memory", raising(RuntimeError("can't allocate memory")), "can't"),
    ("diverged", diverging, "The training loss became nan in epoch 1"),
    ("over budget", functools.partial(narrow, filters=99), "at most 1,000"),
)


@pytest.mark.parametrize(("status", "build", "message"), FAILING)
def test_a_variant_that_fails_is_recorded_and_the_others_go_on(
    status, build, message, tmp_path
):
    failing = planned(
        *(study.Variant("bad", build), NARROW),
        baseline="narrow",
        # As many as the narrow network has.
        budget=study.Budget(parameters=1000, macs=6124),
    )
    with pytest.warns(UserWarning, match=f'out, "bad" with seed 0: {status}'):
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
        if status in ("error", "out of memory"):
            again = study.run(mended, tmp_path)
            assert statuses(again) == ["finished"] * 2
        else:
            with pytest.warns(UserWarning, match="left out"):
                assert study.run(mended, tmp_path) == results
            assert not trained


def test_a_network_that_fails_is_freed(tmp_path):
    failed, alive = [], []

    def wrong(data):
        model = narrow(data)
        failed.append(weakref.ref(model))
        raise KeyError("stage9")

    def last(data):
        alive.append(failed[0]())
        raise KeyError("stage10")

    both = study.Variant("wrong", wrong), study.Variant("last", last)
    with pytest.raises(KeyError, match="stage9") as caught:
        study.run(planned(*both), tmp_path)
    assert alive == [None]
    # Where it was raised can still be read.
    assert "in wrong\n" in caught.value.__notes__[0]


def test_if_all_fail_the_error_is_raised_and_nothing_is_left(
    tmp_path, monkeypatch
):
    wrong = study.Variant("bad", raising(KeyError("stage9")))
    with pytest.raises(KeyError, match="stage9"):
        study.run(planned(wrong), tmp_path)
    assert files(tmp_path) == {}
    lost = study.Variant("lost", diverging)
    with pytest.raises(RuntimeError, match="None of the 1 trainings finished"):
        study.run(planned(lost), tmp_path)

    def numbers(model, *key):
        return (np.nan if "validation" in key else 1.0), 0.5

    monkeypatch.setattr(pretended, "numbers", numbers)
    with pytest.raises(RuntimeError, match="The validation loss was nan"):
        study.run(planned(NARROW), tmp_path, overwrite=True)


# Folders that others have written.


@pytest.mark.parametrize("key", ["file", "variant", "seed"])
def test_nothing_outside_the_folder_is_touched(key, ran, tmp_path):
    folder = shutil.copytree(ran.output, tmp_path / "run")
    (tmp_path / "mine.keras").mkdir()
    content = content_of(folder)
    value = "../mine.keras" if key == "file" else "x/../../../mine.keras"
    content["cells"][0][key] = value
    content["settings"]["variants"][value] = {}
    content["seeds"].append(value)
    (folder / "results.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="results.json.*Received"):
        study.Results.read(folder)
    with pytest.raises(ValueError, match="results.json is damaged"):
        study.run(planned(NARROW, seeds=(0, 3)), folder)
    study.run(planned(NARROW), folder, overwrite=True)
    assert (tmp_path / "mine.keras").is_dir()


DAMAGE = {
    "cells.0.metrics.test_accuracy": float("inf"),
    "cells.0.metrics.val_accuracy": "0.9",
    "cells.0.parameters": 1.5,
    "cells.0.history": {},
    "cells.0.seconds_per_epoch": float("nan"),
    "cells.0.history.0.loss": None,
    "settings.data.0.sizes.test": "20",
    "settings.data.0.name": 3,
    "settings.data": {},
    "source": "photos",
    "source.data_dir": 4,
    "seeds": 5,
}


@pytest.mark.parametrize("field", DAMAGE)
def test_a_damaged_field_is_named(field, ran, tmp_path):
    folder = shutil.copytree(ran.output, tmp_path / "run")
    content = part = content_of(folder)
    *keys, last = field.split(".")
    for key in keys:
        part = part[int(key) if isinstance(part, list) else key]
    part[last] = DAMAGE[field]
    (folder / "results.json").write_text(json.dumps(content))
    named = field.replace("cells.0", r"cells.0.").replace(
        "history.0", "history"
    )
    with pytest.raises(ValueError, match=f"results.json.*`{named}` must "):
        study.Results.read(folder)


def test_deep_nesting_is_damage(tmp_path):
    (tmp_path / "results.json").write_text("[" * 200_000)
    with pytest.raises(ValueError, match="results.json is damaged"):
        study.run(planned(NARROW), tmp_path)


def test_a_run_of_an_earlier_version_is_not_resumed(tmp_path):
    settings = {"networks": ["narrow"], "data": {"0": {"sizes": {"test": 1}}}}
    old = {"kind": "training run", "settings": settings, "runs": []}
    (tmp_path / "results.json").write_text(json.dumps(old))
    before = files(tmp_path)
    with pytest.raises(ValueError, match="a run of an earlier version"):
        study.run(planned(NARROW), tmp_path)
    assert files(tmp_path) == before
