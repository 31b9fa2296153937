"""What all figures share: colours, axes, legends and labels in lines."""

import re
import textwrap

from cbam_keras import _checks

# Okabe and Ito's palette, which colour-blind people can tell apart; markers
# and dashes tell the lines apart in black and white.
STYLES = (
    {"color": "#0072B2", "linestyle": "-", "marker": "o"},
    {"color": "#D55E00", "linestyle": "--", "marker": "s"},
    {"color": "#009E73", "linestyle": "-.", "marker": "^"},
    {"color": "#CC79A7", "linestyle": ":", "marker": "D"},
    {"color": "#E69F00", "linestyle": (0, (5, 1)), "marker": "v"},
)

# In points.
TITLE_SIZE = 13


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


def add_legend(figure, panels, columns=4):
    """Puts one legend for all panels below them."""
    handles = {}
    for axes in panels:
        for handle, label in zip(
            *axes.get_legend_handles_labels(), strict=True
        ):
            handles.setdefault(label, handle)
    figure.legend(
        handles.values(),
        handles,
        loc="outside lower center",
        ncols=columns,
        frameon=False,
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
