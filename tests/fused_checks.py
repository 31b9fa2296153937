"""Layers as functions of their input and weights, for each backend's tests."""

import inspect

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
from cbam_keras.layers._fused import private

BACKEND = keras.backend.backend()
ORDERS = ["channel_first", "spatial_first", "parallel"]
SHAPE = (2, 6, 4, 16)
SWAPPED = {
    "channel_pool_types": ("max", "avg"),
    "spatial_pool_types": ("max", "avg"),
}

# What functions of `private` answer where a private name is gone.
FALLBACKS = {
    "tape_may_record": False,
    "xla_compiles": True,
    "is_branch": True,
    "torch_transforms": True,
}


def skip_unless(backend):
    """Skips a whole file that is about another backend."""
    if backend != BACKEND:
        pytest.skip(f"is about the {backend} backend", allow_module_level=True)


def remove_private_name(monkeypatch, function):
    """Lets a function answer as if what it looks up were gone."""
    fallback = FALLBACKS[function]
    monkeypatch.setattr(private, function, lambda *_: fallback)


def assert_private_name_has_a_fallback(monkeypatch, function):
    """Checks that a private name exists, and the answer where it does not."""
    asked, find = [], private._find
    monkeypatch.setattr(private, "_find", lambda *names: asked.append(names))
    call = getattr(private, function)
    arguments = [None] * len(inspect.signature(call).parameters)
    assert call(*arguments) is FALLBACKS[function]
    # If it does not, the layers are right but slow: look for the new name.
    assert find(*asked[0]) is not None
    assert find("no.such.module", "name") is None
    assert find("math", "no_such_name") is None


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
