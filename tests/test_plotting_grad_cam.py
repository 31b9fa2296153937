"""Figures of heat maps and gates show what they are given, legibly."""

import itertools
import sys

import numpy as np
import pytest

from cbam_keras import plotting

text = pytest.importorskip("matplotlib.text", reason="figures need matplotlib")

B, H, W = 2, 6, 9
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (B, H, W, 3), dtype="uint8")
HEAT = {name: RNG.random((B, H, W)) for name in ("baseline", "SE", "CBAM")}
CHANNEL, SPATIAL = RNG.random((B, 16)), RNG.random((B, 2, 3))
MAPS = {
    "stage1_attention": (CHANNEL, SPATIAL),
    "stage2_attention": (CHANNEL[:, :7], SPATIAL[:, :1, :1]),
}


def panels(figure):
    """Returns the axes that show images, row after row."""
    shown = [axes for axes in figure.axes if axes.images]
    return sorted(shown, key=lambda a: (-round(a.bbox.y1), a.bbox.x0))


def bar(figure):
    (found,) = (axes for axes in figure.axes if axes.get_ylabel())
    return found


def below(figure):
    return [axes.get_xlabel() for axes in panels(figure)]


def names(figure):
    """Returns the names over panels, as they were before broken to lines."""
    return [axes.get_title().replace("\n", "") for axes in panels(figure)]


def pixels(axes):
    """Returns what is seen within axes, but for their frame."""
    agg = pytest.importorskip("matplotlib.backends.backend_agg")
    canvas = agg.FigureCanvasAgg(axes.figure.figure)
    canvas.draw()
    seen = np.asarray(canvas.buffer_rgba())[::-1]
    left, bottom, right, top = axes.bbox.extents
    inner = seen[int(bottom) + 3 : int(top) - 2, int(left) + 3 : int(right) - 2]
    return inner[..., :3].astype(int)


# Grad-CAM.


def test_there_is_a_row_per_image_and_a_column_per_network():
    shown = panels(plotting.plot_grad_cam(IMAGES, HEAT))
    places = [(round(a.bbox.x0), round(a.bbox.y0)) for a in shown]
    across, down = ({place[axis] for place in places} for axis in (0, 1))
    assert set(places) == set(itertools.product(across, down))
    assert (len(places), len(across), len(down)) == (8, 4, 2)


def test_the_names_stand_over_the_first_row():
    figure = plotting.plot_grad_cam(IMAGES, HEAT)
    assert names(figure) == ["Input", "baseline", "SE", "CBAM", *[""] * 4]


def test_maps_without_a_name_are_called_grad_cam():
    figure = plotting.plot_grad_cam(IMAGES, HEAT["SE"])
    assert names(figure) == ["Input", "Grad-CAM", "", ""]


@pytest.mark.parametrize(
    ("images", "top"),
    [
        (IMAGES, 255),
        (IMAGES.astype("float32"), 255),
        (IMAGES.astype("float16"), 255),
        (IMAGES.tolist(), 255),
        (IMAGES / 255, 1),
        (IMAGES[..., :1], 255),
        (IMAGES[..., 0], 255),
        (IMAGES[..., 0] > 99, 1),
        # One dark image among others stays dark.
        (IMAGES // np.array([255, 1], "uint8")[:, None, None, None], 255),
        (np.zeros((B, H, W, 1)), 1),
    ],
    ids=[
        "uint8",
        "float32",
        "float16",
        "lists",
        "unit",
        "grey",
        "no_channels",
        "booleans",
        "dark_and_bright",
        "black",
    ],
)
def test_each_row_begins_with_the_image(images, top):
    shown = panels(plotting.plot_grad_cam(images, HEAT["SE"]))
    for row, image in enumerate(np.asarray(images, "float64")):
        (drawn,) = shown[2 * row].images
        np.testing.assert_allclose(
            drawn.get_array().reshape(H, W, -1),
            image.reshape(H, W, -1) / top,
            # That of float32.
            atol=1e-6,
        )
        if image.ndim == 2 or image.shape[-1] == 1:
            assert drawn.get_clim() == (0, 1)
            assert drawn.get_cmap().name == "gray"


def test_heat_lies_over_the_image_where_it_belongs():
    shown = panels(plotting.plot_grad_cam(IMAGES, HEAT))
    for row, (column, heat) in itertools.product(
        range(B), enumerate(HEAT.values(), 1)
    ):
        under, over = shown[4 * row + column].images
        np.testing.assert_array_equal(over.get_array(), heat[row])
        assert over.get_clim() == (0, 1)
        assert over.get_extent() == under.get_extent()
        assert over.get_zorder() >= under.get_zorder()


def test_the_image_below_is_its_luminance():
    colors = np.array([[[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1.0]]])
    figure = plotting.plot_grad_cam(colors[None], np.zeros((1, 1, 4)))
    (grey, _) = panels(figure)[1].images
    # ITU-R BT.601.
    np.testing.assert_allclose(grey.get_array(), [[0.299, 0.587, 0.114, 1]])


def test_without_heat_the_image_shows_through_in_grey():
    heat = np.stack([np.zeros((H, W)), np.ones((H, W))])
    _, cold, _, hot = panels(plotting.plot_grad_cam(IMAGES, heat))
    assert np.ptp(pixels(cold), axis=-1).max() <= 1
    assert len(np.unique(pixels(cold)[..., 0])) > 20
    assert np.ptp(pixels(hot), axis=-1).min() > 50


def test_hotter_is_lighter_and_stronger():
    figure = plotting.plot_grad_cam(IMAGES, HEAT)
    colors = panels(figure)[1].images[1].get_cmap()(np.linspace(0, 1, 64))
    lightness = colors[:, :3] @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(lightness) > 0).all()
    assert (np.diff(colors[:, 3]) > 0).all()
    assert colors[0, 3] == 0


