"""The figure of a search shows the effect of each hyperparameter."""

import numpy as np
import pytest
from plotting_checks import TRIALS, points, trial

from cbam_keras import plotting

pytest.importorskip("matplotlib", reason="figures need matplotlib")


def panel(figure, name):
    """Returns the one panel with points over a hyperparameter."""
    (found,) = (
        axes
        for axes in figure.axes
        if axes.get_xlabel() == name and not axes.images
    )
    return found


def ticks(axes):
    return [label.get_text() for label in axes.get_xticklabels()]


def test_each_hyperparameter_has_a_panel_of_the_finished_trials():
    figure = plotting.plot_search(TRIALS)
    counts = {
        axes.get_xlabel(): sum(map(len, points(axes).values()))
        for axes in figure.axes
        if not axes.images
    }
    assert counts == {
        "attention": 5,
        "learning_rate": 5,
        "reduction_ratio": 4,
        "kernel_size": 3,
        "order": 3,
    }
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert sorted(texts) == ["cbam", "mean", "none", "se"]


def test_a_choice_has_its_trials_over_its_name_and_their_mean():
    axes = panel(plotting.plot_search(TRIALS), "order")
    assert ticks(axes) == ["channel_\nfirst", "parallel"]
    drawn = sorted((round(x), y) for x, y in points(axes)["cbam"])
    assert drawn == [
        (0, pytest.approx(94)),
        (1, pytest.approx(70)),
        (1, pytest.approx(90)),
    ]
    means = [line for line in axes.get_lines() if line.get_label() == "mean"]
    assert [line.get_ydata() for line in means] == [
        pytest.approx([94, 94]),
        pytest.approx([80, 80]),
    ]


def test_numbers_stand_in_their_order_or_where_they_are():
    figure = plotting.plot_search(TRIALS)
    axes = panel(figure, "reduction_ratio")
    assert ticks(axes) == ["8", "16"]
    assert [round(x) for x, _ in points(axes)["se"]] == [0]
    drawn = points(panel(figure, "learning_rate"))["cbam"]
    np.testing.assert_allclose(drawn, [[0.02, 90], [0.01, 94], [0.003, 70]])


@pytest.mark.parametrize(
    ("values", "scale"),
    [((0.001, 0.02), "log"), ((0.001, 0.009), "linear"), ((0, 5.0), "linear")],
)
def test_an_axis_is_logarithmic_from_a_factor_of_ten_on(values, scale):
    trials = [trial(i, 0.5, rate=rate) for i, rate in enumerate(values)]
    axes = panel(plotting.plot_search(trials), "rate")
    assert axes.get_xscale() == scale


def cells(figure):
    """Returns the texts of the map, by kernel size and reduction ratio."""
    (axes,) = (axes for axes in figure.axes if axes.images)
    rows = [label.get_text() for label in axes.get_yticklabels()]
    return {
        (rows[int(y)], ticks(axes)[int(x)]): text.get_text().split("\n")
        for text in axes.texts
        for x, y in [text.get_position()]
    }


def test_the_map_shows_means_and_counts_by_ratio_and_kernel():
    # Kinds without a gate stand beside it, under their name.
    spatial = trial(6, 0.6, attention="spatial", kernel_size=3)
    assert cells(plotting.plot_search([*TRIALS, spatial])) == {
        ("7", "16"): ["92.0 %", "n = 2"],
        ("3", "8"): ["70.0 %", "n = 1"],
        ("7", "8"): ["no trial"],
        ("3", "16"): ["no trial"],
        ("se", "8"): ["85.0 %", "n = 1"],
        ("none", "none"): ["80.0 %", "n = 1"],
        ("3", "spatial"): ["60.0 %", "n = 1"],
    }
