"""Each text that the page on troubleshooting quotes really appears."""

import errno
import re
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest
from test_docs_pages import ROOT

from cbam_keras import CBAM, _run_folder, data, insert_attention, models
from cbam_keras.layers import ChannelAttention
from cbam_keras.training.networks import check_averages

TEXT = (ROOT / "docs/troubleshooting.md").read_text()
HEADINGS = re.findall(r"^## (?!Without an error)(.*)$", TEXT, flags=re.M)


def loaded_elsewhere(folder):
    inputs = keras.Input((8, 8, 4))
    keras.Model(inputs, CBAM(2)(inputs)).save(folder / "model.keras")
    code = (
        "import keras, sys; sys.modules['cbam_keras'] = None; "
        "keras.saving.load_model('model.keras')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True
    )
    raise RuntimeError(done.stderr)


def named_twice(folder):
    inputs = keras.Input((8, 8, 4))
    x = CBAM(2, name="attention")(inputs)
    keras.Model(inputs, CBAM(2, name="attention")(x))


def of_keras_2(folder):
    CBAM()(type("Tensor", (), {"__module__": "tf_keras.src"})())


def cut_short(folder):
    (folder / "cut.weights.h5").write_bytes(b"\x89HDF")
    models.ResNet18(input_shape=(32, 32, 3), weights=folder / "cut.weights.h5")


def disk_full(folder):
    with _run_folder.RunFolder(folder, {}).opened():
        raise OSError(errno.ENOSPC, "No space left on device")


def few_steps(folder):
    inputs = keras.Input((4,))
    x = keras.layers.BatchNormalization(momentum=0.9)(inputs)
    check_averages(keras.Model(inputs, x), 2, 4)


def other_settings(folder):
    for seed in (0, 1):
        with _run_folder.RunFolder(folder, {"seed": seed}).opened():
            pass


def retraced(folder):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("TensorFlow is not the backend")
    import tensorflow as tf

    messages = []
    tf.get_logger().addFilter(keep := lambda r: messages.append(r.getMessage()))
    function = tf.function(lambda x: x)
    for number in range(8):
        function(number)
    tf.get_logger().removeFilter(keep)
    raise RuntimeError("".join(messages))


def quantized(folder):
    inputs = keras.Input((8, 8, 4))
    keras.Model(inputs, ChannelAttention(2)(inputs)).quantize("int8")


PROVOKED = {
    "Could not locate class 'CBAM'": loaded_elsewhere,
    'The name "attention" is used 2 times in the model': named_twice,
    "needs a known channel axis": lambda folder: CBAM()(
        keras.Input((8, 8, None))
    ),
    "takes inputs of rank 3, 4 or 5": lambda folder: CBAM()(keras.Input((8,))),
    "is of Keras 2, and Keras 3 is needed": of_keras_2,
    "must be a functional keras.Model": lambda folder: insert_attention(
        keras.layers.Dense(1)
    ),
    "must be a complete file written by Keras": cut_short,
    "can no longer be written to": disk_full,
    "The averages of batch normalization": few_steps,
    "Labels must be of shape (N,) or (N, 1)": lambda folder: data.load(
        (np.zeros((9, 8, 8, 3)), np.eye(9))
    ),
    "must be resumed with the settings it was started with": other_settings,
    "triggered tf.function retracing": retraced,
    "does not have a `quantize` method implemented": quantized,
}


def test_every_text_is_provoked():
    assert HEADINGS == list(PROVOKED)


@pytest.mark.parametrize("text", PROVOKED)
def test_the_text_appears(text, tmp_path, monkeypatch):
    monkeypatch.setattr(_run_folder.RunFolder, "kind", "run", raising=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        with pytest.raises(Exception, match=re.escape(text)):
            PROVOKED[text](tmp_path)


def test_the_share_of_the_initial_averages_is_counted():
    assert f"{0.9**8:.0%}".replace("%", " %") in TEXT


def test_the_share_of_the_gates_is_counted():
    plain = models.ResNet50().count_params()
    with_gates = models.ResNet50(attention="cbam").count_params()
    share = 1 - plain / with_gates
    assert f"in ResNet50 they hold {100 * share:.0f} % of the weights" in TEXT
