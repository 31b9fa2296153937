"""Figures of heat behind signals and over slices of volumes."""

import itertools

import numpy as np
import pytest
from image_figure_checks import panels

from cbam_keras import plotting

pytest.importorskip("matplotlib", reason="figures need matplotlib")

RNG = np.random.default_rng(0)
B, L, C = 2, 9, 3
SIGNALS = RNG.normal(size=(B, L, C))
HEAT = {name: RNG.random((B, L)) for name in ("baseline", "CBAM")}
D, H, W = 11, 6, 5
VOLUMES = RNG.normal(size=(B, D, H, W)) * 1000
VOLUME_HEAT = {name: RNG.random((B, D, H, W)) for name in ("baseline", "CBAM")}


@pytest.mark.parametrize("channels", [C, None])
def test_signals_are_lines_over_their_heat(channels):
    signals = SIGNALS if channels else SIGNALS[..., 0]
    shown = panels(plotting.plot_grad_cam(signals, HEAT))
    assert len(shown) == 2 * B
    for row, (place, heat) in itertools.product(
        range(B), enumerate(HEAT.values())
    ):
        axes = shown[2 * row + place]
        (image,) = axes.images
        np.testing.assert_array_equal(image.get_array()[0], heat[row])
        # Each value of the heat lies behind its value of the signal.
        assert tuple(image.get_extent()[:2]) == (-0.5, L - 0.5)
        lines = [line.get_ydata() for line in axes.lines]
        for channel in SIGNALS[row].T[: channels or 1]:
            assert any(np.array_equal(line, channel) for line in lines)


def test_hotter_is_darker_behind_signals():
    shown = panels(plotting.plot_grad_cam(SIGNALS, HEAT))
    colors = shown[0].images[0].get_cmap()(np.linspace(0, 1, 64))
    assert (np.diff(colors[:, :3] @ [0.2126, 0.7152, 0.0722]) < 0).all()


def test_signals_have_labels_classes_and_probabilities():
    figure = plotting.plot_grad_cam(
        SIGNALS,
        HEAT["CBAM"],
        labels=["walk", "run"],
        classes=["sit", "run"],
        probabilities=[0.25, 0.75],
    )
    shown = panels(figure)
    assert [axes.get_ylabel() for axes in shown] == ["walk", "run"]
    assert [axes.get_xlabel() for axes in shown] == [
        "sit  P = 0.25",
        "run  P = 0.75",
    ]


@pytest.mark.parametrize("channels", [None, 1, 3])
def test_volumes_are_slices_from_the_first_to_the_last(channels):
    volumes = VOLUMES
    if channels:
        volumes = np.repeat(VOLUMES[..., None], channels, axis=-1)
    shown = panels(plotting.plot_grad_cam(volumes, VOLUME_HEAT))
    assert [axes.get_title() for axes in shown[:6]] == [
        f"Slice {depth}" for depth in (0, 2, 4, 6, 8, 10)
    ]
    rows = itertools.product(range(B), VOLUME_HEAT.values(), range(0, D, 2))
    for axes, (index, heat, depth) in zip(shown, rows, strict=True):
        below, above = axes.images
        volume = VOLUMES[index]
        np.testing.assert_allclose(
            below.get_array(),
            (volume[depth] - volume.min()) / np.ptp(volume),
            atol=1e-3,
        )
        np.testing.assert_array_equal(above.get_array(), heat[index, depth])
        assert above.get_clim() == (0, 1)


def test_rows_of_volumes_name_the_volume_and_the_network():
    probabilities = {"baseline": [0.1, 0.2], "CBAM": [0.3, 0.4]}
    figure = plotting.plot_grad_cam(
        VOLUMES, VOLUME_HEAT, labels=["a", "b"], probabilities=probabilities
    )
    assert [axes.get_ylabel() for axes in panels(figure)[::6]] == [
        "a\nbaseline\nP = 0.10",
        "a\nCBAM\nP = 0.30",
        "b\nbaseline\nP = 0.20",
        "b\nCBAM\nP = 0.40",
    ]


@pytest.mark.parametrize(
    ("images", "heat", "options", "message"),
    [
        (SIGNALS[0, 0], HEAT, {}, r"signals of shape \(B, L, C\)"),
        (SIGNALS[:, 1:], HEAT, {}, r"must be of shape \(2, 8\)"),
        (VOLUMES[0, 0], VOLUME_HEAT, {}, r"volumes of shape \(B, D, H, W, C\)"),
        (VOLUMES[:, 1:], VOLUME_HEAT, {}, r"must be of shape \(2, 10, 6, 5\)"),
        (SIGNALS, HEAT, {"boxes": np.ones((B, 4))}, "`boxes` must be None"),
    ],
    ids=["no signals", "longer", "no volumes", "deeper", "boxes"],
)
def test_what_cannot_be_drawn_is_refused(images, heat, options, message):
    with pytest.raises(ValueError, match=message):
        plotting.plot_grad_cam(images, heat, **options)
