"""Clones a functional model, adds layers and verifies the copied weights.

After copying, each variable is compared with its original bit for bit. Layers
with `identity_init=True` return exactly their input until they are trained, so
that with equal variables the predictions are equal too.
"""

import collections
import re
import tempfile
from collections.abc import Mapping

import keras
import numpy as np
from keras import layers

from cbam_keras import _inspection


def copy_with(
    model: keras.Model, added: Mapping[int, keras.layers.Layer]
) -> keras.Model:
    """Returns a clone of a model, with layers added after some of its own.

    Layers are cloned from their configs, with the values of all variables.

    Args:
        model: Functional or sequential `keras.Model`. It is not modified.
        added: Mapping of ids of operations, including those of nested models,
            to the layer that follows each of their calls.

    Raises:
        ValueError: If a layer cannot be cloned with the same variables, or if
            a variable does not belong to a layer of the graph.
    """
    return _Clone(added).of(model)


class _Clone:
    """Clones models, adds attention and copies the weights."""

    def __init__(self, added):
        self.added = added
        self.cloned = {}
        self.copied = {}

    def of(self, model):
        copy = self._graph(model)
        for old, new in list(self.cloned.values()):
            if not _inspection.is_graph(old):
                self._copy(old, new)
        self._verify(model)
        return copy

    def _graph(self, graph):
        inputs = [_input(x) for x in graph.inputs]
        outputs = _inspection.replay(graph, inputs, self._call)
        input_structure, output_structure = _inspection.structure(graph)
        return keras.Model(
            keras.tree.pack_sequence_as(input_structure, inputs),
            keras.tree.pack_sequence_as(output_structure, outputs),
            name=graph.name,
        )

    def _call(self, operation, *args, **kwargs):
        if id(operation) not in self.cloned:
            make = self._graph if _inspection.is_graph(operation) else _clone
            self.cloned[id(operation)] = operation, make(operation)
        _, new = self.cloned[id(operation)]
        outputs = new(*args, **kwargs)
        attention = self.added.get(id(operation))
        if attention is None:
            return outputs
        return keras.tree.map_structure(attention, outputs)

    def _copy(self, old, new):
        """Copies the variables of a layer, matched by name."""
        if not isinstance(old, layers.Layer):
            return
        for inner, copy in zip(
            _inspection.layers_within(old),
            _inspection.layers_within(new),
            strict=False,
        ):
            # Configs do not show which inner layers are frozen.
            if copy.trainable != inner.trainable:
                copy.trainable = inner.trainable
            _copy_state(inner, copy)
        to = collections.defaultdict(collections.deque)
        for variable in new.variables:
            to[_key(variable)].append(variable)
        for variable in old.variables:
            # Equal names, e.g. of blocks in a list, are in the same order.
            if not to[_key(variable)]:
                raise ValueError(
                    f'Layer "{old.name}" of class {type(old).__name__} must '
                    "have the same variables when it is cloned from its "
                    "`get_config()`. Received: one without "
                    f'"{variable.path}" of shape {tuple(variable.shape)} and '
                    f"dtype {variable.dtype}. Fix its `get_config`"
                )
            copy = to[_key(variable)].popleft()
            if self.copied.setdefault(id(variable), copy) is not copy:
                raise ValueError(
                    "A variable must belong to one layer, which may be called "
                    f'several times. Received: "{variable.path}", which layer '
                    f'"{old.name}" shares with another, e.g. a wrapper with '
                    "the layer inside it: their clones would not share it. "
                    "Insert attention before building the model that shares "
                    "them"
                )
            copy.assign(keras.ops.convert_to_numpy(variable))
            if copy.trainable != variable.trainable:
                copy.trainable = variable.trainable

    def _verify(self, model):
        """Raises unless each variable of a model was copied bit for bit."""
        lost = [
            variable.path
            for variable in model.variables
            if id(variable) not in self.copied
            or _bits(variable) != _bits(self.copied[id(variable)])
        ]
        if lost:
            listed = ", ".join(f'"{path}"' for path in lost[:5])
            raise ValueError(
                "Every variable of the model must belong to a layer of its "
                f'graph to be copied. Received: model "{model.name}" '
                f"with {len(lost)} others: {listed}. Build a functional model "
                "from its inputs and outputs, and insert attention there"
            )


def _copy_state(old, new):
    """Copies what a layer adapted to data and does not keep in variables."""
    if isinstance(old, layers.Normalization) and old.built:
        # It computes with these constants, not with its variables.
        new.mean, new.variance = old.mean, old.variance
    if hasattr(old, "save_assets"):
        # A vocabulary.
        with tempfile.TemporaryDirectory() as folder:
            old.save_assets(folder)
            new.load_assets(folder)


def _input(tensor):
    """Returns a new input tensor like that of a model."""
    return _clone(_inspection.producer_of(tensor)).output


def _clone(operation):
    """Returns a clone of an operation with initial values."""
    if isinstance(operation, layers.Lambda):
        # Keras refuses to load code from the config. Use the same function.
        return type(operation)(
            operation.function,
            output_shape=operation._output_shape,
            mask=operation.mask,
            arguments=operation.arguments,
            **layers.Layer.get_config(operation),
        )
    try:
        return type(operation).from_config(operation.get_config())
    except Exception as error:
        raise ValueError(
            f'Layer "{operation.name}" of class {type(operation).__name__} '
            "must be clonable from its `get_config()`. "
            f"Received: {type(error).__name__}: {error}. Give the class a "
            "`get_config` that returns all arguments of `__init__`, and "
            "register it with keras.saving.register_keras_serializable()"
        ) from error


def _key(variable):
    # Keras numbers the variables without a name.
    name = re.sub(r"^variable_\d+$", "variable", variable.name)
    return name, tuple(variable.shape), str(variable.dtype)


def _bits(variable):
    return np.ascontiguousarray(keras.ops.convert_to_numpy(variable)).tobytes()
