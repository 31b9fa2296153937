"""Images and maps that cannot be drawn are refused, each in its words."""

import numpy as np
import pytest
from plotting_checks import (
    CHANNEL,
    HEAT,
    IMAGES,
    SIGNAL_HEAT,
    SIGNALS,
    SPATIAL,
    VOLUME_HEAT,
    VOLUMES,
)

from cbam_keras import plotting


@pytest.mark.parametrize(
    ("plot", "most", "maps"),
    [
        (plotting.plot_grad_cam, 32, np.zeros((32, 4, 5))),
        (plotting.plot_attention_maps, 8, {"se": (np.ones((8, 2)), None)}),
    ],
)
def test_more_images_than_can_be_read_are_refused(plot, most, maps):
    plot(np.zeros((most, 4, 5)), maps)
    with pytest.raises(ValueError, match=rf"in parts: images\[:{most}\]"):
        plot(np.zeros((most + 1, 4, 5)), {})


SE = HEAT["SE"]
REFUSED = [
    ({"images": IMAGES[0]}, r"images\[None\]"),
    ({"images": IMAGES[0, ..., 0]}, r"images\[None\]"),
    ({"images": IMAGES[None]}, r"Received: images.shape=\(1, 2, 6"),
    (
        {"images": IMAGES.transpose(0, 3, 1, 2)},
        r"channels_first: give np.transpose\(images, \(0, 2, 3, 1\)\)",
    ),
    ({"images": np.zeros((2, 6, 9, 4))}, r"give images\[..., :3\]"),
    ({"images": IMAGES[..., :2]}, "C 1 or 3"),
    ({"images": IMAGES / 127.5 - 1}, r"images from -\d.* before preproc"),
    ({"images": IMAGES * 257.0}, r"in \[0, 255\] or \[0, 1\]. .* to"),
    ({"heat_maps": {}}, "at least one network. .* heat_maps={}"),
    ({"heat_maps": SE[:1]}, r"\(2, 6, 9\).*=\(1, 6, 9\)"),
    ({"heat_maps": {"SE": SE[:, :3]}}, r'heat_maps\["SE"\]` must be of shape'),
    ({"heat_maps": -SE}, r"in \[0, 1\]. .*numbers from -"),
    ({"heat_maps": 255 * SE}, r"in \[0, 1\]. .*to 2"),
    ({"heat_maps": {"SE": SE * np.nan}}, r"heat_maps\[.*finite.* 108 that are"),
    (
        {"probabilities": {"SE": [0, 1], "cbam": [0, 1]}},
        'names of `heat_maps`, "baseline", "SE", "CBAM".* of "SE", "cbam"',
    ),
    ({"probabilities": [0, 1]}, "an array without names"),
    (
        {"heat_maps": SE, "probabilities": np.ones((2, 10))},
        r"`probabilities` must be of shape \(2,\), .*=\(2, 10\)",
    ),
    ({"heat_maps": SE, "probabilities": [50, 83]}, r"numbers from 50 to 83"),
    (
        {"heat_maps": {"a": SE}, "classes": {"a": ["cat"]}},
        r'`classes\["a"\]` must hold 2 strings',
    ),
    ({"labels": ["cat"]}, '2 strings, .* Received: 1, "cat"'),
    ({"labels": "ab"}, '2 strings, .* Received: 1, "ab"'),
    ({"boxes": [0, 0, 2, 2]}, r"`boxes` .* \(2, 4\).*=\(4,\)"),
    ({"boxes": [[0, 0, 2, 2], [3, 1, 3, 2]]}, r"of 6 x 9, .* \[3.*, 1.*, 3.*"),
    ({"boxes": [[0, 0, 6, 9], [0, 0, 9, 6]]}, r"Received: \[0"),
    ({"boxes": [[-1, 0, 6, 9]] * 2}, r"Received: \[-1"),
    ({"boxes": [[0.1, 0.2, 0.5, 0.6]] * 2}, r"give boxes \* \[height, width"),
    ({"images": SIGNALS[0, 0], "heat_maps": SIGNAL_HEAT}, r"signals .*B, L, C"),
    ({"images": SIGNALS[:, 1:], "heat_maps": SIGNAL_HEAT}, r"shape \(2, 8\)"),
    (
        {"images": SIGNALS, "heat_maps": SIGNAL_HEAT, "boxes": [[0, 0, 1, 1]]},
        "`boxes` must be None",
    ),
    ({"images": VOLUMES[0, 0], "heat_maps": VOLUME_HEAT}, r"\(B, D, H, W, C\)"),
    ({"images": VOLUMES[:, 1:], "heat_maps": VOLUME_HEAT}, r"\(2, 10, 6, 5\)"),
]


@pytest.mark.parametrize(("wrong", "message"), REFUSED)
def test_what_cannot_be_drawn_or_does_not_belong_is_refused(wrong, message):
    given = {"images": IMAGES, "heat_maps": HEAT, **wrong}
    with pytest.raises(ValueError, match=f"(?s){message}"):
        plotting.plot_grad_cam(**given)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"labels": 7}, "`labels` must be a seq"),
        (
            {"heat_maps": {"SE": "high"}},
            r'maps\["SE"\]` must be an array',
        ),
        ({"boxes": "all"}, "`boxes` must be an array"),
    ],
)
def test_arguments_of_another_type_are_refused(wrong, message):
    with pytest.raises(TypeError, match=message):
        plotting.plot_grad_cam(IMAGES, **{"heat_maps": HEAT, **wrong})


@pytest.mark.parametrize(
    ("maps", "error", "message"),
    [
        (CHANNEL, TypeError, "explain.attention_maps returns. .*: ndarray"),
        ({}, ValueError, "at least one layer. Received: maps={}"),
        ({"cbam": CHANNEL[0]}, TypeError, r'`maps\["cbam"\]` must be a tuple'),
        ({"cbam": (None, None)}, ValueError, "a spatial map or both"),
        ({"a": (CHANNEL[:1], None)}, ValueError, r"B=2 .* \(1, 16\) where"),
        ({"a": (None, SPATIAL[0])}, ValueError, r"\(2, 3\) where \(B, h, w\)"),
        ({"cbam": (CHANNEL * np.nan, None)}, ValueError, "must be finite"),
    ],
)
def test_maps_that_are_none_are_refused(maps, error, message):
    with pytest.raises(error, match=message):
        plotting.plot_attention_maps(IMAGES, maps)
