"""The pointing game counts pixels in boxes."""

import numpy as np

from cbam_keras import explain


def test_the_pointing_game_counts_pixels_in_boxes():
    heat = np.zeros((4, 6, 5))
    heat[0, 2, 3] = 1.0  # at the corner of the box
    heat[1, 4, 3] = 1.0  # right below it
    heat[2] = 0.5  # everywhere alike: the first pixel is the hottest
    boxes = [[2, 1, 4, 4]] * 4
    hits, energy = explain.pointing_game(heat, boxes)
    assert hits.tolist() == [True, False, False, False]
    np.testing.assert_allclose(energy, [1, 0, 6 / 30, 0])
