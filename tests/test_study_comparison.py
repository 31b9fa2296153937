"""`comparison`: its networks and layers, rows, table, command, and refusals."""

import dataclasses
import functools
import inspect
import math
from types import SimpleNamespace

import keras
import networks
import numpy as np
import pretended
import pytest
from study_checks import content_of
from training_checks import SHORT
from tuning_checks import warned

from cbam_keras import (
    data,
    models,
    study,
    training,
    tuning,
)
from cbam_keras.layers import ATTENTION_KINDS, attention_layers
from cbam_keras.study import comparison

NAMES = ["none", "se", "cbam"]


@pytest.fixture(scope="module", autouse=True)
def pretending(few_digits):
    """Trains nothing, and puts a smaller network in the place of "tiny"."""
    with pytest.MonkeyPatch.context() as patch:
        pretended.install(patch)
        networks.replace_tiny(patch.setitem)
        yield


def compare(*arguments, **options):
    given = {"data": "mnist5k", "recipe": SHORT, "seeds": 1, **options}
    return comparison.compare(*arguments, **given)


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A comparison with the default output, whose path is made absolute."""
    folder = tmp_path_factory.mktemp("compared")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        results = compare(["none", "se", "cbam"])
    return dataclasses.replace(results, output=folder / results.output)


# What is trained.


def test_compare_trains_none_se_and_cbam_below_runs(compared):
    runs, name = compared.output.parts[-2:]
    # The name of the folder says what is not a default of the recipe.
    assert runs == "runs"
    assert name.startswith("train-mnist5k-tiny-")
    assert [run.file for run in compared.runs] == [
        f"{n}-seed0/{n}-seed0.keras" for n in NAMES
    ]
    assert content_of(compared.output)["settings"]["model"] == "tiny"
    assert compared.seeds == (0,)
    png = (compared.output / "comparison.png").read_bytes()
    assert png.startswith(b"\x89PNG")
    model = keras.saving.load_model(
        compared.output / "none-seed0/none-seed0.keras"
    )
    assert not any("attention" in layer.name for layer in model.layers)
    assert model.get_layer("rescale").scale == pytest.approx(1 / 255)


CHOSEN = {"identity_init": False, "reduction_ratio": 8}


@pytest.mark.parametrize(
    ("kind", "model", "given", "expected"),
    [
        # The ratio is that of the network "tiny", which has few channels.
        ("se", "tiny", {}, {"identity_init": True, "reduction_ratio": 4}),
        ("cbam", "small", CHOSEN, CHOSEN),
    ],
)
def test_layers_start_as_the_identity_and_get_the_options_they_take(
    kind, model, given, expected
):
    defaults = comparison.model_options(model)
    layer = attention_layers(kind, defaults, given)[kind]
    assert layer.arguments == expected
    config = layer(name="gate").get_config()
    assert config.items() >= expected.items()


@pytest.mark.parametrize(
    ("side", "parameters", "kernel", "stride"),
    # With a classifier of 10 classes on one grey channel; images of more than
    # 96 pixels have a stem with stride 2 and 7x7 kernels in place of 3x3.
    [(96, 77754, 3, 1), (97, 77754 + 16 * (49 - 9), 7, 2)],
)
def test_networks_are_built_for_the_data(side, parameters, kernel, stride):
    images = SimpleNamespace(input_shape=(side, side, 1), output_shape=(10,))
    network = comparison.NETWORKS["small"](images, None)
    assert network.input_shape == (None, side, side, 1)
    assert network.output_shape == (None, 10)
    assert parameters == sum(
        math.prod(weight.shape) for weight in network.trainable_weights
    )
    stem = network.get_layer("stem_conv")
    assert (stem.kernel_size[0], stem.strides[0]) == (kernel, stride)


def test_by_default_crowded_digits_are_learned_in_an_epoch():
    default = inspect.signature(comparison.compare).parameters["data"].default
    recipe = comparison.default_recipe("tiny")
    assert (default, recipe.batch_size) == ("crowded_mnist", 64)
    assert (recipe.epochs, recipe.learning_rate) == (1, 0.03)
    planned = comparison.plan(data="mnist5k")
    assert [x.name for x in planned.variants] == ["none", "cbam"]
    assert planned.seeds == (0, 1, 2, 3, 4)
    assert comparison.plan(data="mnist5k", folds=2).seeds == (0,)
    assert comparison.plan(data=data.load("mnist5k")).seeds == (0,)


def test_layers_of_the_users_own_are_compared(tmp_path):
    kinds = ["none", keras.layers.LeakyReLU]
    options = {"layer_options": {"negative_slope": 0.5}}
    results = compare(kinds, **options, output=tmp_path)
    assert [row.variant for row in results.rows] == ["none", "LeakyReLU"]
    model = keras.saving.load_model(
        tmp_path / "LeakyReLU-seed0/LeakyReLU-seed0.keras"
    )
    layer = model.get_layer("stage1_block1_attention")
    assert layer.negative_slope == 0.5
    variants = content_of(tmp_path)["settings"]["variants"]
    assert variants["LeakyReLU"] == {"negative_slope": 0.5}
    with pytest.raises(TypeError, match="a name, a layer class, or a callable"):
        compare([keras.layers.LeakyReLU()], output=tmp_path)


def with_gates(attention):
    """Returns a network with two gates of another source."""
    inputs = x = keras.Input((28, 28, 1))
    for name in ("first", "second"):
        x = keras.layers.Conv2D(8, 3, strides=2, name=f"{name}_conv")(x)
        y = keras.layers.GlobalAveragePooling2D(keepdims=True)(x)
        y = keras.layers.Dense(4, "relu", name=f"{name}_squeeze")(y)
        y = keras.layers.Dense(8, "sigmoid", name=f"{name}_excite")(y)
        x = keras.layers.Multiply(name=name)([x, y])
    x = keras.layers.GlobalAveragePooling2D()(x)
    outputs = keras.layers.Dense(10, "softmax", name="predictions")(x)
    return keras.Model(inputs, outputs)


def test_attention_takes_the_place_of_gates(tmp_path):
    results = compare(
        ["none", "eca"], model=with_gates, instead_of="se", output=tmp_path
    )
    rows = {row.variant: row.parameters for row in results.rows}
    plain = 80 + 584 + 90
    assert rows == {
        "original": plain + 2 * 76,
        "none": plain,
        "eca": plain + 2 * 3,
    }
    assert results.baseline == "original"
    assert content_of(tmp_path)["settings"]["instead_of"] == "se"
    masks = study.Segmentation(np.zeros((2, 8, 8, 1)), np.zeros((2, 8, 8)))
    with pytest.raises(ValueError, match="`instead_of` must be left out"):
        comparison.plan(["skip-se"], task=masks, instead_of="se")


def test_all_is_no_attention_and_every_kind(tmp_path):
    def of_volumes(attention):
        inputs = keras.Input((28, 28, 1))
        x = keras.layers.Reshape((7, 4, 7, 4))(inputs)
        x = attention(name="gate")(x) if attention else x
        x = keras.layers.GlobalMaxPooling3D()(x)
        return keras.Model(inputs, keras.layers.Dense(10, "softmax")(x))

    with pytest.raises(ValueError, match="takes inputs of rank 4") as raised:
        compare("all", model=of_volumes, output=tmp_path)
    assert 'of the variant "triplet"' in raised.value.__notes__[0]
    assert not list(tmp_path.iterdir())
    kinds = attention_layers(["all", keras.layers.ReLU])
    assert [*kinds] == ["none", *ATTENTION_KINDS, "ReLU"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_baseline_that_fails_stays_the_baseline(tmp_path):
    built = []

    def failing(attention):
        built.append(attention)
        # Each is built once before any is trained.
        if attention is None and len(built) > 2:
            raise ZeroDivisionError
        return networks.linear()

    with warned('left out: "none" with seed'):
        results = compare(model=failing, seeds=3, output=tmp_path)
    first, *others = results.rows
    assert (first.label, first.mean) == ("none", None)
    assert [row.label for row in others] == ["cbam"]
    assert not any(row.difference or row.interval for row in results.rows)
    assert (
        "A comparison with the network without attention needs another"
        in results.verdict
    )
    assert results.to_dataframe()["difference"].isna().all()
    (axes,) = results.plot().axes
    assert "mean of the baseline" not in axes.get_legend_handles_labels()[1]


def arguments(function):
    """Returns the names, defaults and kinds of arguments."""
    parameters = inspect.signature(function).parameters.values()
    return [(x.name, x.default, x.kind) for x in parameters]


@pytest.mark.parametrize(
    ("plan", "call"),
    [
        (comparison.plan, comparison.compare),
        (tuning.Search, tuning.search),
    ],
    ids=lambda function: function.__name__,
)
def test_a_call_takes_the_arguments_of_its_plan_and_of_a_run(plan, call):
    planned = arguments(plan)
    assert arguments(call)[: len(planned)] == planned
    names = ["command", "on_end"]
    of_run = [x for x in arguments(study.run)[1:] if x[0] not in names]
    assert [x[:2] for x in arguments(call)[len(planned) :]] == [
        x[:2] for x in of_run
    ]


def test_the_options_of_a_run_are_its_arguments():
    _, *of_run = [(name, x) for name, x, _ in arguments(study.run)]
    options = [(name, x) for name, x, _ in arguments(study.RunOptions)]
    assert options == of_run


# From a pretrained network.

PRETRAINED = {"model": "Net", "weights": "imagenet"}


def searched(**options):
    """Returns the trials of a search from a pretrained network."""
    hypermodel = tuning.CBAMHyperModel(**PRETRAINED)
    return tuning.Search(hypermodel, **options).trials


@pytest.fixture
def asked(monkeypatch):
    """Returns with which weights a pretrained network is asked for."""
    asked = []

    def build(weights, **options):
        asked.append(weights)
        return networks.application(weights, **options)

    monkeypatch.setitem(models.PRETRAINED, "Net", build)
    return asked


@pytest.mark.parametrize("frozen_epochs", [None, 1, 0])
@pytest.mark.parametrize(
    "plan",
    [
        functools.partial(comparison.plan, **PRETRAINED),
        searched,
    ],
)
def test_a_pretrained_network_is_fine_tuned(asked, plan, frozen_epochs):
    recipe = training.RECIPES["fine-tuning"]
    given = {}
    if frozen_epochs is not None:
        recipe = dataclasses.replace(recipe, frozen_epochs=frozen_epochs)
        given = {"recipe": recipe}
    planned = plan(data="mnist5k", **given)
    assert planned.recipe == recipe
    # A run with others is not resumed.
    assert planned.settings["weights"] == "imagenet"
    images = planned.task.load(SHORT)
    own = {"conv"} if recipe.frozen_epochs == 0 else set()
    for variant, gates in zip(
        planned.variants[:2], ({}, {"bn_attention"}), strict=True
    ):
        network = variant.build(images)
        names = {x.path.split("/")[0] for x in network.trainable_variables}
        assert names == {"predictions", *own, *gates}
    assert {*asked} == {"imagenet"}


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    "run",
    [
        functools.partial(comparison.compare, **PRETRAINED, seeds=2),
        lambda **given: tuning.search(
            tuning.CBAMHyperModel(**PRETRAINED), **given
        ),
    ],
)
def test_a_network_that_cannot_be_had_is_reported_once(
    monkeypatch, tmp_path, run, overwrite
):
    asked = []

    def offline(**options):
        asked.append(options["weights"])
        raise Exception("URL fetch failure")

    monkeypatch.setitem(models.PRETRAINED, "Net", offline)
    options = {"output": tmp_path / "run", "overwrite": overwrite}
    with pytest.raises(ValueError, match="download.*28, 28, 1.*URL fetch"):
        run(data="mnist5k", **options)
    assert asked == ["imagenet"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"model": "mobilenetv2", "weights": "imagenet"},
            "`weights` must be None unless.* VGG16, .*'mobilenetv2'",
        ),
        (
            {"model": "resnet18", "weights": "imagenet"},
            "'resnet18', weights='imagenet'$",
        ),
        ({"recipe": "fine-tuning"}, "for random weights"),
        ({"model": "vgg16"}, 'one of "tiny", .*vgg16'),
        ({"model": "Xception", "data": "mnist5k"}, "at least 71x71"),
        ({"attentions": ["se", "se"]}, "one or several different kinds"),
        ({"data": "mnist5"}, "there is no folder"),
        ({"recipe": "fast"}, '`recipe` must be one of "default"'),
        (
            {"attentions": ["none", "se"], "layer_options": {"kernel_size": 3}},
            "`kernel_size` must be an argument.*attention=.'none', 'se'.",
        ),
    ],
)
def test_compare_refuses_mistakes_before_any_work(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        comparison.compare(**options, output=tmp_path / "run")
    assert not (tmp_path / "run").exists()
