"""Heat maps and attention maps over images and signals."""

import copy
import io

import numpy as np
import pytest
from layer_checks import assert_close
from PIL import Image

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


def test_a_notebook_shows_a_figure_without_a_magic():
    formatters = pytest.importorskip("IPython.core.formatters")
    figure = plotting.plot_grad_cam(IMAGES, SE, title="Seen")
    # As in a kernel that has just started, and not run `%matplotlib inline`.
    shown, _ = formatters.DisplayFormatter().format(figure)
    picture = Image.open(io.BytesIO(shown["image/png"]))
    assert picture.format == "PNG"
    inches = figure.get_size_inches()
    # Its empty edges are cut off.
    np.testing.assert_allclose(picture.size, inches * figure.dpi, rtol=0.1)
    pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    assert len(np.unique(pixels, axis=0)) > 100
    assert copy.deepcopy(figure).get_suptitle() == "Seen"


# Attention maps.


def test_each_image_has_a_block_with_the_gates_of_each_layer():
    figure = plotting.plot_attention_maps(IMAGES, MAPS, labels=["cat", "dog"])
    assert names(figure) == [*["Input", *MAPS], "", ""] * B
    # Below images and spatial maps are the channel gates.
    for index, block in enumerate(np.reshape(panels(figure), (B, 5))):
        texts = [
            f"{x[index].min():.2f} to {x[index].max():.2f}"
            for kind in (1, 0)
            for x in [maps[kind] for maps in MAPS.values()]
        ]
        label = ("cat", "dog")[index]
        assert [x.get_xlabel() for x in block] == [label, *texts]
        over = block[1].images[-1].get_array()
        np.testing.assert_array_equal(over, SPATIAL[index])


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
    # Channels have a scale of their own.
    curve = panels(figure)[-1]
    ends = np.quantile([CHANNEL, CHANNEL], [0.01, 0.99])
    for axes in drawn:
        shown = ends if axes.patches else limits
        assert_close(axes.images[-1].get_clim(), shown, 1e-6)
    text = "Spatial attention, {:.2f} to {:.2f}\nCurves: ".format(*limits)
    assert figure.axes[-1].get_ylabel().startswith(text)
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
    assert missing == ["no spatial attention", "no channel attention"] * B
    figure = plotting.plot_attention_maps(IMAGES, {"se": (CHANNEL, None)})
    assert len(panels(figure)) == 2 * B
