"""`convolve`: both forms of the spatial gate's convolution agree."""

import keras
import numpy as np
import pytest
from keras import ops
from layer_checks import assert_all_close, call_and_gradients, random_input

from cbam_keras._fused import convolution, decorator

pytestmark = pytest.mark.every_backend


class Convolution(keras.layers.Layer):
    """Convolves with a kernel of its own."""

    def __init__(self, kernel, dilation_rate):
        super().__init__(dtype="float64")
        self.kernel = self.add_weight(
            shape=kernel.shape, initializer=keras.initializers.Constant(kernel)
        )
        self.dilation_rate = dilation_rate
        self.built = True

    def call(self, inputs, training=None):
        kernel = ops.convert_to_tensor(self.kernel)
        return convolution.convolve(inputs, kernel, self.dilation_rate)


def results(monkeypatch, widest, shape, kernel_size, dilation_rate):
    """Returns the output and the gradients, and how often rows were used."""
    used = []
    passes = decorator.backend_passes()
    by_rows = passes.convolve_by_rows
    monkeypatch.setattr(passes, "widest_rows", lambda _: widest)
    monkeypatch.setattr(
        passes, "convolve_by_rows", lambda *x: used.append(x) or by_rows(*x)
    )
    kernel = random_input((kernel_size, kernel_size, shape[-1], 1), seed=1)
    layer = Convolution(kernel, dilation_rate)
    x = random_input(shape, "float64")
    weighting = random_input((*shape[:-1], 1), "float64", seed=2)
    found = call_and_gradients(layer, x, weighting)
    monkeypatch.undo()
    return [*found[0], *found[1]], len(used)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    "shape, kernel_size, dilation_rate",
    [
        ((2, 6, 5, 2), 7, 1),
        ((1, 1, 9, 2), 3, 2),
        ((3, 4, 1, 1), 5, 1),
        ((0, 4, 3, 2), 3, 1),
        ((2, 5, 4, 3), 1, 3),
    ],
)
def test_rows_equal_the_convolution(
    monkeypatch, shape, kernel_size, dilation_rate
):
    options = shape, kernel_size, dilation_rate
    found, used = results(monkeypatch, shape[2], *options)
    expected, unused = results(monkeypatch, shape[2] - 1, *options)
    assert (used, unused) == (1, 0)
    assert_all_close(found, expected, 1e-12)


@pytest.mark.parametrize("shape", [(2, 6, 2), (1, 3, 4, 5, 2), (1, 2, 200, 2)])
def test_other_ranks_and_wide_maps_are_convolved(monkeypatch, shape):
    rank = len(shape) - 2
    kernel = ops.convert_to_tensor(random_input((3,) * rank + (2, 1)))
    maps = ops.convert_to_tensor(random_input(shape))
    expected = ops.conv(maps, kernel, padding="same")
    passes = decorator.backend_passes()
    monkeypatch.setattr(passes, "widest_rows", lambda _: 128)
    monkeypatch.setattr(passes, "convolve_by_rows", None)
    found = convolution.convolve(maps, kernel, 1)
    np.testing.assert_allclose(
        ops.convert_to_numpy(found), ops.convert_to_numpy(expected), atol=1e-6
    )


def test_maps_are_convolved_by_rows_where_that_is_faster():
    maps = ops.convert_to_tensor(random_input((2, 6, 4, 2)))
    widest = decorator.backend_passes().widest_rows(maps)
    on_cpu = not keras.config.backend() == "torch" or maps.is_cpu
    eager = 48 if keras.config.backend() == "torch" and on_cpu else 0
    assert widest == eager
