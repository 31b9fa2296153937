"""Training by recipe: how networks are built, compiled and refused."""

import dataclasses
import json
import sys

import keras
import numpy as np
import pytest
from keras import layers
from training_checks import (
    KEYS,
    NETWORKS,
    SHORT,
    SMALL,
    linear,
    resnet,
)

from cbam_keras import data, training
from cbam_keras.training import Recipe
from cbam_keras.training import networks as training_networks

pytestmark = pytest.mark.usefixtures("few_digits")


# How networks are built and compiled.


def _cross_entropy(probabilities, labels):
    chosen = probabilities[np.arange(len(labels)), labels]
    return -np.log(chosen).mean()


def _softmax(logits):
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.every_backend
@pytest.mark.parametrize(
    ("build", "to_probabilities"),
    [
        (linear, np.asarray),
        (
            lambda: linear(layers.Activation("softmax"), activation=None),
            np.asarray,
        ),
        (lambda: linear(layers.Softmax(), activation=None), np.asarray),
        (
            lambda: keras.Sequential([keras.Input((28, 28, 1)), linear()]),
            np.asarray,
        ),
        (lambda: linear(activation=None), _softmax),
        (resnet, np.asarray),
        (lambda: resnet(classifier_activation=None), _softmax),
    ],
    ids=[
        "softmax_in_the_layer",
        "softmax_activation_layer",
        "softmax_layer",
        "softmax_in_a_model_within",
        "logits",
        "resnet",
        "resnet_logits",
    ],
)
def test_the_loss_is_the_cross_entropy(tmp_path, build, to_probabilities):
    model = build()
    results = training.train(model, "mnist5k", SHORT, output=tmp_path)
    images, labels = data.load("mnist5k", batch_size=None).validation
    outputs = model.predict(images.astype("float32"), verbose=0)
    assert results.history[0]["val_loss"] == pytest.approx(
        _cross_entropy(to_probabilities(outputs), labels), abs=1e-5
    )


@pytest.mark.every_backend
def test_the_loss_of_mixed_labels_is_the_cross_entropy(tmp_path):
    images = data.load("mnist5k", batch_size=35, augment="mixup")
    model = linear()
    results = training.train(model, images, SHORT, output=tmp_path)
    pictures, labels = data.load("mnist5k", batch_size=None).validation
    outputs = model.predict(pictures.astype("float32"), verbose=0)
    assert results.history[0]["val_loss"] == pytest.approx(
        _cross_entropy(outputs, labels), abs=1e-5
    )
    assert results.history[0]["val_accuracy"] == pytest.approx(
        np.mean(outputs.argmax(axis=1) == labels)
    )


@pytest.mark.every_backend
def test_a_model_given_is_trained_itself(tmp_path):
    model = linear()
    before = model.get_weights()[0]
    results = training.train(model, "mnist5k", SHORT, output=tmp_path)
    assert np.abs(model.get_weights()[0] - before).max() > 0
    assert [run.network for run in results.runs] == ["linear"]
    assert (tmp_path / "linear.keras").is_file()


def test_every_network_starts_from_the_seed(tmp_path):
    results = training.train(
        {"first": linear, "second": linear},
        "mnist5k",
        SHORT,
        output=tmp_path,
    )
    first, second = results.history
    assert [first[key] for key in KEYS] == pytest.approx(
        [second[key] for key in KEYS], abs=1e-6
    )


@pytest.mark.every_backend
def test_the_seed_decides_the_result(tmp_path):
    rows = [
        training.train(
            {"linear": linear},
            "mnist5k",
            dataclasses.replace(SHORT, seed=seed),
            output=tmp_path / folder,
        ).history[0]
        for folder, seed in [("a", 5), ("b", 5), ("c", 6)]
    ]
    losses = [row["loss"] for row in rows]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    assert losses[0] != pytest.approx(losses[2], abs=1e-6)


