"""The graph of a functional model as Keras records it: calls of operations.

A node is one call of an operation (a layer, or a function of `keras.ops`), with
`operation`, `arguments` and `outputs`. Keras' public way to read them,
`clone_model`, copies the model.
"""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import keras

from cbam_keras import _checks, _private

# A tensor of the backend or a symbolic one, or several of them nested: they
# have no class in common.
Tensor = Any
# What gives a tensor in place of its node, by the id of the tensor: a function
# of another tensor.
Instead = Mapping[int, tuple[keras.KerasTensor, Callable[[Tensor], Tensor]]]


def require_model(name: str, model: object, kind: str = "keras.Model") -> None:
    """Raises unless `model` is a model."""
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"`{name}` must be a {kind}. Received: {name} of type "
            f"{type(model).__name__}, {_checks.shown(model)}"
            f"{_checks.next_step('model', model)}"
        )


def with_graph(name: str, model: keras.Model) -> keras.Model:
    """Returns a model whose graph can be read; a subclassed one is traced."""
    require_model(name, model, "functional keras.Model")
    if is_graph(model):
        return model
    how = "Write keras.Model(inputs, model.call(inputs)) with inputs = "
    if type(model).call is keras.Sequential.call:
        how = "Begin it with "
    try:
        shape = (model.get_build_config() or {})["input_shape"]
        inputs = keras.Input(shape[1:])
        traced = keras.Model(inputs, model.call(inputs), name=model.name)
        if len(traced.variables) < len(model.variables):
            raise ValueError("The model has variables outside of the layers")
        # It tells classes from values.
        traced.loss = model.loss
        return traced
    # A user's `call` may raise anything.
    except Exception as error:
        raise ValueError(
            f"`{name}` must be a functional keras.Model, whose graph is known, "
            "a built Sequential, or a model that was called on images and "
            "whose `call` takes symbolic inputs. Received: model "
            f'"{model.name}" of type {type(model).__name__}. {how}'
            "keras.Input(shape)"
        ) from error


def is_graph(layer: keras.Operation) -> bool:
    """Returns whether a layer is a model whose graph can be read."""
    if isinstance(layer, keras.Sequential):
        # Called with several inputs it has no graph and loops over its layers.
        is_call_of_keras = type(layer).call is keras.Sequential.call
        return is_call_of_keras and hasattr(layer, "inputs")
    functional = _functional_class()
    if not isinstance(layer, functional):
        return False
    # A subclass of a user may compute something else than its graph.
    return type(layer).call is functional.call


def model_per_frame(operation: keras.Operation) -> keras.Model | None:
    """Returns the model that a `TimeDistributed` layer runs on each frame.

    `None` for other operations, if its graph cannot be read, and if a mask
    says which frames count.
    """
    if not isinstance(operation, keras.layers.TimeDistributed):
        return None
    # Keras gives a mask as a second input.
    is_masked = len(keras.tree.flatten(operation.input)) > 1
    if is_masked or not is_graph(operation.layer):
        return None
    return operation.layer


def inner_model(operation: keras.Operation) -> keras.Model | None:
    """Returns the model that an operation is, or runs on frames, if any."""
    return operation if is_graph(operation) else model_per_frame(operation)


@functools.cache
def _functional_class() -> type[keras.Model]:
    """Returns the class of functional models, which Keras does not export."""
    x = keras.Input((1,), name="input")
    y = keras.layers.Identity(name="identity")(x)
    return type(keras.Model(x, y, name="model"))


def layers_within(layer: keras.Layer) -> list[keras.Layer]:
    """Returns a layer and the layers inside it, outer ones first."""
    return _private.layers_in(layer)


def sublayers(layer: keras.Layer) -> list[keras.Layer]:
    """Returns the layers that a layer has itself."""
    return _private.layers_in(layer, include_self=False, recursive=False)


def structure(model: keras.Model) -> tuple[Tensor, Tensor]:
    """Returns inputs and outputs of a model in their nested structure."""
    if isinstance(model, keras.Sequential):
        return model.inputs[0], model.outputs[0]
    return model.input, model.output


def input_names(model: keras.Model) -> list[str]:
    """Returns what the inputs are called in a dictionary, in their order."""
    inputs = structure(model)[0]
    if isinstance(inputs, dict):
        # In the order of `keras.tree`.
        return keras.tree.flatten({key: key for key in inputs})
    return [x.name for x in model.inputs]


