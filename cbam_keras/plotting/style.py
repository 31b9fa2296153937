"""What all figures share: colours, axes, legends and labels in lines."""

import itertools
import re
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np

from cbam_keras import _checks

# Okabe and Ito's palette, which colour-blind people can tell apart; markers
# and dashes tell the lines apart in black and white.
STYLES: dict[str, dict[str, Any]] = {
    "none": {"color": "#0072B2", "linestyle": "-", "marker": "o"},
    "se": {"color": "#D55E00", "linestyle": "--", "marker": "s"},
    "cbam": {"color": "#009E73", "linestyle": "-.", "marker": "^"},
    "channel": {"color": "#CC79A7", "linestyle": ":", "marker": "D"},
    "spatial": {"color": "#E69F00", "linestyle": (0, (5, 1)), "marker": "v"},
}
# Of what is no kind of attention.
OTHER_STYLES: tuple[dict[str, Any], ...] = (
    {"color": "#56B4E9", "linestyle": (0, (3, 1, 1, 1)), "marker": "P"},
    {"color": "#000000", "linestyle": (0, (1, 1)), "marker": "X"},
)

# In points.
TITLE_SIZE = 13


def kind_of(name: str) -> str | None:
    """Returns the kind of attention that a name tells, `None` for none."""
    words = set(re.findall("[a-z]+", name.lower()))
    if {"channel", "spatial"} <= words or "cbam" in words:
        return "cbam"
    return next((kind for kind in STYLES if kind in words), None)


def styles_of(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Returns a style for each name, in the colour of its kind of attention."""
    kinds = {name: kind_of(name) for name in names}
    others = [
        style for kind, style in STYLES.items() if kind not in kinds.values()
    ]
    free = itertools.cycle([*OTHER_STYLES, *others])
    found: dict[str, dict[str, Any]] = {}
    taken = set()
    for name, kind in kinds.items():
        if kind is None:
            found[name] = next(free)
        elif kind not in taken:
            found[name] = STYLES[kind]
        else:
            # Several of a kind differ in dashes and markers.
            found[name] = {**next(free), "color": STYLES[kind]["color"]}
        taken.add(kind)
    return found


def covered(lines: Sequence[Sequence[float]]) -> list[int]:
    """Returns how many of the later lines lie on each line, in a figure."""
    values = np.concatenate([np.asarray(line) for line in lines])
    # Less cannot be seen.
    near = 0.005 * np.ptp(values)
    return [
        sum(
            len(line) == len(other)
            and bool(np.max(np.abs(np.subtract(line, other))) <= near)
            for other in lines[index + 1 :]
        )
        for index, line in enumerate(lines)
    ]


def new_figure(width, height, title):
    """Returns an empty figure of a size in inches, the title not counted."""
    title = wrap(title, line_length(width, TITLE_SIZE), 4)
    height += text_height([title], TITLE_SIZE)
    # Without pyplot nothing opens a window and no global state is touched.
    figure = _checks.require("matplotlib.figure", extra="plot").Figure(
        figsize=(width, height), layout="constrained"
    )
    if title:
        # A dollar sign does not start a formula.
        figure.suptitle(title, fontsize=TITLE_SIZE, parse_math=False)
    return figure


def style_axes(axes, grid):
    axes.grid(alpha=0.3, axis=grid)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def add_legend(figure, panels, columns=4, title=""):
    """Puts one legend for all panels below them, and returns it."""
    handles = {}
    for axes in panels:
        for handle, label in zip(
            *axes.get_legend_handles_labels(), strict=True
        ):
            handles.setdefault(label, handle)
    return figure.legend(
        handles.values(),
        handles,
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        title=title,
    )


def padded_limits(values):
    """Returns limits of an axis with some space around the values."""
    low, high = min(values), max(values)
    padding = 0.12 * (high - low) or max(0.5, 0.02 * abs(high))
    return low - padding, high + padding


def set_x_scale(axes, values, formatter):
    """Makes the x axis logarithmic if the values span a factor of ten."""
    ticker = _checks.require("matplotlib.ticker", extra="plot")
    low, high = min(values), max(values)
    if 0 < 10 * low < high:
        axes.set_xscale("log")
        # No more labels than fit below a narrow panel.
        steps: tuple = (1,)
        if high < 100 * low:
            steps = (1, 2, 5) if high <= 30 * low else (1, 3)
        axes.xaxis.set_major_locator(ticker.LogLocator(subs=steps, numticks=8))
        axes.xaxis.set_minor_formatter(ticker.NullFormatter())
    else:
        axes.xaxis.set_major_locator(ticker.MaxNLocator(4))
    axes.margins(x=0.1)
    axes.xaxis.set_major_formatter(formatter)


class _Wrapper(textwrap.TextWrapper):
    """Breaks lines at spaces, and after `_`, `/`, `+` and `-`."""

    wordsep_re = re.compile(r"(\s+)|(?<=[_/+-])")


def wrap(text, length, max_lines):
    """Returns a text in lines of at most `length` characters."""
    wrapper = _Wrapper(length, max_lines=max_lines, placeholder="...")
    return wrapper.fill(str(text))


def line_length(inches, size):
    """Returns about how many characters of a font size fit on a line."""
    # The letters of DejaVu Sans are 0.6 of its size wide on average.
    return max(4, int(inches * 72 / (0.6 * size)))


def text_height(texts, size):
    """Returns how many inches the longest of some texts needs."""
    lines = max(text.count("\n") + 1 for text in texts)
    return (1.3 * size * lines + 4) / 72 if any(texts) else 0
