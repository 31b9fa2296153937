"""A functional model made anew, with layers added and its weights kept."""

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
    """Returns a copy of a model, with layers put after some of its own.

    Args:
        model: Functional or sequential `keras.Model`, left as it is.
        added: Mapping of the ids of operations, also in models within, to
            the layer that follows each of their calls.

    Returns:
        A functional `keras.Model`, its layers made anew from their
        configurations, with the values of all variables.

    Raises:
        ValueError: If a layer can't be made anew with the same variables, or
            if a variable belongs to no layer of the graph.
    """
    return _Copy(added).of(model)


class _Copy:
    """Models made anew, with attention added and the weights carried over."""

    def __init__(self, added):
        self.added = added
        self.made = {}
        self.carried = {}

    def of(self, model):
        copy = self._graph(model)
        for old, new in list(self.made.values()):
            if not _inspection.is_graph(old):
                self._carry(old, new)
        self._verify(model)
        return copy

    def _graph(self, graph):
        inputs = [_input(x) for x in graph.inputs]
        outputs = _inspection.replay(graph, inputs, self._call)
        given, result = _inspection.structure(graph)
        return keras.Model(
            keras.tree.pack_sequence_as(given, inputs),
            keras.tree.pack_sequence_as(result, outputs),
            name=graph.name,
        )

    def _call(self, operation, *args, **kwargs):
        if id(operation) not in self.made:
            make = self._graph if _inspection.is_graph(operation) else _anew
            self.made[id(operation)] = operation, make(operation)
        _, new = self.made[id(operation)]
        outputs = new(*args, **kwargs)
        attention = self.added.get(id(operation))
        if attention is None:
            return outputs
        return keras.tree.map_structure(attention, outputs)

    def _carry(self, old, new):
        """Copies the variables of a layer, paired by name."""
        if not isinstance(old, layers.Layer):
            return
        for inner, copy in zip(
            _inspection.layers_within(old),
            _inspection.layers_within(new),
            strict=False,
        ):
            # What is frozen within a layer: no configuration tells.
            if copy.trainable != inner.trainable:
                copy.trainable = inner.trainable
            _carry_learned(inner, copy)
        to = collections.defaultdict(collections.deque)
        for variable in new.variables:
            to[_key(variable)].append(variable)
        for variable in old.variables:
            # Equal names, as of blocks in a list, follow in equal order.
            if not to[_key(variable)]:
                raise ValueError(
                    f'Layer "{old.name}" of class {type(old).__name__} must '
                    "have the same variables when it is made anew from its "
                    "`get_config()`. Received: one without "
                    f'"{variable.path}" of shape {tuple(variable.shape)} and '
                    f"type {variable.dtype}. Mend its `get_config`"
                )
            copy = to[_key(variable)].popleft()
            if self.carried.setdefault(id(variable), copy) is not copy:
                raise ValueError(
                    "A variable must belong to one layer, which may be called "
                    f'several times. Received: "{variable.path}", which layer '
                    f'"{old.name}" shares with another, as a wrapper does '
                    "with a layer that is also called itself: made anew, the "
                    "two would be apart. Insert attention before they are "
                    "joined"
                )
            copy.assign(keras.ops.convert_to_numpy(variable))
            if copy.trainable != variable.trainable:
                copy.trainable = variable.trainable

    def _verify(self, model):
        """Raises unless each variable of a model has arrived bit for bit."""
        lost = [
            variable.path
            for variable in model.variables
            if id(variable) not in self.carried
            or _bits(variable) != _bits(self.carried[id(variable)])
        ]
        if lost:
            listed = ", ".join(f'"{path}"' for path in lost[:5])
            raise ValueError(
                "Every variable of the model must belong to a layer of its "
                f'graph, to be carried over. Received: model "{model.name}" '
                f"with {len(lost)} others: {listed}. Build a "
                "functional model of its inputs and outputs, and insert there"
            )


def _carry_learned(old, new):
    """Copies what a layer learned from data and keeps beside its variables."""
    if isinstance(old, layers.Normalization) and old.built:
        # It computes with these constants, not with its variables.
        new.mean, new.variance = old.mean, old.variance
    if hasattr(old, "save_assets"):
        # A vocabulary.
        with tempfile.TemporaryDirectory() as folder:
            old.save_assets(folder)
            new.load_assets(folder)


def _input(tensor):
    """Returns a new input like that of a model."""
    return _anew(_inspection.producer_of(tensor)).output


def _anew(operation):
    """Returns an operation made anew, with the values of a fresh start."""
    if isinstance(operation, layers.Lambda):
        # From its configuration it would load code, which Keras refuses.
        # The very function is at hand.
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
            "must be such that it can be made anew from its `get_config()`. "
            f"Received: {type(error).__name__}: {error}. Give the class a "
            "`get_config` that returns all arguments of `__init__`, and "
            "register it with keras.saving.register_keras_serializable()"
        ) from error


def _key(variable):
    # Keras numbers the variables to which a layer gives no name.
    name = re.sub(r"^variable_\d+$", "variable", variable.name)
    return name, tuple(variable.shape), str(variable.dtype)


def _bits(variable):
    return np.ascontiguousarray(keras.ops.convert_to_numpy(variable)).tobytes()
