"""KerasHub's detector: what it does wrong, and what is done about it.

A test of a fault fails once a newer KerasHub has mended it. Then the code
that cbam_keras/detection/detector.py has in its place can go.
"""

import digits
import keras
import numpy as np
import pytest
from detection_checks import detector, network, tiny_backbone

from cbam_keras import detection, training
from cbam_keras.detection import networks
from cbam_keras.detection.anchors import choose_anchors
from cbam_keras.detection.batches import PADDING

keras_hub = pytest.importorskip("keras_hub", reason="needs KerasHub")
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    # Of very few steps.
    pytest.mark.filterwarnings("ignore:Only .* of the boxes:UserWarning"),
]


@pytest.fixture(scope="module")
def plain():
    """Returns KerasHub's own detector."""
    return detector(detection.feature_pyramid(network(None)))


@pytest.fixture(scope="module")
def scenes():
    with pytest.MonkeyPatch.context() as patch:
        digits.replace(digits.few, patch.setattr)
        yield detection.load_data(batch_size=8)


def build(scenes, **options):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(networks.BACKBONES, "small", tiny_backbone)
        # So little training finds nothing at any higher confidence.
        patch.setattr(networks, "CONFIDENCE", 0.001)
        recipe = training.Recipe(
            epochs=3, batch_size=8, learning_rate=1e-3, **options
        )
        anchors = choose_anchors(scenes.train.records, (64, 64), 3, 4)
        made = networks.build_detector("small", scenes, None, anchors, recipe)
    made.run_eagerly = True
    return made


@pytest.fixture(scope="module")
def ours(scenes):
    return build(scenes)


def bias_of(head):
    return keras.ops.convert_to_numpy(head.prediction_layer.bias)


def train_on(model, images, objects):
    # KerasHub's own takes no dictionaries.
    return float(keras.Model.train_on_batch(model, images, objects)[0])


def test_keras_hub_takes_no_py_dataset(plain, scenes):
    plain.compile(run_eagerly=True)
    with pytest.raises((TypeError, ValueError)):
        plain.fit(scenes.train, verbose=0)


def test_keras_hub_loses_the_optimizer(plain, tmp_path):
    plain.compile("adam")
    plain.save(tmp_path / "model.keras")
    with pytest.warns(UserWarning, match="was not called as part of model"):
        keras.saving.load_model(tmp_path / "model.keras")


def test_keras_forgets_delta():
    loss = keras.losses.Huber(delta=0.1)
    again = keras.losses.Huber.from_config(loss.get_config())
    values = np.zeros((1, 1)), np.full((1, 1), 3.0)
    assert float(again(*values)) != pytest.approx(float(loss(*values)))


def test_keras_hub_puts_the_prior_on_the_boxes(plain):
    np.testing.assert_allclose(bias_of(plain.box_head), -np.log(99), rtol=1e-4)
    np.testing.assert_allclose(bias_of(plain.classification_head), 0)


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="a fault with TensorFlow"
)
def test_keras_hub_predicts_one_size(plain):
    plain.predict(np.zeros((2, 64, 64, 3), "float32"), verbose=0)
    with pytest.raises(TypeError, match="Expected int32, but got None"):
        plain.predict(np.zeros((3, 64, 64, 3), "float32"), verbose=0)


def test_heads_begin_with_the_prior_on_the_classes(scenes):
    ours = build(scenes)
    np.testing.assert_allclose(bias_of(ours.box_head), 0)
    found = bias_of(ours.classification_head)
    np.testing.assert_allclose(found, -np.log(99), rtol=1e-4)


@pytest.mark.every_backend
def test_the_loss_begins_low(scenes):
    # With the heads of KerasHub it begins at several hundred.
    assert 0.5 < train_on(build(scenes), *scenes.train[0]) < 10


def test_images_without_objects_are_learned_from(ours, scenes):
    images, objects = scenes.train[1]
    objects["labels"][:] = -1
    objects["boxes"][:] = PADDING
    assert np.isfinite(train_on(ours, images, objects))
    assert all(np.isfinite(keras.ops.sum(x)) for x in ours.weights)


def test_a_saved_detector_is_compiled_as_it_was(ours, scenes, tmp_path):
    train_on(ours, *scenes.train[1])
    ours.save(tmp_path / "model.keras")
    loaded = detection.load_model(tmp_path / "model.keras")
    found, expected = (
        [keras.ops.convert_to_numpy(v) for v in model.optimizer.variables]
        for model in (loaded, ours)
    )
    for value, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(value, other)
    loaded.run_eagerly = True
    batch = scenes.train[2]
    losses = [train_on(model, *batch) for model in (loaded, ours)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


HALF = pytest.mark.parametrize("precision", ["float16", "bfloat16"])


@HALF
def test_a_detector_learns_in_half_precision(scenes, tmp_path, precision):
    made = build(scenes, mixed_precision=precision)
    assert made.box_head.compute_dtype == precision
    losses = [train_on(made, *scenes.train[step]) for step in range(4)]
    assert np.isfinite(losses).all()
    made.save(tmp_path / "model.keras")
    loaded = detection.load_model(tmp_path / "model.keras")
    assert type(loaded.optimizer) is type(made.optimizer)
    images = scenes.test[0][0]
    found, expected = loaded.detect(images), made.detect(images)
    assert (expected["labels"] >= 0).any()
    for key, value in expected.items():
        assert value.dtype in ("float32", "int32")
        np.testing.assert_array_equal(found[key], value)


@HALF
def test_boxes_are_not_rounded_in_half_precision(
    ours, scenes, tmp_path, precision
):
    made = build(scenes, mixed_precision=precision)
    made.save(tmp_path / "model.keras")
    loaded = detection.load_model(tmp_path / "model.keras")
    expected = targets(ours)
    np.testing.assert_array_equal(targets(made), expected)
    np.testing.assert_array_equal(targets(loaded), expected)


@HALF
def test_keras_hub_rounds_boxes_in_half_precision(ours, precision):
    keras.config.set_dtype_policy(f"mixed_{precision}")
    theirs = detector(detection.feature_pyramid(network(None)))
    # The only difference that is left.
    theirs.label_encoder.anchor_generator = ours.anchor_generator
    assert (targets(theirs) != targets(ours)).any()


def targets(model):
    """Returns what the boxes of an image are turned into for training."""
    boxes = np.array([[[3.123, 7.456, 41.789, 40.123]]], "float32")
    found, _ = model.label_encoder(
        np.zeros((1, 64, 64, 1), "float32"), boxes, np.zeros((1, 1), "float32")
    )
    return keras.ops.convert_to_numpy(found)
