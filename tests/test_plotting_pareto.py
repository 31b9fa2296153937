"""The figure of costs shows the Pareto front and its numbers."""

import numpy as np
import pytest
from plotting_checks import trial

from cbam_keras import plotting

pytest.importorskip("matplotlib", reason="figures need matplotlib")


def _front(trials, cost):
    """Returns the numbers that no other beats, by comparing all pairs.

    Of equal ones it is the first.
    """
    return {
        one.number
        for one in trials
        if not any(
            (getattr(other, cost), -other.val_accuracy, other.number)
            < (getattr(one, cost), -one.val_accuracy, one.number)
            and other.val_accuracy >= one.val_accuracy
            for other in trials
        )
    }


@pytest.mark.parametrize("index", [0, 1], ids=["parameters", "macs"])
def test_the_pareto_front_is_drawn_and_numbered(index):
    rng = np.random.default_rng(0)
    trials = [
        # So few costs and accuracies that some are equal.
        trial(i, accuracy / 20, cost=tuple(map(int, costs)), attention="se")
        for i, (accuracy, costs) in enumerate(
            zip(
                map(int, rng.integers(20, size=40)),
                rng.integers(1, 15, (40, 2)),
                strict=True,
            )
        )
    ]
    cost = ("parameters", "macs")[index]
    front = _front(trials, cost)
    axes = plotting.plot_pareto(trials).axes[index]
    assert {int(text.get_text()) for text in axes.texts} == front
    (line,) = (x for x in axes.get_lines() if x.get_label() == "Pareto front")
    corners = {
        (getattr(t, cost), 100 * t.val_accuracy)
        for t in trials
        if t.number in front
    }
    assert set(map(tuple, line.get_xydata()[:-1])) == corners
    assert line.get_drawstyle() == "steps-post"
    # It continues to the most expensive trial.
    assert line.get_xdata()[-1] == max(getattr(t, cost) for t in trials)


@pytest.mark.parametrize(
    ("most", "scale"),
    [(12000, "log"), (8000, "linear")],
    ids=["wide", "narrow"],
)
def test_costs_are_logarithmic_from_a_factor_of_ten_on(most, scale):
    trials = [trial(0, 0.5), trial(1, 0.6, cost=(most, 50000))]
    left, right = plotting.plot_pareto(trials).axes
    assert (left.get_xscale(), right.get_xscale()) == (scale, "linear")
    assert left.get_ylabel() == "Validation accuracy (%)"
    assert [left.get_xlabel(), right.get_xlabel()] == [
        "Parameters",
        "Multiply-accumulates",
    ]


def test_an_unknown_cost_has_no_panel():
    (axes,) = plotting.plot_pareto([trial(0, 0.5, cost=(7, None))]).axes
    assert axes.get_xlabel() == "Parameters"
    with pytest.raises(ValueError, match="parameters and macs are None"):
        plotting.plot_pareto([trial(0, 0.5, cost=(None, None))])
