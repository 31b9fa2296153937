"""Heat maps against regions of any shape."""

import numpy as np
import pytest

from cbam_keras import explain

pytest.importorskip("pandas")
metrics = pytest.importorskip("sklearn.metrics")

RNG = np.random.default_rng(3)
HEAT = RNG.random((3, 32, 24))
MASKS = RNG.random((3, 32, 24)) > [[[0.9]], [[0.5]], [[0.2]]]


def test_energy_and_iou_are_of_the_region_and_as_many_hot_pixels():
    frame = explain.heat_in_region(HEAT, MASKS.astype("uint8") * 255)
    assert [*frame] == ["energy", "iou", "hit"]
    for row, heat, mask in zip(frame.to_numpy(), HEAT, MASKS, strict=True):
        assert row[0] == pytest.approx(np.average(mask, weights=heat))
        hot = np.zeros(heat.size, bool)
        hot[np.argsort(-heat, axis=None)[: mask.sum()]] = True
        iou = metrics.jaccard_score(mask.ravel(), hot)
        assert row[1] == pytest.approx(iou, abs=0.01)


@pytest.mark.parametrize(("distance", "hit"), [(0, 1), (15, 1), (16, 0)])
def test_a_maximum_near_the_region_hits_it(distance, hit):
    heat, mask = np.zeros((1, 224, 200)), np.zeros((1, 224, 200))
    mask[0, 100:110, 100:110] = 1
    heat[0, 105, 109 + distance] = 2.0
    row = explain.heat_in_region(heat, mask).iloc[0]
    assert row["hit"] == hit
    assert row["energy"] == (distance == 0)


def test_masks_of_other_sizes_are_resized():
    large = np.kron(MASKS, np.ones((1, 3, 2))) > 0
    same = explain.heat_in_region(HEAT, MASKS)
    assert explain.heat_in_region(HEAT, [*large]).equals(same)
    sizes = [MASKS[0], large[1], MASKS[2]]
    assert explain.heat_in_region(HEAT, sizes).equals(same)


def test_empty_regions_have_no_values_and_maps_of_zeros_miss():
    heat = np.stack([HEAT[0], 0 * HEAT[1]])
    frame = explain.heat_in_region(heat, [0 * MASKS[0], MASKS[1]])
    assert frame.iloc[0].isna().all()
    assert (frame.iloc[1] == 0).all()


@pytest.mark.parametrize(
    ("heat", "masks", "message"),
    [
        (HEAT, MASKS[:2], "must be 3 of shape .* Received: 2 masks"),
        (HEAT, MASKS[..., None], "shape .H, W."),
        (-HEAT, MASKS, "finite and not negative"),
    ],
)
def test_what_does_not_fit_is_refused(heat, masks, message):
    with pytest.raises(ValueError, match=message):
        explain.heat_in_region(heat, masks)
