"""Attention is taken out of a network again."""

from collections.abc import Collection, Mapping

import keras

from cbam_keras import _checks, _graph
from cbam_keras.insertion.copying import copy_with
from cbam_keras.layers import AttentionLayer

# By its name a gate: a layer, and the part of it that computes the gate. That
# is the layer itself, or one half of `CBAM`.
Gates = dict[str, tuple[AttentionLayer, AttentionLayer]]


def remove_attention(
    model: keras.Model, gates: Collection[str] | None = None
) -> keras.Model:
    """Removes attention: returns a new model without it.

    All other layers keep their weights; the given model is not modified. What
    `insert_attention` inserted is taken out again, trained or not.

    Args:
        model: Functional or Sequential `keras.Model` with attention layers of
            `cbam_keras`. Also a subclassed model whose `call` takes symbolic
            inputs.
        gates: Names of layers, such as `"stage1_block1_attention"`, or of
            halves of `CBAM`, such as `"stage1_block1_attention/spatial"`.
            Defaults to `None`, which means all.

    Returns:
        A `keras.Model`, not compiled.

    Raises:
        ValueError: If the model has no such gates, if its graph is not known,
            or if a layer is inside another one than a model.
        TypeError: If `model` is not a model, or `gates` are not names.

    Example:
        >>> model = cbam_keras.models.ResNet18(attention="cbam", classes=10)
        >>> plain = remove_attention(model)
        >>> plain.count_params()
        11191242
    """
    model = _graph.with_graph("model", model)
    names = _graph.attention_layers(model, None)
    removed = _select(names, gates)
    graph = _graph.Graph(model, model.inputs)
    for name, (layer, _) in removed.items():
        if reason := _why_it_stays(graph, layer):
            raise ValueError(
                "`gates` must be in the graph of the model, and their maps not "
                f'among its values. Received: gate "{name}": {reason}'
            )
    replaced: dict[int, list[keras.layers.Layer]] = {}
    clones: dict[AttentionLayer, keras.layers.Layer] = {}
    removed_parts = [part for _, part in removed.values()]
    for layer in dict.fromkeys(layer for layer, _ in removed.values()):
        # These stay, each as a layer of its own.
        new = {
            part: _clone(part, layer.name)
            for part in layer._gates()
            if part not in removed_parts
        }
        replaced[id(layer)] = [*new.values()]
        clones |= new
    copy = copy_with(model, {}, None, replaced)
    for part, clone in clones.items():
        for old, new in zip(part.variables, clone.variables, strict=True):
            new.assign(keras.ops.convert_to_numpy(old))
    return copy


def _select(
    names: Mapping[AttentionLayer, str], wanted: Collection[str] | None
) -> Gates:
    """Returns the gates of layers, of these names or all."""
    gates = {
        _name_of(name, layer, part): (layer, part)
        for layer, name in names.items()
        for part in layer._gates()
    }
    if wanted is None:
        return gates
    if isinstance(wanted, str):
        wanted = [wanted]
    if not isinstance(wanted, Collection):
        raise TypeError(
            "`gates` must be names of gates, or None. Received: "
            f"gates={wanted!r} of type {type(wanted).__name__}"
        )
    selected: Gates = {}
    for name in wanted:
        matching = {
            gate: (layer, part)
            for gate, (layer, part) in gates.items()
            if name in (gate, names[layer])
        }
        if not matching:
            raise ValueError(
                "`gates` must be names of gates of the model: "
                f"{_checks.first_few([*gates])}. Received: {name!r}"
                f"{_checks.did_you_mean(name, [*gates])}"
            )
        selected |= matching
    return selected


def _name_of(name, layer, part):
    """Returns the name of a gate, by that of its layer."""
    half = part.name.removesuffix("_attention")
    return name if part is layer else f"{name}/{half}"


def _why_it_stays(graph, layer):
    """Returns why a layer cannot be taken out, or `None` if it can."""
    calls = [step for step in graph.steps if step.operation is layer]
    if not calls:
        return "its layer is inside another layer"
    if any(len(step.outputs) > 1 for step in calls):
        return "its map is an output of its layer"
    # A mask is another argument.
    args, kwargs = calls[0].arguments
    if len(keras.tree.flatten(args or kwargs["inputs"])) > 1:
        return "it takes a gating signal, and transforms the features"
    return None


def _clone(part, name):
    return type(part).from_config({**part.get_config(), "name": name})
