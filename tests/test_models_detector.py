"""KerasHub's detector with what it does wrong worked around, saved, loaded."""

import subprocess
import sys
import types
import zipfile

import keras
import numpy as np
import pytest
from detection_checks import tiny_backbone
from layer_checks import to_numpy

from cbam_keras import models

keras_hub = pytest.importorskip("keras_hub", reason="needs KerasHub")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
# Under JAX each operation would be compiled alone, which takes longer.
EAGERLY = keras.backend.backend() != "jax"
CLASSES = 3


def images(count=2):
    return np.random.default_rng(0).uniform(0, 255, (count, 64, 64, 3))


def objects(labels):
    """Returns a box in each of two images; a label of -1 is none."""
    boxes = np.array([[[8, 8, 30, 40]], [[20, 10, 50, 60]]], "float32")
    return {"boxes": boxes, "labels": np.array(labels, "float32")[:, None]}


def build():
    """Returns a compiled detector whose outputs are not all below a limit."""
    inputs = keras.Input((64, 64, 3))
    scaled = keras.layers.Rescaling(1 / 255)(inputs)
    network = tiny_backbone(
        include_top=False, input_tensor=scaled, attention="cbam"
    )
    module = models.import_detector()
    backbone = keras_hub.models.RetinaNetBackbone(
        models.feature_pyramid(network),
        min_level=3,
        max_level=4,
        use_p5=False,
        image_shape=(64, 64, 3),
    )
    detector = module.Detector(
        backbone,
        num_classes=CLASSES,
        bounding_box_format="xyxy",
        pre_logits_num_conv_layers=0,
        preprocessor=None,
        prediction_decoder=keras_hub.layers.NonMaxSuppression(
            "xyxy", from_logits=True, confidence_threshold=0.001
        ),
    )
    optimizer = keras.optimizers.Adam(1e-3)
    if keras.config.dtype_policy().compute_dtype == "float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    losses = module.losses(CLASSES)
    detector.compile(optimizer, **losses, auto_scale_loss=False)
    detector.run_eagerly = EAGERLY
    return detector


def train_on(model, labels=(0, 2)):
    # KerasHub's own takes no dictionaries.
    losses = keras.Model.train_on_batch(model, images(), objects(labels))
    return float(losses[0])


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A detector after two steps, the second without objects, and its file."""
    model = build()
    losses = [train_on(model), train_on(model, (-1, -1))]
    file = tmp_path_factory.mktemp("detector") / "model.keras"
    model.save(file)
    loaded = models.load_detector(file)
    loaded.run_eagerly = EAGERLY
    return types.SimpleNamespace(
        model=model, losses=losses, file=file, loaded=loaded
    )


@pytest.mark.every_backend
def test_a_saved_detector_gives_the_same_boxes(saved):
    assert np.isfinite(saved.losses).all()
    expected = saved.model.detect(images())
    found = saved.loaded.detect(images())
    assert (expected["labels"] >= 0).any()
    for key, value in expected.items():
        assert value.dtype in ("float32", "int32")
        np.testing.assert_array_equal(found[key], value)


def test_a_saved_detector_is_compiled_as_it_was(saved):
    losses = [
        keras.Model.test_on_batch(model, images(), objects((1, 2)))[0]
        for model in (saved.loaded, saved.model)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    states = saved.loaded.optimizer.variables, saved.model.optimizer.variables
    for loaded, kept in zip(*states, strict=True):
        np.testing.assert_array_equal(to_numpy(loaded), to_numpy(kept))


def test_images_of_another_range_are_reported(saved):
    with pytest.warns(UserWarning, match=r"must be in \[0, 255\]"):
        saved.model.detect(images() / 255)


FRESH = """
import sys
import keras
import numpy as np
import cbam_keras
model = keras.saving.load_model(sys.argv[1])
np.savez("found.npz", **model.detect(np.load("images.npy")))
"""


@pytest.mark.slow
@pytest.mark.parametrize("module", ["models.detector", "detection.hub"])
def test_detections_are_the_same_in_a_fresh_process(module, saved, tmp_path):
    """Also of files of before, which name a module that is gone."""
    file = tmp_path / "model.keras"
    with zipfile.ZipFile(saved.file) as old, zipfile.ZipFile(file, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "config.json":
                text = content.decode()
                named = '"cbam_keras.models.detector"'
                assert text.count(named) == 2
                content = text.replace(named, f'"cbam_keras.{module}"')
            new.writestr(name, content)
    np.save(tmp_path / "images.npy", images())
    command = [sys.executable, "-c", FRESH, file]
    subprocess.run(command, cwd=tmp_path, check=True)
    expected = saved.model.detect(images())
    with np.load(tmp_path / "found.npz") as found:
        np.testing.assert_array_equal(found["labels"], expected["labels"])
        np.testing.assert_allclose(found["boxes"], expected["boxes"], atol=1e-3)


@pytest.mark.half_precision
def test_a_detector_works_in_half_precision(tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    model = build()
    assert model.box_head.compute_dtype == "float16"
    assert np.isfinite(train_on(model))
    model.save(tmp_path / "model.keras")
    again = models.load_detector(tmp_path / "model.keras")
    assert type(again.optimizer) is type(model.optimizer)
    # Boxes are not rounded.
    for detector in (model, again):
        assert detector.label_encoder.compute_dtype == "float32"
        assert detector.prediction_decoder.compute_dtype == "float32"
    found = again.detect(images())
    assert all(v.dtype in ("float32", "int32") for v in found.values())
