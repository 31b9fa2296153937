"""Frozen networks: where they are cut, and that features change nothing."""

import dataclasses
import functools
import types

import keras
import networks as networks_of_tests
import numpy as np
import pytest
from folder_checks import killed_at, weights
from keras import layers
from networks_of_users import Scale, scaled
from training_checks import close, numbers

from cbam_keras import CBAM, _checks, comparison, study, training
from cbam_keras.layers import ATTENTION_KINDS
from cbam_keras.models import by_name
from cbam_keras.study.plans import networks, stages
from cbam_keras.study.running import frozen

pytestmark = pytest.mark.usefixtures("brighter_digits", "eagerly")

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 28, 28, 1), "uint8")
RECIPE = training.Recipe(
    epochs=2, batch_size=41, learning_rate=0.05, frozen=True
)


def backbone():
    """Returns a pretrained network with dropout, frozen."""
    x = inputs = keras.Input((28, 28, 1), name="photo")
    x = layers.Rescaling(1 / 255)(x)
    x = layers.Conv2D(4, 5, 3, name="conv")(x)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.Dropout(0.5, name="drop")(x)
    x = layers.ReLU(name="relu")(layers.Add()([x, layers.ReLU()(x)]))
    model = keras.Model(inputs, x, name="backbone")
    rng = np.random.default_rng(0)
    model.set_weights([rng.random(x.shape) for x in model.get_weights()])
    model.trainable = False
    return model


def network(data=None, *, gate=True, nested=False, dropout=0.0):
    """Returns a classifier over a frozen network, flat or nested."""
    base = backbone()
    inputs = base.input
    x = base.output
    if nested:
        inputs = keras.Input((28, 28, 1))
        x = base(inputs)
    if gate:
        x = CBAM(reduction_ratio=2, name="gate")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    if dropout:
        x = layers.Dropout(dropout, name="head_drop")(x)
    x = layers.Dense(10, activation="softmax", name="classes")(x)
    return keras.Model(inputs, x, name="net")


def planned(recipe=RECIPE, build=network, **options):
    variants = options.pop("variants", [study.Variant("net", build)])
    task = study.Classification("mnist5k")
    return study.Study(task, variants, recipe=recipe, **options)


@pytest.fixture
def runs(monkeypatch):
    """Returns a list that grows by each time that features are computed."""
    counted, compute = [], frozen._compute

    def counting(path, base, data, places):
        counted.append(base.name)
        return compute(path, base, data, places)

    monkeypatch.setattr(frozen, "_compute", counting)
    return counted


# Where a network is cut.


@pytest.mark.parametrize(
    ("options", "first"),
    [
        ({}, "gate"),
        ({"nested": True}, "gate"),
        ({"gate": False}, "classes"),
        ({"gate": False, "dropout": 0.5}, "head_drop"),
    ],
)
def test_a_head_begins_with_what_training_changes(options, first):
    model = network(**options)
    base, head = frozen.cut(model)
    assert head.layers[1].name == first
    assert "drop" in [layer.name for layer in base._flatten_layers()]
    images = np.random.default_rng(0).random((2, 28, 28, 1)) * 255
    np.testing.assert_allclose(
        head.predict_on_batch(base.predict_on_batch(images)),
        model.predict_on_batch(images),
        rtol=1e-5,
    )


def test_the_path_around_a_trained_layer_is_behind_the_cut():
    x = inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, trainable=False, name="stem")(x)
    y = layers.Conv2D(4, 3, padding="same", trainable=False)(x)
    y = layers.Dense(4, name="trained")(y)
    outputs = layers.Flatten()(layers.Add()([x, y]))
    base, head = frozen.cut(keras.Model(inputs, outputs))
    assert base.layers[-1].name == "stem"
    assert len(head.trainable_variables) == 2


@pytest.mark.parametrize("first", [layers.GaussianNoise, layers.Dropout])
def test_a_network_that_starts_at_random_has_no_base(first):
    inner = first(0.5), layers.Conv2D(2, 3, trainable=False), layers.Flatten()
    model = keras.Sequential([keras.Input((8, 8, 3)), *inner, layers.Dense(2)])
    assert frozen.cut(model) is None


# Features change nothing.


@pytest.fixture(scope="module")
def cached(brighter_digits, eagerly, tmp_path_factory):
    return study.run(planned(seeds=(0, 1)), tmp_path_factory.mktemp("cached"))


