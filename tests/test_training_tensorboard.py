"""Logs of a training for TensorBoard."""

import dataclasses
import io

import keras
import numpy as np
import pretended
import pytest
from PIL import Image
from training_checks import SHORT, resnet

from cbam_keras import training

pytest.importorskip("tensorboard", reason="reads the logs")
pytestmark = [
    pytest.mark.usefixtures("few_digits"),
    pytest.mark.skipif(
        keras.backend.backend() != "tensorflow", reason="TensorBoard is its"
    ),
]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    pretended.install(monkeypatch)


# The pretended weights are alike.
@pytest.mark.filterwarnings("ignore:The .* gate of layer:UserWarning")
def test_logs_for_tensorboard_hold_curves_and_gates(tmp_path):
    from tensorboard.backend.event_processing import event_accumulator

    training.train(
        {"cbam": resnet},
        "mnist5k",
        dataclasses.replace(SHORT, epochs=7),
        output=tmp_path / "run",
        tensorboard=True,
    )
    folder = tmp_path / "run" / "tensorboard" / "cbam"
    events = event_accumulator.EventAccumulator(str(folder / "train"))
    events.Reload()
    tags = events.Tags()["tensors"]
    assert "epoch_loss" in tags
    assert any(tag.endswith("/channel_mean") for tag in tags)
    pictures = event_accumulator.EventAccumulator(str(folder / "attention"))
    pictures.Reload()
    drawn = pictures.Tensors("attention")
    assert [picture.step for picture in drawn] == [0, 5, 6]
    # Width, height, and a PNG file for the only image.
    width, _, png = drawn[-1].tensor_proto.string_val
    assert Image.open(io.BytesIO(png)).width == int(width) > 100
    # The history is of the recipe alone.
    assert "channel" not in (tmp_path / "run" / "history.csv").read_text()


def test_gates_that_cannot_be_drawn_do_not_end_the_training(
    tmp_path, monkeypatch
):
    gates = np.full((3, 4), np.nan), None
    monkeypatch.setattr(
        "cbam_keras.explain.attention_maps", lambda *_: {"gate": gates}
    )
    said = []
    monkeypatch.setattr("cbam_keras._checks.warn", said.append)
    results = training.train(
        {"cbam": resnet},
        "mnist5k",
        SHORT,
        output=tmp_path / "run",
        tensorboard=True,
    )
    assert len(results.runs) == 1
    assert "The attention is not drawn for TensorBoard" in said[-1]
