"""Layers as functions of their input and weights, for each backend's tests."""

import keras
import pytest
from layer_checks import (
    assert_all_close,
    built,
    fused_calls,
    random_input,
    single_operations,
    tensors,
    to_numpy,
)

from cbam_keras import CBAM

SHAPE = (2, 6, 4, 16)


def only_on(backend):
    return pytest.mark.skipif(
        backend != keras.backend.backend(),
        reason=f"is about the {backend} backend",
    )


def cbam(**options):
    return built(CBAM(4, 3, **options), SHAPE)


def call_of(layer, training=True):
    """Returns the layer as a function of its input and its weights."""

    def call(x, *weights):
        return layer.stateless_call(list(weights), [], x, training=training)[0]

    return call


def arguments(layer):
    return tensors([random_input(SHAPE), *layer.trainable_variables])


def total_of(layer, training=True):
    def total(x, *weights):
        return (call_of(layer, training)(x, *weights) ** 2).sum()

    return total


def assert_function_equals_reference(function, uses_fused=True):
    """Compares what a function returns with what single operations give."""
    with fused_calls() as calls:
        found = function()
    assert bool(calls) is uses_fused
    with single_operations():
        expected = function()
    assert_all_close(
        [to_numpy(value) for value in found],
        [to_numpy(value) for value in expected],
        1e-5,
    )
