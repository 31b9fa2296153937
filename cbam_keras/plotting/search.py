"""Figures of results. Every function returns a matplotlib figure."""

from collections.abc import Sequence
from typing import Any

from cbam_keras import _checks
from cbam_keras.plotting import pictures as _pictures
from cbam_keras.plotting import style as _style
from cbam_keras.plotting.pictures import (
    MOST_BLOCKS,
    MOST_ROWS,
    gates,
    rectangles,
    shares,
    texts,
)
from cbam_keras.plotting.sheet import draw_attention, draw_grad_cam
from cbam_keras.plotting.style import (
    STYLES,
    arm_styles,
    draw_costs,
    draw_effect,
    draw_heat,
    draw_table,
    heat_map,
    label_points,
    legend,
    padded,
    plain,
)


def plot_history(rows: Sequence[dict[str, Any]], title: str = "") -> Any:
    """Draws loss and accuracy over the epochs, a colour per network.

    Args:
        rows: Sequence of dictionaries, one per network and epoch, with the
            keys `"network"`, `"epoch"` (from 1), `"loss"`, `"accuracy"`,
            `"val_loss"` and `"val_accuracy"` (in [0, 1]).
        title: String, stands over the figure. Defaults to `""`.

    Returns:
        A `matplotlib.figure.Figure`: training thin, validation bold with
        markers.

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
    figure = _style.figure((10, 4.2), title)
    ticker = _checks.require("matplotlib.ticker", extra="plot")
    networks = list(dict.fromkeys(row["network"] for row in rows))
    panels = zip(
        figure.subplots(1, 2),
        ("loss", "accuracy"),
        ("Loss", "Accuracy"),
        strict=True,
    )
    for axes, key, label in panels:
        for index, network in enumerate(networks):
            style = STYLES[index % len(STYLES)]
            own = [row for row in rows if row["network"] == network]
            epochs = [row["epoch"] for row in own]
            axes.plot(
                epochs,
                [row[f"val_{key}"] for row in own],
                **style,
                linewidth=2,
                markersize=5,
                label=f"{network}, validation",
            )
            axes.plot(
                epochs,
                [row[key] for row in own],
                **{**style, "marker": ""},
                linewidth=1,
                alpha=0.6,
                label=f"{network}, training",
            )
        axes.set_xlabel("Epoch")
        axes.set_ylabel(label)
        axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
        plain(axes, "both")
    legend(figure, [axes], columns=3)
    return figure


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
    figure = _style.figure((3.4 * columns, 0.6 + 2.9 * rows), title)
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
    figure = _style.figure((10, 4.6), title)
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


def plot_ablation(results: Any, title: str = "") -> Any:
    """Draws the test errors of an ablation, a panel per table.

    Each row of a table has its mean, a small point per seed, and, from two
    seeds on, the 95 % interval of its difference to the table's first row,
    drawn from the line of that row: where it does not touch the line, the
    difference excludes zero.

    Args:
        results: What `ablation.run` returned, or another object whose `rows`
            have `table` (integer), `attention` (string), `top1_error`
            (number, the mean in %), `top1_errors` (numbers, one per seed)
            and `interval` (two numbers, of the difference in %, or `None`);
            the first row of each table is its baseline.
        title: String, stands over the figure. Defaults to `""`.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: If there are no rows.
        ImportError: If matplotlib is not installed.

    Example:
        >>> from types import SimpleNamespace
        >>> row = SimpleNamespace(
        ...     table=1, attention="SE", top1_error=5.0, top1_errors=(5.0,),
        ...     interval=None,
        ... )
        >>> figure = plot_ablation(SimpleNamespace(rows=[row]))
    """
    rows = results.rows
    if not rows:
        raise ValueError(
            "`results` must hold at least one row. Received: rows=[]"
        )
    tables = list(dict.fromkeys(row.table for row in rows))
    own = [[row for row in rows if row.table == table] for table in tables]
    heights = [len(group) + 1.2 for group in own]
    figure = _style.figure((8, 1.1 + 0.42 * sum(heights)), title)
    panels = figure.subplots(
        len(tables), 1, sharex=True, squeeze=False, height_ratios=heights
    )[:, 0]
    for axes, table, group in zip(panels, tables, own, strict=True):
        draw_table(axes, group)
        axes.set_title(f"Table {table}", loc="left", fontsize=10)
    panels[-1].set_xlabel("Top-1 error (%)")
    legend(figure, panels)
    return figure


def plot_grad_cam(
    images: Any,
    heat_maps: Any,
    *,
    probabilities: Any = None,
    classes: Any = None,
    labels: Any = None,
    boxes: Any = None,
    title: str = "",
) -> Any:
    """Draws heat maps over images, a row per image and a column per network.

    Each row begins with the image; the heat lies over it in shades of grey,
    and where there is little the image shows through. Give the maps of
    several networks by name to see what they look at side by side.

    Args:
        images: Array `(B, H, W, C)` with `C` 1 or 3, or `(B, H, W)`, from
            before preprocessing, at most 32 images: in [0, 1] if none of
            them has more than 1, in [0, 255] otherwise.
        heat_maps: Array `(B, H, W)` in [0, 1], as `explain.grad_cam` returns,
            or a mapping of names, which stand over the columns, to such
            arrays.
        probabilities: Array `(B,)` in [0, 1], how probable the network thinks
            the class that is explained, or a mapping of the names of
            `heat_maps` to such arrays; written below the maps. Defaults to
            `None`, which writes none.
        classes: Sequence of `B` strings, the classes that are explained, or a
            mapping of the names of `heat_maps` to such sequences; written
            below the maps. Defaults to `None`, which writes none.
        labels: Sequence of `B` strings, as the true classes, written below
            the images. Defaults to `None`, which writes none.
        boxes: Array `(B, 4)` of numbers, `y_min, x_min, y_max, x_max` in
            pixels, the maxima exclusive, drawn as rectangles. Defaults to
            `None`, which draws none.
        title: String, stands over the figure. Defaults to `""`.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: If shapes, names or numbers of the arguments do not
            belong together, if values are out of range or not finite, or if
            there are none or too many images.
        TypeError: If an argument is not of its kind.
        ImportError: If matplotlib is not installed.

    Example:
        >>> images = np.random.rand(2, 32, 32, 3)
        >>> heat_maps = {"baseline": images[..., 0], "CBAM": images[..., 1]}
        >>> figure = plot_grad_cam(images, heat_maps, labels=["cat", "dog"])
    """
    pictures = _pictures.pictures(images, MOST_ROWS)
    heat = _pictures.heat(heat_maps, pictures.shape)
    return draw_grad_cam(
        pictures,
        heat,
        shares(probabilities, list(heat), len(pictures)),
        _pictures.classes(classes, list(heat), len(pictures)),
        texts(labels, len(pictures)),
        rectangles(boxes, pictures.shape),
        title,
    )


def plot_attention_maps(
    images: Any, maps: Any, *, labels: Any = None, title: str = ""
) -> Any:
    """Draws what the gates of a model do to images, a block per image.

    Each block begins with the image. A tile per layer follows, in the order
    in which they run: over the image the map of the spatial gate, below it
    the channel gates as a sorted strip, the largest first. The least and the
    greatest value stand below each. One scale of colours is for all, from 0
    to 1, or to 2 if a value is above 1 or all of them are 1, as with
    `identity_init`.

    Args:
        images: Array `(B, H, W, C)` with `C` 1 or 3, or `(B, H, W)`, from
            before preprocessing, at most 8 images: in [0, 1] if none of them
            has more than 1, in [0, 255] otherwise.
        maps: Mapping of layer names to tuples of a channel map `(B, C)` and a
            spatial map `(B, h, w)`, either of which may be `None`, as
            `explain.attention_maps` returns.
        labels: Sequence of `B` strings, as the true classes, written over
            the blocks. Defaults to `None`, which writes none.
        title: String, stands over the figure. Defaults to `""`.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: If shapes or numbers of the arguments do not belong
            together, if values are not finite, or if there are no layers, no
            images or too many.
        TypeError: If an argument is not of its kind.
        ImportError: If matplotlib is not installed.

    Example:
        >>> images = np.random.rand(2, 32, 32, 3)
        >>> gates = np.random.rand(2, 16), np.random.rand(2, 8, 8)
        >>> figure = plot_attention_maps(images, {"stage1_attention": gates})
    """
    pictures = _pictures.pictures(images, MOST_BLOCKS)
    return draw_attention(
        pictures,
        gates(maps, len(pictures)),
        texts(labels, len(pictures)),
        title,
    )


def _varies(trials, name):
    own = [trial.values[name] for trial in trials if name in trial.values]
    return any(value != own[0] for value in own)


def _finished(trials):
    finished = [trial for trial in trials if trial.outcome == "finished"]
    if not finished:
        raise ValueError(
            "`trials` must hold at least one finished trial. Received: "
            f"{len(trials)} trials, none of them finished"
        )
    return finished
