"""Accuracy against cost."""

from collections.abc import Sequence
from typing import Any

from cbam_keras import _checks
from cbam_keras.explain.figures import style
from cbam_keras.study.plans.measures import Measure, as_measure

COSTS = {
    "parameters": "Parameters",
    "macs": "Multiply-accumulates",
    "seconds_per_epoch": "Seconds per epoch",
}


def plot_costs(
    rows: Sequence[Any],
    title: str = "",
    heading: str | Measure = "test accuracy",
) -> "style.Figure":
    """Draws the accuracy of networks against what they cost.

    Args:
        rows: Rows as in `study.Results.rows`, with `label`, `mean`,
            `parameters`, `macs` and `seconds_per_epoch`. `mean` is an accuracy
            in [0, 1]; costs are `None` if unknown.
        title: String, written over the figure. Defaults to `""`.
        heading: String or `study.Measure`, the quantity that is drawn. A string
            is in percent. Defaults to `"test accuracy"`.

    Returns:
        A `matplotlib.figure.Figure`. It has a panel per cost that is known.

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
    figure, panels = draw_costs("rows", rows, title, as_measure(heading))
    style.add_legend(figure, panels.values(), ncols=min(6, len(rows)))
    return figure


def draw_costs(
    name: str, points: Sequence[Any], title: str, measure: Measure
) -> tuple["style.Figure", dict[str, "style.Axes"]]:
    """Draws a panel for each cost that is known, without a legend.

    `points` are as in `plot_costs`, and called `name` in errors; several may
    have one label. Returns the figure, and the panels by keys of `COSTS`.
    """
    drawn = {
        key: [x for x in points if None not in (x.mean, getattr(x, key))]
        for key in COSTS
    }
    keys = [key for key in COSTS if drawn[key]]
    if not keys:
        raise ValueError(
            f"`{name}` must hold a network with an accuracy and a cost. "
            f"Received: {len(points)} without"
        )
    styles = style.styles_of([*dict.fromkeys(point.label for point in points)])
    figure = style.new_figure(4.5 * len(keys), 4.5, title)
    axes_in_order = figure.subplots(1, len(keys), sharey=True, squeeze=False)
    panels = dict(zip(keys, axes_in_order[0], strict=True))
    for key, axes in panels.items():
        for label, look in styles.items():
            places = [
                (getattr(point, key), measure.scale * point.mean)
                for point in drawn[key]
                if point.label == label
            ]
            if places:
                look = {**look, "linestyle": "", "markersize": 7, "alpha": 0.8}
                axes.plot(*zip(*places, strict=True), **look, label=label)
        _scale(axes, [getattr(point, key) for point in drawn[key]])
        axes.set_xlabel(COSTS[key])
        style.style_axes(axes, "both")
    panels[keys[0]].set_ylabel(style.capitalize(measure.column))
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
