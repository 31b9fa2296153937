"""What the network around a gate tells of it."""

import dataclasses
import re
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers

from cbam_keras import _graph

# As many images tell their range.
MOST_IMAGES = 32
# What networks of `keras.applications` expect that do not rescale images.
RANGES = {
    r"resnet\d+|vgg\d+": (-124, 151),
    r"densenet\d+": (-2.1, 2.6),
    r"resnet\d+v2|(inception|xception|mobilenet|nasnet).*": (-1, 1),
}
# What weights are before training, by their names.
INITIAL = {
    "bias": 0,
    "beta": 0,
    "moving_mean": 0,
    "gamma": 1,
    "moving_variance": 1,
}


def in_context(model: keras.Model, gates: Sequence[Any]) -> list[Any]:
    """Returns gates with what is tied to the rest, and what is not trained."""
    inside = {id(x) for gate in gates for x in gate.cut.variables}
    rest = [x for x in model.variables if id(x) not in inside]
    is_trained = _are_initial(rest) is False
    return [
        dataclasses.replace(
            gate,
            ties=[*_ties(gate, gates, model)],
            is_new=is_trained and _are_initial(gate.cut.variables) is True,
        )
        for gate in gates
    ]


def range_note(model: keras.Model, images: Any) -> str:
    """Says if images are in another range than a network of ImageNet expects.

    These are networks of `keras.applications`, by their names, and what
    rescales images itself, also inside of the model.
    """
    if len(model.inputs) != 1 or len(model.inputs[0].shape) != 4:
        return ""
    x = _graph.to_float32(_graph.in_order(model, images)[0])[:MOST_IMAGES]
    low, high = float(x.min()), float(x.max())
    said = f"images from {low:.1f} to {high:.1f}; ".replace(".0", "")
    for pattern, (least, most) in RANGES.items():
        is_wide = high - low > 3 * (most - least)
        is_wrong = is_wide or low >= 0 and high <= 1
        is_named = re.fullmatch(pattern, model.name, re.I)
        if is_wrong and is_named and _are_initial(model.variables) is False:
            return f"{said}{model.name} expects {least:g} to {most:g}"
    for node in _graph.nodes(model):
        operation = node.operation
        is_rescaled = isinstance(operation, layers.Rescaling)
        if _graph.is_graph(operation) or is_rescaled:
            given = keras.Model(model.inputs[0], node.input_tensors[0])(x)
            if not is_rescaled:
                return range_note(operation, given)
            ends = _graph.to_float32(given)
            is_small = np.ndim(operation.scale) == 0 and operation.scale < 0.01
            if is_small and 0 < float(ends.max()) <= 2:
                divisor = f"{1 / operation.scale:.4g}"
                return f"{said}this network divides by {divisor} itself"
        if getattr(operation, "weights", ()):
            break
    return ""


def _are_initial(variables):
    """Returns whether biases and averages are initial, `None` of none."""
    known = [x for x in variables if x.name in INITIAL]
    initial = (_graph.to_float32(x) == INITIAL[x.name] for x in known)
    return all(map(np.all, initial)) if known else None


def _ties(gate, gates, model):
    """Yields why a part of a network is no layer of its own."""
    cut = gate.cut
    if gate.match is None or cut.is_ours:
        return
    own = {id(x) for x in cut.variables}
    # The same gate, called again, stays one layer.
    nodes = {
        id(node)
        for x in gates
        if x.match and x.match.code == gate.match.code
        if {id(y) for y in x.cut.variables} == own
        for node in _expanded(x.cut.nodes)
    }
    factors = {id(y) for node in cut.nodes for y in node.outputs}
    factors.remove(id(cut.product))
    used = {id(x) for x in model.outputs}
    called = set()
    for node in _expanded(_graph.nodes(model)):
        if inner := _graph.inner_model(node.operation):
            used |= {id(x) for x in inner.outputs}
        elif id(node) not in nodes:
            called |= {id(x) for x in getattr(node.operation, "variables", ())}
        if id(node) not in nodes:
            used |= {id(x) for x in node.input_tensors}
    if factors & used:
        yield "its factors are used elsewhere, too"
    elif len(cut.nodes[-1].outputs) > 1:
        yield f"returns {len(cut.nodes[-1].outputs)} tensors"
    if own & called:
        yield "shares weights with what is no such gate"


def _expanded(nodes) -> Iterator[Any]:
    """Yields nodes, and those of models that they call."""
    for node in nodes:
        yield node
        if inner := _graph.inner_model(node.operation):
            yield from _expanded(_graph.nodes(inner))
