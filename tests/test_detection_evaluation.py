"""Mean average precision, by cases worked out by hand; coverage of anchors."""

import keras
import numpy as np
import pytest

from cbam_keras.detection.anchors import choose_anchors
from cbam_keras.detection.evaluation import evaluate
from cbam_keras.detection.records import Records

pytest.importorskip("pycocotools", reason="needs pycocotools")
pytest.importorskip("keras_hub", reason="needs KerasHub")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def records(*images, ignored=()):
    """Returns records of images of 100 x 200 pixels, with boxes in pixels."""
    return Records(
        np.zeros((len(images), 1, 1, 1), "uint8"),
        np.full((len(images), 2), (100, 200)),
        [relative([box for box, _ in own]) for own in images],
        [np.array([kind for _, kind in own], "int32") for own in images],
        [
            np.array([(i, j) in ignored for j in range(len(own))], bool)
            for i, own in enumerate(images)
        ],
    )


def relative(boxes):
    return np.array(boxes, "float32").reshape(-1, 4) / [200, 100, 200, 100]


def detections(*images):
    return [
        {
            "boxes": relative([box for box, *_ in own]),
            "labels": np.array([kind for _, kind, _ in own]),
            "confidence": np.array([score for *_, score in own]),
        }
        for own in images
    ]


BOX, OTHER = (10, 10, 30, 30), (60, 20, 160, 70)


def test_a_false_detection_before_a_true_one_halves_the_precision():
    truth = records([(BOX, 0)], [(BOX, 0)])
    found = detections([(BOX, 0, 0.9)], [(OTHER, 0, 0.95)])
    # Half of the objects are found, at a precision of one half: 51 of the 101
    # points of recall from 0 to 1.
    expected = 0.5 * 51 / 101
    result = evaluate(truth, found, 1)
    assert result["map"] == pytest.approx(expected)
    assert result["map50"] == result["map75"] == pytest.approx(expected)
    # A false detection of 100 x 50 pixels is not among the small ones.
    assert result["small"] == pytest.approx(51 / 101)
    assert result["medium"] is None and result["large"] is None


def test_thresholds_count_up_to_the_overlap():
    # 20 x 20 pixels, of which 12.4 rows are found: 0.62.
    found = detections([((10, 10, 30, 22.4), 0, 0.5)])
    result = evaluate(records([(BOX, 0)]), found, 1)
    # At 0.5, 0.55 and 0.6 of ten thresholds.
    assert result["map"] == pytest.approx(0.3)
    assert result["map50"] == pytest.approx(1)
    assert result["map75"] == pytest.approx(0)


def test_classes_count_alike():
    truth = records([(BOX, 0), (OTHER, 1)])
    found = detections([(BOX, 0, 0.5), (OTHER, 0, 0.4)])
    assert evaluate(truth, found, 2)["map"] == pytest.approx(0.5)


def test_ignored_objects_count_neither_for_nor_against():
    truth = records([(BOX, 0), (OTHER, 0)], ignored=[(0, 1)])
    found = detections([(BOX, 0, 0.5), (OTHER, 0, 0.9)])
    assert evaluate(truth, found, 1)["map"] == pytest.approx(1)
    found = detections([(BOX, 0, 0.5)])
    assert evaluate(truth, found, 1)["map"] == pytest.approx(1)


def test_no_detection_at_all_is_zero():
    assert evaluate(records([(BOX, 0)]), detections([]), 1)["map"] == 0


def test_images_without_objects_may_have_false_detections():
    truth = records([(BOX, 0)], [])
    found = detections([(BOX, 0, 0.5)], [(BOX, 0, 0.9)])
    assert evaluate(truth, found, 1)["map"] == pytest.approx(0.5)


# Anchors.


def one_box_each(sides, count=60, size=64):
    """Returns records of one box an image, of these `(height, width)`."""
    rng = np.random.default_rng(0)
    sides = np.array([sides[i % len(sides)] for i in range(count)], "float32")
    low = rng.uniform(0, size - sides)[:, ::-1]
    boxes = np.concatenate([low, low + sides[:, ::-1]], axis=1) / size
    return Records(
        np.zeros((count, 1, 1, 1), "uint8"),
        np.full((count, 2), size),
        list(boxes.astype("float32")[:, None]),
        [np.zeros(1, "int32")] * count,
        [np.zeros(1, bool)] * count,
    )


def test_coverage_is_what_keras_computes():
    given = one_box_each([(20, 14), (30, 30), (40, 20)])
    chosen = choose_anchors(given, (64, 64), 3, 4)
    levels = chosen.generator()(np.zeros((1, 64, 64, 1), "float32"))
    overlap = keras.utils.bounding_boxes.compute_iou(
        64 * np.concatenate(given.boxes),
        keras.ops.concatenate(list(levels.values())),
        "xyxy",
    )
    best = keras.ops.convert_to_numpy(overlap).max(axis=1)
    assert chosen.coverage == pytest.approx((best >= 0.5).mean())
    assert chosen.coverage >= 0.9
    # Heights over widths, whatever KerasHub's docstring says.
    assert chosen.aspect_ratios == (1.0, 1.43, 2.0)


def test_boxes_that_no_anchor_covers_are_warned_of():
    with pytest.warns(UserWarning, match="Only 0% of the boxes.*image_size"):
        choose_anchors(one_box_each([(2, 2)]), (64, 64), 3, 4)
