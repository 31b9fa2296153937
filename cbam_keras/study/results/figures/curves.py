"""Training curves, and what a study compares."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cbam_keras import _checks, _files
from cbam_keras.explain.figures import style
from cbam_keras.study.files.outcomes import history_of
from cbam_keras.study.results.kept import Tested
from cbam_keras.study.results.statistics import describe_runs, ends_of

# The file of the curves in an output folder.
CURVES = "curves.png"
# What history is drawn beside the loss: its heading, and what it is scaled by.
HEADINGS = {
    "accuracy": ("Accuracy (%)", 100),
    "miou": ("mIoU (%)", 100),
    "mae": ("MAE", 1),
}


@_checks.named
def plot_history(
    rows: Sequence[Mapping[str, Any]], title: str = ""
) -> "style.Figure":
    """Draws loss and accuracy over the epochs, a color per network.

    Args:
        rows: Sequence of dictionaries, one per network, run and epoch, as in
            `study.Results.history`. The keys are `"network"`, `"epoch"` (from
            1), `"loss"`, `"accuracy"`, `"val_loss"` and `"val_accuracy"`, or
            `"miou"` and `"val_miou"` (in [0, 1]), or `"mae"` and `"val_mae"`,
            or losses alone. Several rows for an epoch are drawn as their mean.
        title: String, written over the figure. Defaults to `""`.

    Returns:
        A `matplotlib.figure.Figure`. Training has thin lines, validation bold
        lines and markers, with bands from the lowest to the highest run.

    Raises:
        ValueError: If there are no rows.
        ImportError: If matplotlib is not installed.

    Example:
        >>> row = {"network": "cbam", "epoch": 1, "loss": 1.0,
        ...        "accuracy": 0.5, "val_loss": 1.1, "val_accuracy": 0.4}
        >>> figure = plot_history([row])
    """
    if not rows:
        raise ValueError(
            "`rows` must hold at least one epoch. Received: rows=[]"
        )
    figure = style.new_figure(10, 4.2, title)
    ticker = _checks.require("matplotlib.ticker", extra="plot")
    styles = style.styles_of([*dict.fromkeys(row["network"] for row in rows)])
    drawn = {"loss": ("Loss", 1)}
    for key in [x for x in HEADINGS if x in rows[0]][:1]:
        drawn[key] = HEADINGS[key]
    panels = figure.subplots(1, len(drawn), squeeze=False)[0]
    for axes, (key, (heading, scale)) in zip(
        panels, drawn.items(), strict=True
    ):
        for name, look in styles.items():
            history = [row for row in rows if row["network"] == name]
            validation = _by_epoch(history, f"val_{key}", scale)
            training = _by_epoch(history, key, scale)
            epochs = [*validation]
            means = [np.mean(runs) for runs in validation.values()]
            thick = {**look, "linewidth": 2, "markersize": 5}
            axes.plot(epochs, means, **thick, label=f"{name}, validation")
            if len(history) > len(epochs):
                low = [min(runs) for runs in validation.values()]
                high = [max(runs) for runs in validation.values()]
                band = {"color": look["color"], "alpha": 0.15, "lw": 0}
                axes.fill_between(epochs, low, high, **band)
            means = [np.mean(runs) for runs in training.values()]
            thin = {**look, "linewidth": 1, "alpha": 0.6, "mfc": "none"}
            if len(epochs) > 1:
                thin["marker"] = ""
            axes.plot(epochs, means, **thin, label=f"{name}, training")
        axes.set(xlabel="Epoch", ylabel=heading)
        whole = ticker.MaxNLocator(integer=True, min_n_ticks=1)
        axes.xaxis.set_major_locator(whole)
        style.style_axes(axes, "both")
    style.add_legend(figure, panels, columns=min(4, len(styles)))
    return figure


def _by_epoch(history, key, scale):
    """Returns the values of all runs by epoch, those that are finite."""
    values = {epoch: [] for epoch in sorted({x["epoch"] for x in history})}
    for row in history:
        if math.isfinite(row[key]):
            values[row["epoch"]].append(scale * row[key])
    # A loss may become infinite, or NaN, in the last epoch of a run.
    return {epoch: runs or [math.nan] for epoch, runs in values.items()}


def plot_comparison(results: Any, title: str = "") -> "style.Figure":
    """Draws the mean of each network, its seeds, and the interval."""
    rows, measure = results.rows, results.measures[0]
    figure = style.new_figure(8, 1.6 + 0.42 * len(rows), title)
    axes = figure.subplots()
    means = {row.variant: row.mean for row in rows}
    _draw_rows(axes, rows, means.get(results.baseline), measure)
    heading = measure.column
    # "mIoU" is written as it is.
    if heading[1:2].islower():
        heading = f"{heading[0].upper()}{heading[1:]}"
    axes.set_xlabel(heading, parse_math=False)
    legend = style.add_legend(figure, [axes])
    # The legend is that of all rows, whose colors differ.
    for handle in filter(None, legend.legend_handles):
        handle.set(color="0.35")
    return figure


def _draw_rows(axes, rows, baseline, measure):
    """Draws means, seeds and intervals; `baseline` is the mean of one row."""
    scale = measure.scale
    if baseline is not None:
        label = "mean of the baseline"
        axes.axvline(scale * baseline, color="0.35", ls="--", lw=1, label=label)
    styles = style.styles_of([row.label for row in rows])
    for place, row in enumerate(rows):
        ends = ends_of(row, measure)
        if ends is not None and baseline is not None:
            drawn = [scale * (end + baseline) for end in ends]
            label = "95% CI of the difference"
            axes.plot(drawn, [place] * 2, "k|-", markersize=8, label=label)
        color = styles[row.label]["color"]
        # Points lie below the mean, equal ones below each other.
        values = [scale * value for value in row.values]
        places = [
            place + 0.2 + values[:number].count(value) * step
            for number, value in enumerate(values)
            for step in [min(0.1, 0.3 / values.count(value))]
        ]
        axes.plot(values, places, ".", color=color, label="one run")
        if row.mean is not None:
            point = [scale * row.mean], [place]
            axes.plot(*point, "o", color=color, markersize=7, label="mean")
    names = [style.wrap_to(row.label, 3.7, 10, 2) for row in rows]
    axes.set_yticks(range(len(rows)), names, parse_math=False)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    style.style_axes(axes, "x")


def draw_curves(results: Tested, *, as_pdf: bool = False) -> bool:
    """Draws the history of all networks and runs, and tells if there is one."""
    rows = history_of(results.outcomes, are_several=False)
    for row in rows:
        name = str(row["network"])
        row["network"] = results.labels.get(name, name)
    if rows:
        runs = {outcome.run for outcome in results.outcomes}
        words = describe_runs(len(runs), results.folds)
        if len(runs) == 1:
            words = str(*runs)
        figure = plot_history(rows, f"{results.data}, {words}")
        _files.write_figure(results.output / CURVES, figure, as_pdf=as_pdf)
    return bool(rows)
