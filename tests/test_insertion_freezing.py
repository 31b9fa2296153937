"""Batch normalization of a trained network is left as it is in fine-tuning."""

import keras
import numpy as np
import pytest
from layer_checks import random_input, to_numpy

from cbam_keras import CBAM, freeze_batch_norm

pytestmark = pytest.mark.every_backend


def test_averages_of_a_nested_backbone_do_not_change():
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3)(image)
    x = keras.layers.BatchNormalization(name="inner")(x)
    x = CBAM(2, spatial_batch_norm=True, name="gate")(x)
    backbone = keras.Model(image, x, name="backbone")
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.BatchNormalization(name="outer")(inputs)
    x = keras.layers.GlobalAveragePooling2D()(backbone(x))
    model = keras.Model(inputs, keras.layers.Dense(2)(x))
    model.trainable = False
    model.trainable = True
    assert freeze_batch_norm(model) == 2
    model.compile("sgd", loss="mse")
    gate = backbone.get_layer("gate").spatial_attention.batch_norm
    layers = [model.get_layer("outer"), backbone.get_layer("inner"), gate]

    def averages():
        return [to_numpy(layer.moving_mean).copy() for layer in layers]

    before = averages()
    model.fit(random_input((8, 8, 8, 3)), np.zeros((8, 2)), verbose=0)
    changed = [
        bool((a != b).any()) for a, b in zip(before, averages(), strict=True)
    ]
    assert changed == [False, False, True]