def as_input(model: keras.Model, values: Sequence[Tensor]) -> Tensor:
    """Returns values in the structure of a model's inputs, as a list."""
    if not is_graph(model):
        (value,) = values
        return value
    return keras.tree.pack_sequence_as(structure(model)[0], list(values))


def in_order(model: keras.Model, inputs: Tensor) -> list[Tensor]:
    """Returns nested inputs in the order of `model.inputs`."""
    if isinstance(inputs, dict):
        return [inputs[name] for name in input_names(model)]
    return keras.tree.flatten(inputs)


def origin(tensor: keras.KerasTensor) -> Any:
    """Returns the node, of a private class, that returned a tensor."""
    call = _private.call_of(tensor)
    return _private.calls_of(call.operation)[call.node_index]


def nodes(model: keras.Model, instead: Instead | None = None) -> list:
    """Returns the nodes of a model in an order in which they can run.

    Those that only compute what `instead` replaces are left out.
    """
    return nodes_between(model.inputs, model.outputs, instead)


def nodes_between(
    sources: Sequence[keras.KerasTensor],
    outputs: Sequence[keras.KerasTensor],
    instead: Instead | None = None,
) -> list:
    """Returns the nodes from some tensors to others, as `nodes` does."""
    instead = instead or {}
    computed = {id(x) for x in sources}
    ordered: list = []
    # A stack, since deep networks exceed the recursion limit. A tensor is on it
    # twice: its node is ready when its inputs, pushed the first time, are done.
    stack = [(x, False) for x in reversed(outputs)]
    while stack:
        tensor, is_ready = stack.pop()
        if id(tensor) in computed:
            continue
        node = origin(tensor)
        if not is_ready:
            stack.append((tensor, True))
            inputs = node.input_tensors
            if id(tensor) in instead:
                inputs = [instead[id(tensor)][0]]
            stack.extend((x, False) for x in reversed(inputs))
            continue
        ordered.append(node)
        computed |= {id(x) for x in node.outputs}
    return ordered


def last_common(
    items: Iterable[Any], above: Mapping[Any, Any], place: Callable[[Any], Any]
) -> Any:
    """Returns the last item that all paths to some items pass.

    Args:
        items: The ends of the paths.
        above: For each item, the last one that all paths to it pass, `None` at
            the beginning.
        place: Function of an item, its place in an order in which they run.

    Returns:
        The item, one of `items` if the paths to the others pass it; `None` if
        they have none in common.
    """
    candidates = {*items}
    # All paths to the latest candidate pass the one above it, which takes its
    # place, until a single one is left.
    while len(candidates) > 1 and None not in candidates:
        latest = max(candidates, key=place)
        candidates.remove(latest)
        candidates.add(above[latest])
    return candidates.pop() if len(candidates) == 1 else None


def replay(
    model: keras.Model,
    inputs: Sequence[Tensor],
    call: Callable[..., Tensor],
    instead: Instead | None = None,
) -> list[Tensor]:
    """Runs the graph of a model with `call(operation, *args, **kwargs)`.

    `inputs` are the values of `model.inputs`; returns those of its outputs.
    """
    values = {id(x): y for x, y in zip(model.inputs, inputs, strict=True)}
    run_nodes(nodes(model, instead), values, call, instead)
    return [values[id(x)] for x in model.outputs]


def run_nodes(
    nodes: Sequence[Any],
    values: dict[int, Tensor],
    call: Callable[..., Tensor],
    instead: Instead | None = None,
) -> None:
    """Runs nodes, and adds what they return to the values of tensors."""
    instead = instead or {}
    for node in nodes:
        if len(node.outputs) == 1 and id(node.outputs[0]) in instead:
            output = id(node.outputs[0])
            source, function = instead[output]
            values[output] = function(values[id(source)])
            continue
        args, kwargs = keras.tree.map_structure(
            lambda x: values[id(x)] if keras.utils.is_keras_tensor(x) else x,
            (node.arguments.args, node.arguments.kwargs),
        )
        results = keras.tree.flatten(call(node.operation, *args, **kwargs))
        for tensor, result in zip(node.outputs, results, strict=True):
            values[id(tensor)] = result
