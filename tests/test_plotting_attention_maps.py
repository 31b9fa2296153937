"""Figures of attention maps show the gates of each layer over the image."""

import itertools

import numpy as np
import pytest
from image_figure_checks import (
    CHANNEL,
    IMAGES,
    MAPS,
    SPATIAL,
    B,
    H,
    W,
    bar,
    below,
    names,
    panels,
    pixels,
)

from cbam_keras import plotting

pytest.importorskip("matplotlib", reason="figures need matplotlib")

text = pytest.importorskip("matplotlib.text", reason="figures need matplotlib")


def test_each_block_has_the_image_and_a_tile_per_layer():
    figure = plotting.plot_attention_maps(IMAGES, MAPS)
    curves = ["", ""]
    assert names(figure) == [*["Input", *MAPS], *curves] * B
    for index, axes in enumerate([panels(figure)[0], panels(figure)[5]]):
        (drawn,) = axes.images
        np.testing.assert_allclose(
            drawn.get_array(), IMAGES[index] / 255, atol=1e-6
        )


def test_spatial_maps_lie_over_the_whole_image():
    shown = panels(plotting.plot_attention_maps(IMAGES, MAPS))
    for index, (number, key) in itertools.product(range(B), enumerate(MAPS, 1)):
        under, over = shown[5 * index + number].images
        np.testing.assert_array_equal(over.get_array(), MAPS[key][1][index])
        # From the edges of the outer pixels, however few the map has.
        assert tuple(over.get_extent()) == (-0.5, W - 0.5, H - 0.5, -0.5)
        assert tuple(under.get_extent()) == tuple(over.get_extent())
        assert under.get_array().shape == (H, W)


def test_channel_gates_are_sorted_below():
    shown = panels(plotting.plot_attention_maps(IMAGES, MAPS))
    for index, (number, key) in itertools.product(range(B), enumerate(MAPS, 3)):
        axes = shown[5 * index + number]
        values = sorted(MAPS[key][0][index], reverse=True)
        (strip,) = axes.images
        assert strip.get_array()[0].tolist() == values
        (curve,) = axes.patches
        assert curve.get_data().values.tolist() == values
        assert axes.get_xlim() == (0, len(values))
        assert axes.get_ylim() == (0, 1)


def test_strips_are_white_above_their_values():
    maps = {"se": ([[0.5, 1.0]], None)}
    figure = plotting.plot_attention_maps(IMAGES[:1], maps)
    seen = pixels(panels(figure)[1])
    # But for the line of the curve.
    white = (seen == 255).all(axis=-1)
    height, width = white.shape
    left, right = white[:, : width // 2 - 3], white[:, width // 2 + 3 :]
    assert not left[:-3].any()
    assert right[height // 2 + 3 :].all()
    assert not right[: height // 2 - 3].any()


def test_the_ranges_stand_below_each_map():
    maps = {"cbam": ([[0.1, 0.834], [0, 1]], [[[0.25, 0.5]], [[1, 1]]])}
    figure = plotting.plot_attention_maps(IMAGES, maps)
    assert below(figure) == [
        *["", "0.25 to 0.50", "0.10 to 0.83"],
        *["", "1.00 to 1.00", "0.00 to 1.00"],
    ]


@pytest.mark.parametrize(
    ("low", "high", "limits"),
    [
        (0.4, 0.6, (0, 1)),
        (0.0, 1.0, (0, 1)),
        (0.0, 1 + 1e-6, (0, 1)),
        (0.9, 1.1, (0, 2)),
        (1.0, 1.0, (0, 2)),
        (0.0, 2.0, (0, 2)),
        (0.5, 7.0, (0, 7)),
        (-1.0, 0.5, (-1, 1)),
    ],
    ids=[
        "narrow",
        "sigmoid",
        "rounded",
        "trained",
        "identity",
        "double",
        "large",
        "negative",
    ],
)
def test_one_scale_of_colours_is_for_all(low, high, limits):
    values = np.linspace(low, high, B * 4)
    maps = {
        "one": (values.reshape(B, 4), None),
        "two": (None, np.full((B, 2, 2), (low + high) / 2)),
    }
    figure = plotting.plot_attention_maps(IMAGES, maps)
    drawn = [axes.images[-1] for axes in panels(figure)]
    maps_drawn = [x for x in drawn if x.get_array().ndim == 2]
    assert len(maps_drawn) == 2 * B
    assert {image.get_clim() for image in maps_drawn} == {limits}
    assert bar(figure).get_ylim() == limits


@pytest.mark.parametrize(
    ("maps", "panels_per_block", "missing", "note"),
    [
        ({"se": (CHANNEL, None)}, 2, [], "Curve: "),
        ({"spatial": (None, SPATIAL)}, 2, [], "Over the image: "),
        (
            {"se": (CHANNEL, None), "spatial": (None, SPATIAL)},
            3,
            ["no spatial gate", "no channel gate"],
            "Over the image: ",
        ),
    ],
    ids=["channel_only", "spatial_only", "mixed"],
)
def test_layers_may_lack_a_gate(maps, panels_per_block, missing, note):
    figure = plotting.plot_attention_maps(IMAGES, maps)
    assert len(panels(figure)) == B * panels_per_block
    texts = [t.get_text() for axes in figure.axes for t in axes.texts]
    assert [text.replace("\n", " ") for text in texts] == missing * B
    assert figure.texts[-1].get_text().startswith(note)


def test_labels_stand_over_the_blocks():
    figure = plotting.plot_attention_maps(IMAGES, MAPS, labels=["cat", "dog"])
    figure.draw_without_rendering()
    texts = {
        t.get_text(): t.get_window_extent() for t in figure.findobj(text.Text)
    }
    inputs = [a for a in panels(figure) if a.get_title() == "Input"]
    for label, axes in zip(("cat", "dog"), inputs, strict=True):
        assert 0 < texts[label].y0 - axes.bbox.y1 < 60
