"""Studies of signals, volumes, vectors and several inputs."""

import functools
from unittest import mock

import keras
import numpy as np
import pytest
from folder_checks import Killed, at_files, epochs, weights
from keras import layers
from scipy.special import softmax
from sklearn.metrics import accuracy_score
from sklearn.preprocessing import StandardScaler
from test_data_kinds import LABELS, numbers
from training_checks import SHORT

from cbam_keras import cli, data, models, study, training
from cbam_keras.report import looking
from cbam_keras.study import comparison

pytestmark = pytest.mark.usefixtures("eagerly")
TWO = training.Recipe(epochs=2, batch_size=14)
VECTORS = numbers(7)
# A channel that is constant in training is not divided.
VECTORS[:, 2] = np.where(np.arange(40), 0.1, 0.5)
SIGNALS = numbers(12, 2)
BOTH = {"signal": SIGNALS, "age": np.arange(40)}


def of_both(data):
    inputs = {x: keras.Input(y, name=x) for x, y in data.input_shape.items()}
    inputs["age"] = keras.Input((1,), name="age", dtype="int32")
    x = layers.GlobalMaxPooling1D()(layers.Conv1D(3, 3)(inputs["signal"]))
    age = layers.Flatten()(layers.Embedding(99, 2)(inputs["age"]))
    x = layers.Dropout(0.5)(layers.Concatenate()([x, age]))
    return keras.Model(inputs, layers.Dense(*data.output_shape)(x))


def linear(data):
    vectors = keras.Input(data.input_shape)
    return keras.Model(vectors, layers.Dense(2, "softmax")(vectors))


def run(output, build, given, **options):
    task = study.Classification((given, LABELS), **options.pop("task", {}))
    options = {"seeds": (0, 1), "recipe": TWO} | options
    variants = [study.Variant("one", build)]
    return study.run(study.Study(task, variants, **options), output)


def test_a_killed_run_ends_as_an_unbroken_one(tmp_path):
    options = {"seeds": (0,)}
    run(tmp_path / "whole", of_both, BOTH, **options)
    output = tmp_path / "killed"

    def kill(count, source):
        # The checkpoint of the last epoch.
        if len(trained) == 2:
            raise Killed

    with pytest.raises(Killed), epochs() as trained, at_files(output, kill):
        run(output, of_both, BOTH, **options)
    with epochs() as resumed:
        run(output, of_both, BOTH, **options)
    assert len(resumed) == 1
    assert weights(output) == weights(tmp_path / "whole")


def test_networks_standardize_by_their_own_training_split(tmp_path):
    results = run(tmp_path, linear, VECTORS, seeds=(0,), folds=2)
    for fold in range(2):
        split = data.load(
            (VECTORS, LABELS), batch_size=None, folds=2, fold=fold
        )
        model = keras.saving.load_model(results.path("one", 0, fold))
        kernel, bias = map(keras.ops.convert_to_numpy, model.weights)
        vectors = StandardScaler().fit(split.train[0]).transform(split.test[0])
        expected = softmax(vectors @ kernel + bias, axis=1)
        # The saved network takes the vectors as they are.
        np.testing.assert_allclose(
            model.predict(split.test[0], verbose=0), expected, atol=1e-4
        )
        frame = results.predictions("one", 0, fold=fold)
        kept = frame[["0", "1"]].to_numpy()
        np.testing.assert_allclose(kept, expected, atol=1e-4)
        found = results.runs[fold].metrics["test_accuracy"]
        assert found == accuracy_score(split.test[1], kept.argmax(axis=1))


def frozen(data):
    signal = keras.Input(data.input_shape)
    x = layers.Conv1D(4, 3, trainable=False)(signal)
    x = layers.GlobalMaxPooling1D()(x)
    return keras.Model(signal, layers.Dense(2)(x))


def test_features_of_frozen_layers_are_of_each_training_split(tmp_path):
    recipe = training.Recipe(epochs=1, batch_size=8, frozen=True)
    options = {"recipe": recipe, "task": {"kind": "signals"}}
    results = run(tmp_path, frozen, SIGNALS, seeds=range(2), **options)
    for seed in range(2):
        loaded = data.load((SIGNALS, LABELS), kind="signals", seed=seed)
        model = keras.saving.load_model(results.path("one", seed))
        mean, _ = loaded.standardization["signals"]
        assert model.layers[1].get_config()["mean"] == mean


@pytest.mark.parametrize(
    ("shape", "options"),
    [((40, 2), {"kind": "signals"}), ((16, 12, 8, 1), {})],
)
@pytest.mark.parametrize("name", ["tiny", "resnet18"])
def test_networks_by_name_are_for_signals_and_volumes(name, shape, options):
    given = numbers(*shape, count=20), LABELS[:20]
    model = models.NETWORKS[name](data.load(given, **options), "cbam")
    assert model.input_shape == (None, *shape)
    assert model.output_shape == (None, 2)


@pytest.mark.parametrize(
    ("given", "model", "options", "message"),
    [
        (VECTORS, "tiny", {}, "For vectors or several inputs, pass model="),
        (BOTH, "resnet18", {}, "For vectors or several inputs, pass model="),
        (VECTORS, "MobileNet", {}, "able to take the images. .* shape .7,."),
        (BOTH, linear, {}, r"must take inputs of shape .*'signal': \(12, 2\)"),
    ],
)
def test_networks_that_do_not_suit_the_data_are_refused(
    given, model, options, message, tmp_path
):
    if callable(model):
        build = model
    else:
        build, _ = comparison.network_of(model, None, SHORT)
        build = functools.partial(build, attention=None)
    if model is linear:
        build = lambda _: linear(data.load((VECTORS, LABELS)))  # noqa: E731
    with pytest.raises(ValueError, match=message):
        run(tmp_path, build, given, task=options)


def test_the_command_trains_on_signals_and_draws_them(quick, tmp_path, capsys):
    quick.chdir(tmp_path)
    np.savez("beats.npz", x_train=numbers(12, 3), y_train=LABELS)
    plot = mock.Mock(wraps=looking.figures.plot_grad_cam)
    quick.setattr(looking.figures, "plot_grad_cam", plot)
    line = "train --data beats.npz --kind signals --epochs 1 --seeds 1"
    assert cli.main([*line.split(), "--output", "run"]) == 0
    assert "8 test signals give imprecise estimates" in capsys.readouterr().out
    test, _ = data.load("beats.npz", kind="signals", batch_size=None).test
    (signals, heat), _ = plot.call_args
    # Of several networks, some of them.
    assert {x.tobytes() for x in signals} < {x.tobytes() for x in test}
    assert heat["cbam"].shape == (4, 12)
    page = (tmp_path / "run/report.html").read_text()
    assert "28 signals for training" in page
    assert "standardized by channel, by the training split" in page
    assert (tmp_path / "run/explain/attention-cbam.png").exists()
