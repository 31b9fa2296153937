"""Reading a Keras graph, and images refused in one wording by all takers."""

import re

import keras
import numpy as np
import pytest
from explain_checks import images, tiny
from keras import layers

from cbam_keras import AttentionMonitor, explain, insert_attention, plotting


def test_a_keras_that_records_graphs_otherwise_is_reported():
    x = keras.Input((8, 8, 3))
    model = keras.Model(x, layers.Conv2D(4, 3)(x))
    # Keras has no public interface to it.
    del model.outputs[0]._keras_history
    with pytest.raises(ImportError, match="This needs `_keras_history`") as e:
        insert_attention(model)
    assert f"keras {keras.__version__}, which lacks it" in str(e.value)


def monitor(x):
    watching = AttentionMonitor(x)
    watching.set_model(tiny())
    watching.on_train_begin()


# `test_explain_errors.py` has the other wrong images.
@pytest.mark.parametrize(
    "take",
    [
        lambda x: explain.grad_cam(tiny(), x),
        lambda x: plotting.plot_grad_cam(x, {}),
        lambda x: plotting.plot_attention_maps(x, {}),
        monitor,
    ],
    ids=["grad_cam", "plot_grad_cam", "plot_attention_maps", "monitor"],
)
def test_wrong_images_have_one_message(take):
    x = images(2, 8, 8, 3)
    x[0, 0, 0] = np.nan
    message = "`images` must be finite numbers. Received: 3 that are NaN or inf"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        take(x)
