"""The accuracy of trials against their cost."""

from collections.abc import Sequence
from typing import Any

from cbam_keras import _checks
from cbam_keras.plotting import style
from cbam_keras.plotting.style import legend, padded, plain
from cbam_keras.plotting.trials import _finished, arm_styles, draw_arms


def plot_pareto(trials: Sequence[Any], title: str = "") -> Any:
    """Draws the accuracy of the trials of a search against what they cost.

    The line is the Pareto front: no other trial is as accurate for less. The
    trials on it are labelled with their numbers.

    Args:
        trials: Sequence of objects with `number`, `values` (dictionary; the
            colours tell its `"attention"` where there is one), `outcome`
            (string; all but `"finished"` are left out), `val_accuracy` (in
            [0, 1]), `parameters` and `macs` (`None` where unknown), as in
            `SearchResults.trials`.
        title: String, stands over the figure. Defaults to `""`.

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
    finished = _finished(trials)
    figure = style.figure((10, 4.6), title)
    costs = {"parameters": "Parameters", "macs": "Multiply-accumulates"}
    known = {
        key: [t for t in finished if getattr(t, key) is not None]
        for key in costs
    }
    shown = [key for key in costs if known[key]]
    if not shown:
        raise ValueError(
            "`trials` must have costs to draw. Received: trials whose "
            "parameters and macs are None"
        )
    panels = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    styles, fronts = arm_styles(finished), []
    for axes, key in zip(panels, shown, strict=True):
        fronts.append(draw_costs(axes, known[key], key, styles))
        axes.set_xlabel(costs[key])
    panels[0].set_ylabel("Validation accuracy (%)")
    panels[0].set_ylim(*padded([100 * t.val_accuracy for t in finished]))
    legend(figure, panels)
    figure.draw_without_rendering()
    for axes, front in zip(panels, fronts, strict=True):
        label_points(axes, front)
    return figure


def pareto_front(trials, key):
    """Returns the trials that no other beats for less or as much."""
    front = []
    for trial in sorted(
        trials, key=lambda t: (getattr(t, key), -t.val_accuracy, t.number)
    ):
        if not front or trial.val_accuracy > front[-1].val_accuracy:
            front.append(trial)
    return front


def draw_costs(axes, trials, key, styles):
    """Draws accuracy over a cost, and returns the points of the front."""
    ticker = _checks.require("matplotlib.ticker", extra="plot")
    costs = [getattr(trial, key) for trial in trials]
    draw_arms(axes, costs, trials, styles)
    front = pareto_front(trials, key)
    points = [(getattr(t, key), 100 * t.val_accuracy) for t in front]
    style.scale(axes, costs, ticker.EngFormatter(sep=" "))
    if points:
        axes.plot(
            # On to the right, where nothing is better.
            *zip(*points, (max(costs), points[-1][1]), strict=True),
            color="black",
            linewidth=1,
            drawstyle="steps-post",
            zorder=1,
            label="Pareto front",
        )
    plain(axes, "both")
    return {t.number: point for t, point in zip(front, points, strict=True)}


def label_points(axes, points):
    """Writes names beside points, each where it covers no other point."""
    taken = []
    for line in axes.get_lines():
        if line.get_label() != "Pareto front":
            taken += [
                (x, y, 7, 7)
                for x, y in axes.transData.transform(line.get_xydata())
            ]
    style.scale = axes.figure.dpi / 72
    around = [(-1, 1), (1, -1), (0, 1), (0, -1), (1, 1), (-1, -1)]
    for name, point in points.items():
        x, y = axes.transData.transform(point)
        width, height = 5.5 * len(str(name)) + 2, 9
        offsets = [
            (side * (6 + width / 2), up * 10 * reach)
            for reach in (1, 2, 3)
            for side, up in around
        ]

        def free(offset, x=x, y=y, width=width, height=height):
            return not any(
                abs(x + style.scale * offset[0] - other_x)
                < style.scale * (width + other_width) / 2
                and abs(y + style.scale * offset[1] - other_y)
                < style.scale * (height + other_height) / 2
                for other_x, other_y, other_width, other_height in taken
            )

        offset = next(filter(free, offsets), offsets[0])
        taken.append(
            (
                x + style.scale * offset[0],
                y + style.scale * offset[1],
                width,
                height,
            )
        )
        axes.annotate(
            str(name),
            point,
            xytext=offset,
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=9,
        )