def test_data_by_name_are_loaded_by_the_recipe(tmp_path, monkeypatch):
    asked = {}
    load = data.load

    def loading(name, **options):
        asked.update(options, name=name)
        return load(name, **options)

    monkeypatch.setattr(data, "load", loading)
    recipe = Recipe(epochs=1, batch_size=14, seed=9, augment="flip")
    training.train({"linear": linear}, "mnist5k", recipe, output=tmp_path)
    assert asked == {
        "name": "mnist5k",
        "batch_size": 14,
        "seed": 9,
        "augment": ("flip",),
        "image_size": None,
    }


def test_data_given_keep_their_batch_size_and_seed(tmp_path):
    images = data.load("mnist5k", batch_size=10, seed=3)
    training.train(
        {"linear": linear}, images, Recipe(epochs=1), output=tmp_path
    )
    content = json.loads((tmp_path / "results.json").read_text())
    assert content["settings"]["data"]["batch_size"] == 10
    assert content["settings"]["data"]["seed"] == 3
    assert content["settings"]["recipe"]["batch_size"] == 10


def test_data_given_keep_their_augmentation(tmp_path):
    images = data.load("mnist5k", batch_size=35, augment="flip")
    recipe = dataclasses.replace(SHORT, augment=("crop",), image_size=56)
    training.train({"linear": linear}, images, recipe, output=tmp_path)
    settings = json.loads((tmp_path / "results.json").read_text())["settings"]
    assert settings["recipe"]["augment"] == ["flip"]
    assert settings["data"]["augment"] == ["flip"]
    assert settings["data"]["image_shape"] == [28, 28, 1]


@pytest.mark.every_backend
def test_data_given_and_data_named_give_the_same(tmp_path, finished):
    images = data.load("mnist5k", batch_size=16)
    given = training.train({"linear": linear}, images, SMALL, output=tmp_path)
    expected = [row["loss"] for row in finished.history[:3]]
    assert [row["loss"] for row in given.history] == pytest.approx(
        expected, abs=1e-6
    )


@pytest.mark.every_backend
@pytest.mark.parametrize(
    ("outside", "precision", "inside"),
    [
        ("float32", None, "float32"),
        ("mixed_bfloat16", None, "mixed_bfloat16"),
        ("float32", "float16", "mixed_float16"),
        ("float32", "bfloat16", "mixed_bfloat16"),
        ("mixed_bfloat16", "float16", "mixed_float16"),
    ],
    ids=["none", "global", "float16", "bfloat16", "over_global"],
)
def test_mixed_precision_is_the_policy_while_building(
    outside, precision, inside
):
    keras.config.set_dtype_policy(outside)
    policies = []

    def build():
        policies.append(keras.config.dtype_policy().name)
        return linear()

    recipe = dataclasses.replace(SHORT, mixed_precision=precision)
    model = training_networks.build_network(build, data.load("mnist5k"), recipe)
    assert policies == [inside]
    assert keras.config.dtype_policy().name == outside
    assert model.layers[-1].dtype_policy.name == inside


@pytest.mark.every_backend
@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_a_network_in_mixed_precision_loads(tmp_path, precision):
    recipe = dataclasses.replace(SHORT, mixed_precision=precision)
    training.train({"linear": linear}, "mnist5k", recipe, output=tmp_path)
    saved = keras.saving.load_model(tmp_path / "linear.keras")
    assert saved.layers[-1].compute_dtype == precision
    assert saved.layers[-1].variable_dtype == "float32"


def test_a_failing_build_restores_the_policy(tmp_path):
    def build():
        raise RuntimeError("cannot be built")

    before = keras.config.dtype_policy().name
    recipe = dataclasses.replace(SHORT, mixed_precision="float16")
    with pytest.raises(RuntimeError, match="cannot be built"):
        training.train({"linear": build}, "mnist5k", recipe, output=tmp_path)
    assert keras.config.dtype_policy().name == before


# Mistakes.


