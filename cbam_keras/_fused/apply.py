"""Attention in few passes over the features, with a gradient written by hand.

A gate costs next to no arithmetic: its time goes into reading and writing the
features. So `attend` applies one gate or two as one operation, whose gradient
keeps the input and the small maps alone and goes over the features a few
times, where the gradients of the single operations go over them about twenty
times and keep several copies. What lies between, from pooled numbers to an
attention map, is the gates' own code, differentiated by the backend.

Features are seen as `(B, M, N)`: axis 1 goes over positions and axis 2 over
channels, or the other way round with `data_format="channels_first"`. The
passes themselves are in `tensorflow_passes`, `jax_passes` and `torch_passes`.
"""

import functools
import importlib
import itertools
import math
from typing import Any, NamedTuple

import keras
from keras import ops

from cbam_keras._fused.records import Spread, halves


def attend(layer, gates, x, training, plain):
    """Returns `x` times the attention maps of `gates`.

    Args:
        layer: The layer that is called.
        gates: List of one or two built gates, in the order in which they are
            applied. Of two, one is a `ChannelAttention` and one a
            `SpatialAttention`.
        x: Tensor as the layer takes it, in its `compute_dtype`.
        training: Boolean or `None`, as the layer takes it. If `False`, no
            gradient is expected: it is right, but not faster. If `None`, it
            depends on whether the backend records one.
        plain: Function of `x` and `training` that computes the same from
            single operations. It is what is called where this one can't be.

    Returns:
        Tensor of the shape of `x`.
    """
    passes = _passes()
    if (
        passes is None
        or isinstance(x, keras.KerasTensor)
        or not passes.can_take(x)
        or not layer._can_be_fused()
    ):
        return plain(x, training)
    work = _Attention(passes, layer, gates, x, training)
    if not passes.expects_gradient(x, work.weights(), training):
        return work.forward(x) if passes.FORWARD_PAYS else plain(x, training)
    outputs = passes.with_gradient(
        work.forward_and_records,
        work.backward,
        functools.partial(work.plainly, plain),
        (x, *work.weights()),
    )
    work.keep(outputs[1:])
    return outputs[0]


def _passes():
    return _PASSES


