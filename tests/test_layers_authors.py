"""The gates other than CBAM's against stored outputs of their authors' code."""

import numpy as np
import pytest
from layer_checks import (
    FAST,
    assert_close,
    call_and_gradients,
    channels_last,
    stored,
)

from cbam_keras import (
    BAM,
    SCSE,
    CoordinateAttention,
    EfficientChannelAttention,
    GlobalContext,
    SimAM,
    TripletAttention,
    load_torch_weights,
)

pytestmark = pytest.mark.every_backend

MODULES = {
    "bam_c32": BAM(combine="multiply"),
    "eca_c24_k3": EfficientChannelAttention(),
    "coordinate_c32": CoordinateAttention(),
    "simam_c16": SimAM(),
    "scse_c16": SCSE(4),
    "gc_add_c16": GlobalContext(4),
    "gc_mul_c16": GlobalContext(4, fusion="multiply"),
    "triplet_c16": TripletAttention(),
}


@pytest.mark.parametrize("name", MODULES)
def test_a_layer_equals_the_authors_module(name):
    arrays, weights = stored(f"official_{name}")
    arrays = {key: channels_last(value) for key, value in arrays.items()}
    layer, x = MODULES[name], arrays["input"]
    if name.startswith(("eca", "simam", "triplet")):
        # Its weights do not show the number of channels.
        layer.build(x.shape)
    if weights:
        assert len(load_torch_weights(layer, weights).loaded) == len(
            layer.weights
        )
    upstream = arrays["upstream"]
    (y, *_), (gradient, *_) = call_and_gradients(
        layer, x, upstream, training=False, mode=FAST
    )
    np.testing.assert_allclose(y, arrays["output"], atol=1e-5)
    np.testing.assert_allclose(gradient, arrays["input_gradient"], atol=1e-5)
    assert_close(layer(x, training=True), arrays["training_output"], 1e-5)
