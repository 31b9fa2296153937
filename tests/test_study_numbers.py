"""Numbers and several labels: read, trained, measured, saved, reported."""

import functools

import keras
import numpy as np
import pytest
from folder_checks import files, killed_at, weights
from keras import layers
from study_checks import planned

from cbam_keras import comparison, data, report, study, training
from cbam_keras.models.losses import StandardizedLoss

metrics = pytest.importorskip("sklearn.metrics")
pytest.importorskip("scipy.stats", reason="intervals need SciPy")

pytestmark = pytest.mark.usefixtures("eagerly")
RNG = np.random.default_rng(0)
X = RNG.normal(size=(80, 3)).astype("float32")
AGES = 40 + 9 * X[:, 0] - 5 * X[:, 1] + RNG.normal(size=80)
TAGS = (X @ RNG.normal(size=(3, 4)) > 0.3).astype(int)
RECIPE = training.Recipe(epochs=2, batch_size=16, learning_rate=0.05)


def dense(data, units=0, activation=None):
    x = inputs = keras.Input(data.input_shape)
    for width in [units] * bool(units):
        x = layers.Dense(width, activation="relu")(x)
    values = layers.Dense(data.output_shape[-1], activation=activation)(x)
    return keras.Model(inputs, values)


DENSE = study.Variant("dense", dense)
HIDDEN = study.Variant("hidden", functools.partial(dense, units=8))


def trained(folder, task, *variants, **options):
    options = {"recipe": RECIPE, "seeds": (0, 1, 2), **options}
    return study.run(planned(*variants, task=task, **options), folder)


@pytest.fixture(scope="module")
def ages(eagerly, tmp_path_factory):
    task = study.Regression((X, AGES))
    folder = tmp_path_factory.mktemp("run") / "ages"
    return trained(folder, task, DENSE, HIDDEN, baseline="dense")


def test_float32_predictions_are_judged_without_a_warning():
    """Warnings are errors here: "overflow encountered in cast" was one."""
    predictions = (AGES + RNG.normal(size=80)).astype("float32")
    options = {"task": "regression"}
    results = study.results_of({"a": [predictions] * 2}, AGES, **options)
    assert len(results.outcomes) == 2


def test_a_saved_network_predicts_in_the_units_of_the_targets(ages):
    model = keras.saving.load_model(ages.path("hidden", 1))
    split = data.load_source(
        data.Source((X, AGES), labels="numbers"), 16, 1, None, ()
    )
    tested = split.test.examples
    kept = ages.tested["hidden"][study.Run(1)]
    found = model.predict(tested.images, verbose=0)
    np.testing.assert_allclose(kept.numbers, found, rtol=1e-5)
    assert (kept.labels == tested.labels).all()
    run = next(x for x in ages.runs if (x.variant, x.seed) == ("hidden", 1))
    for key, function in {
        "mae": metrics.mean_absolute_error,
        "rmse": metrics.root_mean_squared_error,
        "r2": metrics.r2_score,
    }.items():
        expected = function(tested.labels, found)
        assert run.metrics[key] == pytest.approx(expected, rel=1e-4)
    train = split.train.examples.labels
    guess = np.abs(tested.labels - np.median(train)).mean()
    assert ages.guess == pytest.approx(guess, rel=0.1)
    assert ages.guess > ages.rows[1].mean
    assert ages.rows[1].over == "3 seeds and 16 test vectors"
    # Before the last layer, numbers are standardized.
    mean, variance = (
        model.layers[-1].input_mean,
        model.layers[-1].input_variance,
    )
    assert np.ravel(mean) == pytest.approx(train.mean(), rel=1e-5)
    assert np.ravel(variance) == pytest.approx(train.var(), rel=1e-4)


