"""What a process that has just started imports, and which files it loads."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
from fresh_process_script import save
from insertion_checks import data_for, predictions
from keras import layers
from layer_checks import LAYERS, REFERENCE, randomize
from test_imports import LABORATORY, folder

from cbam_keras.insertion import to_core
from cbam_keras.models import UNet

# All of them wait for one process.
pytestmark = pytest.mark.slow
BACKEND = keras.backend.backend()
# The marks of other backends than that under test, and those of it.
MARKS = pytest.mark.exhaustive, pytest.mark.every_backend
SCRIPT = pathlib.Path(__file__).with_name("fresh_process_script.py")


def everything():
    """Returns a network with each layer of ours, those of a U-Net too."""
    inputs = keras.Input((9, 7, 16))
    small = layers.Conv2D(8, 3, 2, padding="same", activation="relu")(inputs)
    encoder = keras.Model(inputs, layers.Conv2D(8, 3, 2)(small))
    unet = UNet(encoder, 3, attention="cbam", skip_attention="gate")
    outputs = [layer()(inputs) for layer in LAYERS]
    x = layers.Concatenate()([*outputs, unet(inputs)])
    return randomize(keras.Model(inputs, x))


def ask(saved, backend, **environment):
    """Lets a process answer all questions, and write what it finds."""
    done = subprocess.run(
        [sys.executable, SCRIPT, saved],
        env={**os.environ, "KERAS_BACKEND": backend, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Returns a folder of models that the backend under test has saved."""
    path = tmp_path_factory.mktemp("saved")
    keras.utils.set_random_seed(0)
    save(path)
    model = everything()
    images = data_for(model)
    np.save(path / "images.npy", images)
    np.save(path / "expected.npy", predictions(model, images)[0])
    to_core(model).save(path / "core.keras")
    return path


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(x, marks=MARKS[x == BACKEND])
        for x in ("tensorflow", "jax", "torch")
    ],
)
def backend(request, saved):
    """Returns a backend of which all answers are written."""
    if importlib.util.find_spec(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    ask(saved, request.param)
    return request.param


def test_importing_the_package_loads_nothing_more_than_keras_does(
    saved, backend
):
    written = (saved / f"imports-by-{backend}.json").read_text()
    more, has_tensorflow = json.loads(written)
    roots = {name.split(".")[0] for name in more} - set(sys.stdlib_module_names)
    assert roots - {"_cbam_keras_command"} == {"cbam_keras"}
    loaded = {folder(name) for name in more if name.startswith("cbam_keras.")}
    assert loaded.isdisjoint(LABORATORY)
    # Nor does what trains import it under other backends.
    assert has_tensorflow == (backend == "tensorflow")


def test_a_rewritten_network_loads_where_our_package_is_missing(saved, backend):
    expected = np.load(saved / "expected.npy")
    loaded = np.load(saved / f"core-by-{backend}.npy")
    scale = np.abs(expected).max()
    # Other kernels of a backend round differently, and a softmax enlarges it.
    np.testing.assert_allclose(loaded, expected, rtol=0, atol=2e-5 * scale)


def test_saved_models_load(saved, backend):
    loaded = np.load(saved / f"loaded-by-{backend}.npz")
    expected = np.load(saved / "saved.npy")
    # Backends order their sums differently: float32 rounding.
    np.testing.assert_allclose(loaded["predicted"], expected, atol=1e-5)
    np.testing.assert_allclose(loaded["from_weights"], expected, atol=1e-5)
    if "continued" in loaded:
        # With its optimizer's state, the next step is the same step.
        assert loaded["iterations"] == 3
        continued = np.load(saved / "continued.npy")
        assert np.abs(continued - expected).max() > 1e-3
        np.testing.assert_allclose(loaded["continued"], continued, atol=1e-3)
    else:
        assert BACKEND == "torch" != backend


def test_a_file_of_version_0_1_0_loads_and_trains(saved, backend):
    found = np.load(saved / f"old-by-{backend}.npz")
    expected = np.load(REFERENCE / "saved_by_0.1.0_io.npz")
    np.testing.assert_allclose(found["outputs"], expected["outputs"], atol=1e-5)
    assert found["optimizer"] == "MomentumSGD"
    assert found["iterations"] == expected["iterations"] == 2
    assert found["momentum"] > 0
    assert found["next"] == 3


def test_gradients_stay_right_where_xla_computes_features_again(saved, backend):
    for gradient, difference in np.load(
        saved / f"slopes-by-{backend}.npz"
    ).values():
        np.testing.assert_allclose(gradient, difference, rtol=1e-4)


@pytest.mark.gpu
def test_a_file_saved_on_a_gpu_loads_without_one(saved):
    ask(saved, BACKEND, CUDA_VISIBLE_DEVICES="", JAX_PLATFORMS="cpu")
    np.testing.assert_allclose(
        np.load(saved / f"loaded-by-{BACKEND}.npz")["predicted"],
        np.load(saved / "saved.npy"),
        atol=1e-3,
    )
