"""Balanced accuracy, macro F1 and ROC AUC in place of the accuracy."""

import dataclasses
import json
import sys

import keras
import numpy as np
import pytest
from data_checks import arrays
from networks import linear
from study_checks import shown_by

from cbam_keras import comparison, data, study, training, tuning

metrics = pytest.importorskip("sklearn.metrics")
pytest.importorskip("matplotlib", reason="figures need matplotlib")
stats = pytest.importorskip("scipy.stats", reason="intervals need SciPy")


def compute(measure, model, batches):
    """Returns a measure of a network on some images."""
    answer = study.Classification("mnist5k").answer
    return study.compute(measure, *answer(model, batches))


RARE = arrays(per_class=[40, 20, 10], classes=3)
TWO = arrays(per_class=[40, 12], classes=2)
RECIPE = training.Recipe(epochs=1, batch_size=35)
MEASURES = ("balanced_accuracy", "macro_f1", "auc")


# Nothing is trained; what networks predict is real.
pytestmark = pytest.mark.usefixtures("eagerly", "quick")


def network(attention=None, classes=3, activation="softmax"):
    """Returns a network that tells classes apart better than by chance."""
    x = inputs = keras.Input((12, 10, 3))
    if attention is not None:
        gate = attention(name="attention")
        # Gates that start as one would leave all networks alike.
        x = gate(x)
        x = keras.layers.Rescaling(1 - gate.count_params() % 7 / 2)(x)
    model = linear(activation=activation, classes=classes, shape=(12, 10, 3))
    return keras.Model(inputs, model(x))


def expected(measure, labels, found):
    """Returns what scikit-learn computes of probabilities."""
    if measure == "auc":
        return metrics.roc_auc_score(
            labels,
            found[:, 1] if found.shape[1] == 2 else found,
            multi_class="ovr",
        )
    if measure == "macro_f1":
        return metrics.f1_score(labels, found.argmax(axis=1), average="macro")
    return metrics.balanced_accuracy_score(labels, found.argmax(axis=1))


def predicted(model, batches):
    """Returns the labels, and what a network gives, by float64 logits."""
    images, labels = batches[0]
    assert len(batches) == 1
    return labels, model.predict(images, verbose=0).astype("float64")


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(
    ("given", "classes", "activation"),
    [
        (RARE, 3, "softmax"),
        (RARE, 3, None),
        (TWO, 2, "softmax"),
        (TWO, 1, "sigmoid"),
        (TWO, 1, None),
    ],
    ids=["softmax", "logits", "two", "sigmoid", "logit"],
)
def test_measures_are_those_of_scikit_learn(
    measure, given, classes, activation
):
    keras.utils.set_random_seed(3)
    model = network(classes=classes, activation=activation)
    loaded = data.load(given, batch_size=100)
    if activation is None:
        # Logits whose probabilities are equal in float32, not in float64.
        scale = 30 / np.abs(predicted(model, loaded.test)[1]).max()
        model.set_weights([scale * x for x in model.get_weights()])
    labels, outputs = predicted(model, loaded.test)
    if classes == 1:
        positive = outputs
        if not activation:
            # These rank the images, and cross one half, as probabilities do.
            positive = 0.5 + outputs / (4 * np.abs(outputs).max())
        found = np.hstack([1 - positive, positive])
    elif activation:
        found = outputs
    else:
        powers = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        found = powers / powers.sum(axis=1, keepdims=True)
    assert compute(measure, model, loaded.test) == pytest.approx(
        expected(measure, labels, found)
    )


class OwnSoftmax(keras.layers.Layer):
    """Probabilities of a layer that no name tells from others."""

    def call(self, inputs):
        return keras.ops.softmax(inputs)


def test_probabilities_of_a_users_layer_are_taken_as_they_are():
    keras.utils.set_random_seed(3)
    options = {"classes": 3, "shape": (12, 10, 3)}
    model = linear(OwnSoftmax(), activation=None, **options)
    model.set_weights([20 * x for x in model.get_weights()])
    loaded = data.load(RARE, batch_size=100)
    labels, found = predicted(model, loaded.test)
    powers = np.exp(found)
    twice = powers / powers.sum(axis=1, keepdims=True)
    area = expected("auc", labels, found)
    # A second softmax would rank the images in another way.
    assert expected("auc", labels, twice) != pytest.approx(area)
    assert compute("auc", model, loaded.test) == pytest.approx(area)
    # Logits of labels, of which a softmax would rank images differently.
    model = linear(activation=None, **options)
    model.compile(loss=keras.losses.BinaryCrossentropy(from_logits=True))
    labels, found = predicted(model, loaded.test)
    area = np.mean(
        [metrics.roc_auc_score(labels == x, found[:, x]) for x in range(3)]
    )
    powers = np.exp(found)
    softmax = powers / powers.sum(axis=1, keepdims=True)
    assert expected("auc", labels, softmax) != pytest.approx(area)
    assert compute("auc", model, loaded.test) == pytest.approx(area)


def test_classes_without_images_do_not_count():
    model = network()
    batches = data.load(RARE, batch_size=100).test
    rows = batches.examples.labels != 2
    batches.examples = batches.examples.take(np.flatnonzero(rows))
    batches.set_epoch(0)
    labels, found = predicted(model, batches)
    assert set(labels) == {0, 1}
    own, classes = found.argmax(axis=1), [0, 1]
    f1 = metrics.f1_score(labels, own, labels=classes, average="macro")
    areas = [metrics.roc_auc_score(labels == x, found[:, x]) for x in classes]
    recalls = [np.mean(own[labels == x] == x) for x in classes]
    assert compute("macro_f1", model, batches) == pytest.approx(f1)
    assert compute("auc", model, batches) == pytest.approx(np.mean(areas))
    found = compute("balanced_accuracy", model, batches)
    assert found == pytest.approx(np.mean(recalls))
    batches.examples = batches.examples.take(np.flatnonzero(labels == 1))
    batches.set_epoch(0)
    with pytest.raises(ValueError, match="others lack. Received: .* class 1"):
        compute("auc", model, batches)


