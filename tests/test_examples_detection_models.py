"""Backbones of KerasHub's detectors; detectors saved, also by version 0.5.0."""

import types
import zipfile

import keras
import numpy as np
import pytest
from detection_checks import tiny_backbone
from layer_checks import to_numpy

from cbam_keras import insert_attention

keras_hub = pytest.importorskip("keras_hub", reason="needs KerasHub")

from examples.detection import feature_pyramid, load_detector  # noqa: E402
from examples.detection.retinanet import Detector, losses  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
# Under JAX each operation would be compiled alone, which takes longer.
EAGERLY = keras.backend.backend() != "jax"
CLASSES = 3


# Backbones.


def network(size=64):
    """Returns a network of levels P2 to P4."""
    shape = (size, size, 3)
    return tiny_backbone(include_top=False, input_shape=shape, attention="cbam")


def inserted():
    """Returns a network of Keras with attention, of levels P2 to P5."""
    plain = keras.applications.MobileNetV2(
        (64, 64, 3), alpha=0.35, weights=None, include_top=False
    )
    return insert_attention(plain, "cbam", after=r"^block_\d+_add$")


@pytest.mark.parametrize(
    ("build", "channels"),
    [
        (lambda: network(None), {"P2": 4, "P3": 8, "P4": 16}),
        (inserted, {"P2": 48, "P3": 96, "P4": 192, "P5": 1280}),
    ],
    ids=["no sizes", "attention inserted"],
)
def test_levels_follow_the_strides(build, channels):
    maps = feature_pyramid(build()).pyramid_outputs
    assert {level: maps[level].shape[-1] for level in maps} == channels
    for level, tensor in maps.items():
        assert tensor.shape[1] in (None, 64 / 2 ** int(level[1]))


def test_levels_are_the_last_maps_of_the_stages_or_chosen():
    model = network()
    backbone = feature_pyramid(model)
    names = {f"P{stage + 1}": f"stage{stage}_block1_out" for stage in (1, 2, 3)}
    assert backbone.levels == names
    assert {id(v) for v in backbone.weights} <= {id(v) for v in model.weights}
    names = {"P3": "stage2_block1_conv2", "P4": "stage3_block1_out"}
    assert [*feature_pyramid(model, names).pyramid_outputs] == ["P3", "P4"]


def strided(*strides, size=48):
    x = inputs = keras.Input((size, size, 3))
    for stride in strides:
        x = keras.layers.Conv2D(2, 3, stride, padding="same")(x)
    return keras.Model(inputs, x)


@pytest.mark.parametrize(
    ("build", "levels", "message"),
    [
        (lambda: strided(3, 2), None, "powers of two.*1.0, 3.0, 6.0"),
        (lambda: strided(2), None, "one of them 4, 8, 16 or 32"),
        (lambda: strided(4, 4), None, "with levels P2, P4"),
        (lambda: strided(4, 2, size=100), None, "of the coarsest stride"),
        (network, {"P3": "stage2_block2_out"}, "Did you mean"),
        (network, {"P3": "stage3_block1_out"}, '"stage2_block1_o'),
    ],
    ids=["strides", "none", "gap", "size", "unknown layer", "other stride"],
)
def test_networks_that_give_no_pyramid_are_refused(build, levels, message):
    with pytest.raises(ValueError, match=message):
        feature_pyramid(build(), levels)


# Detectors.


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
    backbone = keras_hub.models.RetinaNetBackbone(
        feature_pyramid(network),
        min_level=3,
        max_level=4,
        use_p5=False,
        image_shape=(64, 64, 3),
    )
    detector = Detector(
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
    detector.compile(optimizer, **losses(CLASSES), auto_scale_loss=False)
    detector.run_eagerly = EAGERLY
    return detector


def train_on(model, labels=(0, 2)):
    # KerasHub's own takes no dictionaries.
    values = keras.Model.train_on_batch(model, images(), objects(labels))
    return float(values[0])


def as_version_0_5_0(file):
    """Renames the modules of our classes in a saved detector."""
    written = file.with_name("of_0_5_0.keras")
    with zipfile.ZipFile(file) as new, zipfile.ZipFile(written, "w") as old:
        for name in new.namelist():
            content = new.read(name)
            if name == "config.json":
                text = content.decode()
                for module in ("pyramid", "retinanet"):
                    named = f'"examples.detection.{module}"'
                    assert text.count(named) == 1
                    text = text.replace(named, '"cbam_keras.models.detector"')
                # By these Keras finds them, whatever their module.
                for kind in ("Detector", "PyramidBackbone"):
                    assert text.count(f'"cbam_keras>{kind}"') == 1
                content = text
            old.writestr(name, content)
    return written


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A detector after two steps, the second without objects, and loaded."""
    model = build()
    values = [train_on(model), train_on(model, (-1, -1))]
    file = tmp_path_factory.mktemp("detector") / "model.keras"
    model.save(file)
    loaded = load_detector(as_version_0_5_0(file))
    loaded.run_eagerly = EAGERLY
    return types.SimpleNamespace(model=model, losses=values, loaded=loaded)


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
    values = [
        keras.Model.test_on_batch(model, images(), objects((1, 2)))[0]
        for model in (saved.loaded, saved.model)
    ]
    assert values[0] == pytest.approx(values[1], rel=1e-5)
    states = saved.loaded.optimizer.variables, saved.model.optimizer.variables
    for loaded, kept in zip(*states, strict=True):
        np.testing.assert_array_equal(to_numpy(loaded), to_numpy(kept))


def test_images_of_another_range_are_reported(saved):
    with pytest.warns(UserWarning, match=r"must be in \[0, 255\]"):
        saved.model.detect(images() / 255)


@pytest.mark.half_precision
def test_a_detector_works_in_half_precision():
    keras.config.set_dtype_policy("mixed_float16")
    model = build()
    assert model.box_head.compute_dtype == "float16"
    assert np.isfinite(train_on(model))
    # Boxes are not rounded.
    for layer in (model.label_encoder, model.prediction_decoder):
        assert layer.compute_dtype == "float32"
    found = model.detect(images())
    assert all(v.dtype in ("float32", "int32") for v in found.values())
