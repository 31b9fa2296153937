"""The same on a GPU as on a CPU: `python -m pytest -m gpu`."""

import keras
import numpy as np
import pytest
from layer_checks import (
    FAST,
    assert_all_close,
    call_and_gradients,
    random_input,
)

from cbam_keras import CBAM

pytestmark = pytest.mark.gpu


def images():
    return random_input((4, 14, 14, 32))


def built(**options):
    keras.utils.set_random_seed(0)
    layer = CBAM(8, 3, spatial_batch_norm=True, **options)
    layer.build((None, 14, 14, 32))
    return layer


def gradients(layer):
    """Returns the output, new statistics, and gradients, as NumPy."""
    x = images()
    outputs, found = call_and_gradients(layer, x, x**2, True, FAST)
    return [*outputs, *found]


def test_fused_gates_compute_what_a_cpu_does():
    layer = built()
    found = gradients(layer)
    with keras.device("cpu:0"):
        other = built()
        # PyTorch draws other values on a GPU.
        other.set_weights(layer.get_weights())
        expected = gradients(other)
    # TF32 has ten bits.
    assert_all_close(found, expected, 5e-3)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_computes_what_float32_does(policy):
    found = gradients(built(dtype=policy))
    expected = gradients(built())
    assert_all_close(found[:1], expected[:1], 5e-2, cast=True)
    # Where two elements round to one maximum, single gradients differ.
    for half, full in zip(found, expected, strict=True):
        assert np.abs(half - full).mean() < 0.1 * np.abs(full).mean()