def test_loading_leaves_the_task_as_it_was(ages):
    task = study.Regression((X, AGES / 1e4))
    before, measures = dict(vars(task)), task.measures
    every = [task.load(RECIPE), task.load(RECIPE, folds=3, fold=1)]
    assert vars(task) == before
    assert task.measures == measures
    for loaded in every:
        assert loaded.deviation == pytest.approx(AGES.std() / 1e4, rel=1e-5)
        # Four digits of a deviation of 0.0011 count, and three of R2.
        digits = [x.digits for x in task.measures_of(loaded)]
        assert digits == [6, 6, 3]
    assert [x.digits for x in ages.measures] == [2, 2, 3]


def test_the_page_shows_predictions_and_no_classes(ages):
    page = report.write(ages.output).read_text(encoding="utf-8")
    known = "A continuous target; add", "shows the residual of each prediction"
    words = "test MAE", "Regression", "targets from", ages.verdict[:40]
    for text in (*words, *known):
        assert text in page
    for text in ("0 classes", "cannot be read", "What the networks look at"):
        assert text not in page
    assert (ages.output / "numbers.png").exists()


def test_a_killed_run_ends_with_the_same_bits(ages, tmp_path):
    task = study.Regression((X, AGES))
    run = functools.partial(trained, tmp_path, task, DENSE, seeds=(0,))
    with killed_at("epoch-2.keras", tmp_path):
        run()
    resumed, name = run(), "dense-seed0/dense-seed0"
    whole = {x: y for x, y in weights(ages.output).items() if name in x}
    assert weights(resumed.output) == whole
    same = f"{name}.predictions.npz"
    assert files(resumed.output)[same] == files(ages.output)[same]


@pytest.mark.every_backend
@pytest.mark.parametrize("shape", [(80, 2), (80, 3, 1)])
def test_several_numbers_and_one_for_each_position(shape, tmp_path):
    x = np.repeat(X[..., None], 2, axis=2) if len(shape) == 3 else X
    targets = np.resize(AGES, shape) * 1e3
    options = {"kind": "signals"} if len(shape) == 3 else {}
    recipe = training.Recipe(1, 16, 0.01, loss=keras.losses.Huber())
    task = study.Regression((x, targets), measure="r2", **options)
    results = trained(tmp_path, task, DENSE, seeds=(0,), recipe=recipe)
    kept = results.tested["dense"][study.Run(0)]
    assert kept.numbers.shape == kept.labels.shape == (16, *shape[1:])
    flat = (y.reshape(-1, shape[-1]) for y in (kept.labels, kept.numbers))
    assert results.rows[0].mean == pytest.approx(metrics.r2_score(*flat))


def test_the_loss_is_of_standardized_numbers():
    loss = StandardizedLoss(keras.losses.Huber(), [5.0, 900.0], [4.0, 1e4])
    loss = type(loss).from_config(loss.get_config())
    targets, predicted = RNG.normal(size=(2, 7, 2)) * [3, 200] + [5, 900]
    error = np.abs(targets - predicted) / [2, 100]
    huber = np.where(error < 1, error**2 / 2, error - 0.5)
    assert float(loss(targets, predicted)) == pytest.approx(huber.mean(), 1e-4)


def test_several_labels_of_each_example(tmp_path):
    task = study.Classification((X, TAGS), multi_label=True)
    sigmoid = functools.partial(dense, activation="sigmoid")
    both = DENSE, study.Variant("sigmoid", sigmoid)
    results = trained(tmp_path, task, *both, baseline="dense")
    logits, ends = results.rows
    # The network decides on `from_logits`: both learn alike.
    assert logits.values == pytest.approx(ends.values, abs=1e-3)
    kept = results.tested["sigmoid"][study.Run(2)]
    frame = results.per_class()
    frame = frame[frame["variant"] == "sigmoid"]
    runs = results.tested["sigmoid"].values()
    for key, score in {
        "average_precision": metrics.average_precision_score,
        "f1": lambda y, p, **x: metrics.f1_score(y, p >= 0.5, **x),
    }.items():
        by_run = [score(x.labels, x.probabilities, average=None) for x in runs]
        assert frame[key].to_numpy() == pytest.approx(np.mean(by_run, axis=0))
    expected = metrics.average_precision_score(kept.labels, kept.probabilities)
    assert ends.values[2] == pytest.approx(expected)
    assert ends.over == "3 seeds and 16 test vectors"
    assert ends.reason.startswith("only ") and "test vectors" in ends.reason
    page = report.write(tmp_path).read_text(encoding="utf-8")
    assert "AP" in page and "Confusion" not in page
    assert "cannot be read" not in page


