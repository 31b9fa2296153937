"""Tensors and models of Keras 2, the package `tf_keras`."""

import keras
import numpy as np
import pytest

from cbam_keras import CBAM, explain, insert_attention, profile_model


@pytest.fixture
def old():
    """Returns an object of a class that derives from one of `tf_keras`."""
    model = type("Model", (), {"__module__": "tf_keras.src.engine.training"})
    return type("Mine", (model,), {"__module__": "mine"})()


@pytest.mark.parametrize(
    "use",
    [
        lambda old: CBAM()(old),
        insert_attention,
        profile_model,
        lambda old: explain.grad_cam(old, np.zeros((1, 8, 8, 3))),
        lambda old: explain.attention_maps(old, np.zeros((1, 8, 8, 3))),
    ],
    ids=["layer", "insert", "profile", "grad_cam", "attention_maps"],
)
def test_keras_3_is_needed(old, use):
    with pytest.raises(
        TypeError,
        match="of Keras 2, and Keras 3 is needed. Received: .*mine.Mine",
    ):
        use(old)


def test_other_kinds_are_not_taken_for_keras_2():
    with pytest.raises(TypeError, match="must be a functional keras.Model"):
        insert_attention(keras.layers.Dense(1))
