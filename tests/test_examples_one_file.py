"""The file to copy computes what `CBAM()` does, without us."""

import pathlib
import re

import keras
import layer_checks as checks
import pytest
from layer_checks import assert_all_close, assert_close, output, random_input

from cbam_keras import CBAM, insertion
from examples.one_file import cbam

SHAPE = (2, 7, 5, 24)
# Ours keeps both kernels of the MLP before its biases.
ORDER = [0, 2, 1, 3, 4]


def pair(shape=SHAPE, **options):
    """Returns our layer with random weights, and the copied one with them."""
    ours = checks.built(CBAM(**options), shape)
    copied = cbam.CBAM(**options)
    copied.build(shape)
    copied.set_weights([ours.get_weights()[i] for i in ORDER])
    return ours, copied


@pytest.mark.every_backend
@pytest.mark.parametrize(
    "options", [{}, {"reduction_ratio": 5, "kernel_size": 3}], ids=str
)
def test_outputs_and_gradients_are_those_of_ours(options):
    layers = pair(**options)
    inputs = random_input(SHAPE), random_input(SHAPE, seed=1)
    expected, found = (
        checks.call_and_gradients(
            checks.model_of(layer, SHAPE[1:]), *inputs, mode=checks.FAST
        )
        for layer in layers
    )
    assert_all_close(found[0], expected[0], 1e-6)
    x, *weights = expected[1]
    weights = [weights[i] for i in ORDER]
    assert_all_close(found[1], [x, *weights], 1e-5)


@pytest.mark.every_backend
@pytest.mark.half_precision
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_sums_of_half_precision_do_not_overflow(policy):
    # Their sum over positions is beyond float16.
    x = 30 + random_input((2, 64, 64, 16))
    ours, copied = pair(x.shape, dtype=policy)
    assert {weight.dtype for weight in copied.weights} == {"float32"}
    found, expected = output(copied, x), output(ours, x)
    assert found.dtype == expected.dtype
    assert_all_close([found], [expected], 1e-2)


@pytest.mark.every_backend
def test_it_is_saved_loaded_and_needs_keras_alone(tmp_path):
    layer = pair(reduction_ratio=4, kernel_size=5)[1]
    model = checks.model_of(layer, (None, None, SHAPE[-1]))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded.layers[-1]) is cbam.CBAM
    assert loaded.layers[-1].get_config() == layer.get_config()
    x = random_input(SHAPE)
    assert_close(output(loaded, x), output(layer, x), 1e-6)
    code = pathlib.Path(cbam.__file__).read_text()
    assert {*re.findall(r"^(?:import|from) (\w+)", code, re.M)} == {"keras"}
    assert len(code.splitlines()) <= 70


def test_it_is_adopted_as_ours():
    model = checks.model_of(pair(reduction_ratio=4)[1], SHAPE[1:])
    adopted, report = insertion.adopt(model)
    assert [row.adopted for row in report.rows] == [True]
    assert type(adopted.layers[-1]) is CBAM