def compared(folder, measure="macro_f1", **options):
    return comparison.compare(
        ["none", "se"],
        model=network,
        data=RARE,
        recipe=RECIPE,
        seeds=(0, 1),
        layer_options={"reduction_ratio": 1},
        measure=measure,
        output=folder,
        **options,
    )


def test_a_comparison_is_by_the_measure_beside_the_accuracy(tmp_path):
    results = compared(tmp_path / "run")
    for run in results.runs:
        model = keras.saving.load_model(results.output / run.file)
        loaded = data.load(RARE, batch_size=35, seed=run.seed)
        for key, split in (
            ("macro_f1", "test"),
            ("val_macro_f1", "validation"),
        ):
            labels, found = predicted(model, getattr(loaded, split))
            value = expected("macro_f1", labels, found)
            assert run.metrics[key] == pytest.approx(value)
    none, se = results.rows
    assert none.values == tuple(
        o.metrics["macro_f1"] for o in results.runs[::2]
    )
    assert se.difference == pytest.approx(se.mean - none.mean)
    for key, mean in (
        ("val_macro_f1", se.validation),
        ("val_accuracy", se.validation_accuracy),
    ):
        values = [run.metrics[key] for run in results.runs[1::2]]
        assert mean == pytest.approx(np.mean(values))
    row = json.loads(results.json())["rows"][1]
    assert row["validation_accuracy"] == se.validation_accuracy
    text = shown_by(results)
    assert "test macro F1 (%)" in text and "test accuracy (%)" in text
    assert "points of test macro F1" in results.verdict
    # Without predictions, only seeds tell how such a measure varies.
    differences = [a - b for a, b in zip(se.values, none.values, strict=True)]
    student = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert se.interval == pytest.approx(tuple(student))
    assert results.plot().axes[0].get_xlabel() == "Test macro F1 (%)"
    assert study.Results.read(results.output) == results
    with pytest.raises(ValueError, match="measure was 'macro_f1', is 'auc'"):
        compared(tmp_path / "run", "auc")
    with pytest.raises(ValueError, match="measure was 'macro_f1', is None"):
        compared(tmp_path / "run", "test_accuracy")


def test_a_search_increases_the_measure_on_the_validation_images(tmp_path):
    pytest.importorskip("keras_tuner")
    results = tuning.search(
        tuning.CBAMHyperModel(
            model=network, reduction_ratio=(1, 2), kernel_size=(3, 5, 7)
        ),
        RARE,
        dataclasses.replace(RECIPE, epochs=1),
        max_trials=6,
        confirm=2,
        measure="auc",
        output=tmp_path,
    )
    loaded = data.load(RARE, batch_size=35)
    for trial in results.trials:
        model = keras.saving.load_model(tmp_path / trial.file)
        value = expected("auc", *predicted(model, loaded.validation))
        assert trial.score == pytest.approx(value)
        # The test images are for what was chosen.
        assert "auc" not in trial.metrics
    scores = [trial.score for trial in results.ranked]
    assert scores == sorted(scores, reverse=True) and len(set(scores)) > 1
    assert scores != [trial.val_accuracy for trial in results.ranked]
    chosen = max(results.confirmation, key=lambda row: row.validation)
    assert results.best.number == chosen.trial
    found = results.choice["best_network"]
    again = study.Results.read(tmp_path / "confirmation").runs
    again = [run for run in again if run.variant == chosen.variant]
    best = max(again, key=lambda run: run.metrics["val_auc"])
    assert found["seed"] == best.seed
    model = keras.saving.load_model(tmp_path / "best.keras")
    loaded = data.load(RARE, batch_size=35, seed=found["seed"])
    value = expected("auc", *predicted(model, loaded.test))
    assert found["auc"] == pytest.approx(value)
    headings, text = shown_by(results), str(results)
    assert "val ROC AUC (%)" in headings and "val accuracy (%)" in headings
    assert f"validation ROC AUC (%) {100 * found['val_auc']:.2f}." in text
    assert "Chosen by validation ROC AUC" in results.verdict
    assert "points of test ROC AUC" in results.verdict


def test_a_measure_needs_scikit_learn_before_any_work(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.metrics", None)
    with pytest.raises(ImportError, match="pip install scikit-learn"):
        study.Classification(RARE, measure="auc")
    with pytest.raises(ValueError, match='one of "test_accuracy", "balanced_'):
        study.Classification(RARE, measure="f1")
    assert study.Classification(RARE).measure == "test_accuracy"


@pytest.mark.skipif(
    not hasattr(metrics, "d2_brier_score"),
    reason="scikit-learn before 1.7 has no Brier score of several classes",
)
@pytest.mark.parametrize("classes", [2, 3, 7])
def test_the_brier_score_is_that_of_scikit_learn(classes):
    generator = np.random.default_rng(classes)
    probabilities = generator.dirichlet(np.ones(classes), 50)
    labels = generator.integers(0, classes, 50)
    score = study.compute("brier", probabilities, labels)
    expected = metrics.brier_score_loss(
        labels, probabilities, labels=range(classes)
    )
    assert score == pytest.approx(expected)
