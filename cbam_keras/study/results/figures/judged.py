"""Confusion matrices, ROC, reliability and numbers, from predictions."""

import itertools

import numpy as np

from cbam_keras import _checks
from cbam_keras._terminal import DataFrame
from cbam_keras.explain.figures import style
from cbam_keras.study.plans.measures import is_of, reliability
from cbam_keras.study.results.kept import CLASSES, Predictions, Tested
from cbam_keras.study.results.predictions import with_probabilities

# Matrices of more classes have no numbers, and names of some classes alone.
MAX_NUMBERED = 12
# In percentage points: the colors of smaller changes would exaggerate them.
LEAST_REACH = 5
# Clouds of more points hide one another, and few networks fit beside another.
MAX_POINTS, MAX_BESIDE = 5_000, 6
# Each class has a panel of its ROC, up to so many, in rows of so many.
MAX_PANELS, PANEL_COLUMNS = 12, 4
# Where curves of several seeds are averaged.
GRID = np.linspace(0, 1, 201)


@_checks.named
def plot_confusion(
    matrix: DataFrame, title: str = "Confusion matrix"
) -> "style.Figure":
    """Draws a confusion matrix, colored by fractions of the true classes.

    Args:
        matrix: Data frame, as `Results.confusion` gives it: a row for each true
            and a column for each predicted class.
        title: String, written over the figure. Defaults to
            `"Confusion matrix"`.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    ticker = _checks.require("matplotlib.ticker", extra="plot")
    counts, fractions = matrix.to_numpy(), _fractions(matrix)
    texts = [
        f"{count:,}\n{part:.0%}" if of_class.any() else "0"
        for of_class, parts in zip(counts, fractions, strict=True)
        for count, part in zip(of_class, parts, strict=True)
    ]
    figure, bar = _draw_matrix(
        [*map(str, matrix.columns)],
        fractions,
        texts,
        scale=style.color_scale("Blues", (0, 1)),
        is_dark=fractions > 0.5,
        title=title,
    )
    bar.set_label("Fraction of true class")
    bar.ax.yaxis.set_major_formatter(ticker.PercentFormatter(1))
    return figure


def plot_confusion_change(
    matrix: DataFrame, reference: DataFrame, title: str
) -> "style.Figure":
    """Draws by how much a confusion matrix differs from another, in points."""
    changes = 100 * (_fractions(matrix) - _fractions(reference))
    reach = max(LEAST_REACH, np.abs(changes).max())
    figure, bar = _draw_matrix(
        [*map(str, matrix.columns)],
        changes,
        [f"{x:+.1f}" if abs(x) >= 0.05 else "0" for x in changes.flat],
        scale=style.color_scale("RdBu", (-reach, reach)),
        is_dark=np.abs(changes) > 0.7 * reach,
        title=title,
    )
    bar.set_label("Percentage points of true class")
    return figure


def _fractions(matrix):
    """Returns a confusion matrix as fractions of the true classes."""
    counts = matrix.to_numpy()
    # A class without images has no fractions.
    return counts / np.maximum(1, counts.sum(axis=1, keepdims=True))


def _draw_matrix(names, values, texts, *, scale, is_dark, title):
    """Returns a figure of a matrix of classes, and its color bar."""
    is_numbered = len(names) <= MAX_NUMBERED
    # Two of these fit beside each other on a page, with names that can be read.
    side = min(4.6, 2 + 0.5 * len(names))
    if len(names) > 2 * MAX_NUMBERED:
        side = 8
    figure = style.new_figure(side + 1, side, title)
    figure.set_layout_engine("compressed")
    axes = figure.subplots()
    drawn = axes.imshow(values, cmap=scale.cmap, norm=scale.norm)
    if is_numbered:
        size = 8 if len(names) < 8 else 6.5
        for (row, column), text in zip(
            np.ndindex(values.shape), texts, strict=True
        ):
            color = "white" if is_dark[row, column] else "black"
            number = axes.text(column, row, text, color=color, fontsize=size)
            number.set(ha="center", va="center")
    step = -(-len(names) // (4 * MAX_NUMBERED))
    places = range(0, len(names), step)
    labels = [style.wrap_to(names[x], 1.6, 8, 1) for x in places]
    axes.set_xticks(places, labels, rotation=90, parse_math=False)
    axes.set_yticks(places, labels, parse_math=False)
    axes.tick_params(labelsize=8 if step == 1 else 6)
    axes.set(xlabel="Predicted class", ylabel="True class")
    return figure, figure.colorbar(drawn, fraction=0.04)


def roc(predictions: Predictions, index: int) -> np.ndarray:
    """Returns the true positive rate of a class at the false ones of `GRID`."""
    metrics = _checks.require("sklearn.metrics", extra="plot")
    scores = predictions.probabilities[:, index]
    wrong, right, _ = metrics.roc_curve(
        is_of(predictions.labels, index), scores
    )
    # Where it is vertical, the highest rate.
    return right[np.searchsorted(wrong, GRID, side="right") - 1]


@_checks.named
def plot_roc(results: Tested, macro: bool = False) -> "style.Figure":
    """Draws ROC curves, one class against the others, with their band.

    With two classes, the second is the positive one.

    Args:
        results: `study.Results` of classification.
        macro: Boolean, whether to draw the mean over the classes in place of a
            panel for each of the first twelve. Defaults to `False`.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    names = results.class_names
    networks = _by_network(results, with_probabilities(results))
    panels = {f"{name} vs. rest": [x] for x, name in enumerate(names)}
    if len(names) == 2 and results.predicts == CLASSES:
        panels = {f"ROC of {names[1]}": [1]}
    elif macro:
        panels = {f"Mean over {len(names)} classes": [*range(len(names))]}
    panels = dict(itertools.islice(panels.items(), MAX_PANELS))
    columns = min(PANEL_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    side = 4.2 if len(panels) == 1 else 3.1
    # Room for the names of panels, and for the legend. The names of the axes
    # make a single panel narrower.
    room = 0.1 if len(panels) == 1 else 0.6
    size = side * columns, (side + room) * rows + 0.5
    figure = style.new_figure(*size, "ROC curves (test set)")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (heading, classes) in zip(grid, panels.items(), strict=False):
        for look, by_seed in networks:
            curves = [
                np.mean(of_classes, axis=0)
                for predictions in by_seed
                if (of_classes := _roc_curves(predictions, classes))
            ]
            if not curves:
                continue
            mean, deviation = np.mean(curves, axis=0), np.std(curves, axis=0)
            axes.plot(GRID, mean, **{**look, "marker": "", "linewidth": 1.6})
            if len(curves) > 1:
                band = mean - deviation, np.minimum(1, mean + deviation)
                band_look = {"color": look["color"], "alpha": 0.15, "lw": 0}
                axes.fill_between(GRID, *band, **band_look)
        axes.set(xlabel="False positive rate", ylabel="True positive rate")
        axes.set(xlim=(0, 1), ylim=(0, 1.02), aspect="equal")
        wrapped = style.wrap_to(heading, side, 10, 2)
        axes.set_title(wrapped, fontsize=10, parse_math=False)
        axes.plot([0, 1], [0, 1], color="0.6", lw=1, ls=":", label="chance")
        style.style_axes(axes, "both")
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    style.add_legend(figure, grid)
    return figure


def _roc_curves(predictions, classes):
    """Returns the curves of classes that have examples and counterexamples."""
    return [
        roc(predictions, index)
        for index in classes
        if 0 < is_of(predictions.labels, index).mean() < 1
    ]


@_checks.named
def plot_reliability(results: Tested) -> "style.Figure":
    """Draws a reliability diagram: accuracy by confidence.

    Args:
        results: `study.Results` of classification.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    figure = style.new_figure(5.5, 5, "Reliability diagram (test set)")
    axes = figure.subplots()
    for look, by_seed in _by_network(results, with_probabilities(results)):
        # All seeds together, in bins of equally many images.
        bins = reliability(
            np.concatenate([x.probabilities for x in by_seed]),
            np.concatenate([x.labels for x in by_seed]),
        )
        look["markersize"] = 4
        axes.plot(bins["confidence"], bins["right"], **look)
    axes.plot([0, 1], [0, 1], color="0.6", lw=1, ls=":", label="ideal")
    axes.set(xlim=(0, 1), ylim=(0, 1.02), aspect="equal")
    axes.set(xlabel="Confidence", ylabel="Accuracy")
    style.style_axes(axes, "both")
    style.add_legend(figure, [axes])
    return figure


def plot_numbers(results: Tested) -> "style.Figure":
    """Draws predicted numbers by their targets, and residuals below."""
    networks = _by_network(results, results.tested)[:MAX_BESIDE]
    count, points = len(networks), {"s": 12, "alpha": 0.6, "lw": 0}
    line = {"color": "0.6", "lw": 1, "ls": ":"}
    title = "Predictions of test examples"
    figure = style.new_figure(max(4.5, 3 * count), 6, title)
    grid = figure.subplots(2, count, squeeze=False, sharex=True, sharey="row")
    for above, below, (look, (kept, *_)) in zip(*grid, networks, strict=True):
        numbers = kept.numbers.ravel()[:MAX_POINTS]
        targets = kept.labels.ravel()[:MAX_POINTS]
        points["color"] = look["color"]
        both = np.concatenate([numbers, targets])
        ends = both.min(), both.max()
        above.plot(ends, ends, **line)
        above.scatter(numbers, targets, **points)
        below.axhline(0, **line)
        below.scatter(numbers, numbers - targets, **points)
        wrapped = style.wrap_to(look["label"], 3, 10, 2)
        above.set_title(wrapped, fontsize=10, parse_math=False)
        below.set_xlabel("Prediction")
        for axes in above, below:
            style.style_axes(axes, "both")
    grid[0, 0].set_ylabel("Target")
    grid[1, 0].set_ylabel("Prediction - target")
    return figure


def _by_network(results, kept):
    """Returns how each network is drawn, and its predictions by seed."""
    labels = {x: results.labels.get(x, x) for x in results.tested}
    styles = style.styles_of([*labels.values()])
    return [
        ({**styles[labels[name]], "label": labels[name]}, [*by_seed.values()])
        for name, by_seed in kept.items()
    ]