@pytest.mark.parametrize(
    ("networks", "error", "message"),
    [
        ([linear], TypeError, "a keras.Model or a mapping"),
        (linear, TypeError, "a keras.Model or a mapping"),
        ("small", TypeError, "a keras.Model or a mapping"),
        (None, TypeError, "a keras.Model or a mapping"),
        ({"linear": 5}, TypeError, "a keras.Model or a mapping"),
        ({1: linear}, TypeError, "a keras.Model or a mapping"),
        ({}, ValueError, "at least one network"),
        ({"": linear}, ValueError, "file names"),
        ({"..": linear}, ValueError, "file names"),
        ({"a/b": linear}, ValueError, "file names"),
        ({"a\\b": linear}, ValueError, "file names"),
        ({"a:b": linear}, ValueError, "file names"),
        ({"a\0b": linear}, ValueError, "file names"),
        ({"a" * 101: linear}, ValueError, "file names"),
    ],
    ids=[
        "list",
        "function",
        "string",
        "none",
        "no_function",
        "number_as_name",
        "empty",
        "empty_name",
        "dots",
        "slash",
        "backslash",
        "colon",
        "unprintable",
        "long",
    ],
)
def test_wrong_networks_are_refused(tmp_path, networks, error, message):
    with pytest.raises(error, match=f"`networks`.*{message}.*Received"):
        training.train(networks, "mnist5k", SHORT, output=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("build", "received"),
    [
        (
            lambda: linear(shape=(32, 28, 1)),
            "input_shape=(None, 32, 28, 1), output_shape=(None, 10)",
        ),
        (
            lambda: linear(shape=(28, 28, 3)),
            "input_shape=(None, 28, 28, 3), output_shape=(None, 10)",
        ),
        (
            lambda: linear(classes=9),
            "input_shape=(None, 28, 28, 1), output_shape=(None, 9)",
        ),
        (
            lambda: resnet(include_top=False),
            "input_shape=(None, 28, 28, 1), output_shape=(None, 28, 28, 4)",
        ),
        (
            lambda: keras.Sequential([keras.Input((784,)), layers.Dense(10)]),
            "input_shape=(None, 784), output_shape=(None, 10)",
        ),
    ],
    ids=["height", "channels", "classes", "no_classifier", "rank"],
)
def test_a_network_that_does_not_fit_is_refused(tmp_path, build, received):
    with pytest.raises(
        ValueError,
        match=r'"mnist5k" must take images of shape \(28, 28, 1\) and give 10',
    ) as caught:
        training.train({"bad": build}, "mnist5k", SHORT, output=tmp_path)
    assert received in str(caught.value)


def test_a_network_for_any_size_fits(tmp_path):
    def build():
        inputs = keras.Input((None, None, 1))
        x = layers.GlobalAveragePooling2D()(inputs)
        return keras.Model(inputs, layers.Dense(10)(x))

    results = training.train({"any": build}, "mnist5k", SHORT, output=tmp_path)
    assert results.runs[0].parameters == 20


