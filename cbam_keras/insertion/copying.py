"""Clones a functional model, adds layers and verifies the copied weights.

After copying, each variable is compared with its original bit for bit. Layers
with `identity_init=True` return exactly their input until they are trained, so
that with equal variables the predictions are equal too.
"""

import collections
import re
import tempfile
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers

from cbam_keras import _checks, _graph, _private


def copy_with(
    model: keras.Model,
    added: Mapping[int, keras.layers.Layer],
    into: Collection[int] | None = None,
    replaced: Mapping[int, Sequence[keras.layers.Layer]] | None = None,
    instead: _graph.Instead | None = None,
) -> keras.Model:
    """Returns a clone of a model with all its values, and layers added.

    `added` maps ids of operations, including those of nested models, to the
    layer that follows each of their calls. If `into` is given, the layer is
    only on the connections to operations with these ids. `replaced` maps ids of
    operations to the layers that are called in their place, one after another.
    `instead` gives tensors in place of the operations before them.
    """
    # Operations and their clones, by the ids of the operations. The clone of a
    # replaced operation is `None`.
    cloned: dict[int, tuple[Any, Any]] = {}
    options = (added, into, replaced or {}, instead or {}, cloned)
    copy = _clone_graph(model, *options, {})
    # The copies of variables, by the ids of the originals.
    copied: dict = {}
    for old, new in cloned.values():
        if new is None:
            # The variables of a replaced operation are not copied.
            variables = getattr(old, "variables", ())
            copied.update((id(x), x) for x in variables)
        elif isinstance(old, layers.Layer) and not _graph.inner_model(old):
            _copy_variables(old, new, copied)
    lost = [
        variable.path
        for variable in model.variables
        if id(variable) not in copied
        or _bits(variable) != _bits(copied[id(variable)])
    ]
    if lost:
        raise ValueError(
            "Every variable of the model must belong to a layer of its graph "
            f'to be copied. Received: model "{model.name}" with {len(lost)} '
            f"others: {', '.join(lost[:5])}"
        )
    return copy


def warn_of_lost_settings(
    model: keras.Model, is_compiled: bool = False
) -> None:
    """Warns of settings of a model that its copy, maybe compiled, lacks."""
    steps = ("train_step", "test_step", "predict_step", "compute_loss")
    kind = type(model)
    lost = [
        f"own `{name}` of {kind.__name__}"
        for name in steps
        if getattr(kind, name) is not getattr(keras.Model, name)
    ]
    if model.compiled and not is_compiled:
        lost.append(
            "`compile` (call it for the new model, with the arguments in "
            "model.get_compile_config())"
        )
    if getattr(model, "preprocessor", None) is not None:
        lost.append("`preprocessor`")
    if lost:
        _checks.warn(
            f'The new model is a plain functional one and lacks what "'
            f'{model.name}" has: {", ".join(lost)}'
        )


