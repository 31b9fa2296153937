"""KerasHub's detector with what it does wrong worked around."""

import subprocess
import sys
import types

import keras
import numpy as np
import pytest
from detection_checks import tiny_backbone
from layer_checks import to_numpy

from cbam_keras import detection, study, training
from cbam_keras.detection.batches import PADDING

keras_hub = pytest.importorskip("keras_hub", reason="needs KerasHub")
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    # Of very few steps.
    pytest.mark.filterwarnings("ignore:Only .* of the boxes:UserWarning"),
]
# Under JAX each operation would be compiled alone, which takes longer.
EAGERLY = keras.backend.backend() != "jax"


@pytest.fixture(scope="module")
def scenes(few_digits):
    return detection.load_data(batch_size=8)


def build(scenes, **options):
    from cbam_keras.detection import detector

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(detection.BACKBONES, "small", tiny_backbone)
        # So little training finds nothing at any higher confidence.
        patch.setattr("cbam_keras.detection.detector.CONFIDENCE", 0.001)
        recipe = training.Recipe(
            epochs=3, batch_size=8, learning_rate=1e-3, **options
        )
        task = detection.Detection("digit_scenes")
        loaded = task.load(recipe)
        made = study.build_seeded(
            lambda: detector.build_detector("small", None, loaded), recipe
        )
        task.compile(made, recipe, loaded)
    made.run_eagerly = EAGERLY
    return made


def train_on(model, images, objects):
    # KerasHub's own takes no dictionaries.
    return float(keras.Model.train_on_batch(model, images, objects)[0])


@pytest.fixture(scope="module")
def ours(scenes, tmp_path_factory):
    """A detector after two steps, what it began with, and its file."""
    model = build(scenes)
    heads = model.box_head, model.classification_head
    biases = [to_numpy(head.prediction_layer.bias).copy() for head in heads]
    losses = [train_on(model, *scenes.train[0])]
    images, objects = scenes.train[1]
    objects["labels"][:] = -1
    objects["boxes"][:] = PADDING
    losses.append(train_on(model, images, objects))
    file = tmp_path_factory.mktemp("detector") / "model.keras"
    model.save(file)
    loaded = detection.load_model(file)
    loaded.run_eagerly = EAGERLY
    return types.SimpleNamespace(
        model=model, biases=biases, losses=losses, file=file, loaded=loaded
    )


@pytest.mark.every_backend
def test_training_begins_with_the_prior_on_the_classes_and_a_low_loss(ours):
    boxes, classes = ours.biases
    np.testing.assert_allclose(boxes, 0)
    np.testing.assert_allclose(classes, -np.log(99), rtol=1e-4)
    # With the heads of KerasHub it begins at several hundred.
    assert 0.5 < ours.losses[0] < 10
    # Without objects.
    assert np.isfinite(ours.losses[1])
    assert all(np.isfinite(w).all() for w in ours.model.get_weights())


@pytest.mark.every_backend
def test_a_saved_detector_gives_the_same_boxes(ours, scenes):
    images = scenes.test[0][0]
    found, expected = ours.loaded.detect(images), ours.model.detect(images)
    assert (expected["labels"] >= 0).any()
    for key, value in expected.items():
        assert value.dtype in ("float32", "int32")
        np.testing.assert_array_equal(found[key], value)


def test_a_saved_detector_is_compiled_as_it_was(ours, scenes):
    models = ours.loaded, ours.model
    losses = [
        keras.Model.test_on_batch(model, *scenes.train[2])[0]
        for model in models
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    states = [model.optimizer.variables for model in models]
    for loaded, saved in zip(*states, strict=True):
        np.testing.assert_array_equal(to_numpy(loaded), to_numpy(saved))


def test_images_of_another_range_are_reported(ours, scenes):
    images = scenes.test[0][0]
    with pytest.warns(UserWarning, match=r"must be in \[0, 255\]"):
        ours.model.detect(images / 255)


FRESH = """
import sys
import keras
import numpy as np
from cbam_keras import detection
model = keras.saving.load_model(sys.argv[1])
np.savez("found.npz", **model.detect(np.load("images.npy")))
"""


@pytest.mark.slow
def test_detections_are_the_same_in_a_fresh_process(ours, scenes, tmp_path):
    images = scenes.test[0][0]
    np.save(tmp_path / "images.npy", images)
    command = [sys.executable, "-c", FRESH, ours.file]
    subprocess.run(command, cwd=tmp_path, check=True)
    expected = ours.model.detect(images)
    with np.load(tmp_path / "found.npz") as found:
        np.testing.assert_array_equal(found["labels"], expected["labels"])
        np.testing.assert_allclose(found["boxes"], expected["boxes"], atol=1e-3)


@pytest.mark.half_precision
def test_a_detector_works_in_half_precision(scenes, tmp_path):
    made = build(scenes, mixed_precision="float16")
    assert made.box_head.compute_dtype == "float16"
    assert np.isfinite(train_on(made, *scenes.train[0]))
    made.save(tmp_path / "model.keras")
    again = detection.load_model(tmp_path / "model.keras")
    assert type(again.optimizer) is type(made.optimizer)
    # Boxes are not rounded.
    for model in (made, again):
        assert model.label_encoder.compute_dtype == "float32"
        assert model.prediction_decoder.compute_dtype == "float32"
    found = again.detect(scenes.test[0][0])
    assert all(v.dtype in ("float32", "int32") for v in found.values())
