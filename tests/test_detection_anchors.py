"""Anchors chosen from boxes, and the fraction of them that is covered."""

import keras
import numpy as np
import pytest

from cbam_keras.detection import anchors
from cbam_keras.detection.records import Records

pytest.importorskip("keras_hub", reason="needs KerasHub")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def records(sides, count=60, size=64):
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
    given = records([(20, 14), (30, 30), (40, 20)])
    chosen = anchors.choose_anchors(given, (64, 64), 3, 4)
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


def test_ignored_boxes_do_not_count():
    given = records([(24, 24), (2, 2)])
    ignored = [np.array([i % 2 == 1]) for i in range(len(given))]
    given = Records(
        given.images, given.sizes, given.boxes, given.labels, ignored
    )
    assert anchors.choose_anchors(given, (64, 64), 3, 4).coverage > 0.9


def test_boxes_that_no_anchor_covers_are_warned_of():
    with pytest.warns(UserWarning, match="Only 0% of the boxes.*image_size"):
        anchors.choose_anchors(records([(2, 2)]), (64, 64), 3, 4)
