"""Mean average precision, by cases worked out by hand; coverage of anchors."""

import keras
import numpy as np
import pytest
from detection_checks import one_box_each

from cbam_keras.detection.batches import Examples, table
from cbam_keras.detection.evaluation import evaluate

pytest.importorskip("pycocotools", reason="needs pycocotools")
pytest.importorskip("keras_hub", reason="needs KerasHub")

from cbam_keras.detection.anchors import choose_anchors  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

BOX, OTHER = (10, 10, 30, 30), (60, 20, 160, 70)
SIZE = (100, 200)


def objects(*images):
    """Returns objects of images; each is a box in pixels, class, confidence."""
    rows = [
        table(number, [label], np.divide([box], SIZE[::-1] * 2), confidence)
        for number, image in enumerate(images)
        for box, label, confidence in image
    ]
    return np.concatenate([table(0, [], np.zeros((0, 4))), *rows])


def measured(truth, found, classes=1, area=np.nan):
    images = np.zeros((len(truth), 1, 1, 1), "uint8")
    sizes = np.full((len(truth), 2), SIZE)
    true = objects(*truth)
    true["area"] = area
    return evaluate(Examples(images, sizes, true), objects(*found), classes)


def test_a_false_detection_before_a_true_one_halves_the_precision():
    result = measured(
        [[(BOX, 0, 1)], [(BOX, 0, 1)]], [[(BOX, 0, 0.9)], [(OTHER, 0, 0.95)]]
    )
    # Half of the objects are found, at a precision of one half: 51 of the 101
    # points of recall from 0 to 1.
    expected = 0.5 * 51 / 101
    assert result["map"] == pytest.approx(expected)
    assert result["map50"] == result["map75"] == pytest.approx(expected)
    # A false detection of 100 x 50 pixels is not among the small ones.
    assert result["small"] == pytest.approx(51 / 101)
    assert result["medium"] is None and result["large"] is None


def test_thresholds_count_up_to_the_overlap():
    # 20 x 20 pixels, of which 12.4 rows are found: 0.62.
    result = measured([[(BOX, 0, 1)]], [[((10, 10, 30, 22.4), 0, 0.5)]])
    # At 0.5, 0.55 and 0.6 of ten thresholds.
    assert result["map"] == pytest.approx(0.3)
    assert result["map50"] == pytest.approx(1)
    assert result["map75"] == pytest.approx(0)


TRUE = (BOX, 0, 1)
FOUND, ELSEWHERE = (BOX, 0, 0.5), (OTHER, 0, 0.9)


@pytest.mark.parametrize(
    ("truth", "found", "classes", "precision"),
    [
        ([[TRUE, (OTHER, 1, 1)]], [[FOUND, ELSEWHERE]], 2, 0.25),
        # Of confidence 0: a crowd, or difficult.
        ([[TRUE, (OTHER, 0, 0)]], [[FOUND, ELSEWHERE]], 1, 1),
        ([[TRUE, (OTHER, 0, 0)]], [[FOUND]], 1, 1),
        ([[TRUE], []], [[FOUND], [ELSEWHERE]], 1, 0.5),
    ],
    ids=["other class", "ignored", "unfound", "empty image"],
)
def test_precision_counts(truth, found, classes, precision):
    result = measured(truth, found, classes)
    assert result["map"] == pytest.approx(precision)


# The box has 100 x 50 pixels.
@pytest.mark.parametrize(("area", "size"), [(np.nan, "medium"), (800, "small")])
def test_sizes_of_objects_are_by_the_area_of_the_annotation(area, size):
    result = measured([[(OTHER, 0, 1)]], [[ELSEWHERE]], area=area)
    assert result[size] == pytest.approx(1)


# Anchors.


def boxes_of(sides, count=60, size=64):
    """Returns examples of one box an image, of these `(height, width)`."""
    rng = np.random.default_rng(0)
    sides = np.array([sides[i % len(sides)] for i in range(count)], "float32")
    low = rng.uniform(0, size - sides)[:, ::-1]
    boxes = np.concatenate([low, low + sides[:, ::-1]], axis=1) / size
    return one_box_each(boxes, size)


def test_coverage_is_what_keras_computes():
    examples = boxes_of([(20, 14), (30, 30), (40, 20)])
    chosen = choose_anchors(examples, (64, 64), 3, 4)
    levels = chosen.generator()(np.zeros((1, 64, 64, 1), "float32"))
    overlap = keras.utils.bounding_boxes.compute_iou(
        64 * examples.objects["box"].astype("float32"),
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
        choose_anchors(boxes_of([(2, 2)]), (64, 64), 3, 4)
