"""How Keras records a graph, which has no public interface."""

import keras
import pytest
from keras import layers

from cbam_keras import insert_attention


def test_a_keras_that_records_graphs_otherwise_is_reported():
    x = keras.Input((8, 8, 3))
    model = keras.Model(x, layers.Conv2D(4, 3)(x))
    del model.outputs[0]._keras_history
    with pytest.raises(ImportError, match="This needs `_keras_history`") as e:
        insert_attention(model)
    assert f"keras {keras.__version__}, which lacks it" in str(e.value)
