"""The effects of hyperparameters on the accuracy of a search."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from cbam_keras.plotting.style import (
    TITLE_SIZE,
    add_legend,
    line_length,
    new_figure,
    padded_limits,
    set_x_scale,
    style_axes,
    wrap,
)
from cbam_keras.plotting.trials import (
    attention_of,
    attention_styles,
    draw_trials,
    finished_trials,
)

RATIO, KERNEL = "reduction_ratio", "kernel_size"
# Few trials say nothing about more hyperparameters.
MAX_PANELS = 6
# Of the colours of the map, in percentage points: a scale that ends at the
# least and the greatest mean would show the noise of a seed as an effect.
LEAST_RANGE = 10


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
    finished = finished_trials(trials)
    names = list(dict.fromkeys(key for t in finished for key in t.values))
    if not names:
        raise ValueError(
            "`trials` must have hyperparameters to draw. Received: trials "
            "whose values={}"
        )
    # A single value in all trials shows no effect.
    varying = [name for name in names if _varies(finished, name)] or names
    names = most_different(finished, varying)
    heat_map = accuracy_by_gate(finished)
    cells = panel_cells(len(names), heat_map is not None)
    rows, columns = (1 + max(axis) for axis in zip(*cells, strict=True))
    if heat_map:
        rows, columns = max(2, rows), max(3, columns)
    figure = new_figure(3.4 * columns, 0.6 + 2.9 * rows, title)
    grid = figure.add_gridspec(rows, columns)
    if heat_map:
        draw_heat_map(figure.add_subplot(grid[:2, :2]), *heat_map)
    styles = attention_styles(finished)
    limits = padded_limits([100 * t.val_accuracy for t in finished])
    panels = []
    for name, (row, column) in zip(names, cells, strict=True):
        axes = figure.add_subplot(grid[row, column])
        panels.append(axes)
        draw_effect(
            axes, name, [t for t in finished if name in t.values], styles
        )
        axes.set_ylim(*limits)
        if column == (2 if heat_map and row < 2 else 0):
            axes.set_ylabel("Validation accuracy (%)")
    left_out = [name for name in varying if name not in names]
    note = f"Not shown, with less effect: {', '.join(left_out)}"
    length = line_length(3.4 * columns, TITLE_SIZE)
    add_legend(figure, panels, title=wrap(note, length, 3) if left_out else "")
    return figure


def most_different(trials, names):
    """Returns the hyperparameters whose panels are drawn, in their order."""
    most = max(MAX_PANELS, len(trials) // 2)
    ranked = sorted(names, key=lambda name: -_difference(trials, name))[:most]
    return [name for name in names if name in ranked]


def _difference(trials, name):
    """Returns how much the median accuracies of the values differ.

    A single trial that failed to learn would decide on the means.
    """
    own = [trial for trial in trials if name in trial.values]
    values = [trial.values[name] for trial in own]
    if on_axis(values):
        middle = np.median(values)
        values = [value > middle for value in values]
    accuracies: dict = {}
    for trial, value in zip(own, values, strict=True):
        accuracies.setdefault(value, []).append(trial.val_accuracy)
    return np.ptp([np.median(x) for x in accuracies.values()])


def panel_cells(count, heat_map):
    """Returns row and column of each panel, beside and below the heat map.

    The heat map takes two rows and two columns, where there is one.
    """
    columns = (2 if heat_map else 0) + (1 if count < 3 else 2)
    if count > (4 if heat_map else 6):
        columns = 4
    return [
        (row, column)
        for row in range(count + 2)
        for column in range(columns)
        if not (heat_map and row < 2 and column < 2)
    ][:count]


def _varies(trials, name):
    values = [trial.values[name] for trial in trials if name in trial.values]
    return any(value != values[0] for value in values)


def draw_effect(axes, name, trials, styles):
    """Draws the accuracies of trials over one hyperparameter."""
    values = [trial.values[name] for trial in trials]
    choices = list(dict.fromkeys(values))
    if on_axis(values):
        set_x_scale(axes, values, "{x:g}")
        positions = values
    else:
        choices.sort(key=None if _are_numbers(choices) else str)
        draw_means(axes, choices, trials, name)
        # Trials of the same choice side by side, the same in every figure.
        shifts = np.random.default_rng(0).uniform(-0.22, 0.22, len(trials))
        positions = [
            choices.index(value) + shift
            for value, shift in zip(values, shifts, strict=True)
        ]
    axes.set_xlabel(wrap(name, 30, 2))
    style_axes(axes, "y")
    draw_trials(axes, positions, trials, styles)


def on_axis(values):
    """Returns whether values are drawn on an axis, not side by side."""
    return _are_numbers(values) and (
        len(set(values)) > 8 or any(isinstance(x, float) for x in values)
    )


def _are_numbers(values):
    return all(
        isinstance(value, (int, float)) and not isinstance(value, bool)
        for value in values
    )


def draw_means(axes, choices, trials, name):
    """Draws the mean of each choice of a hyperparameter, and names it."""
    for position, choice in enumerate(choices):
        accuracies = [
            trial.val_accuracy
            for trial in trials
            if trial.values[name] == choice
        ]
        axes.plot(
            [position - 0.32, position + 0.32],
            [100 * np.mean(accuracies)] * 2,
            color="black",
            linewidth=2,
            label="mean",
        )
    labels = [wrap(choice, 12, 2) for choice in choices]
    wide = sum(max(map(len, x.split("\n"))) + 1 for x in labels) > 36
    rotation = {"rotation": 90} if wide else {}
    axes.set_xticks(range(len(labels)), labels, fontsize=9, **rotation)
    axes.set_xlim(-0.6, len(labels) - 0.4)


def accuracy_by_gate(trials):
    """Returns accuracies by kernel size (rows) and reduction ratio (columns).

    Kinds of attention that have only one of the two, or neither, stand in a
    row or a column of their own, below and to the right, where they were
    tried.

    Returns:
        Tuple of the names of the rows, the names of the columns, and a
        dictionary of row and column to the kind of attention and its
        accuracies, none where a kind with both was not tried; or `None` if no
        trial has both.
    """
    kinds = sorted(
        {
            (attention_of(t), KERNEL in t.values, RATIO in t.values)
            for t in trials
        }
    )
    by_both, by_ratio, by_kernel, by_neither = (
        [kind for kind, *has in kinds if has == wanted]
        for wanted in (
            [True, True],
            [False, True],
            [True, False],
            [False, False],
        )
    )
    if not by_both:
        return None
    kernels, ratios = (
        sorted({t.values[key] for t in trials if key in t.values})
        for key in (KERNEL, RATIO)
    )
    # Each kind, its first row and column, and the values that it has there.
    below, right = len(by_both) * len(kernels), len(ratios)
    blocks = [
        *(
            (x, i * len(kernels), 0, kernels, ratios)
            for i, x in enumerate(by_both)
        ),
        *((x, below + i, 0, [None], ratios) for i, x in enumerate(by_ratio)),
        *((x, 0, right + i, kernels, [None]) for i, x in enumerate(by_kernel)),
        *(
            (x, below + i, right, [None], [None])
            for i, x in enumerate(by_neither)
        ),
    ]
    cells = {
        (top + y, left + x): (kind, _accuracies(trials, kind, kernel, ratio))
        for kind, top, left, own_kernels, own_ratios in blocks
        for y, kernel in enumerate(own_kernels)
        for x, ratio in enumerate(own_ratios)
    }
    # Controls need not be tried with every value.
    cells = {
        cell: (kind, values)
        for cell, (kind, values) in cells.items()
        if values or kind in by_both
    }
    rows = [str(kernel) for kernel in kernels] * len(by_both)
    rows += ["no gate"] * max(len(by_ratio), len(by_neither))
    columns = [str(ratio) for ratio in ratios]
    columns += ["no gate"] * max(len(by_kernel), min(1, len(by_neither)))
    return rows, columns, cells


def _accuracies(trials, kind, kernel, ratio):
    return [
        trial.val_accuracy
        for trial in trials
        if attention_of(trial) == kind
        and trial.values.get(KERNEL) == kernel
        and trial.values.get(RATIO) == ratio
    ]


def color_limits(means):
    """Returns the limits of the colours: wide enough, without outliers."""
    lower, upper = np.percentile(means, (25, 75))
    # Tukey's fences, beyond which a mean has the colour of the limit.
    fence = 1.5 * max(upper - lower, LEAST_RANGE / 4)
    low = max(means.min(), lower - fence)
    high = min(means.max(), upper + fence)
    padding = max(0, LEAST_RANGE - (high - low)) / 2
    return low - padding, high + padding


def draw_heat_map(axes, rows, columns, cells):
    """Draws the mean accuracy and the number of trials of each cell."""
    means = np.full((len(rows), len(columns)), np.nan)
    for cell, (_, values) in cells.items():
        if values:
            means[cell] = 100 * np.mean(values)
    low, high = color_limits(means[np.isfinite(means)])
    image = axes.imshow(
        np.ma.masked_invalid(means),
        cmap="cividis",
        aspect="auto",
        vmin=low,
        vmax=high,
    )
    size = 9 if len(columns) < 8 else 7
    several = len({kind for kind, _ in cells.values()}) > 1
    for (y, x), (kind, values) in cells.items():
        text = f"{wrap(kind, 12, 2)}\n" if several else ""
        if values:
            text += f"{means[y, x]:.1f} %\nn = {len(values)}"
            color = "black" if image.norm(means[y, x]) > 0.5 else "white"
        else:
            text, color = text + "no trial", "0.3"
            axes.fill_between(
                [x - 0.5, x + 0.5], y - 0.5, y + 0.5, color="0.93"
            )
        axes.text(
            x, y, text, color=color, fontsize=size, ha="center", va="center"
        )
    # Lines between the cells.
    axes.set_xticks(np.arange(len(columns) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(rows) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=2)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xlabel(RATIO)
    axes.set_ylabel(KERNEL)
    axes.set_title("Mean validation accuracy, number of trials", fontsize=10)
