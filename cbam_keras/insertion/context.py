"""What the network around a gate tells of it."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import keras

from cbam_keras import _graph


def in_context(model: keras.Model, gates: Sequence[Any]) -> list[Any]:
    """Returns gates with what is tied to the rest, and what is not trained."""
    inside = {id(x) for gate in gates for x in gate.cut.variables}
    rest = [x for x in model.variables if id(x) not in inside]
    is_trained = _graph.are_initial(rest) is False
    return [
        dataclasses.replace(
            gate,
            ties=[*_ties(gate, gates, model)],
            is_new=is_trained
            and _graph.are_initial(gate.cut.variables) is True,
        )
        for gate in gates
    ]


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
