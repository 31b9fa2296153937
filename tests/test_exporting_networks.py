"""Exports beyond small float networks: the table in docs/guides/export.md."""

import keras
import numpy as np
import pytest
from keras import layers
from test_exporting import BACKEND, network, require_packages

from cbam_keras import CBAM, exporting, insert_attention, models

MAIN_FORMAT = {"tensorflow": "litert", "jax": "saved_model", "torch": "torch"}
FORMAT = MAIN_FORMAT[BACKEND]

pytestmark = pytest.mark.exhaustive


def mobilenet():
    return models.MobileNet(
        input_shape=(32, 32, 3), classes=4, alpha=0.25, attention="cbam"
    )


def mobilenet_v2():
    """Returns a network of Keras with attention inserted, and no identity."""
    base = keras.applications.MobileNetV2(
        weights=None, input_shape=(32, 32, 3), alpha=0.35, classes=4
    )
    return insert_attention(base, "cbam", identity=False)


def trained():
    """Returns a network after a training step."""
    model = network()
    model.compile("adam", ["mse", "mse"])
    images = np.ones((2, 12, 12, 3), "float32")
    targets = [np.ones((2, 10, 10, 2)), np.ones((2, 4))]
    model.fit(images, targets, verbose=0)
    return model


@pytest.mark.parametrize("make", [mobilenet, mobilenet_v2, trained])
def test_other_networks(make, tmp_path):
    require_packages(FORMAT)
    path = tmp_path / f"model{exporting.FORMATS[FORMAT].ending}"
    exported = exporting.export_model(make(), path, format=FORMAT)
    assert exported.difference < 1e-5


# Of the largest output; the gates of "full" compute in int8.
QUANTIZED = {"dynamic": 0.02, "full": 0.1}
INNER = {"dynamic": "float32", "full": "int8"}


def large_enough():
    """Returns a network whose kernels have the 1,024 values to be quantized."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((16, 16, 3))
    x = layers.Conv2D(32, 3, activation="relu")(inputs)
    x = layers.Conv2D(64, 3, activation="relu")(x)
    x = CBAM(reduction_ratio=2)(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(4)(x))


@pytest.mark.skipif(BACKEND != "tensorflow", reason="TensorFlow converts it")
@pytest.mark.parametrize("kind", QUANTIZED)
def test_quantized_litert(kind, tmp_path):
    require_packages("litert")
    import tensorflow as tf

    model = large_enough()
    images = np.random.default_rng(0).random((16, 16, 16, 3), "float32")
    expected = model.predict(images, verbose=0)
    options = {"optimizations": [tf.lite.Optimize.DEFAULT]}
    if kind == "full":
        options["representative_dataset"] = lambda: (
            [images[i : i + 1]] for i in range(16)
        )
    path = tmp_path / "model.tflite"
    model.export(path, format="litert", verbose=False, **options)
    (found,) = exporting.FORMATS["litert"].load(path)(images)
    assert 0 < np.abs(found - expected).max()
    assert np.abs(found - expected).max() < QUANTIZED[kind] * expected.max()
    # Of both gates too.
    for operation in ("CONV_2D", "LOGISTIC"):
        assert types_of_inputs(path, operation) == {INNER[kind]}
    assert path.stat().st_size < 2 * model.count_params()


def types_of_inputs(path, operation):
    """Returns the types of the first input of all operations of a kind."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    types = {
        tensor["index"]: np.dtype(tensor["dtype"]).name
        for tensor in interpreter.get_tensor_details()
    }
    return {
        types[found["inputs"][0]]
        for found in interpreter._get_ops_details()
        if found["op_name"] == operation
    }
