"""The parts that figures are made of: axes, points, maps, legends."""

import re

import numpy as np

from cbam_keras import _checks

# Okabe and Ito's palette, told apart by colour-blind people too; the
# markers and dashes tell the lines apart in black and white.
STYLES = (
    {"color": "#0072B2", "linestyle": "-", "marker": "o"},
    {"color": "#D55E00", "linestyle": "--", "marker": "s"},
    {"color": "#009E73", "linestyle": "-.", "marker": "^"},
    {"color": "#CC79A7", "linestyle": ":", "marker": "D"},
    {"color": "#E69F00", "linestyle": (0, (5, 1)), "marker": "v"},
)
RATIO, KERNEL = "reduction_ratio", "kernel_size"


def figure(size, title):
    """Returns an empty figure of that many inches."""
    # Without pyplot nothing opens a window and no global state is touched.
    made = _checks.require("matplotlib.figure", extra="plot").Figure(
        figsize=size, layout="constrained"
    )
    if title:
        made.suptitle(title)
    return made


def plain(axes, grid):
    axes.grid(alpha=0.3, axis=grid)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def legend(made, panels, columns=4):
    """Puts one legend for all panels below them."""
    found = {}
    for axes in panels:
        for handle, label in zip(
            *axes.get_legend_handles_labels(), strict=True
        ):
            found.setdefault(label, handle)
    made.legend(
        found.values(),
        found,
        loc="outside lower center",
        ncols=columns,
        frameon=False,
    )


def padded(values):
    """Returns limits of an axis with room around the values."""
    low, high = min(values), max(values)
    room = 0.12 * (high - low) or max(0.5, 0.02 * abs(high))
    return low - room, high + room


def broken(text, width=12, most=24):
    """Returns a label in short lines, broken where names may be."""
    text = str(text)
    text = text if len(text) <= most else text[: most - 3] + "..."
    lines = [""]
    for part in re.split(r"(?<=[_+/ -])(?=\S)", text):
        if lines[-1] and len(lines[-1] + part.rstrip()) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(line.strip() for line in lines)


def arm(trial):
    """Returns what tells the colours of trials apart."""
    return str(trial.values.get("attention", "a trial"))


def arm_styles(trials):
    """Returns a style for each kind of attention."""
    arms = sorted({arm(trial) for trial in trials})
    return {
        name: {**STYLES[index % len(STYLES)], "linestyle": ""}
        for index, name in enumerate(arms)
    }


def draw_arms(axes, places, trials, styles):
    """Draws a point per trial, a colour and marker per kind of attention."""
    for name, style in styles.items():
        own = [
            (place, 100 * trial.val_accuracy)
            for place, trial in zip(places, trials, strict=True)
            if arm(trial) == name
        ]
        if own:
            axes.plot(
                *zip(*own, strict=True),
                **style,
                markersize=6,
                alpha=0.8,
                label=name,
            )


def scale(axes, values, form):
    """Makes the x axis one for these values, logarithmic if they ask it."""
    ticker = _checks.require("matplotlib.ticker", extra="plot")
    if 0 < 10 * min(values) < max(values):
        axes.set_xscale("log")
        several = 1000 * min(values) < max(values)
        axes.xaxis.set_major_locator(
            ticker.LogLocator(subs=(1,) if several else (1, 2, 5), numticks=8)
        )
        axes.xaxis.set_minor_formatter(ticker.NullFormatter())
    else:
        axes.xaxis.set_major_locator(ticker.MaxNLocator(4))
    axes.margins(x=0.1)
    axes.xaxis.set_major_formatter(form)


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


def pareto_front(trials, key):
    """Returns the trials that no other beats for less or as much."""
    front = []
    for trial in sorted(
        trials, key=lambda t: (getattr(t, key), -t.val_accuracy, t.number)
    ):
        if not front or trial.val_accuracy > front[-1].val_accuracy:
            front.append(trial)
    return front


def draw_costs(axes, trials, key, styles):
    """Draws accuracy over a cost, and returns the points of the front."""
    ticker = _checks.require("matplotlib.ticker", extra="plot")
    costs = [getattr(trial, key) for trial in trials]
    draw_arms(axes, costs, trials, styles)
    front = pareto_front(trials, key)
    points = [(getattr(t, key), 100 * t.val_accuracy) for t in front]
    scale(axes, costs, ticker.EngFormatter(sep=" "))
    if points:
        axes.plot(
            # On to the right, where nothing is better.
            *zip(*points, (max(costs), points[-1][1]), strict=True),
            color="black",
            linewidth=1,
            drawstyle="steps-post",
            zorder=1,
            label="Pareto front",
        )
    plain(axes, "both")
    return {t.number: point for t, point in zip(front, points, strict=True)}


def label_points(axes, points):
    """Writes names beside points, each where it covers no other point."""
    taken = []
    for line in axes.get_lines():
        if line.get_label() != "Pareto front":
            taken += [
                (x, y, 7, 7)
                for x, y in axes.transData.transform(line.get_xydata())
            ]
    scale = axes.figure.dpi / 72
    around = [(-1, 1), (1, -1), (0, 1), (0, -1), (1, 1), (-1, -1)]
    for name, point in points.items():
        x, y = axes.transData.transform(point)
        width, height = 5.5 * len(str(name)) + 2, 9
        offsets = [
            (side * (6 + width / 2), up * 10 * reach)
            for reach in (1, 2, 3)
            for side, up in around
        ]

        def free(offset, x=x, y=y, width=width, height=height):
            return not any(
                abs(x + scale * offset[0] - other_x)
                < scale * (width + other_width) / 2
                and abs(y + scale * offset[1] - other_y)
                < scale * (height + other_height) / 2
                for other_x, other_y, other_width, other_height in taken
            )

        offset = next(filter(free, offsets), offsets[0])
        taken.append(
            (x + scale * offset[0], y + scale * offset[1], width, height)
        )
        axes.annotate(
            str(name),
            point,
            xytext=offset,
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=9,
        )


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
            # Below its row, so that no point hides the mean.
            [place + 0.25] * len(row.top1_errors),
            color=STYLES[1]["color"],
            linestyle="",
            marker=".",
            label="one seed",
        )
        axes.plot(
            [row.top1_error],
            [place],
            color=STYLES[0]["color"],
            linestyle="",
            marker="o",
            markersize=7,
            label="mean",
        )
    axes.set_yticks(
        range(len(rows)), [broken(row.attention, 40, 60) for row in rows]
    )
    axes.set_ylim(len(rows) - 0.4, -0.6)
    plain(axes, "x")
