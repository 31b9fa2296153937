"""Models saved in one process load in a fresh one, on every backend."""

import importlib.util
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
from layer_checks import REFERENCE

pytestmark = pytest.mark.every_backend

SCRIPT = pathlib.Path(__file__).with_name("saved_model_script.py")


def run_script(action, folder, backend):
    result = subprocess.run(
        [sys.executable, str(SCRIPT), action, str(folder)],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with a model saved by the backend under test."""
    folder = tmp_path_factory.mktemp("saved")
    run_script("save", folder, keras.backend.backend())
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_saved_model_loads_in_a_fresh_process(saved, backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    run_script("load", saved, backend)
    loaded = np.load(saved / f"loaded-by-{backend}.npz")
    expected = np.load(saved / "saved.npy")
    # Backends order their sums differently: float32 rounding.
    np.testing.assert_allclose(loaded["predicted"], expected, atol=1e-5)
    np.testing.assert_allclose(loaded["from_weights"], expected, atol=1e-5)
    if "continued" not in loaded:
        assert keras.backend.backend() == "torch" != backend
        return
    # With its optimizer's state, the next step is the same step.
    assert loaded["iterations"] == 3
    continued = np.load(saved / "continued.npy")
    assert np.abs(continued - expected).max() > 1e-3
    np.testing.assert_allclose(loaded["continued"], continued, atol=1e-3)


@pytest.mark.every_backend
def test_file_of_version_0_1_0_loads_in_a_fresh_process(tmp_path):
    run_script("load_old", tmp_path, keras.backend.backend())
    found = np.load(tmp_path / "old.npz")
    expected = np.load(REFERENCE / "saved_by_0.1.0_io.npz")
    # Backends order their sums differently: float32 rounding.
    np.testing.assert_allclose(found["outputs"], expected["outputs"], atol=1e-5)
    assert found["optimizer"] == "MomentumSGD"
    assert found["iterations"] == expected["iterations"] == 2
    assert found["momentum"] > 0
    assert found["next"] == 3


@pytest.mark.gpu
def test_saved_model_round_trip_on_a_gpu(tmp_path):
    from saved_model_script import build, images

    model = build()
    model.compile("adam", loss="sparse_categorical_crossentropy")
    x, y = images()
    model.fit(x, y, verbose=0)
    expected = model.predict(x, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    # TF32 and the order of sums on a GPU.
    np.testing.assert_allclose(
        loaded.predict(x, verbose=0), expected, atol=1e-3
    )
    loaded.fit(x, y, verbose=0)
    assert int(keras.ops.convert_to_numpy(loaded.optimizer.iterations)) == 2


@pytest.mark.gpu
def test_file_saved_on_a_gpu_loads_without_one(tmp_path):
    run_script("save", tmp_path, keras.backend.backend())
    environment = {
        **os.environ,
        "CUDA_VISIBLE_DEVICES": "",
        "JAX_PLATFORMS": "cpu",
    }
    subprocess.run(
        [sys.executable, str(SCRIPT), "load", str(tmp_path)],
        env=environment,
        check=True,
        capture_output=True,
    )
    name = f"loaded-by-{keras.backend.backend()}.npz"
    np.testing.assert_allclose(
        np.load(tmp_path / name)["predicted"],
        np.load(tmp_path / "saved.npy"),
        atol=1e-3,
    )
