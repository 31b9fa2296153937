"""Accuracy against cost."""

from collections.abc import Mapping, Sequence
from typing import Any

from cbam_keras import _checks
from cbam_keras.plotting import style

COSTS = {
    "parameters": "Parameters",
    "macs": "Multiply-accumulates",
    "seconds_per_epoch": "Seconds per epoch",
}


def plot_costs(
    rows: Sequence[Any],
    title: str = "",
    heading: str = "test accuracy",
) -> "style.Figure":
    """Draws the accuracy of networks against what they cost.

    Args:
        rows: Sequence of objects with `label`, `mean` (an accuracy in [0, 1]),
            `parameters`, `macs` and `seconds_per_epoch` (`None` if unknown),
            as in `study.Results.rows`.
        title: String, written over the figure. Defaults to `""`.
        heading: String, what `mean` is of. Defaults to `"test accuracy"`.

    Returns:
        A `matplotlib.figure.Figure`, with a panel per cost that is known.

    Raises:
        ValueError: If no row has an accuracy and a cost.
        ImportError: If matplotlib is not installed.

    Example:
        >>> from types import SimpleNamespace
        >>> row = SimpleNamespace(
        ...     label="SE", mean=0.9, parameters=1000, macs=50000,
        ...     seconds_per_epoch=None,
        ... )
        >>> figure = plot_costs([row])
    """
    points = {
        key: [
            (row.label, getattr(row, key), row.mean)
            for row in rows
            if row.mean is not None and getattr(row, key) is not None
        ]
        for key in COSTS
    }
    if not any(points.values()):
        raise ValueError(
            "`rows` must hold a row with an accuracy and a cost. Received: "
            f"{len(rows)} rows without"
        )
    labels = [row.label for row in rows]
    figure, panels = draw_costs(points, labels, title, heading)
    style.add_legend(figure, panels.values(), ncols=min(6, len(labels)))
    return figure


def draw_costs(
    points: Mapping[str, Sequence[tuple[str, float, float]]],
    labels: Sequence[str],
    title: str,
    heading: str,
) -> tuple["style.Figure", dict[str, "style.Axes"]]:
    """Draws a panel for each cost that is known, without a legend.

    `points` are a label, the cost and an accuracy in [0, 1], by keys of
    `COSTS`. Returns the figure, and the panels by these keys.
    """
    keys = [key for key in points if points[key]]
    figure = style.new_figure(4.5 * len(keys), 4.5, title)
    axes_in_order = figure.subplots(1, len(keys), sharey=True, squeeze=False)
    panels = dict(zip(keys, axes_in_order[0], strict=True))
    for key, axes in panels.items():
        for label, look in style.styles_of(labels).items():
            places = [
                (cost, 100 * accuracy)
                for name, cost, accuracy in points[key]
                if name == label
            ]
            if places:
                look = {**look, "linestyle": "", "markersize": 7, "alpha": 0.8}
                axes.plot(*zip(*places, strict=True), **look, label=label)
        _scale(axes, [cost for _, cost, _ in points[key]])
        axes.set_xlabel(COSTS[key])
        style.style_axes(axes, "both")
    panels[keys[0]].set_ylabel(style.percent(heading))
    panels[keys[0]].margins(y=0.12)
    return figure, panels


def _scale(axes, costs):
    """Labels the axis of costs, which is logarithmic for wide ranges."""
    ticker = _checks.require("matplotlib.ticker", extra="plot")
    locator, low, high = ticker.MaxNLocator(4), min(costs), max(costs)
    if 0 < 10 * low < high:
        axes.set_xscale("log")
        # No more labels than fit below a narrow panel.
        steps = (1, 3) if high < 100 * low else (1,)
        locator = ticker.LogLocator(subs=steps, numticks=8)
        axes.xaxis.set_minor_formatter(ticker.NullFormatter())
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ticker.EngFormatter(sep=" "))
    axes.margins(x=0.1)
