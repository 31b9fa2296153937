"""Searches: the effects of hyperparameters, and accuracy against cost."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from cbam_keras import _checks
from cbam_keras.plotting import style

COSTS = {"parameters": "Parameters", "macs": "Multiply-accumulates"}
RATIO, KERNEL = "reduction_ratio", "kernel_size"
# Few trials say nothing about more hyperparameters.
MAX_PANELS = 6
# Of the colours of the map, in percentage points: a scale that ends at the
# least and the greatest mean would show the noise of a seed as an effect.
MIN_RANGE = 10
# Inches of a panel.
WIDTH, HEIGHT = 3.4, 2.9
# In a mosaic of panels, whose numbers start at 0.
EMPTY, MAP = -2, -1


def plot_search(trials: Sequence[Any], title: str = "") -> Any:
    """Draws the effect of each hyperparameter of a search on the accuracy.

    There is a panel per hyperparameter that varies, with a point per finished
    trial that used it. Of more than six, those are shown whose medians differ
    most, at most one for two trials. Choices are shown side by side with
    their means, numbers from a range on an axis. Searches over attention also
    get a heat map of the mean accuracy and the number of trials by reduction
    ratio and kernel size, with SE and no attention for comparison.

    Args:
        trials: Sequence of objects with `values` (dictionary of the
            hyperparameters that the trial used), `outcome` (string; only
            `"finished"` trials are drawn) and `val_accuracy` (in [0, 1]), as
            in `SearchResults.trials`.
        title: String, written over the figure. Defaults to `""`.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: If no trial is finished, or if none has hyperparameters.
        ImportError: If matplotlib is not installed.

    Example:
        >>> from types import SimpleNamespace
        >>> trial = SimpleNamespace(
        ...     values={"units": 8}, outcome="finished", val_accuracy=0.9
        ... )
        >>> figure = plot_search([trial])
    """
    finished = _finished_trials(trials)
    values: dict[str, list] = {}
    for trial in finished:
        for name, value in trial.values.items():
            values.setdefault(name, []).append(value)
    if not values:
        raise ValueError(
            "`trials` must have hyperparameters to draw. Received: trials "
            "whose values={}"
        )
    # A single value in all trials shows no effect.
    varying = [x for x in values if any(y != values[x][0] for y in values[x])]
    names = varying or list(values)
    effects = {name: _effect(finished, name) for name in names}
    most = max(MAX_PANELS, len(finished) // 2)
    shown = sorted(names, key=lambda name: -effects[name])[:most]
    left_out = [name for name in names if name not in shown]
    names = [name for name in names if name in shown]

    cells = _accuracies_by_gate(finished)
    mosaic = _mosaic(len(names), bool(cells))
    width, height = WIDTH * mosaic.shape[1], HEIGHT * len(mosaic)
    figure = style.new_figure(width, 0.6 + height, title)
    panels = figure.subplot_mosaic(mosaic, empty_sentinel=EMPTY)
    if cells:
        _draw_map(panels[MAP], cells)
    styles = _attention_styles(finished)
    limits = style.padded_limits([100 * t.val_accuracy for t in finished])
    for (row, column), number in np.ndenumerate(mosaic):
        if number >= 0:
            axes = panels[number]
            _draw_effect(axes, names[number], finished, styles)
            axes.set_ylim(*limits)
            if column == 0 or mosaic[row, column - 1] == MAP:
                axes.set_ylabel("Validation accuracy (%)")
    note = f"Not shown, with less effect: {', '.join(left_out)}"
    note = style.wrap(note, width, style.TITLE, 3) if left_out else ""
    style.add_legend(figure, panels.values(), title=note)
    return figure


def _effect(trials, name):
    """Returns how much the median accuracies of the values differ.

    A single trial that failed to learn would decide on the means.
    """
    trials = [trial for trial in trials if name in trial.values]
    values = [trial.values[name] for trial in trials]
    if _on_axis(values):
        middle = np.median(values)
        values = [value > middle for value in values]
    accuracies: dict = {}
    for trial, value in zip(trials, values, strict=True):
        accuracies.setdefault(value, []).append(trial.val_accuracy)
    return np.ptp([np.median(x) for x in accuracies.values()])


def _mosaic(count, has_map):
    """Returns the numbers of the panels in rows and columns.

    The heat map takes two rows and two columns, where there is one.
    """
    columns = math.ceil(count**0.5)
    if has_map:
        columns = 3 if count < 3 else 4
    rows = math.ceil((count + 4 * has_map) / columns)
    mosaic = np.full((max(rows, 2 * has_map), columns), EMPTY)
    mosaic[: 2 * has_map, : 2 * has_map] = MAP
    mosaic.flat[np.flatnonzero(mosaic == EMPTY)[:count]] = range(count)
    return mosaic


def _draw_effect(axes, name, trials, styles):
    """Draws the accuracies of the trials over one hyperparameter."""
    trials = [trial for trial in trials if name in trial.values]
    values = [trial.values[name] for trial in trials]
    axes.set_xlabel(style.wrap(name, WIDTH, 13, 2))
    style.style_axes(axes, "y")
    if _on_axis(values):
        style.set_x_scale(axes, values, "{x:g}")
        _draw_trials(axes, values, trials, styles)
        return
    choices = list(dict.fromkeys(values))
    choices.sort(key=None if _are_numbers(choices) else str)
    for position, choice in enumerate(choices):
        mean = np.mean(
            [t.val_accuracy for t in trials if t.values[name] == choice]
        )
        axes.plot(
            [position - 0.32, position + 0.32],
            [100 * mean, 100 * mean],
            color="black",
            linewidth=2,
            label="mean",
        )
    # Trials of the same choice side by side, the same in every figure.
    shifts = np.random.default_rng(0).uniform(-0.22, 0.22, len(trials))
    positions = [choices.index(value) for value in values] + shifts
    _draw_trials(axes, positions, trials, styles)
    labels = [style.wrap(choice, 1, 10, 2) for choice in choices]
    wide = sum(max(map(len, x.split("\n"))) + 1 for x in labels) > 36
    rotation = {"rotation": 90} if wide else {}
    axes.set_xticks(range(len(labels)), labels, fontsize=9, **rotation)
    axes.set_xlim(-0.6, len(labels) - 0.4)


def _on_axis(values):
    """Returns whether values are drawn on an axis, not side by side."""
    return _are_numbers(values) and (
        len(set(values)) > 8 or any(isinstance(x, float) for x in values)
    )


def _are_numbers(values):
    return all(
        isinstance(value, (int, float)) and not isinstance(value, bool)
        for value in values
    )


def _accuracies_by_gate(trials):
    """Returns accuracies by kernel size and reduction ratio, `{}` without both.

    The keys are pairs of a row and a column, in whose order they are drawn:
    whether there is no such gate, a number of the kind of attention, and the
    kernel size or ratio. The values are the kind of attention and its
    accuracies, none where a kind with both gates was not tried. Other kinds
    stand below or to the right of those with both, where they were tried.
    """
    kinds: dict[tuple, list] = {}
    for kind, *gates in sorted(
        {(_attention_of(t), *_gates(t)) for t in trials}
    ):
        kinds.setdefault(tuple(gates), []).append(kind)
    kernels, ratios = (
        sorted({t.values[key] for t in trials if key in t.values})
        for key in (KERNEL, RATIO)
    )
    cells: dict[tuple, tuple[str, list]] = {
        ((False, number, kernel), (False, 0, ratio)): (kind, [])
        for number, kind in enumerate(kinds.get((True, True), ()))
        for kernel in kernels
        for ratio in ratios
    }
    for trial in trials if cells else ():
        kind, gates = _attention_of(trial), _gates(trial)
        number = kinds[gates].index(kind)
        # Kinds with a kernel size alone stand beside each other.
        row_number, column_number = (
            (0, number) if gates == (True, False) else (number, 0)
        )
        row = not gates[0], row_number, trial.values.get(KERNEL, 0)
        column = not gates[1], column_number, trial.values.get(RATIO, 0)
        cell = cells.setdefault((row, column), (kind, []))
        cell[1].append(trial.val_accuracy)
    return cells


def _gates(trial):
    return KERNEL in trial.values, RATIO in trial.values


def _draw_map(axes, cells):
    """Draws the mean accuracy and the number of trials of each cell."""
    rows, columns = (sorted(set(keys)) for keys in zip(*cells, strict=True))
    means = np.full((len(rows), len(columns)), np.nan)
    for (row, column), (_, values) in cells.items():
        if values:
            mean = 100 * np.mean(values)
            means[rows.index(row), columns.index(column)] = mean
    low, high = _color_limits(means[np.isfinite(means)])
    colors = {"cmap": style.ACCURACY, "vmin": low, "vmax": high}
    image = axes.imshow(means, aspect="auto", **colors)
    several = len({kind for kind, _ in cells.values()}) > 1
    for (row, column), (kind, values) in cells.items():
        y, x = rows.index(row), columns.index(column)
        text = f"{style.wrap(kind, 1, 10, 2)}\n" if several else ""
        if values:
            text += f"{means[y, x]:.1f} %\nn = {len(values)}"
            color = "black" if image.norm(means[y, x]) > 0.5 else "white"
        else:
            text, color = text + "no trial", "0.3"
            sides = [x - 0.5, x + 0.5]
            axes.fill_between(sides, y - 0.5, y + 0.5, color=style.ABSENT)
        size = 9 if len(columns) < 8 else 7
        axes.text(x, y, text, color=color, size=size, ha="center", va="center")
    # Lines between the cells.
    axes.set_xticks(np.arange(len(columns) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(rows) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=2)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    row_names, column_names = (
        ["no gate" if without else str(value) for without, _, value in keys]
        for keys in (rows, columns)
    )
    axes.set_xticks(range(len(columns)), column_names)
    axes.set_yticks(range(len(rows)), row_names)
    axes.set(xlabel=RATIO, ylabel=KERNEL)
    axes.set_title("Mean validation accuracy, number of trials", fontsize=10)


def _color_limits(means):
    """Returns the limits of the colours: wide enough, without outliers."""
    lower, upper = np.percentile(means, (25, 75))
    # Tukey's fences, beyond which a mean has the colour of the limit.
    fence = 1.5 * max(upper - lower, MIN_RANGE / 4)
    low = max(means.min(), lower - fence)
    high = min(means.max(), upper + fence)
    padding = max(0, MIN_RANGE - (high - low)) / 2
    return low - padding, high + padding


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
    finished = _finished_trials(trials)
    known = {
        key: [trial for trial in finished if getattr(trial, key) is not None]
        for key in COSTS
    }
    shown = [key for key in COSTS if known[key]]
    if not shown:
        raise ValueError(
            "`trials` must have costs to draw. Received: trials whose "
            "parameters and macs are None"
        )
    figure = style.new_figure(10, 4.6, title)
    panels = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for axes, key in zip(panels, shown, strict=True):
        _draw_costs(axes, known[key], key, _attention_styles(finished))
    panels[0].set_ylabel("Validation accuracy (%)")
    panels[0].set_ylim(
        *style.padded_limits([100 * t.val_accuracy for t in finished])
    )
    style.add_legend(figure, panels)
    return figure


def _draw_costs(axes, trials, key, styles):
    """Draws accuracy over a cost, and the Pareto front with its numbers."""
    ticker = _checks.require("matplotlib.ticker", extra="plot")
    costs = [getattr(trial, key) for trial in trials]
    _draw_trials(axes, costs, trials, styles)
    style.set_x_scale(axes, costs, ticker.EngFormatter(sep=" "))
    front = []
    for cost, loss, number in sorted(
        (cost, -100 * trial.val_accuracy, trial.number)
        for cost, trial in zip(costs, trials, strict=True)
    ):
        if not front or -loss > front[-1][1]:
            front.append((cost, -loss))
            # No trial is cheaper and better, so the upper left is free.
            axes.annotate(
                str(number),
                front[-1],
                xytext=(-4, 3),
                textcoords="offset points",
                ha="right",
                va="bottom",
                fontsize=9,
            )
    axes.plot(
        # Up to the greatest cost, where nothing is better.
        *zip(*front, (max(costs), front[-1][1]), strict=True),
        color="black",
        linewidth=1,
        drawstyle="steps-post",
        zorder=1,
        label="Pareto front",
    )
    axes.set_xlabel(COSTS[key])
    style.style_axes(axes, "both")


def _finished_trials(trials):
    """Returns the trials that are finished, or raises if there are none."""
    finished = [trial for trial in trials if trial.outcome == "finished"]
    if not finished:
        raise ValueError(
            "`trials` must hold at least one finished trial. Received: "
            f"{len(trials)} trials, none of them finished"
        )
    return finished


def _attention_of(trial):
    """Returns the kind of attention of a trial, by which it is coloured."""
    return str(trial.values.get("attention", "a trial"))


def _attention_styles(trials):
    """Returns a style for each kind of attention."""
    styles = style.styles_of(sorted({_attention_of(trial) for trial in trials}))
    return {kind: {**look, "linestyle": ""} for kind, look in styles.items()}


def _draw_trials(axes, positions, trials, styles):
    """Draws the accuracy of each trial over a position on the x axis."""
    for kind, look in styles.items():
        points = [
            (x, 100 * trial.val_accuracy)
            for x, trial in zip(positions, trials, strict=True)
            if _attention_of(trial) == kind
        ]
        if points:
            axes.plot(
                *zip(*points, strict=True),
                **look,
                markersize=6,
                alpha=0.8,
                label=kind,
            )
