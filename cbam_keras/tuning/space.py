"""Points of a search space: which come first, and their names."""

import re
from collections.abc import Mapping, Sequence

from cbam_keras.study.results.ranking import OptionValue

# All that a trial has, by name.
Point = dict[str, OptionValue]

# The layer of the paper, where the search begins.
PAPER: Point = {
    "stages": "all",
    "reduction_ratio": 16,
    "kernel_size": 7,
}
# The kind of attention of a network without any.
NONE = "none"
# Hyperparameters in a few words.
SHORT = {
    "attention": "{}",
    "reduction_ratio": "r={}",
    "kernel_size": "k={}",
}


def has_no_attention(values: Mapping[str, object]) -> bool:
    """Returns whether a point is that of a network without attention."""
    return values.get("attention") == NONE


def controls(points: Sequence[Point]) -> list[Point]:
    """Returns the points that a search begins with: defaults of each kind."""
    # The first point of each kind is that of its defaults.
    defaults = {point.get("attention"): point for point in reversed(points)}
    kinds = [kind for kind in (NONE, "se", "cbam") if kind in defaults]
    if not kinds:
        return [points[0]]
    return [defaults[kind] for kind in kinds]


def point_name(values: Point) -> str:
    """Returns the name of a point, which files can have."""
    return re.sub(r"[^\w.,+=-]+", "-", label(values))


def label(values: Mapping[str, object]) -> str:
    """Returns the values of a trial in a few words."""
    words = []
    for name, value in values.items():
        # All stages are those of the paper.
        if (name, value) != ("stages", "all"):
            words.append(SHORT.get(name, f"{name}={{}}").format(value))
    return " ".join(words)
