"""Heat maps and attention maps over images and signals."""

import numpy as np
import pytest
from layer_checks import assert_close

from cbam_keras import plotting

pytest.importorskip("matplotlib", reason="figures need matplotlib")

B, H, W = 2, 6, 9
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (B, H, W, 3), dtype="uint8")
HEAT = {name: RNG.random((B, H, W)) for name in ("baseline", "SE", "CBAM")}
SE = HEAT["SE"]
CHANNEL, SPATIAL = RNG.random((B, 16)), RNG.random((B, 2, 3))
MAPS = {
    "stage1_attention": (CHANNEL, SPATIAL),
    "stage2_attention": (CHANNEL[:, :7], SPATIAL[:, :1, :1]),
}


def panels(figure):
    """Returns the axes that show images, row after row."""
    shown = [axes for axes in figure.axes if axes.images]
    return sorted(shown, key=lambda a: (-round(a.bbox.y1), a.bbox.x0))


def below(figure):
    return [axes.get_xlabel() for axes in panels(figure)]


def names(figure):
    """Returns the names over panels, as they were before broken to lines."""
    return [axes.get_title().replace("\n", "") for axes in panels(figure)]


DARK = IMAGES // np.array([255, 1], "uint8")[:, None, None, None]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (IMAGES / 255, IMAGES / 255),
        (IMAGES[..., :1], IMAGES[..., 0] / 255),
        (IMAGES[..., 0] > 99, IMAGES[..., 0] > 99),
        # One dark image among others stays dark.
        (DARK, DARK / 255),
    ],
    ids=["unit", "gray", "booleans", "dark and bright"],
)
def test_each_row_begins_with_the_image(given, expected):
    figure = plotting.plot_grad_cam(given, SE)
    assert names(figure) == ["Input", "Heat map", "", ""]
    for axes, image in zip(panels(figure)[::2], expected, strict=True):
        assert_close(axes.images[0].get_array().squeeze(), image)
        assert axes.images[0].get_clim() == (0, 1) or image.ndim == 3


def test_signals_are_lines_over_their_heat():
    signals, heat = RNG.normal(size=(B, 9, 3)), RNG.random((B, 9))
    drawn = panels(plotting.plot_grad_cam(signals, heat))
    for axes, signal, values in zip(drawn, signals, heat, strict=True):
        (image,) = axes.images
        np.testing.assert_array_equal(image.get_array()[0], values)
        assert tuple(image.get_extent()[:2]) == (-0.5, len(signal) - 0.5)
        # Each channel is drawn twice, in a lane of its own, the first on top.
        lines = [line.get_ydata() for line in axes.lines]
        for place, channel in enumerate(signal.T[::-1]):
            for line in lines[2 * place : 2 * place + 2]:
                assert_close(np.floor(line), place)
                assert_close(unit(line), unit(channel))


def unit(values):
    return (values - values.min()) / np.ptp(values)


def test_labels_classes_and_probabilities_stand_below():
    figure = plotting.plot_grad_cam(
        IMAGES,
        {"SE": HEAT["SE"], "CBAM": HEAT["CBAM"]},
        probabilities={"CBAM": [0.834, 0.5], "SE": [0, 1 + 1e-7]},
        # The last name is that of a folder, not in UTF-8.
        classes={"SE": ["cat", "dog"], "CBAM": ["$5$", "caf\udce9"]},
        labels=np.array([3, 8]),
    )
    assert below(figure) == [
        *("3", "cat\nP = 0.00", "$5$\nP = 0.83"),
        *("8", "dog\nP = 1.00", "caf\N{REPLACEMENT CHARACTER}\nP = 0.50"),
    ]
    figure.draw_without_rendering()


# What cannot be drawn is refused.

OF_SHAPE = r"`images` must be of the shape of their maps, \(2, None, None\)"
THREE, MANY = np.zeros((3, H, W)), np.zeros((33, 4, 5))
REFUSED = [
    ({"images": IMAGES[0]}, OF_SHAPE),
    (
        {"images": np.zeros((2, 6, 9, 13))},
        r"1 or 3 channels .*\(2, 6, 9, 13\)",
    ),
    ({"heat_maps": THREE}, "2 images and 3 maps"),
    ({"images": IMAGES[0], "heat_maps": SE[:1]}, r"as images\[None\]"),
    ({"images": MANY, "heat_maps": MANY}, "at most 32"),
    ({"images": IMAGES / 127.5 - 1}, r"images from -\d.* before preproc"),
    ({"images": 1.6 * IMAGES / 255}, r"to 1.* or np.clip\(images, 0, 1\)"),
    ({"heat_maps": {"a": SE, "b": SE[:, :3]}}, r"one shape.* \(2, 3, 9\)"),
    ({"heat_maps": 255 * SE}, r"in \[0, 1\] .*to 2"),
    (
        {"probabilities": {"SE": [0, 1], "cbam": [0, 1]}},
        r"names of `heat_maps`, \['baseline', 'SE', 'CBAM'\]",
    ),
    ({"probabilities": [0, 1]}, "must be a mapping"),
    ({"labels": [1, 2, 3]}, "`labels` must hold 2 values"),
]