def test_probabilities_stand_below_their_maps():
    probabilities = {"SE": [0, 1], "CBAM": [0.834, 0.5], "baseline": [0.1, 0.2]}
    figure = plotting.plot_grad_cam(IMAGES, HEAT, probabilities=probabilities)
    assert below(figure) == [
        *["", "P = 0.10", "P = 0.00", "P = 0.83"],
        *["", "P = 0.20", "P = 1.00", "P = 0.50"],
    ]


@pytest.mark.parametrize("name", [None, "CBAM"], ids=["no_name", "a_name"])
def test_probabilities_of_one_network_need_no_name(name):
    heat = HEAT["SE"] if name is None else {name: HEAT["SE"]}
    figure = plotting.plot_grad_cam(
        IMAGES, heat, probabilities=np.float32([0.25, 1 + 1e-7])
    )
    assert below(figure) == ["", "P = 0.25", "", "P = 1.00"]


@pytest.mark.parametrize(
    ("labels", "shown"),
    [
        (["cat", "dog"], ["cat", "dog"]),
        (np.array([3, 8]), ["3", "8"]),
        # No formulas, which these would be to matplotlib, and wrong ones.
        (["$5$", r"$\wrong$"], ["$5$", r"$\wrong$"]),
        (None, ["", ""]),
    ],
    ids=["strings", "integers", "dollars", "none"],
)
def test_labels_stand_below_the_images(labels, shown):
    figure = plotting.plot_grad_cam(IMAGES, HEAT["SE"], labels=labels)
    figure.draw_without_rendering()
    assert below(figure) == [shown[0], "", shown[1], ""]


def test_boxes_surround_their_pixels_in_every_panel():
    boxes = [[1, 2, 4, 7], [0, 0, H, W]]
    figure = plotting.plot_grad_cam(IMAGES, HEAT["SE"], boxes=boxes)
    y, x = np.mgrid[:H, :W]
    for axes, (y_min, x_min, y_max, x_max) in zip(
        panels(figure), np.repeat(boxes, 2, axis=0), strict=True
    ):
        (box,) = axes.patches
        expected = np.zeros((H, W), bool)
        expected[y_min:y_max, x_min:x_max] = True
        inside = box.get_path().contains_points(
            box.get_patch_transform()
            .inverted()
            .transform(np.stack([x, y], -1).reshape(-1, 2))
        )
        np.testing.assert_array_equal(inside.reshape(H, W), expected)
        assert not box.get_fill()


def test_without_boxes_none_are_drawn():
    figure = plotting.plot_grad_cam(IMAGES, HEAT)
    assert not any(axes.patches for axes in panels(figure))


# Attention maps.


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


# Both.

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


@pytest.mark.parametrize("probabilities", [None, {"a": [0.2], "b": [0.75]}])
def test_classes_stand_below_the_maps(probabilities):
    heat = {name: np.ones((1, 6, 5)) for name in "ab"}
    figure = plotting.plot_grad_cam(
        np.zeros((1, 6, 5)),
        heat,
        probabilities=probabilities,
        classes={"a": ["cat"], "b": ["dog"]},
    )
    below = [axes.get_xlabel() for axes in figure.axes[1:3]]
    if probabilities:
        assert below == ["cat\nP = 0.20", "dog\nP = 0.75"]
    else:
        assert below == ["cat", "dog"]


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ({"a": ["cat"]}, "`classes` must be a mapping with the names"),
        ({"a": ["cat"], "b": []}, r'`classes\["b"\]` must hold 1 strings'),
        (["cat"], "Received: an array without names"),
    ],
)
def test_classes_belong_to_the_maps(classes, message):
    heat = {name: np.ones((1, 6, 5)) for name in "ab"}
    with pytest.raises(ValueError, match=message):
        plotting.plot_grad_cam(np.zeros((1, 6, 5)), heat, classes=classes)
