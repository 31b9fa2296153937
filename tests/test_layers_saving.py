"""Models saved in one process load in a fresh one."""

import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
from layer_checks import LAYERS, REFERENCE, model_of
from saved_model_script import save

from cbam_keras import CBAM

SCRIPT = pathlib.Path(__file__).with_name("saved_model_script.py")


def load_in_a_fresh_process(folder, **environment):
    result = subprocess.run(
        [sys.executable, str(SCRIPT), str(folder)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr


def test_registered_names_are_those_in_the_files_of_users():
    names = [keras.saving.get_registered_name(layer) for layer in LAYERS]
    expected = (
        "BAM CBAM ChannelAttention CoordinateAttention "
        "EfficientChannelAttention GlobalContext SCSE SimAM SpatialAttention "
        "SqueezeExcite TripletAttention"
    ).split()
    assert sorted(names) == [f"cbam_keras>{x}" for x in expected]


def prelu():
    activation = keras.layers.PReLU()
    activation.build((None, 1))
    return activation


@pytest.mark.parametrize(
    "saved, loading, message",
    [
        ({"spatial_batch_norm": True}, {}, "no `batch_norm`.* 4 variables"),
        ({}, {"spatial_batch_norm": True}, "expected 4 variables"),
        ({"activation": prelu()}, {}, "no `activation`.* 1 variables"),
    ],
    ids=["norm", "no-norm", "activation"],
)
def test_weights_of_a_variant_with_other_variables_are_refused(
    saved, loading, message, tmp_path
):
    path = tmp_path / "model.weights.h5"
    model_of(CBAM(4, 3, **saved)).save_weights(path)
    with pytest.raises(ValueError, match=message):
        model_of(CBAM(4, 3, **loading)).load_weights(path)
    # The file itself is sound.
    model_of(CBAM(4, 3, **saved)).load_weights(path)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with a model saved by the backend under test."""
    folder = tmp_path_factory.mktemp("saved")
    keras.utils.set_random_seed(0)
    save(folder)
    return folder


@pytest.mark.every_backend
@pytest.mark.slow
@pytest.mark.parametrize(
    "backend", sorted({"tensorflow", keras.backend.backend()})
)
def test_saved_models_load_in_a_fresh_process(saved, backend):
    load_in_a_fresh_process(saved, KERAS_BACKEND=backend)
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
        assert keras.backend.backend() == "torch" != backend
    # A file of version 0.1.0.
    found = np.load(saved / f"old-by-{backend}.npz")
    expected = np.load(REFERENCE / "saved_by_0.1.0_io.npz")
    np.testing.assert_allclose(found["outputs"], expected["outputs"], atol=1e-5)
    assert found["optimizer"] == "MomentumSGD"
    assert found["iterations"] == expected["iterations"] == 2
    assert found["momentum"] > 0
    assert found["next"] == 3


@pytest.mark.gpu
def test_file_saved_on_a_gpu_loads_without_one(tmp_path):
    save(tmp_path)
    load_in_a_fresh_process(
        tmp_path, CUDA_VISIBLE_DEVICES="", JAX_PLATFORMS="cpu"
    )
    name = f"loaded-by-{keras.backend.backend()}.npz"
    np.testing.assert_allclose(
        np.load(tmp_path / name)["predicted"],
        np.load(tmp_path / "saved.npy"),
        atol=1e-3,
    )
