"""The test errors of an ablation."""

from typing import Any

from cbam_keras.plotting.style import (
    OTHER_STYLES,
    STYLES,
    add_legend,
    kind_of,
    new_figure,
    style_axes,
    wrap,
)


def plot_ablation(results: Any, title: str = "", *, ax: Any = None) -> Any:
    """Draws the test errors of an ablation, a panel per table.

    Each row shows the mean, a small point per seed and, with two seeds or
    more, the 95 % confidence interval of the difference to the first row of
    the table. The interval is drawn relative to the line of the first row:
    where it does not touch the line, the difference excludes zero. The
    colours are those of the kinds of attention.

    Args:
        results: The results of `ablation.run`, or another object whose
            `rows` have `table` (integer), `attention` (string), `top1_error`
            (number, the mean in %), `top1_errors` (numbers, one per seed)
            and `interval` (two numbers, of the difference in %, or `None`);
            the first row of each table is its baseline.
        title: String, written over the figure. Defaults to `""`.
        ax: A `matplotlib.axes.Axes` to draw into, for the rows of one table.
            Defaults to `None`, which means a new figure.

    Returns:
        A `matplotlib.figure.Figure`; `ax` if that is given.

    Raises:
        ValueError: If there are no rows, or of several tables for `ax`.
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
    if ax is not None:
        return draw_alone(ax, rows, tables, title)
    own = [[row for row in rows if row.table == table] for table in tables]
    heights = [len(group) + 1.2 for group in own]
    figure = new_figure(8, 1.1 + 0.42 * sum(heights), title)
    panels = figure.subplots(
        len(tables), 1, sharex=True, squeeze=False, height_ratios=heights
    )[:, 0]
    for axes, table, group in zip(panels, tables, own, strict=True):
        draw_table(axes, group)
        axes.set_title(f"Table {table}", loc="left", fontsize=10)
    panels[-1].set_xlabel("Top-1 error (%)")
    for handle in add_legend(figure, panels).legend_handles:
        # Of all rows, whose colours differ.
        handle.set_color("0.35")
    return figure


def draw_alone(axes, rows, tables, title):
    """Draws the only table of an ablation into given axes."""
    if len(tables) > 1:
        raise ValueError(
            "`results` must have the rows of one table to be drawn into `ax`. "
            f"Received: rows of tables {', '.join(map(str, tables))}. Leave "
            "`ax` out, or run one table (tables=[4])"
        )
    draw_table(axes, rows)
    axes.set_title(title or f"Table {tables[0]}", loc="left", fontsize=10)
    axes.set_xlabel("Top-1 error (%)")
    handles, labels = axes.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    axes.legend(unique.values(), unique, frameon=False, fontsize=8)
    return axes


def draw_table(axes, rows):
    """Draws one table of an ablation, its first row on top."""
    baseline = rows[0].top1_error
    axes.axvline(
        baseline,
        color="0.35",
        linestyle="--",
        linewidth=1,
        label="mean of the first row",
    )
    for place, row in enumerate(rows):
        kind = kind_of(row.attention)
        color = (STYLES[kind] if kind else OTHER_STYLES[0])["color"]
        if row.interval is not None:
            axes.plot(
                [baseline + end for end in row.interval],
                [place, place],
                color="black",
                linewidth=1.5,
                marker="|",
                markersize=8,
                label="95 % interval of the difference to it",
            )
        axes.plot(
            row.top1_errors,
            # Below the row, so that no point hides the mean, and equal ones
            # below each other.
            [
                place + 0.25 + 0.1 * row.top1_errors[:index].count(error)
                for index, error in enumerate(row.top1_errors)
            ],
            color=color,
            linestyle="",
            marker=".",
            label="one seed",
        )
        axes.plot(
            [row.top1_error],
            [place],
            color=color,
            linestyle="",
            marker="o",
            markersize=7,
            label="mean",
        )
    axes.set_yticks(
        range(len(rows)), [wrap(row.attention, 40, 2) for row in rows]
    )
    axes.set_ylim(len(rows) - 0.4, -0.6)
    style_axes(axes, "x")
