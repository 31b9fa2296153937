"""Runs one or two gates as one operation; `contract` has the formulas."""

import functools
import itertools
import math

import keras
from keras import ops

from cbam_keras.layers._fused.contract import PoolCotangents, Residuals


def attend(passes, layer, x, training, formula):
    """Returns `x`, in `compute_dtype`, times the maps of a layer's gates.

    `passes` is a module as `contract` describes; `formula` computes the same.
    """
    weights = [x.value for gate in layer._gates() for x in gate.variables]
    differentiated = passes.needs_gradient(x, weights, training)
    if not differentiated and not passes.fuses_inference():
        return formula(x, training)
    operation = FusedOperation(passes, layer, x, training)
    if not differentiated:
        return operation.output(x)
    formula = functools.partial(operation.formula, formula)
    functions = operation.forward, operation.backward, formula
    y, *state = passes.custom_vjp(*functions, (x, *weights))
    for variable, value in zip(operation.updated, state, strict=True):
        variable.assign(value)
    return y


class FusedOperation:
    """One call of a layer: its gates, and the shapes of this input."""

    def __init__(self, passes, layer, x, training):
        self.passes = passes
        self.gates = layer._gates()
        self.training = training
        self.parallel = getattr(layer, "order", None) == "parallel"
        self.dtype = layer._gate_dtype
        # On TensorFlow, sizes unknown before the model runs are tensors.
        self.shape = ops.shape(x)
        first = layer.data_format == "channels_first"
        space = self.shape[2:] if first else self.shape[1:-1]
        # PyTorch may compile the sizes of `x` as unknown.
        axis = 1 if first else len(self.shape) - 1
        self.channels = layer.input_spec.axes.get(axis, self.shape[axis])
        self.map_shape = (1, *space) if first else (*space, 1)
        sizes = (math.prod(space), self.channels)
        self.sizes = sizes[::-1] if first else sizes
        # The axis over which each gate pools, and the shape that this gives.
        pools = [gate._pools_positions for gate in self.gates]
        self.axes = [1 if x != first else 2 for x in pools]
        over_1, over_2 = (1, self.sizes[1]), (self.sizes[0], 1)
        self.pooled_shapes = [over_1 if x == 1 else over_2 for x in self.axes]
        # Variables to which the call gives new values, as moving averages.
        self.updated = []

    def output(self, x):
        """Returns the output by operations with gradients of their own."""

        def map_of(index, values):
            return self._map(index, values), None

        return self._apply(self._view(x), map_of, with_argmax=False)[0]

    def formula(self, formula, x, *weights):
        """Returns the output by the formula, as a function of the weights."""
        with _stateless(self.gates, weights):
            return formula(x, self.training)

    def forward(self, x, *weights, with_argmax=True):
        """Returns the output, the values of `updated`, and the residuals."""
        count = len(self.gates[0].variables)
        weights = weights[:count], weights[count:]
        self.updated, state = [], []

        def map_of(index, values):
            gate_map, new_values, vjp = self._map_with_vjp(
                index, values, weights[index]
            )
            state.extend(new_values)
            return gate_map, vjp

        y, residuals = self._apply(self._view(x), map_of, with_argmax)
        return (y, *state), residuals

    def backward(self, dy, x, residuals):
        """Returns the cotangents of the input and the weights."""
        backward = self.passes.Backward(self._view(dy), self._view(x))
        map1, map2 = residuals[0].map, None
        to_dp, to_dx, dweights2 = [], [], []
        if len(residuals) > 1:
            map2 = residuals[1].map
            dmap2 = backward.dmap2(map1, self.axes[1])
            dpools2, dweights2 = self._map_vjp(1, residuals[1], dmap2)
            (to_dx if self.parallel else to_dp).append(dpools2)
        dmap1 = backward.dmap1(map2, to_dp, self.axes[0])
        dpools1, dweights1 = self._map_vjp(0, residuals[0], dmap1)
        to_dx.append(dpools1)
        dx = backward.dx(map1, map2, to_dp, to_dx)
        dx = self.passes.reshape(dx, self.shape)
        return dx, *dweights1, *dweights2

    def _view(self, x):
        return self.passes.reshape(x, (-1, *self.sizes))

    def _apply(self, x, map_of, with_argmax):
        """Returns the output, and residuals, with what `map_of` gives."""
        product, residuals = x, []
        for index, gate in enumerate(self.gates):
            chained = index > 0 and not self.parallel
            before = residuals[0].map if chained else None
            axis, kinds = self.axes[index], gate.pool_types
            pooled = self.passes.pool(
                x, before, axis, kinds, self.dtype, with_argmax
            )
            if chained:
                product = pooled.product
            elif index > 0:
                product = self.passes.scale(x, residuals[0].map, x)
            by_type = {"avg": pooled.sum, "max": pooled.max}
            values = [by_type[kind] for kind in gate.pool_types]
            gate_map, vjp = map_of(index, values)
            residuals.append(Residuals(gate_map, pooled.argmax, vjp))
        y = self.passes.scale(product, residuals[-1].map, x)
        return self.passes.reshape(y, self.shape), residuals

    def _map(self, index, values):
        """Returns the map of a gate, given sum and maximum, in their shape."""
        gate, count = self.gates[index], self.sizes[self.axes[index] - 1]
        if not isinstance(count, int):
            count = ops.cast(count, self.dtype)
        shape = (self.channels,) if gate._pools_positions else self.map_shape
        pooled = [
            self.passes.reshape(
                value / count if kind == "avg" else value, (-1, *shape)
            )
            for kind, value in zip(gate.pool_types, values, strict=True)
        ]
        gate_map = gate._map_from_pools(pooled, self.training)
        shape = (-1, *self.pooled_shapes[index])
        return self.passes.reshape(gate_map, shape)

    def _map_with_vjp(self, index, values, weights):
        """Returns the map of a gate, what it updates, and the map's vjp."""
        gate = self.gates[index]

        def map_and_state(values, weights):
            with _stateless([gate], weights) as scope:
                before = _current_values(scope, gate)
                gate_map = self._map(index, values)
                after = _current_values(scope, gate)
            pairs = zip(before, after, strict=True)
            changed = [old is not new for old, new in pairs]
            self.updated.extend(itertools.compress(gate.variables, changed))
            return gate_map, list(itertools.compress(after, changed))

        return self.passes.vjp(map_and_state, values, weights)

    def _map_vjp(self, index, residuals, dmap):
        """Returns the cotangents of a gate's pools and of its weights."""
        values, weights = residuals.vjp(dmap)
        values = [self.passes.cast(value, dmap.dtype) for value in values]
        by_type = dict(zip(self.gates[index].pool_types, values, strict=True))
        average, maximum = by_type.get("avg"), by_type.get("max")
        axis, argmax = self.axes[index], residuals.argmax
        return PoolCotangents(axis, average, maximum, argmax), weights


def _stateless(gates, weights):
    variables = [variable for gate in gates for variable in gate.variables]
    return keras.StatelessScope(list(zip(variables, weights, strict=True)))


def _current_values(scope, gate):
    return [scope.get_current_value(variable) for variable in gate.variables]
