"""Each text that the page on troubleshooting quotes really appears."""

import errno
import re
import sys
import warnings

import digits
import keras
import networks
import numpy as np
import pretended
import pytest
from test_docs_pages import ROOT

from cbam_keras import CBAM, data, insert_attention, models, training

TEXT = (ROOT / "docs/troubleshooting.md").read_text()
HEADINGS = re.findall(r"^## (?!Without an error)(.*)$", TEXT, flags=re.M)


@pytest.fixture(autouse=True)
def without_training(monkeypatch):
    pretended.install(monkeypatch)
    digits.replace(digits.few, monkeypatch.setattr)


def train(output, network=networks.linear, **options):
    recipe = training.Recipe(epochs=1, **options)
    return training.train(network(), "mnist5k", recipe, output=output)


def loaded_elsewhere(folder):
    inputs = keras.Input((8, 8, 4))
    keras.Model(inputs, CBAM(2)(inputs)).save(folder / "model.keras")
    with pytest.MonkeyPatch.context() as patch:
        # As where the package was not imported.
        patch.delitem(keras.saving.get_custom_objects(), "cbam_keras>CBAM")
        patch.setitem(sys.modules, CBAM.__module__, None)
        keras.saving.load_model(folder / "model.keras")


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
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.Model, "fit", full)
        train(folder / "run")


def other_settings(folder):
    for rate in (0.1, 0.2):
        train(folder / "run", learning_rate=rate)


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
    "one-hot labels become integers": lambda folder: data.load(
        (np.zeros((9, 8, 8, 3)), np.eye(9))
    ),
    "must be resumed with the settings it was started with": other_settings,
}
# What another library says or lacks, which it may change.
THEIRS = [
    "triggered tf.function retracing",
    "does not have a `quantize` method implemented",
]


def test_every_text_is_provoked():
    assert HEADINGS == [*PROVOKED, *THEIRS]


@pytest.mark.parametrize("text", PROVOKED)
def test_the_text_appears(text, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        # Of each, the kind of error is for the reader to see.
        with pytest.raises(Exception, match=re.escape(text)):
            PROVOKED[text](tmp_path)


def test_the_share_of_the_initial_averages_is_counted():
    assert f"{0.9**8:.0%}".replace("%", " %") in TEXT
