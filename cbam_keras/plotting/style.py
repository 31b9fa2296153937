"""The parts that figures are made of: axes, points, maps, legends."""

import re

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