class _Attention:
    """One call of a layer: shapes, order and variables of its gates."""

    def __init__(self, passes, layer, gates, x, training):
        self.passes = passes
        self.gates = gates
        self.training = training
        self.parallel = getattr(layer, "order", None) == "parallel"
        self.dtype = layer._gate_dtype
        # On TensorFlow, sizes unknown before the model runs are tensors.
        self.shape = ops.shape(x)
        first = layer.data_format == "channels_first"
        space = self.shape[2:] if first else self.shape[1:-1]
        channels = x.shape[1 if first else -1]
        places = math.prod(space[:-1]), space[-1]
        positions = places[0] * places[1]
        self.space = tuple(space)
        self.channels = channels
        self.sizes = (channels, positions) if first else (positions, channels)
        # Axis 1 in two parts: they make finding a maximum faster.
        self.rows = halves(channels) if first else places
        # The axis over which each gate pools.
        self.axes = [
            1 if gate._pools_space is not first else 2 for gate in gates
        ]
        # The shape of each gate's pooled numbers and map.
        self.small = [
            (1, self.sizes[1]) if axis == 1 else (self.sizes[0], 1)
            for axis in self.axes
        ]
        # What the call has given new values, as moving averages.
        self.updated = []

    def weights(self):
        return [
            variable.value for gate in self.gates for variable in gate.variables
        ]

    def forward(self, x):
        """Returns the output alone, by operations with their own gradients."""

        def run(index, values):
            return self._map(index, values), None

        return self._forward(self._view(x), run, locate=False)[0]

    def plainly(self, plain, x, *weights):
        """Returns the output by `plain`, as a function of the weights too."""
        with _scope(self.gates, weights):
            return plain(x, self.training)

    def forward_and_records(self, x, *weights, locate=True):
        """Returns the outputs, and what the gradient needs of them.

        The outputs are that of the layer and the values of `updated`.
        """
        split = len(self.gates[0].variables)
        weights = weights[:split], weights[split:]
        self.updated, state = [], []

        def run(index, values):
            gate, updated = self.gates[index], []

            def with_state(values, weights):
                with _scope([gate], weights) as scope:
                    before = _values(scope, gate)
                    gate_map = self._map(index, values)
                    after = _values(scope, gate)
                changed = [
                    old is not new
                    for old, new in zip(before, after, strict=True)
                ]
                updated.extend(itertools.compress(gate.variables, changed))
                return gate_map, list(itertools.compress(after, changed))

            gate_map, values, pull = self.passes.pull(
                with_state, values, weights[index]
            )
            self.updated.extend(updated)
            state.extend(values)
            return gate_map, pull

        y, records = self._forward(self._view(x), run, locate)
        return (y, *state), records

    def backward(self, dy, x, records):
        """Returns the gradients of `x` and the weights, given the output's."""
        dy, x = self._view(dy), self._view(x)
        slopes = self.passes.Slopes(dy, x, self.rows)
        first, second = records[0].map, None
        inside, outside, weights = [], [], []
        if len(records) > 1:
            second = records[1].map
            slope = slopes.of_second(first, self.axes[1])
            spread, weights = self._pull(1, records[1], slope)
            (outside if self.parallel else inside).append(spread)
        slope = slopes.of_first(second, inside, self.axes[0])
        spread, more = self._pull(0, records[0], slope)
        outside.append(spread)
        dx = slopes.of_input(first, second, inside, outside)
        return self.passes.reshape(dx, self.shape), *more, *weights

    def keep(self, state):
        """Assigns what the call has updated."""
        for variable, value in zip(self.updated, state, strict=True):
            variable.assign(value)

    def _view(self, x):
        return self.passes.reshape(x, (-1, *self.sizes))

    def _map(self, index, values):
        """Returns the map of a gate, given sum and maximum, in their shape."""
        gate, count = self.gates[index], self.sizes[self.axes[index] - 1]
        if not isinstance(count, int):
            count = ops.cast(count, self.dtype)
        shape = (self.channels,) if gate._pools_space else self.space
        pooled = [
            self.passes.reshape(
                value / count if kind == "avg" else value, (-1, *shape)
            )
            for kind, value in zip(gate.pool_types, values, strict=True)
        ]
        return self.passes.reshape(
            gate._map_of(pooled, self.training), (-1, *self.small[index])
        )

    def _forward(self, x, run, locate):
        product, records = x, []
        for index, gate in enumerate(self.gates):
            chained = index > 0 and not self.parallel
            pooled = self.passes.pool(
                x,
                records[0].map if chained else None,
                self.axes[index],
                gate.pool_types,
                self.rows,
                self.dtype,
                locate,
            )
            if chained:
                product = pooled.product
            elif index > 0:
                product = self.passes.scale(x, records[0].map, x)
            found = {"avg": pooled.total, "max": pooled.peak}
            gate_map, pull = run(
                index, [found[kind] for kind in gate.pool_types]
            )
            records.append(_Record(gate_map, pooled.place, pull))
        y = self.passes.scale(product, records[-1].map, x)
        return self.passes.reshape(y, self.shape), records

    def _pull(self, index, record, slope):
        values, weights = record.pull(slope)
        found = {
            kind: self.passes.cast(value, slope.dtype)
            for kind, value in zip(
                self.gates[index].pool_types, values, strict=True
            )
        }
        spread = Spread(
            self.axes[index], found.get("avg"), found.get("max"), record.place
        )
        return spread, weights


class _Record(NamedTuple):
    map: Any
    place: Any
    pull: Any


def _scope(gates, weights):
    variables = [variable for gate in gates for variable in gate.variables]
    return keras.StatelessScope(list(zip(variables, weights, strict=True)))


def _values(scope, gate):
    return [scope.get_current_value(variable) for variable in gate.variables]


# At once and at the end: the module of the backend needs this one, and what
# compiles a call of `attend` should not meet an import.
_PASSES = None

if keras.config.backend() in ("tensorflow", "jax", "torch"):
    _PASSES = importlib.import_module(
        f"cbam_keras._fused.{keras.config.backend()}_passes"
    )
