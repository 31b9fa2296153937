"""The figure of a search shows the effect of each hyperparameter."""

import numpy as np
import pytest
from plotting_checks import FOREIGN, TRIALS, points, trial

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
    found = {axes.get_xlabel(): axes for axes in figure.axes if not axes.images}
    assert {
        name: sum(map(len, points(axes).values()))
        for name, axes in found.items()
    } == {
        "attention": 5,
        "learning_rate": 5,
        "reduction_ratio": 4,
        "kernel_size": 3,
        "order": 3,
    }
    (legend,) = figure.legends
    texts = [text.get_text() for text in legend.get_texts()]
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
    axes = panel(figure, "learning_rate")
    np.testing.assert_allclose(
        points(axes)["cbam"], [[0.02, 90], [0.01, 94], [0.003, 70]]
    )


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ((0.001, 0.02), "log"),
        ((0.001, 0.5), "log"),
        ((0.001, 0.009), "linear"),
        ((0.0, 5.0), "linear"),
    ],
    ids=["wide", "wider", "narrow", "zero"],
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
    assert cells(plotting.plot_search(TRIALS)) == {
        ("7", "16"): ["cbam", "92.0 %", "n = 2"],
        ("3", "8"): ["cbam", "70.0 %", "n = 1"],
        ("7", "8"): ["cbam", "no trial"],
        ("3", "16"): ["cbam", "no trial"],
        ("no gate", "8"): ["se", "85.0 %", "n = 1"],
        ("no gate", "no gate"): ["none", "80.0 %", "n = 1"],
    }


def test_the_map_of_one_kind_does_not_repeat_its_name():
    found = cells(plotting.plot_search(TRIALS[1:3]))
    assert found == {("7", "16"): ["92.0 %", "n = 2"]}
    # Spatial attention stands beside its kernel size, where it was tried.
    spatial = trial(6, 0.6, attention="spatial", kernel_size=3)
    found = cells(plotting.plot_search([TRIALS[1], spatial]))
    assert found["3", "no gate"] == ["spatial", "60.0 %", "n = 1"]
    assert ("7", "no gate") not in found


@pytest.mark.parametrize(
    ("trials", "panels"),
    # What has one value in all trials has no panel, unless nothing varies.
    [(FOREIGN, 12), ([TRIALS[0], TRIALS[4]], 2), (TRIALS[:1], 2)],
    ids=["foreign", "no_cbam", "none_only"],
)
def test_without_both_hyperparameters_there_is_no_map(trials, panels):
    figure = plotting.plot_search(trials)
    assert not any(axes.images for axes in figure.axes)
    assert len(figure.axes) == panels


def _wide(count):
    """Trials of ten choices; only the last one has an effect."""
    rng = np.random.default_rng(0)
    found = []
    for number in range(count):
        values = {f"option{i}": int(rng.integers(2)) for i in range(10)}
        accuracy = 0.5 + 0.2 * values["option9"]
        found.append(trial(number, accuracy, **values))
    return found


@pytest.mark.parametrize(("count", "panels"), [(12, 6), (16, 8)])
def test_of_many_hyperparameters_those_with_most_effect_are_shown(
    count, panels
):
    figure = plotting.plot_search(_wide(count))
    shown = [axes.get_xlabel() for axes in figure.axes]
    assert len(shown) == panels
    assert shown == sorted(shown)
    assert "option9" in shown
    note = figure.legends[0].get_title().get_text().replace("\n", " ")
    left_out = {f"option{i}" for i in range(10)} - set(shown)
    assert note.startswith("Not shown, with less effect: ")
    assert set(note.partition(": ")[2].split(", ")) == left_out


def _colors(accuracies):
    """Returns the norm of the map's colours of each accuracy, in order."""
    trials = [
        trial(i, x, attention="cbam", reduction_ratio=2**i, kernel_size=7)
        for i, x in enumerate(accuracies)
    ]
    (image,) = (x for a in plotting.plot_search(trials).axes for x in a.images)
    return np.asarray(image.norm(image.get_array())[0])


def test_colours_of_the_map_are_wide_enough_and_without_outliers():
    small = _colors([0.80, 0.805, 0.81])
    assert np.ptp(small) == pytest.approx(0.1)
    assert small.mean() == pytest.approx(0.5)
    failed = _colors([0.1, 0.80, 0.82, 0.84, 0.86, 0.88])
    assert failed[0] < 0
    assert failed[-1] - failed[1] > 0.3
    large = _colors([0.5, 0.6, 0.7, 0.8])
    assert (large[0], large[-1]) == (pytest.approx(0), pytest.approx(1))
