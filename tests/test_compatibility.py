"""The table in docs/compatibility.md, a test for each of its cells.

A cell fits a network with CBAM, evaluates, predicts, saves, loads, and
predicts the same. With `COMPATIBILITY=FOLDER` in the environment, networks
are stored there, and those that other backends stored there are loaded:
`nox -s compatibility` runs the backends by turns.
"""

import itertools
import os
import pathlib
import re

import keras
import numpy as np
import pytest
from keras import layers
from training_checks import NHWC, NO_CONVOLUTION, lacks_bfloat16

from cbam_keras import CBAM

BACKEND = keras.backend.backend()
NAMES = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}
PAGE = pathlib.Path(__file__).parent.parent / "docs" / "compatibility.md"

POLICIES = ("float32", "mixed_float16", "mixed_bfloat16", "float64")
MODES = ("eager", "compiled")
FIRST = "channels_first"
FORMATS = ("channels_last", FIRST)
# What the usual tests run, in the mode that is fast: under JAX, eager
# operations are compiled one by one.
FAST = "compiled" if BACKEND == "jax" else "eager"
USUAL = ("mixed_bfloat16", FAST, FIRST)
# The messages of the errors that the numbers of the page explain.
LIMITATIONS = {"no (1)": NHWC, "yes (4)": NHWC}
# The rounding of each policy, of outputs of about 1. XLA's convolution in
# channels_first under TensorFlow is off by 1e-4 in float64, 1e-3 in float32.
FLOAT32 = 1e-3 if BACKEND == "tensorflow" else 1e-5
TOLERANCES = {"float32": FLOAT32, "float64": 1e-4}


def reason_of(policy, mode, data_format):
    """Returns what the page says of a cell: "yes", or why it is not."""
    text = PAGE.read_text(encoding="utf-8")
    row = rf"^\| {NAMES[BACKEND]} \| {mode} \| {data_format} \|(.*)\|$"
    (cells,) = re.findall(row, text, flags=re.M)
    return cells.split("|")[POLICIES.index(policy)].strip()


def cells():
    for cell in itertools.product(POLICIES, MODES, FORMATS):
        marks = [] if cell == USUAL else [pytest.mark.exhaustive]
        if cell[0].startswith("mixed_"):
            marks.append(pytest.mark.half_precision)
        yield pytest.param(*cell, marks=marks, id="-".join(cell))


def compiled(model, mode):
    """Compiles a model as a user would who asks for this mode."""
    model.compile(
        "sgd",
        "mse",
        run_eagerly=mode == "eager",
        jit_compile=mode == "compiled",
    )
    return model


def network(policy, data_format):
    keras.config.set_dtype_policy(policy)
    keras.config.set_image_data_format(data_format)
    shape = (8, 8, 3) if data_format == "channels_last" else (3, 8, 8)
    inputs = keras.Input(shape)
    x = layers.Conv2D(8, 3, padding="same", activation="relu")(inputs)
    x = CBAM(2, 3, spatial_batch_norm=True)(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(2, dtype="float32")(x))


def batch(data_format):
    rng = np.random.default_rng(0)
    shape = (4, 8, 8, 3) if data_format == "channels_last" else (4, 3, 8, 8)
    return rng.random(shape, "float32"), rng.random((4, 2), "float32")


def works(policy, mode, data_format, folder):
    """Returns a stored network's file and what it predicts."""
    model = compiled(network(policy, data_format), mode)
    x, y = batch(data_format)
    model.fit(x, y, batch_size=4, verbose=0)
    assert np.isfinite(model.evaluate(x, y, verbose=0))
    predicted = model.predict(x, verbose=0)
    assert np.isfinite(predicted).all()
    path = folder / f"{policy}-{mode}-{data_format}-{BACKEND}.keras"
    model.save(path)
    loaded = keras.saving.load_model(path, compile=False)
    compiled(loaded, mode)
    np.testing.assert_allclose(
        loaded.predict(x, verbose=0), predicted, atol=1e-6
    )
    return path, predicted


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("policy", "mode", "data_format"), [*cells()])
def test_a_cell(policy, mode, data_format, tmp_path, request):
    if policy == "float64":
        request.getfixturevalue("float64")
    shared = os.environ.get("COMPATIBILITY")
    folder = pathlib.Path(shared) if shared else tmp_path
    expected = reason_of(policy, mode, data_format)
    if expected == "yes (3)" and lacks_bfloat16(data_format):
        # The network's convolution fails, in oneDNN or TensorFlow's own.
        message = f"{NO_CONVOLUTION}|{NHWC}"
        request.applymarker(
            pytest.mark.xfail(
                raises=pytest.RaisesExc(Exception, match=message),
                reason="this CPU has no convolution in bfloat16",
                strict=True,
            )
        )
    if expected == "not run":
        pytest.skip("docs/compatibility.md says that it was not run")
    if not expected.startswith("yes") or expected in LIMITATIONS:
        # Another library may lift its limitation: then change the page.
        error = pytest.RaisesExc(Exception, match=LIMITATIONS[expected])
        request.applymarker(
            pytest.mark.xfail(
                raises=error, reason=f"the page says {expected}", strict=False
            )
        )
    path, predicted = works(policy, mode, data_format, folder)
    np.save(path.with_suffix(".npy"), predicted)
    # The folder may hold networks of other backends.
    for other in folder.glob(f"{policy}-{mode}-{data_format}-*.keras"):
        model = keras.saving.load_model(other, compile=False)
        found = compiled(model, mode).predict(batch(data_format)[0], verbose=0)
        np.testing.assert_allclose(
            found,
            np.load(other.with_suffix(".npy")),
            atol=TOLERANCES.get(policy, 2e-2),
        )