def test_features_train_as_keras_trains_the_network_as_a_whole(cached):
    plan = planned()
    data, recipe = plan.load(study.Run(1)), plan.recipe_for(None, study.Run(1))
    model = study.build_seeded(network, recipe)
    networks.draw_values(networks.find_drawn(model), 1)
    # A base runs in inference.
    model.get_layer("drop").rate = 0
    plan.task.compile(model, recipe, data)
    for epoch in range(recipe.epochs):
        data.set_epoch(epoch)
        for index in range(len(data.train)):
            model.train_on_batch(*data.train[index])
    outcome = cached.outcomes[1]
    saved = keras.saving.load_model(cached.output / outcome.file)
    assert [x.path for x in saved.weights] == [x.path for x in model.weights]
    for one, other in zip(
        saved.get_weights(), model.get_weights(), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    measured = saved.evaluate(data.test, verbose=0, return_dict=True)
    accuracy = outcome.metrics["test_accuracy"]
    assert accuracy == pytest.approx(measured["accuracy"])


@pytest.mark.exhaustive
@pytest.mark.every_backend
def test_features_train_as_a_study_without_them_does(cached, tmp_path):
    recipe = dataclasses.replace(RECIPE, cache=False)
    whole = study.run(planned(recipe, seeds=(0, 1)), tmp_path)
    assert close(whole, 1e-5) == numbers(cached)


@pytest.mark.parametrize("changed", [{"augment": ("flip",)}, {"cache": False}])
def test_images_run_through_the_base_each_epoch(tmp_path, runs, quick, changed):
    recipe = dataclasses.replace(RECIPE, epochs=1, **changed)
    assert study.run(planned(recipe), tmp_path).runs
    assert runs == []


def test_seeds_and_folds_share_features(tmp_path, runs, quick):
    variants = [
        study.Variant("net", network),
        study.Variant("wide", functools.partial(network, dropout=0.5)),
    ]
    recipe = dataclasses.replace(RECIPE, epochs=1)
    plan = planned(recipe, variants=variants, folds=2, seeds=(0, 1))
    results = study.run(plan, tmp_path)
    assert len(results.runs) == 8
    # Code of users may differ from variant to variant.
    assert runs == ["net_base"] * 2
    assert not [*tmp_path.glob("features*")]


def test_other_weights_of_a_base_are_other_features(tmp_path, runs, quick):
    def drawn(data):
        model = network()
        return keras.models.clone_model(model)

    recipe = dataclasses.replace(RECIPE, epochs=1)
    results = study.run(planned(recipe, build=drawn, seeds=(0, 1)), tmp_path)
    assert len(runs) == 2
    models = [
        keras.saving.load_model(tmp_path / x.file) for x in results.outcomes
    ]
    kernels = [model.get_layer("conv").get_weights()[0] for model in models]
    assert not np.array_equal(*kernels)


def pretrained(*, input_tensor, **options):
    """Returns a network of a name, as if with weights for ImageNet."""
    model = networks_of_tests.application(None, input_tensor)
    rng = np.random.default_rng(0)
    model.set_weights([rng.random(x.shape) for x in model.get_weights()])
    return model


def planned_by_name(attentions, **options):
    defaults = {"recipe": RECIPE, "seeds": 2}
    if "task" not in options:
        defaults["data"] = "mnist5k"
    return comparison.plan(
        attentions,
        model="EfficientNetLite0",
        weights="imagenet",
        stages="top",
        **{**defaults, **options},
    )


def test_networks_by_name_share_features(tmp_path, runs, quick):
    quick.setitem(by_name.PRETRAINED, "EfficientNetLite0", pretrained)
    recipe = dataclasses.replace(RECIPE, epochs=1)
    plan = planned_by_name(["cbam", "se"], recipe=recipe)
    results = study.run(plan, tmp_path)
    assert [x.finished for x in results.outcomes] == [True] * 4
    assert len(runs) == 1


@pytest.mark.every_backend
@pytest.mark.parametrize("kind", ["none", *ATTENTION_KINDS])
def test_a_network_that_is_kept_starts_as_one_that_is_built(kind, monkeypatch):
    monkeypatch.setitem(by_name.PRETRAINED, "EfficientNetLite0", pretrained)
    plan = planned_by_name([kind], seeds=(1, 5))
    ran, (variant,) = study.Run(5), plan.variants
    data = plan.load(ran)
    kept = frozen.FrozenNetworks(None, keeps=True)
    first = kept.parts(plan, variant, study.Run(1), data)
    first.head.set_weights([x + 1 for x in first.head.get_weights()])
    assert kept.parts(plan, variant, ran, data) is first
    alone = frozen.FrozenNetworks(None).parts(plan, variant, ran, data)
    assert alone is not first
    for one, other in zip(
        first.network.weights, alone.network.weights, strict=True
    ):
        assert one.path == other.path
        np.testing.assert_array_equal(
            keras.ops.convert_to_numpy(one), keras.ops.convert_to_numpy(other)
        )


def own_gate(name):
    return CBAM(name=name)


@pytest.mark.parametrize(
    "options",
    [
        {"task": study.Regression((IMAGES, IMAGES.mean((1, 2, 3))))},
        {"recipe": dataclasses.replace(RECIPE, cache=False)},
        {"recipe": dataclasses.replace(RECIPE, augment=("flip",))},
        {"attentions": [own_gate]},
    ],
)
def test_networks_that_differ_in_more_than_values_are_built(
    options, monkeypatch
):
    monkeypatch.setitem(by_name.PRETRAINED, "EfficientNetLite0", pretrained)
    plan = planned_by_name(**{"attentions": ["se"], **options})
    frozen_networks = frozen.FrozenNetworks(None, keeps=True)
    variant, data = plan.variants[0], plan.load(plan.runs[0])
    first, second = (
        frozen_networks.parts(plan, variant, run, data) for run in plan.runs
    )
    assert first.base is not None
    assert first is not second


# Killed, and damaged.


def test_features_of_a_killed_run_are_computed_again(tmp_path, runs, quick):
    for ending in (".npy", "-epoch-1.keras", "net-seed0.keras"):
        with killed_at(ending, tmp_path / "killed"):
            study.run(planned(seeds=(0, 1)), tmp_path / "killed")
    (path,) = (tmp_path / "killed").glob("features-*.npy")
    path.unlink()
    # As a process leaves it that is killed while it writes features.
    for name in (path.name, "features-0123.npy"):
        path.with_name(f".unfinished-0123abcd-{name}").write_bytes(b"half")
    before = len(runs)
    results = study.run(planned(seeds=(0, 1)), path.parent)
    assert len(runs) == before + 1
    whole = study.run(planned(seeds=(0, 1)), tmp_path / "whole")
    assert numbers(results) == numbers(whole)
    assert weights(path.parent) == weights(whole.output)
    assert not [*path.parent.glob("*features*")]


def test_damaged_features_are_computed_again(
    tmp_path, runs, cached, monkeypatch
):
    run, said = tmp_path / "run", []
    with killed_at("net-seed0.keras", run):
        study.run(planned(seeds=(0, 1)), run)
    (path,) = run.glob("features-*.npy")
    whole = path.read_bytes()
    path.write_bytes(whole[:200] + bytes(len(whole) - 200))
    monkeypatch.setattr(_checks, "warn", said.append)
    results = study.run(planned(seeds=(0, 1)), run)
    assert len(runs) == 2
    assert numbers(results) == numbers(cached)
    assert weights(run) == weights(cached.output)
    assert [text.startswith(f'"{path}" has changed') for text in said] == [True]


def test_features_are_whole_as_they_were_written(tmp_path, monkeypatch):
    monkeypatch.setattr(_checks, "warn", lambda text: None)
    images = np.arange(70, dtype="float32").reshape(70, 1)

    class Double:
        output_shape = (None, 1)

        def predict_on_batch(self, x):
            return 2 * x

    class Batches:
        def read(self, rows):
            return images[rows]

    data = types.SimpleNamespace(input_shape=(1,))
    monkeypatch.setattr(frozen, "enumerate", lambda _: [(0, Batches())], False)
    path = tmp_path / "features-0.npy"
    frozen._compute(path, Double(), data, [np.arange(70)])
    np.testing.assert_array_equal(np.load(path), 2 * images)
    assert frozen._is_whole(path)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[300] ^= 1
    for damaged in (bytes(flipped), whole[:200], b"", whole + b"0"):
        path.write_bytes(damaged)
        assert not frozen._is_whole(path)
    path.write_bytes(whole)
    assert frozen._is_whole(path)
    path.with_name(f"{path.name}.{frozen.HASH}").unlink()
    assert not frozen._is_whole(path)


def test_a_base_that_does_not_fit_its_features_has_its_own(
    tmp_path, runs, quick
):
    factors = iter([1.0, 1.0, 1.0, 2.0, 1.0])

    def drawn(data):
        x = inputs = keras.Input((28, 28, 1))
        x = scaled(Scale, next(factors))(x)
        x = layers.Dense(2, trainable=False, kernel_initializer="ones")(x)
        outputs = layers.Dense(10, activation="softmax")(layers.Flatten()(x))
        return keras.Model(inputs, outputs)

    recipe = dataclasses.replace(RECIPE, epochs=1)
    plan = planned(recipe, build=drawn, seeds=(0, 1, 2, 3))
    assert study.run(plan, tmp_path).runs
    assert len(runs) == 2


# Recipes.


@pytest.mark.parametrize(
    ("unfreeze", "trained"),
    [
        (None, ["conv", "gate", "classes"]),
        (30, ["conv", "gate", "classes"]),
        (7, ["gate", "classes"]),
        (0.95, ["conv", "gate", "classes"]),
        (0.5, ["gate", "classes"]),
        ("conv", ["conv", "gate", "classes"]),
        ("dr*", ["gate", "classes"]),
        # The gate is before them, but new.
        ("classes", ["gate", "classes"]),
    ],
)
def test_the_second_stage_trains_from_a_layer_on(unfreeze, trained):
    model = network(nested=True)
    stages.begin_second(model, unfreeze)
    names = {
        layer.name
        for layer in model._flatten_layers()
        if layer.name in ("conv", "norm", "gate", "classes")
        and layer.trainable_variables
    }
    assert names == {*trained}


def test_a_name_that_no_layer_has_is_refused():
    recipe = training.Recipe(frozen_epochs=1, unfreeze="block9*")
    with pytest.raises(ValueError, match="none of .* matches"):
        stages.check_frozen(network(), recipe)
