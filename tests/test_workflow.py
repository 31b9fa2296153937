"""From end to end: a network gets attention, is trained, saved and seen."""

import keras
import numpy as np
import pytest
from keras import layers

import cbam_keras
from cbam_keras import explain, plotting

pytestmark = pytest.mark.slow


def _pretrained():
    """A network of one's own around another, with its head."""
    inner = inputs = keras.Input((32, 32, 3))
    for block, filters in enumerate((8, 12), 1):
        inner = layers.Conv2D(filters, 3, 2, name=f"conv{block}")(inner)
        inner = layers.BatchNormalization(name=f"bn{block}")(inner)
        inner = layers.ReLU(name=f"relu{block}")(inner)
    inner = layers.GlobalAveragePooling2D()(inner)
    backbone = keras.Model(inputs, inner, name="backbone")
    inputs = keras.Input((32, 32, 3), name="photo")
    x = layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    outputs = layers.Dense(3, activation="softmax")(backbone(x))
    return keras.Model(inputs, outputs, name="pretrained")


@pytest.mark.every_backend
def test_attention_is_inserted_trained_saved_loaded_and_seen(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), "uint8")
    labels = np.arange(8) % 3
    model = cbam_keras.insert_attention(_pretrained(), after="bn1")
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(images.astype("float32"), labels, verbose=0)
    model.save("new.keras")
    loaded = keras.saving.load_model("new.keras", compile=False)
    (name,) = maps = explain.attention_maps(loaded, images)
    expected = explain.attention_maps(model, images)[name]
    for one, other in zip(maps[name], expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    heat = explain.grad_cam(loaded, images, labels, "relu2")
    figure = plotting.plot_grad_cam(images, heat)
    assert len(figure.axes) == 2 * 8 + 1
