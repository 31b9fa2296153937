"""Figures over images can be read, whatever names and shapes they have."""

import itertools
import sys

import numpy as np
import pytest
from image_figure_checks import CHANNEL, HEAT, IMAGES, MAPS, SPATIAL

from cbam_keras import plotting

text = pytest.importorskip("matplotlib.text", reason="figures need matplotlib")

LONG = "loggerhead, loggerhead turtle, Caretta caretta, of the seas"
WORD = "unbreakable" * 12


def grad_cam(count, height, width, networks, label="", name="", title=""):
    images = np.zeros((count, height, width))
    return plotting.plot_grad_cam(
        images,
        {f"{name}{index}": images for index in range(networks)},
        probabilities={
            f"{name}{index}": np.ones(count) for index in range(networks)
        },
        labels=[label] * count,
        boxes=np.tile([0, 0, height, width], (count, 1)),
        title=title,
    )


def attention(count, height, width, layers, label="", name="", title=""):
    gates = np.ones((count, 64)), np.ones((count, 2, 2))
    return plotting.plot_attention_maps(
        np.zeros((count, height, width)),
        {f"{name}{index}": gates for index in range(layers)},
        labels=[label] * count,
        title=title,
    )


FIGURES = {
    "heat_least": lambda: plotting.plot_grad_cam(
        np.zeros((1, 28, 28)), np.zeros((1, 28, 28))
    ),
    "heat_small": lambda: grad_cam(2, 28, 28, 3, "7", "net", "A title"),
    "heat_many": lambda: grad_cam(8, 32, 32, 4, LONG, "ResNet50 + CBAM", LONG),
    "heat_long": lambda: grad_cam(2, 48, 48, 3, LONG * 3, LONG * 3, LONG * 9),
    "heat_word": lambda: grad_cam(1, 48, 48, 1, WORD, WORD, WORD),
    "heat_wide": lambda: grad_cam(3, 20, 160, 4, LONG, LONG, "A title"),
    "heat_wide_one": lambda: grad_cam(1, 10, 160, 1, "", "net", ""),
    "heat_tall": lambda: grad_cam(2, 160, 20, 4, LONG, "network_", "A title"),
    "gates_small": lambda: attention(1, 28, 28, 1, "7", "cbam", "A title"),
    "gates_several": lambda: attention(
        3, 32, 32, 5, LONG, "backbone/stage1_block1_attention", LONG * 4
    ),
    "gates_resnet101": lambda: attention(
        2, 28, 28, 33, "cat", "stage3_block10_attention"
    ),
    "gates_long": lambda: attention(1, 28, 28, 3, LONG * 9, LONG * 3, LONG * 9),
    "gates_word": lambda: attention(1, 28, 28, 9, WORD, WORD, WORD),
    "gates_wide": lambda: attention(2, 20, 160, 4, LONG, "layer_", "A title"),
    "gates_wide_one": lambda: attention(1, 10, 160, 1),
    "gates_tall": lambda: attention(2, 160, 20, 20, LONG, "attention_"),
    "channel_only": lambda: plotting.plot_attention_maps(
        IMAGES, {f"squeeze_excite_{i}": (CHANNEL, None) for i in range(20)}
    ),
    "spatial_only": lambda: plotting.plot_attention_maps(
        IMAGES[:1], {"spatial_attention": (None, SPATIAL[:1])}
    ),
    "mixed": lambda: plotting.plot_attention_maps(
        IMAGES, {"one": (CHANNEL, None), "two": (None, SPATIAL)}
    ),
}
each_figure = pytest.mark.parametrize("figure", FIGURES, indirect=True)


@pytest.fixture(scope="module")
def figure(request):
    """Returns a figure, drawn once for all tests in a row."""
    drawn = FIGURES[request.param]()
    drawn.draw_without_rendering()
    return drawn


@each_figure
def test_nothing_is_clipped_or_overlaps(figure):
    # But for words within a panel.
    artists = [
        artist
        for artist in figure.findobj(text.Text)
        if artist.get_text()
        and artist.get_visible()
        and not any(artist in axes.texts for axes in figure.axes)
    ]
    assert artists
    # A pixel more or less is the rounding of letters.
    boxes = [artist.get_window_extent().padded(-1) for artist in artists]
    boxes += [axes.bbox.padded(-1) for axes in figure.axes]
    assert not [
        (one, two)
        for one, two in itertools.combinations(boxes, 2)
        if one.overlaps(two)
    ]
    whole = figure.bbox
    assert not [
        box
        for box in boxes
        if not (whole.contains(*box.p0) and whole.contains(*box.p1))
    ]


@each_figure
def test_words_within_a_panel_fit_it(figure):
    for axes in figure.axes:
        for word in axes.texts:
            box = word.get_window_extent()
            assert axes.bbox.contains(*box.p0) and axes.bbox.contains(*box.p1)


@each_figure
def test_letters_can_be_read(figure):
    sizes = [
        x.get_fontsize() for x in figure.findobj(text.Text) if x.get_text()
    ]
    assert min(sizes) >= 8


@each_figure
def test_figures_are_no_wider_than_a_slide(figure):
    assert figure.get_figwidth() < 14


@each_figure
def test_images_keep_their_shape_and_can_be_seen(figure):
    for axes in figure.axes:
        # But for the curves of channel gates.
        if axes.images and axes.get_aspect() == 1:
            left, right, bottom, top = axes.images[0].get_extent()
            width, height = axes.bbox.size / figure.dpi
            assert height / width == pytest.approx(
                (bottom - top) / (right - left)
            )
            assert max(width, height) > 0.9


@pytest.mark.parametrize("name", [LONG, "backbone/stage3_block10_attention"])
def test_long_names_are_broken_and_not_cut(name):
    figure = attention(1, 28, 28, 33, name=name[:40])
    expected = ["Input", *(f"{name[:40]}{index}" for index in range(33))]
    titles = [axes.get_title() for axes in figure.axes]
    shown = [title for title in titles if title]
    squeezed = ["".join(title.split()) for title in shown]
    assert squeezed == ["".join(title.split()) for title in expected]
    assert all("\n" in title for title in shown[1:])


DRAWN = {
    "grad_cam": lambda **title: plotting.plot_grad_cam(IMAGES, HEAT, **title),
    "attention_maps": lambda **title: plotting.plot_attention_maps(
        IMAGES, MAPS, **title
    ),
}


each_kind = pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)


@each_kind
@pytest.mark.parametrize("title", ["A title", "$no$ formula", ""])
def test_the_title_stands_over_the_figure(draw, title):
    figure = draw(title=title)
    figure.draw_without_rendering()
    assert figure.get_suptitle() == title


@each_kind
def test_without_matplotlib_the_error_names_the_extra(monkeypatch, draw):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'pip install "cbam_keras\[plot\]"'):
        draw()


@each_kind
def test_drawing_needs_no_pyplot(monkeypatch, draw):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    assert draw().canvas.manager is None


@each_kind
def test_what_is_drawn_is_not_changed(draw):
    before = [x.copy() for x in (IMAGES, *HEAT.values(), CHANNEL, SPATIAL)]
    draw()
    for one, two in zip(
        before, (IMAGES, *HEAT.values(), CHANNEL, SPATIAL), strict=True
    ):
        np.testing.assert_array_equal(one, two)
