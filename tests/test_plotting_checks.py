"""Images and maps that cannot be drawn are refused, each in its words."""

import numpy as np
import pytest

from cbam_keras import plotting

B, H, W = 2, 6, 9
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (B, H, W, 3), dtype="uint8")
HEAT = {name: RNG.random((B, H, W)) for name in ("baseline", "SE", "CBAM")}
CHANNEL, SPATIAL = RNG.random((B, 16)), RNG.random((B, 2, 3))
NAN = np.where(np.arange(B * H * W).reshape(B, H, W) == 5, np.nan, 0.5)
WRONG_IMAGES = {
    "one_image": (IMAGES[0], ValueError, r"images\[None\]"),
    "one_grey": (IMAGES[0, ..., 0], ValueError, r"images\[None\]"),
    "rank_5": (IMAGES[None], ValueError, r"Received: images.shape=\(1, 2, 6"),
    "channels_first": (
        IMAGES.transpose(0, 3, 1, 2),
        ValueError,
        r"channels_first: give np.transpose\(images, \(0, 2, 3, 1\)\)",
    ),
    "alpha": (
        np.zeros((B, H, W, 4)),
        ValueError,
        r"transparency out: give images\[..., :3\]",
    ),
    "two_channels": (IMAGES[..., :2], ValueError, "C 1 or 3"),
    "preprocessed": (
        IMAGES / 127.5 - 1,
        ValueError,
        r"in \[0, 255\] or \[0, 1\]. Received: images from -\d.* before prep",
    ),
    "sixteen_bits": (IMAGES * 257.0, ValueError, "Received: images from .* to"),
    "nan": (NAN, ValueError, "finite numbers. Received: 1 that are NaN"),
    "empty": (IMAGES[:0], ValueError, r"not be empty. .*shape=\(0, 6, 9, 3\)"),
    "strings": (IMAGES.astype(str), TypeError, "an array of numbers"),
    "ragged": ([[1, 2], [3]], TypeError, "an array of numbers. Received: list"),
    "nothing": (None, TypeError, "an array of numbers. Received: NoneType"),
}


@pytest.mark.parametrize(
    "plot", [plotting.plot_grad_cam, plotting.plot_attention_maps]
)
@pytest.mark.parametrize(
    ("images", "error", "message"), WRONG_IMAGES.values(), ids=WRONG_IMAGES
)
def test_images_that_cannot_be_drawn_are_refused(plot, images, error, message):
    with pytest.raises(error, match=f"(?s)`images`.*{message}"):
        plot(images, {})


@pytest.mark.parametrize(
    ("plot", "most"),
    [(plotting.plot_grad_cam, 32), (plotting.plot_attention_maps, 8)],
)
def test_more_images_than_can_be_read_are_refused(plot, most):
    with pytest.raises(ValueError, match=rf"in parts: images\[:{most}\]"):
        plot(np.zeros((most + 1, 4, 5)), {})


WRONG_HEAT = {
    "none": ({"heat_maps": {}}, "at least one network. .* heat_maps={}"),
    "fewer": ({"heat_maps": HEAT["SE"][:1]}, r"\(2, 6, 9\).*=\(1, 6, 9\)"),
    "other_size": (
        {"heat_maps": {"SE": HEAT["SE"][:, :3]}},
        r'`heat_maps\["SE"\]` must be of shape \(2, 6, 9\)',
    ),
    "rank": ({"heat_maps": HEAT["SE"][..., None]}, r"=\(2, 6, 9, 1\)"),
    "below": ({"heat_maps": -HEAT["SE"]}, r"in \[0, 1\]. .*numbers from -"),
    "above": ({"heat_maps": 255 * HEAT["SE"]}, r"in \[0, 1\]. .*to 2"),
    "nan": ({"heat_maps": {"SE": NAN}}, r"heat_maps\[.*finite.* 1 that are"),
    "other_names": (
        {"probabilities": {"SE": [0, 1], "cbam": [0, 1]}},
        'names of `heat_maps`, "baseline", "SE", "CBAM".* of "SE", "cbam"',
    ),
    "no_names": ({"probabilities": [0, 1]}, "an array without names"),
    "all_classes": (
        {"heat_maps": HEAT["SE"], "probabilities": np.ones((B, 10))},
        r"`probabilities` must be of shape \(2,\), .*=\(2, 10\)",
    ),
    "percent": (
        {"heat_maps": HEAT["SE"], "probabilities": [50, 83]},
        r"`probabilities` must be in \[0, 1\]. Received: numbers from 50 to 83",
    ),
    "few_labels": ({"labels": ["cat"]}, '2 strings, .* Received: 1, "cat"'),
    "one_label": ({"labels": "ab"}, '2 strings, .* Received: 1, "ab"'),
    "one_box": ({"boxes": [0, 0, 2, 2]}, r"`boxes` .* \(2, 4\).*=\(4,\)"),
    "empty_box": (
        {"boxes": [[0, 0, 2, 2], [3, 1, 3, 2]]},
        r"of 6 x 9, .* Received: \[3.*, 1.*, 3.*, 2.*\]",
    ),
    "box_outside": ({"boxes": [[0, 0, 6, 9], [0, 0, 9, 6]]}, r"Received: \[0"),
    "negative_box": ({"boxes": [[-1, 0, 6, 9]] * 2}, r"Received: \[-1"),
    "fractions": (
        {"boxes": [[0.1, 0.2, 0.5, 0.6]] * 2},
        r"give boxes \* \[height, width, height, width\]",
    ),
    "nan_box": ({"boxes": [[np.nan, 0, 6, 9]] * 2}, "`boxes` must be finite"),
}


@pytest.mark.parametrize(
    ("wrong", "message"), WRONG_HEAT.values(), ids=WRONG_HEAT
)
def test_what_does_not_belong_to_the_images_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        plotting.plot_grad_cam(IMAGES, **{"heat_maps": HEAT, **wrong})


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"labels": 7}, "labels"),
        ({"heat_maps": {"SE": "high"}}, r'heat_maps\["SE"\]'),
        ({"boxes": "all"}, "boxes"),
    ],
    ids=["labels", "heat_maps", "boxes"],
)
def test_arguments_of_another_kind_are_refused(wrong, name):
    with pytest.raises(TypeError, match=f"`{name}` must be a"):
        plotting.plot_grad_cam(IMAGES, **{"heat_maps": HEAT, **wrong})


@pytest.mark.parametrize(
    ("maps", "error", "message"),
    [
        (CHANNEL, TypeError, "explain.attention_maps returns. .*: ndarray"),
        ({}, ValueError, "at least one layer. Received: maps={}"),
        ({"cbam": CHANNEL[0]}, TypeError, r'`maps\["cbam"\]` must be a tuple'),
        ({"cbam": None}, TypeError, "a tuple .* Received: NoneType"),
        ({"cbam": (None, None)}, ValueError, "a spatial map or both"),
        (
            {"cbam": (CHANNEL[:1], SPATIAL)},
            ValueError,
            r"B=2 images, .* Received: \(1, 16\) where \(B, C\) belongs",
        ),
        (
            {"cbam": (CHANNEL, SPATIAL[..., None])},
            ValueError,
            r"Received: \(2, 2, 3, 1\) where \(B, h, w\) belongs",
        ),
        ({"cbam": (CHANNEL * np.nan, None)}, ValueError, "must be finite"),
    ],
    ids=["array", "none", "map", "nothing", "empty", "fewer", "rank", "nan"],
)
def test_maps_that_are_none_are_refused(maps, error, message):
    with pytest.raises(error, match=message):
        plotting.plot_attention_maps(IMAGES, maps)
