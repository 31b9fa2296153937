"""Points of a search space: listed, drawn, named."""

import hashlib
import json
import random
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from cbam_keras import _checks
from cbam_keras.study.results.ranking import Value

if TYPE_CHECKING:
    from keras_tuner import HyperParameters

# All that a trial has, by name.
Values = dict[str, Value]

# The layer of the paper, where the search begins.
PAPER: Values = {
    "stages": "all",
    "reduction_ratio": 16,
    "kernel_size": 7,
}
# No attention.
PLAIN = "none"
# Hyperparameters in a few words.
SHORT = {
    "attention": "{}",
    "reduction_ratio": "r={}",
    "kernel_size": "k={}",
}
# The longest name, in bytes.
MAX_NAME = 60


def hyperparameters(values: Values) -> "HyperParameters":
    """Returns hyperparameters that have these values."""
    hp = _checks.require("keras_tuner", extra="tune").HyperParameters()
    hp.values = dict(values)
    return hp


def has_no_attention(values: Mapping[str, object]) -> bool:
    """Returns whether a point is that of a network without attention."""
    return values.get("attention") == PLAIN


def kinds_of(space: "HyperParameters") -> list[Value]:
    """Returns the values of the hyperparameter `"attention"`, if it exists."""
    kinds = (list(hp.values) for hp in space.space if hp.name == "attention")
    return next(kinds, [])


def point(space: "HyperParameters", **values: Value) -> "HyperParameters":
    """Returns the hyperparameters with these values, else their defaults."""
    space = space.copy()
    space.values = {}
    for hp in space.space:
        if space.is_active(hp):
            space.values[hp.name] = values.get(hp.name, hp.default)
    return space


def controls(space: "HyperParameters") -> list[Values]:
    """Returns the points that a search over attention begins with."""
    kinds = kinds_of(space)
    return [
        point(space, attention=kind).values
        for kind in ("none", "se", "cbam")
        if kind in kinds
    ]


def grid(space: "HyperParameters", index: int = 0) -> Iterator[Values]:
    """Yields all points, defaults first, the last value varying fastest."""
    if index == 0:
        space = space.copy()
        space.values = {}
    if index == len(space.space):
        yield dict(space.values)
        return
    hp = space.space[index]
    if not space.is_active(hp):
        yield from grid(space, index + 1)
        return
    for value in dict.fromkeys([hp.default, *hp.values]):
        space.values[hp.name] = value
        yield from grid(space, index + 1)
    del space.values[hp.name]


def shuffled(space: "HyperParameters", seed: int) -> list[Values]:
    """Returns all points in a random order, controls or defaults first."""
    first = controls(space) or [point(space).values]
    others = [values for values in grid(space) if values not in first]
    random.Random(seed).shuffle(others)
    return [*first, *others]


def name_of(values: Values) -> str:
    """Returns the name of a point, which files can have."""
    text = label(values).replace(" ", "-")
    name = re.sub(r"[^\w.+=-]+|^\.|\.$", "-", text)
    cut = name.encode()[:MAX_NAME].decode(errors="ignore")
    if text == cut:
        return name
    digest = hashlib.sha256(json.dumps([*values.items()]).encode()).hexdigest()
    return f"{cut}-{digest[:8]}"


def label(values: Mapping[str, object]) -> str:
    """Returns the values of a trial in a few words."""
    words = []
    for name, value in values.items():
        # All stages are those of the paper.
        if name != "stages" or value != PAPER[name]:
            text = f"{value:.6g}" if isinstance(value, float) else value
            words.append(SHORT.get(name, f"{name}={{}}").format(text))
    return " ".join(words) or "the only network"
