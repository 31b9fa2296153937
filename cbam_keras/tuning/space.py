"""Points of a search space: listed, drawn, named."""

import hashlib
import json
import math
import random
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

# The layer of the paper, where the search begins.
PAPER: dict[str, Any] = {
    "reduction_ratio": 16,
    "kernel_size": 7,
    "order": "channel_first",
    "channel_pool_types": "avg+max",
    "spatial_pool_types": "avg+max",
    "learning_rate": 0.01,
}
# No attention, in our search space and in others.
PLAIN = ("none", False)
SHORT = {
    "reduction_ratio": "r={}",
    "kernel_size": "k={}",
    "order": "{}",
    "channel_pool_types": "channel {}",
    "spatial_pool_types": "spatial {}",
    "learning_rate": "rate {:.6g}",
}
# Shown only where they differ from the layer of the paper.
SHOWN_IF_CHANGED = ("order", "channel_pool_types", "spatial_pool_types")
# Larger spaces are sampled, not listed.
MAX_LISTED = 20_000
MAX_NAME = 60


def kinds_of(space: Any) -> list[Any]:
    """Returns the values of the hyperparameter `"attention"`, if it exists."""
    for hp in space.space:
        if hp.name == "attention":
            return list(hp.values)
    return []


def point(space: Any, **values: Any) -> Any:
    """Returns the hyperparameters with these values, else their defaults."""
    space = space.copy()
    space.values = {}
    for hp in space.space:
        if space.is_active(hp):
            space.values[hp.name] = values.get(hp.name, hp.default)
    return space


def count_points(space: Any) -> dict[Any, int]:
    """Returns how many points each kind of attention has.

    With conditions as by default; a range counts as ten values. The key is
    `None` where no hyperparameter is named `"attention"`.
    """
    counts = {}
    for kind in kinds_of(space) or [None]:
        first = point(space, attention=kind)
        counts[kind] = math.prod(
            len(list(hp.values))
            for hp in first.space
            if first.is_active(hp) and hp.name != "attention"
        )
    return counts


def is_listable(space: Any) -> bool:
    """Returns whether a space has no ranges, and not too many points."""
    ranges = [
        hp
        for hp in space.space
        if type(hp).__name__ == "Float" and hp.step is None
    ]
    return not ranges and sum(count_points(space).values()) <= MAX_LISTED


def controls(space: Any) -> list[dict[str, Any]]:
    """Returns the points that a search over attention begins with.

    No attention, SE, and CBAM nearest to the paper's, as far as they exist.
    """
    kinds = kinds_of(space)
    return [
        point(space, attention=kind).values
        for kind in ("none", "se", "cbam")
        if kind in kinds
    ]


def grid(space: Any) -> Iterator[dict[str, Any]]:
    """Yields all points, defaults first, the last value varying fastest."""
    space = space.copy()
    space.values = {}

    def combine(index):
        if index == len(space.space):
            yield dict(space.values)
            return
        hp = space.space[index]
        if not space.is_active(hp):
            yield from combine(index + 1)
            return
        others = [value for value in hp.values if value != hp.default]
        for value in [hp.default, *others]:
            space.values[hp.name] = value
            yield from combine(index + 1)
        del space.values[hp.name]

    return combine(0)


def shuffled(space: Any, seed: int) -> list[dict[str, Any]]:
    """Returns all points in a random order, controls or defaults first.

    So each kind of attention comes as often as it has combinations.
    """
    first = controls(space) or [point(space).values]
    others = [values for values in grid(space) if values not in first]
    random.Random(seed).shuffle(others)
    return [*first, *others]


def canonical(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values that decide on a network, as all processes see them.

    KerasTuner sends them to other processes in another order, and in single
    precision; a trial must be found again under its values.
    """
    names = ["attention", *SHORT]
    return {
        name: float(f"{np.float32(value):.6g}")
        if isinstance(value, float)
        else value
        for name, value in sorted(
            values.items(),
            key=lambda item: (
                names.index(item[0]) if item[0] in names else len(names),
                item[0],
            ),
        )
        # How Hyperband shares out the epochs.
        if not name.startswith("tuner/")
    }


def name_of(values: Mapping[str, Any]) -> str:
    """Returns the name of a point, which files can have."""
    text = label(values).replace(" ", "-")
    name = re.sub(r"[^\w.+=-]+", "-", text)
    if name == text and len(name) <= MAX_NAME:
        return name
    digest = hashlib.sha256(json.dumps([*values.items()]).encode()).hexdigest()
    return f"{name[:MAX_NAME]}-{digest[:8]}"


def label(values: Mapping[str, Any]) -> str:
    """Returns the values of a trial in a few words.

    What is as in the paper's layer is left out, except `r` and `k`.
    """
    words = [str(values["attention"])] if "attention" in values else []
    stages = {
        name.removeprefix("stage"): value
        for name, value in values.items()
        if name.startswith("stage") and isinstance(value, bool)
    }
    # The learning rate, which every trial has, last.
    for name in sorted(values, key=lambda name: name == "learning_rate"):
        value = values[name]
        if name == "attention" or name.removeprefix("stage") in stages:
            continue
        if name in SHOWN_IF_CHANGED and value == PAPER[name]:
            continue
        if name in SHORT and not isinstance(value, bool):
            words.append(SHORT[name].format(value))
        elif isinstance(value, float):
            words.append(f"{name}={value:.6g}")
        else:
            words.append(f"{name}={value}")
    if not all(stages.values()):
        on = [stage for stage in stages if stages[stage]]
        words.append(f"stage {'+'.join(on)}")
    return " ".join(words) or "the only network"