@pytest.mark.parametrize(("wrong", "message"), REFUSED)
def test_what_cannot_be_drawn_or_does_not_match_is_refused(wrong, message):
    arguments = {"images": IMAGES, "heat_maps": HEAT, **wrong}
    with pytest.raises(ValueError, match=f"(?s){message}"):
        plotting.plot_grad_cam(**arguments)


# Attention maps.


def test_each_image_has_a_block_with_the_gates_of_each_layer():
    figure = plotting.plot_attention_maps(IMAGES, MAPS, labels=["cat", "dog"])
    assert names(figure) == [*["Input", *MAPS], "", ""] * B
    # Images and spatial maps, below these the sorted channel gates.
    for index, block in enumerate(np.reshape(panels(figure), (B, 5))):
        assert block[0].get_xlabel() == ("cat", "dog")[index]
        image = block[0].images[0].get_array()
        assert_close(image, IMAGES[index] / 255, 1e-6)
        for top, curve, (channel, spatial) in zip(
            block[1:3], block[3:], MAPS.values(), strict=True
        ):
            under, over = top.images
            np.testing.assert_array_equal(over.get_array(), spatial[index])
            # The map covers the image, however few pixels it has.
            assert over.get_extent() == under.get_extent()
            assert under.get_array().shape == IMAGES.shape[1:3]
            values = sorted(channel[index], reverse=True)
            assert curve.images[0].get_array()[0].tolist() == values
            assert curve.patches[0].get_data().values.tolist() == values
            assert curve.get_xlim() == (0, len(values))
            texts = [
                f"{x.min():.2f} to {x.max():.2f}"
                for x in (spatial[index], channel[index])
            ]
            assert [top.get_xlabel(), curve.get_xlabel()] == texts


@pytest.mark.parametrize(
    ("low", "high", "limits"),
    [
        (0.4, 1 + 1e-6, (0.4, 1)),
        (0.7, 1.1, (0.7, 1.3)),
        (0.5, 0.5, (0.45, 0.55)),
        (-1.0, 7.0, (-1, 7)),
    ],
    ids=["rounded", "trained", "paper", "large"],
)
def test_one_scale_of_colors_shows_the_least_and_greatest(low, high, limits):
    # One in 1,000 does not take the contrast from the others.
    values = np.repeat([low, high, 1.9], [999, 1000, 1])
    values = values if high == 1.1 else np.repeat([low, high], 1000)
    values = np.tile(values, (B, 1)).reshape(B, 50, 40)
    other = np.full((B, 1, 3), low)
    maps = {"one": (CHANNEL, values), "two": (CHANNEL, other)}
    figure = plotting.plot_attention_maps(IMAGES, maps)
    drawn = [x for x in panels(figure) if " to " in x.get_xlabel()]
    for axes in drawn:
        assert_close(axes.images[-1].get_clim(), limits, 1e-6)
    text = "Gate, {:.2f} to {:.2f}".format(*limits)
    assert figure.axes[-1].get_ylabel() == text
    # Channels, as curves, show theirs by their heights.
    curve = panels(figure)[-1]
    low, high = curve.get_ylim()
    assert low <= CHANNEL.min() and CHANNEL.max() <= high


def test_gates_that_are_the_identity_are_not_trained_yet():
    maps = {"a": (np.ones((B, 4)), np.ones((B, 2, 2)))}
    figure = plotting.plot_attention_maps(IMAGES, maps)
    assert below(figure).count("not trained yet") == 2 * B


def test_layers_may_lack_a_gate():
    maps = {"se": (CHANNEL, None), "spatial": (None, SPATIAL)}
    figure = plotting.plot_attention_maps(IMAGES, maps)
    texts = [axes.get_xlabel() for axes in figure.axes]
    missing = [text for text in texts if text.startswith("no")]
    assert missing == ["no spatial gate", "no channel gate"] * B
    figure = plotting.plot_attention_maps(IMAGES, {"se": (CHANNEL, None)})
    assert len(panels(figure)) == 2 * B


@pytest.mark.parametrize(
    ("maps", "message"),
    [
        (CHANNEL, "explain.attention_maps returns"),
        ({"cbam": (None, None)}, "tuples"),
        ({"a": (CHANNEL[:1], None)}, r"of their maps, \(1, None, None\)"),
        ({"a": (None, SPATIAL[:1])}, r"as images\[None\]"),
    ],
)
def test_what_is_no_attention_maps_is_refused(maps, message):
    images = IMAGES[0] if "images" in message else IMAGES
    with pytest.raises(ValueError, match=message):
        plotting.plot_attention_maps(images, maps)