def _clone_graph(graph, added, into, replaced, instead, cloned, edges):
    """Returns a clone of a model; `cloned` maps ids to old and new layers.

    `edges` maps ids of tensors to pairs: the tensor, and the layer that follows
    it on the edges to the operations of `into`. The tensors are kept, since
    others could get their ids otherwise.
    """
    options = (added, into, replaced, instead, cloned)

    def attend(x):
        _, attention = edges.get(id(x), (x, None))
        return x if attention is None else attention(x)

    def call(operation, *args, **kwargs):
        """Calls the clone of an operation, or what replaces it."""
        if into is not None and id(operation) in into:
            args, kwargs = keras.tree.map_structure(attend, (args, kwargs))
        if id(operation) in replaced:
            cloned[id(operation)] = (operation, None)
            outputs = args[0] if args else kwargs["inputs"]
            for layer in replaced[id(operation)]:
                outputs = layer(outputs)
            return outputs
        _, new = cloned.get(id(operation), (operation, None))
        if new is None:
            model_of_frame = _graph.model_per_frame(operation)
            if _graph.is_graph(operation):
                new = _clone_graph(operation, *options, edges)
            elif model_of_frame is not None:
                inner = _clone_graph(model_of_frame, *options, {})
                config = layers.Layer.get_config(operation)
                new = type(operation)(inner, **config)
            else:
                new = _clone(operation)
            cloned[id(operation)] = (operation, new)
        outputs = new(*args, **kwargs)
        tensors = keras.tree.flatten(outputs)
        if _graph.is_graph(operation):
            # A layer that follows an output of a nested model must follow it in
            # the outer model, too.
            for x, y in zip(new.outputs, tensors, strict=True):
                if id(x) in edges:
                    _, attention = edges[id(x)]
                    edges[id(y)] = (y, attention)
        attention = added.get(id(operation))
        if attention is None:
            return outputs
        if into is None:
            return keras.tree.map_structure(attention, outputs)
        edges.update((id(x), (x, attention)) for x in tensors)
        return outputs

    inputs = [_clone(_graph.origin(x).operation).output for x in graph.inputs]
    outputs = _graph.replay(graph, inputs, call, instead)
    for node in _graph.nodes(graph):
        # Operations that `instead` replaces were not called.
        cloned.setdefault(id(node.operation), (node.operation, None))
    input_structure, output_structure = _graph.structure(graph)
    return keras.Model(
        keras.tree.pack_sequence_as(input_structure, inputs),
        keras.tree.pack_sequence_as(output_structure, outputs),
        name=graph.name,
    )


def _clone(operation):
    """Returns a clone of an operation with initial values."""
    if isinstance(operation, layers.Lambda):
        # Keras refuses to load code from the config. Use the same function.
        return type(operation)(
            operation.function,
            output_shape=_private.output_shape_of(operation),
            mask=operation.mask,
            arguments=operation.arguments,
            **layers.Layer.get_config(operation),
        )
    try:
        return type(operation).from_config(operation.get_config())
    except Exception as error:
        raise ValueError(
            f'Layer "{operation.name}" of class {type(operation).__name__} '
            "must be clonable from its `get_config()`. Received: "
            f"{type(error).__name__}: {error}. Give the class a `get_config` "
            "that returns all arguments of `__init__`"
        ) from error


def _copy_variables(old, new, copied):
    """Copies a layer's variables by name; `copied` maps old ids to new ones."""
    for inner, copy in zip(
        _graph.layers_within(old), _graph.layers_within(new), strict=False
    ):
        # Configs do not show which inner layers are frozen.
        if copy.trainable != inner.trainable:
            copy.trainable = inner.trainable
        _copy_state(inner, copy)
    targets = collections.defaultdict(collections.deque)
    for variable in new.variables:
        targets[_key(variable)].append(variable)
    for variable in old.variables:
        # Equal names, e.g. of blocks in a list, are in the same order.
        same_name = targets[_key(variable)]
        copy = same_name.popleft() if same_name else None
        if copy is None or copied.setdefault(id(variable), copy) is not copy:
            raise ValueError(
                f'Layer "{old.name}" of class {type(old).__name__} must have '
                "the same variables when it is cloned from its `get_config()`, "
                "and share none with another layer. Received: variable "
                f'"{variable.path}" of shape {tuple(variable.shape)}, which '
                f"{'the clone lacks' if copy is None else 'is shared'}"
            )
        copy.assign(keras.ops.convert_to_numpy(variable))
        if copy.trainable != variable.trainable:
            copy.trainable = variable.trainable


def _copy_state(old, new):
    """Copies what a layer adapted to data and does not keep in variables."""
    if isinstance(old, layers.Normalization) and old.built:
        # It computes with these constants, not with its variables.
        new.mean = old.mean
        new.variance = old.variance
    if hasattr(old, "save_assets"):
        # A vocabulary.
        with tempfile.TemporaryDirectory() as folder:
            old.save_assets(folder)
            new.load_assets(folder)


def _key(variable):
    """Returns what a variable and its copy have in common."""
    # Keras numbers variables that have no name.
    name = re.sub(r"^variable_\d+$", "variable", variable.name)
    return name, tuple(variable.shape), str(variable.dtype)


def _bits(variable):
    """Returns the value as bytes, so that NaN equals NaN."""
    return np.ascontiguousarray(keras.ops.convert_to_numpy(variable)).tobytes()
