"""Changes of Keras 3 for source of Keras 2: each is optional, and named."""

import os
import subprocess
import sys

import pytest

from cbam_keras.recognition.reports import not_analyzed
from cbam_keras.recognition.source.process import _name_failed

SCRIPT = """
import keras
from cbam_keras.recognition.source import keras_2

def fail():
    raise AttributeError("gone")

keras_2._change_shapes = fail
print(keras_2.install(), hasattr(keras.layers, "core"))
"""


@pytest.mark.slow
def test_a_change_that_keras_lacks_is_named_and_stops_no_other():
    # Keras stays changed, so another process is.
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    words = ["shapes of symbolic tensors with `as_list`"]
    assert ended.stdout.strip() == f"{words} True"


def test_what_is_not_analyzed_names_what_keras_lacks():
    row = not_analyzed("a.py", "it fails", "a.py")
    named = _name_failed(row, ["eager `tf.function`s"])
    assert named.verdict.endswith(" lacks eager `tf.function`s)")
    assert named.state == row.state
    assert _name_failed(row, []) == row
