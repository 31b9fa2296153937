"""Figures of heat maps show them over their images."""

import itertools

import numpy as np
import pytest
from image_figure_checks import (
    HEAT,
    IMAGES,
    B,
    H,
    W,
    below,
    names,
    panels,
    pixels,
)

from cbam_keras import plotting

pytest.importorskip("matplotlib", reason="figures need matplotlib")


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
