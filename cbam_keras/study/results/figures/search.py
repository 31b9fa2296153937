"""Searches: accuracy by reduction ratio and kernel size."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from cbam_keras.explain.figures import style
from cbam_keras.study.plans.measures import Measure

KERNEL, RATIO = "kernel_size", "reduction_ratio"
# The colors of the map span at least so much, ten percentage points: a
# narrower scale would show the noise of a seed as an effect.
MIN_RANGE = 0.1


def plot_trials(
    trials: Sequence[Any], title: str, measure: Measure
) -> "style.Figure":
    """Draws the mean score of trials by reduction ratio and kernel size.

    The trials are those of a `study.Ranking` that finished. Attention layers
    without one of the gates, such as SE, and no attention have a row or column
    of their own for comparison.
    """
    if not any({KERNEL, RATIO} <= {*trial.values} for trial in trials):
        names = sorted({name for trial in trials for name in trial.values})
        raise ValueError(
            "Trials are drawn by reduction ratio and kernel size, which one "
            f"that finished must have. Received: {len(trials)} trials that "
            f"finished, with values of {names}"
        )
    figure = style.new_figure(7, 6, title)
    _draw_map(figure.subplots(), trials, measure)
    return figure


def _draw_map(axes, trials, measure):
    """Draws means and numbers of trials by kernel size and ratio."""
    cells: dict[tuple, list] = {}
    for trial in trials:
        kind = str(trial.values.get("attention", "a trial"))
        cell = tuple(trial.values.get(x, kind) for x in (KERNEL, RATIO))
        cells.setdefault(cell, []).append(trial)
    # Numbers come before kinds.
    rows, columns = (
        sorted(set(keys), key=lambda x: (isinstance(x, str), x))
        for keys in zip(*cells, strict=True)
    )
    means = np.full((len(rows), len(columns)), np.nan)
    for (row, column), trials_of_cell in cells.items():
        mean = measure.scale * np.mean([x.score for x in trials_of_cell])
        means[rows.index(row), columns.index(column)] = mean
    # An outlier does not widen the scale.
    lower, middle, upper = np.nanpercentile(means, (25, 50, 75))
    reach = max(measure.scale * MIN_RANGE / 2, 1.5 * (upper - lower))
    limits = {"vmin": middle - reach, "vmax": middle + reach}
    image = axes.imshow(means, cmap="cividis", aspect="auto", **limits)
    size = 9 if len(columns) < 8 else 7
    digits = 1 if measure.unit == "%" else measure.digits
    for (y, x), mean in np.ndenumerate(means):
        color, text = "0.3", "no trial"
        if trials_of_cell := cells.get((rows[y], columns[x])):
            color = "black" if image.norm(mean) > 0.5 else "white"
            text = f"{mean:.{digits}f} {measure.unit}".rstrip()
            text = f"{text}\nn = {len(trials_of_cell)}"
        elif isinstance(rows[y], str) or isinstance(columns[x], str):
            continue
        axes.text(x, y, text, color=color, size=size, ha="center", va="center")
    # Lines between the cells.
    axes.set_xticks(np.arange(len(columns) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(rows) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=2)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    for axis, values in (axes.xaxis, columns), (axes.yaxis, rows):
        names = [f"no gate:\n{x}" if isinstance(x, str) else x for x in values]
        axis.set_ticks(range(len(values)), names)
    axes.set(xlabel=RATIO, ylabel=KERNEL)
    axes.set_title(f"Mean {measure.heading}, number of trials", fontsize=10)