@pytest.mark.parametrize(
    "build",
    [
        lambda: None,
        lambda: keras.Sequential([layers.Flatten(), layers.Dense(10)]),
    ],
    ids=["no_model", "unknown_shape"],
)
def test_what_is_no_model_with_a_shape_is_refused(tmp_path, build):
    with pytest.raises(ValueError, match="known input shape. Received"):
        training.train({"bad": build}, "mnist5k", SHORT, output=tmp_path)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (None, "`images` must be the name of a dataset"),
        (5, "`images` must be the name of a dataset"),
        ((1, 2, 3), r"Arrays must come as \(images, labels\)"),
    ],
    ids=["none", "number", "arrays"],
)
def test_images_of_a_wrong_kind_are_refused(tmp_path, images, message):
    with pytest.raises(TypeError, match=message):
        training.train(linear(), images, SHORT, output=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_unknown_dataset_is_refused(tmp_path):
    with pytest.raises(ValueError, match="mnist6k.*Did you mean"):
        training.train(linear(), "mnist6k", SHORT, output=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_images_without_batches_are_refused(tmp_path):
    images = data.load("mnist5k", batch_size=None)
    with pytest.raises(ValueError, match="`images` must come in batches"):
        training.train(linear(), images, SHORT, output=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_images_with_boxes_are_refused(tmp_path):
    images = data.load("cluttered_mnist", boxes=True)
    with pytest.raises(ValueError, match="`images` must.*boxes=True"):
        training.train(
            {"linear": lambda: linear(shape=(48, 48, 1))},
            images,
            SHORT,
            output=tmp_path / "run",
        )


def test_mixed_precision_cannot_change_a_ready_model(tmp_path):
    recipe = dataclasses.replace(SHORT, mixed_precision="float16")
    with pytest.raises(
        ValueError, match='`mixed_precision` decides how.*model "linear"'
    ):
        training.train(linear(), "mnist5k", recipe, output=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_without_matplotlib_nothing_is_trained(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'pip install "cbam_keras\[plot\]"'):
        training.train(linear(), "mnist5k", SHORT, output=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("resume", [False, True], ids=["new", "resume"])
def test_an_output_that_holds_other_files_is_refused(tmp_path, resume):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="`output` must be a new or empty"):
        training.train(
            linear(), "mnist5k", SHORT, output=tmp_path, resume=resume
        )
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_an_output_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="`output` must be a folder that can"):
        training.train(
            linear(), "mnist5k", SHORT, output=tmp_path / "file" / "run"
        )


def test_an_output_that_holds_a_run_is_refused_without_resume(finished):
    before = (finished.output / "results.json").read_bytes()
    with pytest.raises(
        ValueError, match="unless the training run in it is resumed.*Resume it"
    ):
        training.train(
            NETWORKS, "mnist5k", SMALL, output=finished.output, resume=False
        )
    assert (finished.output / "results.json").read_bytes() == before


# NumPy's numbers come out of sweeps over np.arange and the like.
@pytest.mark.parametrize(
    "options",
    [{"epochs": np.int64(1)}, {"learning_rate": np.float32(0.01)}],
    ids=["integer", "float"],
)
def test_a_recipe_takes_numpy_numbers(tmp_path, options):
    recipe = dataclasses.replace(SHORT, **options)
    training.train({"linear": linear}, "mnist5k", recipe, output=tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"recipe": {"epochs": 1}},
            "`recipe` must be a Recipe or the name of one",
        ),
        ({"output": None}, "`output` must be the path of a folder"),
        ({"settings": {"x": object()}}, "must be plain values"),
    ],
    ids=["recipe", "output", "settings"],
)
def test_arguments_of_a_wrong_kind_are_refused(tmp_path, options, message):
    call = {"recipe": SHORT, "output": tmp_path / "run"}
    with pytest.raises(TypeError, match=message):
        training.train({"linear": linear}, "mnist5k", **{**call, **options})
    assert not (tmp_path / "run").exists()


def test_a_network_that_does_not_fit_leaves_the_folder_free(tmp_path):
    with pytest.raises(ValueError, match="must take images of shape"):
        training.train(
            {"bad": lambda: linear(classes=9)},
            "mnist5k",
            SHORT,
            output=tmp_path,
        )
    results = training.train(
        {"good": linear}, "mnist5k", SHORT, output=tmp_path
    )
    assert [run.network for run in results.runs] == ["good"]


def test_nested_networks_have_a_fingerprint_of_their_own():
    def build(units):
        inner = keras.Sequential([layers.Flatten(), layers.Dense(units)])
        return keras.Sequential([keras.Input((4, 4)), inner, layers.Dense(2)])

    one, same, other = (
        training_networks.fingerprint(build(units)) for units in (8, 8, 9)
    )
    assert one == same != other
