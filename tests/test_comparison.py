"""One network without and with attention, under equal conditions."""

import dataclasses
import functools
import inspect
import json
import math

import keras
import numpy as np
import pytest
from training_checks import SHORT

from cbam_keras import comparison, data, models, training
from cbam_keras.models import by_name

pytestmark = pytest.mark.usefixtures("few_digits")


def _small_is_tiny(patch):
    """Puts a network of a few hundred parameters in place of "small"."""
    build = functools.partial(
        models.ResNet, (1,), block="basic", widths=(4,), stem_width=4
    )
    patch.setitem(
        by_name.NETWORKS,
        "small",
        functools.partial(by_name._network, build),
    )


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compared")
    with pytest.MonkeyPatch.context() as patch:
        _small_is_tiny(patch)
        patch.chdir(folder)
        results = comparison.compare(
            images="mnist5k",
            recipe=SHORT,
            layer_options={"reduction_ratio": 2, "kernel_size": 3},
        )
    return dataclasses.replace(results, output=folder / results.output)


def test_compare_trains_none_se_and_cbam(compared):
    assert [run.network for run in compared.runs] == ["none", "se", "cbam"]
    assert [run.file for run in compared.runs] == [
        "none.keras",
        "se.keras",
        "cbam.keras",
    ]


def test_compare_writes_below_runs(compared):
    assert compared.output.parts[-2:] == ("runs", "train-mnist5k-small")
    assert (compared.output / "results.json").is_file()


@pytest.mark.parametrize(
    ("network", "kind", "options"),
    [
        ("se", "SqueezeExcite", {"reduction_ratio": 2}),
        ("cbam", "CBAM", {"reduction_ratio": 2, "kernel_size": 3}),
    ],
    ids=["se", "cbam"],
)
def test_each_layer_gets_the_options_it_takes(compared, network, kind, options):
    model = keras.saving.load_model(compared.output / f"{network}.keras")
    layer = model.get_layer("stage1_block1_attention")
    assert type(layer).__name__ == kind
    assert layer.get_config().items() >= options.items()


def test_none_has_no_attention(compared):
    model = keras.saving.load_model(compared.output / "none.keras")
    names = [layer.name for layer in model.layers]
    assert not any("attention" in name for name in names)


def test_networks_of_a_comparison_scale_their_images(compared):
    model = keras.saving.load_model(compared.output / "none.keras")
    assert model.get_layer("rescale").scale == pytest.approx(1 / 255)


def test_compare_writes_its_settings(compared):
    content = json.loads((compared.output / "results.json").read_text())
    settings = content["settings"]
    assert settings["model"] == "small"
    assert settings["layer_options"] == {"reduction_ratio": 2, "kernel_size": 3}
    assert settings["networks"] == ["none", "se", "cbam"]


def test_compare_resumes(compared, monkeypatch):
    _small_is_tiny(monkeypatch)
    call = {
        "images": "mnist5k",
        "recipe": SHORT,
        "output": compared.output,
    }
    options = {"reduction_ratio": 2, "kernel_size": 3}
    assert comparison.compare(**call, layer_options=options) == compared
    with pytest.raises(ValueError, match="layer_options.kernel_size was 3"):
        comparison.compare(**call, layer_options={**options, "kernel_size": 5})


@pytest.mark.parametrize(
    ("model", "parameters"),
    # With a classifier of 10 classes on one grey channel and a 3x3 stem.
    [("small", 77754), ("resnet18", 11172810)],
)
def test_models_are_built_for_the_data(model, parameters):
    images = data.load("mnist5k")
    network = by_name.NETWORKS[model](images, None)
    assert network.input_shape == (None, 28, 28, 1)
    assert network.output_shape == (None, 10)
    assert parameters == sum(
        math.prod(weight.shape) for weight in network.trainable_weights
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attentions": ["cbm"]}, 'Did you mean "cbam"'),
        ({"attentions": []}, '"none", "cbam", "se", "channel", "spatial"'),
        ({"attentions": ["se", "se"]}, "each at most once"),
        ({"model": "resnet20"}, '`model` must be one of "small", "resnet18"'),
        ({"images": "mnist5"}, 'Did you mean "mnist5k"'),
        ({"recipe": "fast"}, '`recipe` must be one of "default"'),
        (
            {"data_options": {"batch_size": 8}},
            "`batch_size` is an argument of the recipe.*'batch_size': 8",
        ),
        (
            {"data_options": {"boxes": True}},
            '`data_options` must be one of "validation_fraction"',
        ),
        (
            {"data_options": {"downlod": True}},
            'Did you mean "download"',
        ),
        (
            {"layer_options": {"kernel_size": 4}},
            "`kernel_size` must be an odd positive integer",
        ),
        (
            {"layer_options": {"reduction_ratio": 0}},
            "`reduction_ratio` must be a positive integer",
        ),
        (
            {"layer_options": {"ratio": 8}},
            "`ratio` must be an argument of one of the attention layers",
        ),
        (
            {"attentions": ["none", "se"], "layer_options": {"kernel_size": 3}},
            "`kernel_size` must be an argument.*attention=.'none', 'se'.",
        ),
        (
            {"attentions": "none", "layer_options": {"reduction_ratio": 8}},
            "`reduction_ratio` must be an argument of one of",
        ),
    ],
    ids=[
        "misspelt",
        "empty",
        "twice",
        "model",
        "images",
        "recipe",
        "option_of_the_recipe",
        "boxes",
        "misspelt_option",
        "even_kernel",
        "reduction_ratio",
        "unknown_option",
        "option_of_another",
        "option_of_none",
    ],
)
def test_compare_refuses_mistakes_before_any_work(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        comparison.compare(**options, output=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_data_options_must_be_a_mapping(tmp_path):
    with pytest.raises(TypeError, match="`data_options` must be a mapping"):
        comparison.compare(data_options=["download"], output=tmp_path / "run")


def test_recipe_and_data_options_decide_how_images_are_loaded(monkeypatch):
    given = {}

    def load(name, **options):
        given.update(options, name=name)
        raise KeyboardInterrupt

    # As the real one, whose arguments are checked.
    load.__signature__ = inspect.signature(data.load)
    monkeypatch.setattr(data, "load", load)
    with pytest.raises(KeyboardInterrupt):
        comparison.compare(
            images="somewhere/photographs",
            recipe=dataclasses.replace(training.RECIPES["imagenet"], seed=3),
            data_options={"download": True, "validation_fraction": 0.2},
        )
    assert given == {
        "name": "somewhere/photographs",
        "batch_size": 256,
        "seed": 3,
        "augment": ("random_resized_crop", "flip"),
        "image_size": 224,
        "download": True,
        "validation_fraction": 0.2,
    }


def test_arrays_are_compared_too(tmp_path, monkeypatch):
    _small_is_tiny(monkeypatch)
    monkeypatch.chdir(tmp_path)
    images = np.zeros((40, 8, 8, 1), "uint8")
    results = comparison.compare(
        "none", images=(images, np.arange(40) % 2), recipe=SHORT
    )
    assert results.output.parts == ("runs", "train-arrays-small")
    model = keras.saving.load_model(results.output / "none.keras")
    assert (model.input_shape, model.output_shape) == (
        (None, 8, 8, 1),
        (None, 2),
    )
