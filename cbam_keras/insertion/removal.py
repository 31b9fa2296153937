"""Attention is taken out of a network again."""

from collections.abc import Collection

import keras

from cbam_keras import _checks, _graph
from cbam_keras.insertion.copying import copy_with


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
        gates: Names of layers, such as `"stage1_block1_attention"`. Defaults to
            `None`, which means all.

    Returns:
        A `keras.Model`, not compiled.

    Raises:
        ValueError: If the model has no such gates, if its graph is not known,
            or if a layer is inside another one than a model.
        TypeError: If `model` is not a model.

    Example:
        >>> model = cbam_keras.models.ResNet18(attention="cbam", classes=10)
        >>> plain = remove_attention(model)
        >>> plain.count_params()
        11191242
    """
    model = _graph.with_graph("model", model)
    layers = {x: y for y, x in _graph.gates_by_name(model, None).items()}
    names = [*layers] if gates is None else gates
    names = [names] if isinstance(names, str) else names
    graph = _graph.Graph(model, model.inputs)
    for name in names:
        if name not in layers:
            raise ValueError(
                "`gates` must be names of gates of the model: "
                f"{_checks.first_few([*layers])}. Received: {name!r}"
            )
        if reason := _why_it_stays(graph, layers[name]):
            raise ValueError(
                "`gates` must be in the graph of the model, and their maps not "
                f'among its values. Received: gate "{name}": {reason}'
            )
    removed: dict[int, list] = {id(layers[name]): [] for name in names}
    return copy_with(model, {}, None, removed)


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
