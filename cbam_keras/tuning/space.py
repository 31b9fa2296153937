"""Points of a search space: which come first, and their names."""

import re
from collections.abc import Mapping, Sequence

from cbam_keras.study.results.ranking import OptionValue

# All that a trial has, by name.
Point = dict[str, OptionValue]

# The layer of the paper, where the search begins.
PAPER: Point = {"stages": "all", "reduction_ratio": 16, "kernel_size": 7}
NONE = "none"
SHORT = {"attention": "{}", "reduction_ratio": "r={}", "kernel_size": "k={}"}


def has_no_attention(values: Mapping[str, object]) -> bool:
    """Returns whether a point is that of a network without attention."""
    return values.get("attention") == NONE


def controls(points: Sequence[Point]) -> list[Point]:
    """Returns the points that a search begins with: defaults of each kind."""
    # The first point of each kind is that of its defaults.
    first = {x.get("attention"): x for x in reversed(points)}
    kinds = [kind for kind in (NONE, "se", "cbam") if kind in first]
    return [first[kind] for kind in kinds] or [points[0]]


def point_name(values: Point) -> str:
    """Returns the name of a point, which files can have."""
    return re.sub(r"[^\w.,+=-]+", "-", label(values))


def label(values: Mapping[str, object]) -> str:
    """Returns the values of a trial in a few words."""
    # All stages are those of the paper.
    shown = {x: y for x, y in values.items() if (x, y) != ("stages", "all")}
    words = (SHORT.get(x, f"{x}={{}}").format(y) for x, y in shown.items())
    return " ".join(words)
