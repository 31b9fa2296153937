"""The accuracy of the trials of a search against their cost."""

from collections.abc import Sequence
from typing import Any

from cbam_keras import _checks
from cbam_keras.plotting.style import (
    add_legend,
    new_figure,
    padded_limits,
    set_x_scale,
    style_axes,
)
from cbam_keras.plotting.trials import (
    attention_styles,
    draw_trials,
    finished_trials,
)

COSTS = {"parameters": "Parameters", "macs": "Multiply-accumulates"}


def plot_pareto(trials: Sequence[Any], title: str = "") -> Any:
    """Draws the accuracy of the trials of a search against their cost.

    The line is the Pareto front: no other trial is as accurate at a lower
    cost. The trials on it are labelled with their numbers.

    Args:
        trials: Sequence of objects with `number`, `values` (dictionary, whose
            `"attention"` decides the colour), `outcome` (string; only
            `"finished"` trials are drawn), `val_accuracy` (in [0, 1]),
            `parameters` and `macs` (`None` if unknown), as in
            `SearchResults.trials`.
        title: String, written over the figure. Defaults to `""`.

    Returns:
        A `matplotlib.figure.Figure`: the parameters on the left,
        multiply-accumulates on the right.

    Raises:
        ValueError: If no trial is finished, or if no cost is known.
        ImportError: If matplotlib is not installed.

    Example:
        >>> from types import SimpleNamespace
        >>> trial = SimpleNamespace(
        ...     number=0, values={}, outcome="finished", val_accuracy=0.9,
        ...     parameters=1000, macs=50000,
        ... )
        >>> figure = plot_pareto([trial])
    """
    finished = finished_trials(trials)
    known = {
        key: [t for t in finished if getattr(t, key) is not None]
        for key in COSTS
    }
    shown = [key for key in COSTS if known[key]]
    if not shown:
        raise ValueError(
            "`trials` must have costs to draw. Received: trials whose "
            "parameters and macs are None"
        )
    figure = new_figure(10, 4.6, title)
    panels = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    styles = attention_styles(finished)
    for axes, key in zip(panels, shown, strict=True):
        draw_costs(axes, known[key], key, styles)
        axes.set_xlabel(COSTS[key])
    panels[0].set_ylabel("Validation accuracy (%)")
    panels[0].set_ylim(*padded_limits([100 * t.val_accuracy for t in finished]))
    add_legend(figure, panels)
    return figure


def pareto_front(trials, key):
    """Returns the trials that no other one beats at the same cost or less."""
    front = []
    for trial in sorted(
        trials, key=lambda t: (getattr(t, key), -t.val_accuracy, t.number)
    ):
        if not front or trial.val_accuracy > front[-1].val_accuracy:
            front.append(trial)
    return front


def draw_costs(axes, trials, key, styles):
    """Draws accuracy over a cost, and the Pareto front with its numbers."""
    ticker = _checks.require("matplotlib.ticker", extra="plot")
    costs = [getattr(trial, key) for trial in trials]
    draw_trials(axes, costs, trials, styles)
    set_x_scale(axes, costs, ticker.EngFormatter(sep=" "))
    front = pareto_front(trials, key)
    points = [(getattr(t, key), 100 * t.val_accuracy) for t in front]
    axes.plot(
        # Up to the greatest cost, where nothing is better.
        *zip(*points, (max(costs), points[-1][1]), strict=True),
        color="black",
        linewidth=1,
        drawstyle="steps-post",
        zorder=1,
        label="Pareto front",
    )
    for trial, point in zip(front, points, strict=True):
        # No trial is cheaper and better, so the upper left is free.
        axes.annotate(
            str(trial.number),
            point,
            xytext=(-4, 3),
            textcoords="offset points",
            ha="right",
            va="bottom",
            fontsize=9,
        )
    style_axes(axes, "both")
