"""Small networks, recipes and data for the tests of training."""

import functools
import re

import keras
import pytest

from cbam_keras import explain
from cbam_keras.study.programs.training import Recipe

KEYS = ("loss", "accuracy", "val_loss", "val_accuracy")
# 70 training images, so five steps per epoch, the last one incomplete.
SMALL = Recipe(epochs=3, batch_size=16)
SHORT = Recipe(epochs=1, batch_size=35)


# How the error of oneDNN begins.
NO_CONVOLUTION = "could not create a"
NHWC = "only supports the NHWC tensor format on the CPU"


@functools.cache
def lacks_bfloat16(data_format="channels_last"):
    """Returns whether the backend has no convolution in bfloat16 here."""

    def run(watch):
        # Images and kernel in one, so that the gradient is that of both.
        x = watch(keras.ops.ones((3, 3, 1, 1), "bfloat16"))
        images = x
        if data_format == "channels_first":
            images = keras.ops.transpose(x, (2, 3, 0, 1))
        y = keras.ops.conv(images, x, padding="same", data_format=data_format)
        return keras.ops.sum(y), x

    try:
        gradient = explain.gradient_at(run, (3, 3, 1, 1))[1]
        # JAX computes when the values are asked for.
        keras.ops.convert_to_numpy(keras.ops.cast(gradient, "float32"))
    except Exception as error:
        assert re.search(f"{NO_CONVOLUTION}|{NHWC}", str(error))
        return True
    return False


def numbers(results):
    """Returns what a resumed run must repeat: all but the seconds."""
    rows = [*results.history, *(run.metrics for run in results.runs)]
    return [row[key] for row in rows for key in row if key != "seconds"]


def close(results, atol=1e-6):
    return [
        pytest.approx(value, abs=atol) if isinstance(value, float) else value
        for value in numbers(results)
    ]