BAD = AGES.copy()
BAD[3] = np.nan
CLASSES = study.Classification


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: study.Regression((X, BAD)), ValueError, "NaN or infinite"),
        (
            lambda: study.Regression((X, AGES[:9])),
            ValueError,
            "labels of another shape",
        ),
        (
            lambda: study.Regression((X, AGES * 0)),
            ValueError,
            "use another unit",
        ),
        (
            lambda: study.Regression((X, AGES.astype(str))),
            ValueError,
            "not numbers",
        ),
        (
            lambda: study.Regression("mnist5k"),
            ValueError,
            "must be arrays or batches",
        ),
        (
            lambda: study.Regression((X, AGES), measure="auc"),
            ValueError,
            "`measure`",
        ),
        (
            lambda: study.Regression((X, AGES), measure=np.sum),
            ValueError,
            "_error",
        ),
        (
            lambda: study.Regression((X, AGES), threshold="youden"),
            TypeError,
            "threshold",
        ),
        (
            lambda: study.Regression(data.load("mnist5k")),
            ValueError,
            "not be loaded",
        ),
        (lambda: CLASSES((X, AGES)), ValueError, 'task="regression"'),
        (
            lambda: CLASSES((X, AGES), measure="mae"),
            ValueError,
            "`measure` must be one",
        ),
        (lambda: CLASSES((X, TAGS)), ValueError, "multi_label=True"),
        (
            lambda: CLASSES((X, TAGS * 2), multi_label=True),
            ValueError,
            "than 0 and 1",
        ),
        (
            lambda: CLASSES((X, TAGS[:, 0]), multi_label=True),
            ValueError,
            "another shape",
        ),
        (
            lambda: CLASSES((X, TAGS), multi_label=True, measure="brier"),
            ValueError,
            "`measure` must be one",
        ),
    ],
)
def test_what_cannot_be_learned_is_refused(make, error, words):
    with pytest.raises(error, match=words):
        make().load(RECIPE)


@pytest.mark.parametrize(
    ("recipe", "activation", "words"),
    [
        ({"class_weight": "balanced"}, None, "one class for each"),
        ({"loss": "focal"}, None, "`loss` of numbers must be"),
        ({}, "relu", "without activation"),
        ({}, "softmax", "without activation"),
    ],
)
def test_a_recipe_or_a_network_for_classes_is_refused(
    recipe, activation, words, tmp_path
):
    network = functools.partial(dense, activation=activation)
    recipe = training.Recipe(1, 16, **recipe)
    task = study.Regression((X, AGES))
    with pytest.raises(ValueError, match=words):
        trained(tmp_path, task, study.Variant("a", network), recipe=recipe)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"task": "scores"}, ValueError, "`task` must be one of"),
        ({"task": study.Regression((X, AGES))}, ValueError, "must be left out"),
        ({"task": dense}, TypeError, "`task` must be a word"),
        ({"task": "regression", "threshold": "youden"}, TypeError, "threshold"),
    ],
)
def test_a_word_goes_with_the_data(options, error, words):
    with pytest.raises(error, match=words):
        comparison.plan(data=(X, AGES), model=dense, **options)
    # Whole numbers are numbers, too.
    planned = comparison.plan(
        data=(X, AGES.astype(int)), model=dense, task="regression"
    )
    assert planned.task.load(RECIPE).output_shape == (1,)
