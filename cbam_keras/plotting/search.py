"""Figures of results. Every function returns a matplotlib figure."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from cbam_keras.plotting import style
from cbam_keras.plotting.style import broken, legend, padded, plain, scale
from cbam_keras.plotting.trials import _finished, arm, arm_styles, draw_arms


def plot_search(trials: Sequence[Any], title: str = "") -> Any:
    """Draws what each hyperparameter of a search did to the accuracy.

    A panel per hyperparameter that varies, with a point per finished trial
    in which it was of use: choices stand beside each other, each with its
    mean; numbers from a range on an axis. In searches over attention a map of
    the reduction ratio by the kernel size is drawn too, with SE and none
    beside: the mean accuracy, and of how many trials.

    Args:
        trials: Sequence of objects with `values` (dictionary, hyperparameter
            to value, without those that were of no use), `outcome` (string;
            all but `"finished"` are left out) and `val_accuracy` (in
            [0, 1]), as in `SearchResults.trials`.
        title: String, stands over the figure. Defaults to `""`.

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
    finished = _finished(trials)
    names = list(dict.fromkeys(key for t in finished for key in t.values))
    if not names:
        raise ValueError(
            "`trials` must have hyperparameters to draw. Received: trials "
            "whose values={}"
        )
    # One value in all trials tells of no effect.
    names = [name for name in names if _varies(finished, name)] or names
    heat = heat_map(finished)
    styles = arm_styles(finished)
    # The map takes two rows and two columns of the panels' grid.
    columns = (2 if heat else 0) + (1 if len(names) < 3 else 2)
    if len(names) > (4 if heat else 6):
        columns = 4
    places = [
        (row, column)
        for row in range(len(names) + 2)
        for column in range(columns)
        if not (heat and row < 2 and column < 2)
    ][: len(names)]
    rows = max(2 if heat else 1, places[-1][0] + 1)
    figure = style.figure((3.4 * columns, 0.6 + 2.9 * rows), title)
    cells = figure.add_gridspec(rows, columns)
    if heat:
        draw_heat(figure.add_subplot(cells[:2, :2]), *heat)
    for name, (row, column) in zip(names, places, strict=True):
        axes = figure.add_subplot(cells[row, column])
        own = [t for t in finished if name in t.values]
        draw_effect(axes, name, own, styles)
        if column == (2 if heat and row < 2 else 0):
            axes.set_ylabel("Validation accuracy (%)")
    panels = figure.axes[-len(names) :]
    low, high = padded([100 * t.val_accuracy for t in finished])
    for axes in panels:
        axes.set_ylim(low, high)
    legend(figure, panels)
    return figure


def _varies(trials, name):
    own = [trial.values[name] for trial in trials if name in trial.values]
    return any(value != own[0] for value in own)


RATIO, KERNEL = "reduction_ratio", "kernel_size"


def draw_effect(axes, name, trials, styles):
    """Draws the accuracies of trials over one hyperparameter."""
    values = [trial.values[name] for trial in trials]
    choices = list(dict.fromkeys(values))
    numeric = all(
        isinstance(value, (int, float)) and not isinstance(value, bool)
        for value in choices
    )
    if numeric and (
        len(choices) > 8 or any(isinstance(value, float) for value in choices)
    ):
        scale(axes, values, "{x:g}")
        places = values
    else:
        choices.sort(key=None if numeric else str)
        draw_means(axes, choices, trials, name)
        # Equal ones beside each other, in the same places every time.
        shifts = np.random.default_rng(0).uniform(-0.22, 0.22, len(trials))
        places = [
            choices.index(value) + shift
            for value, shift in zip(values, shifts, strict=True)
        ]
    axes.set_xlabel(broken(name, 30, 60))
    plain(axes, "y")
    draw_arms(axes, places, trials, styles)


def draw_means(axes, choices, trials, name):
    """Draws the mean of each choice of a hyperparameter, and names it."""
    for place, choice in enumerate(choices):
        mean = np.mean(
            [
                trial.val_accuracy
                for trial in trials
                if trial.values[name] == choice
            ]
        )
        axes.plot(
            [place - 0.32, place + 0.32],
            [100 * mean] * 2,
            color="black",
            linewidth=2,
            label="mean",
        )
    labels = [broken(choice) for choice in choices]
    wide = sum(max(map(len, x.split("\n"))) + 1 for x in labels) > 36
    turned = {"rotation": 90} if wide else {}
    axes.set_xticks(range(len(labels)), labels, fontsize=9, **turned)
    axes.set_xlim(-0.6, len(labels) - 0.4)


def heat_map(trials):
    """Returns a map of kernel sizes by reduction ratios.

    Beside those that have both stand the kinds of attention with one of them
    or none, each in rows or columns of its own.

    Returns:
        The names of the rows, those of the columns, and by place the kind of
        attention and its accuracies, of which there may be none; or `None`
        if no trial has both.
    """
    kinds = {}
    for trial in sorted(trials, key=arm):
        kind = RATIO in trial.values, KERNEL in trial.values
        names = kinds.setdefault(kind, [])
        if arm(trial) not in names:
            names.append(arm(trial))
    if (True, True) not in kinds:
        return None
    ratios, kernels = (
        sorted({t.values[key] for t in trials if key in t.values})
        for key in (RATIO, KERNEL)
    )
    both = kinds[True, True]
    by_ratio, by_kernel, neither = (
        kinds.get(kind, [])
        for kind in ((True, False), (False, True), (False, False))
    )
    below, right = len(both) * len(kernels), len(ratios)
    cells = {}

    def put(name, top, left, sizes, factors):
        for y, size in enumerate(sizes):
            for x, factor in enumerate(factors):
                cells[top + y, left + x] = (
                    name,
                    [
                        trial.val_accuracy
                        for trial in trials
                        if arm(trial) == name
                        and trial.values.get(KERNEL) == size
                        and trial.values.get(RATIO) == factor
                    ],
                )

    for index, name in enumerate(both):
        put(name, index * len(kernels), 0, kernels, ratios)
    for index, name in enumerate(by_ratio):
        put(name, below + index, 0, [None], ratios)
    for index, name in enumerate(by_kernel):
        put(name, 0, right + index, kernels, [None])
    for index, name in enumerate(neither):
        put(name, below + index, right, [None], [None])
    rows = [str(size) for size in kernels] * len(both)
    rows += ["no gate"] * max(len(by_ratio), len(neither))
    columns = [str(factor) for factor in ratios]
    columns += ["no gate"] * max(len(by_kernel), min(1, len(neither)))
    return rows, columns, cells


def draw_heat(axes, rows, columns, cells):
    means = np.full((len(rows), len(columns)), np.nan)
    for place, (_, values) in cells.items():
        if values:
            means[place] = 100 * np.mean(values)
    image = axes.imshow(
        np.ma.masked_invalid(means), cmap="cividis", aspect="auto"
    )
    size = 9 if len(columns) < 8 else 7
    several = len({name for name, _ in cells.values()}) > 1
    for (y, x), (name, values) in cells.items():
        text = f"{broken(name)}\n" if several else ""
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
