"""Searches: accuracy by reduction ratio and kernel size."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from cbam_keras.explain.figures import style
from cbam_keras.study.plans.measures import Measure, as_measure

KERNEL, RATIO = "kernel_size", "reduction_ratio"
# The colors of the map span at least so much, ten percentage points: a
# narrower scale would show the noise of a seed as an effect.
MIN_RANGE = 0.1


def plot_search(
    trials: Sequence[Any],
    title: str = "",
    heading: str | Measure = "validation accuracy",
) -> "style.Figure":
    """Draws the accuracy of a search by reduction ratio and kernel size.

    The heat map shows the mean accuracy and the number of trials.

    Attention layers without one of the gates, such as SE, and no attention have
    a row or column of their own for comparison.

    Args:
        trials: Trials as in `study.Ranking.trials`, or objects with `values`,
            `status` and `val_accuracy`. These are a dictionary of the
            hyperparameters that the trial used, a string (only `"finished"`
            trials are drawn), and a number in [0, 1]; a `score` takes its
            place.
        title: String, written over the figure. Defaults to `""`.
        heading: String or `study.Measure`, the quantity that is drawn. A string
            is in percent. Defaults to `"validation accuracy"`.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: If no trial is finished, or if no finished trial has both
            `reduction_ratio` and `kernel_size`.
        ImportError: If matplotlib is not installed.

    Example:
        >>> from types import SimpleNamespace
        >>> values = {"reduction_ratio": 16, "kernel_size": 7}
        >>> trial = SimpleNamespace(
        ...     values=values, status="finished", val_accuracy=0.9
        ... )
        >>> figure = plot_search([trial])
    """
    finished = _finished_trials(trials)
    if not any({KERNEL, RATIO} <= {*trial.values} for trial in finished):
        names = sorted({name for trial in finished for name in trial.values})
        raise ValueError(
            f"`trials` must hold a finished trial with values of {RATIO} and "
            f"{KERNEL}. Received: finished trials with values of {names}"
        )
    figure = style.new_figure(7, 6, title)
    _draw_map(figure.subplots(), finished, as_measure(heading))
    return figure


def _draw_map(axes, trials, measure):
    """Draws means and numbers of trials by kernel size and ratio."""
    cells: dict[tuple, list] = {}
    for trial in trials:
        kind = _attention_of(trial)
        cell = tuple(trial.values.get(x, kind) for x in (KERNEL, RATIO))
        cells.setdefault(cell, []).append(trial)
    # Numbers come before kinds.
    rows, columns = (
        sorted(set(keys), key=lambda x: (isinstance(x, str), x))
        for keys in zip(*cells, strict=True)
    )
    means = np.full((len(rows), len(columns)), np.nan)
    for (row, column), trials_of_cell in cells.items():
        mean = measure.scale * np.mean([_score(x) for x in trials_of_cell])
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


def _finished_trials(trials):
    finished = [trial for trial in trials if trial.status == "finished"]
    if not finished:
        raise ValueError(
            "`trials` must hold at least one finished trial. Received: "
            f"{len(trials)} trials, none of them finished"
        )
    return finished


def _score(trial):
    """Returns what a trial is ranked by."""
    score = getattr(trial, "score", None)
    return trial.val_accuracy if score is None else score


def _attention_of(trial):
    """Returns the kind of attention of a trial."""
    return str(trial.values.get("attention", "a trial"))
