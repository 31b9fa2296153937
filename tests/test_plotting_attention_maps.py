"""Figures of attention maps show the gates of each layer over the image."""

import itertools

import numpy as np
import pytest
from plotting_checks import (
    CHANNEL,
    IMAGES,
    MAPS,
    SPATIAL,
    B,
    below,
    names,
    panels,
)

from cbam_keras import plotting

text = pytest.importorskip("matplotlib.text", reason="figures need matplotlib")


def test_each_image_has_a_block_with_the_gates_of_each_layer():
    figure = plotting.plot_attention_maps(IMAGES, MAPS, labels=["cat", "dog"])
    assert names(figure) == [*["Input", *MAPS], "", ""] * B
    assert {"cat", "dog"} <= {x.get_text() for x in figure.findobj(text.Text)}
    shown = panels(figure)
    for index, (place, (channel, spatial)) in itertools.product(
        range(B), enumerate(MAPS.values(), 1)
    ):
        block = shown[5 * index : 5 * index + 5]
        np.testing.assert_allclose(
            block[0].images[0].get_array(), IMAGES[index] / 255, atol=1e-6
        )
        under, over = block[place].images
        np.testing.assert_array_equal(over.get_array(), spatial[index])
        # Over the whole image, however few pixels the map has.
        assert over.get_extent() == under.get_extent()
        assert under.get_array().shape == IMAGES.shape[1:3]
        # Sorted channel gates below.
        values = sorted(channel[index], reverse=True)
        curve = block[place + 2]
        assert curve.images[0].get_array()[0].tolist() == values
        assert curve.patches[0].get_data().values.tolist() == values
        assert curve.get_xlim() == (0, len(values))


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
        (0.0, 1 + 1e-6, (0, 1)),
        (0.9, 1.1, (0, 2)),
        (1.0, 1.0, (0, 2)),
        (0.5, 7.0, (0, 7)),
        (-1.0, 0.5, (-1, 1)),
    ],
    ids=["rounded", "trained", "identity", "large", "negative"],
)
def test_one_scale_of_colours_is_for_all(low, high, limits):
    values = np.linspace(low, high, B * 4)
    maps = {
        "one": (values.reshape(B, 4), None),
        "two": (None, np.full((B, 2, 2), (low + high) / 2)),
    }
    figure = plotting.plot_attention_maps(IMAGES, maps)
    drawn = [axes.images[-1] for axes in panels(figure)]
    scales = [x.get_clim() for x in drawn if x.get_array().ndim == 2]
    assert scales == [limits] * 2 * B
    (bar,) = (axes for axes in figure.axes if axes.get_ylabel() == "Gate")
    assert bar.get_ylim() == limits


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


@pytest.mark.parametrize(
    ("maps", "error", "message"),
    [
        (CHANNEL, TypeError, "explain.attention_maps returns. .*: ndarray"),
        ({}, ValueError, "at least one layer. Received: maps={}"),
        ({"cbam": CHANNEL[0]}, TypeError, r'`maps\["cbam"\]` must be a tuple'),
        ({"cbam": (None, None)}, ValueError, "a spatial map or both"),
        ({"a": (CHANNEL[:1], None)}, ValueError, r"B=2 .* \(1, 16\) where"),
    ],
)
def test_maps_that_are_none_are_refused(maps, error, message):
    with pytest.raises(error, match=message):
        plotting.plot_attention_maps(IMAGES, maps)
