"""Tasks and data of users, and what a run leaves as they have set it."""

import dataclasses
import random

import keras
import numpy as np
import pretended
import pytest
from keras import layers
from study_checks import NARROW, WIDE, content_of, narrow, planned, statuses
from training_checks import SHORT

from cbam_keras import data, study

pytest.importorskip("pandas", reason="what data frames are of")
pytest.importorskip("scipy.stats", reason="intervals need SciPy")
# NumPy warns of what Keras does, and `pytest.warns` would report that.
pytestmark = [
    pytest.mark.usefixtures("few_digits", "quick"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


class Size(study.Task):
    """A task of the user's, with a measure of its own."""

    measure, measure_name, metrics = "size", "sheer size", ("loss",)

    def load(self, recipe):
        return data.load("mnist5k", seed=recipe.seed, batch_size=35)

    def compile(self, model, recipe, data):
        model.compile("sgd", "sparse_categorical_crossentropy")

    def evaluate(self, model, data):
        return {"size": model.count_params() / 1000}


def test_a_task_may_be_of_the_users_own(tmp_path):
    own = planned(NARROW, WIDE, task=Size(), baseline="narrow")
    results = study.run(own, tmp_path)
    assert list(results.to_dataframe()["mean"]) == [0.09, 0.17]
    assert (
        "wide vs. narrow: +8.00 percentage points of sheer size"
        in results.verdict
    )
    assert "sheer size (%)" in str(results)
    assert set(results.history[0]) == {"network", "epoch", "loss", "seconds"}


UNWRITABLE = {"nan": float("nan"), "infinite": np.float32("inf")}


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
    assert "20 test images give imprecise estimates" in capsys.readouterr().out
    assert study.Results.read(tmp_path) == results
    assert (results.data, results.sizes) == ("plain", Plain.sizes)
    content = content_of(tmp_path)
    assert content["class_names"] == [str(number) for number in range(10)]
    assert study.run(planned_small, tmp_path) == results
    assert study.estimate(planned_small).costs[0].parameters > 0


def test_data_without_the_size_of_a_split_are_refused(tmp_path):
    few = planned(NARROW, task=Small(sizes={"train": 70}))
    with pytest.raises(ValueError, match="the numbers of images by split"):
        study.run(few, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_task_without_a_name_needs_an_output(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ValueError, match="`output` must be a folder for a task"
    ):
        study.run(planned(NARROW, task=Size()))
    assert not list(tmp_path.iterdir())


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
    # It is built once before.
    assert seeded == [0, 0]


class Mine(layers.GlobalAveragePooling2D):
    """A layer of the user's, known within a scope alone."""


def in_scope(data):
    pooled = keras.Input(data.image_shape)
    outputs = layers.Dense(10, "softmax")(Mine()(pooled))
    return keras.Model(pooled, outputs)


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
