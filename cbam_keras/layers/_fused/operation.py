"""Runs one or two gates as one operation; `contract` has the formulas."""

import functools
import itertools
import math

import keras
from keras import ops

from cbam_keras.layers._fused.contract import PoolCotangents, Residuals


def attend(passes, layer, x, training, formula):
    """Returns `x` times the attention maps of a layer's gates.

    Args:
        passes: Module of a backend, as `contract` describes.
        layer: Layer that is built. If it has two gates, they pool different
            axes.
        x: Tensor in the layer's `compute_dtype`.
        training: Boolean or `None`. If it is `False`, no gradient is expected:
            the gradient is right, but not faster.
        formula: Function of `x` and `training` that computes the same by single
            operations.
    """
    weights = [
        variable.value for gate in layer._gates() for variable in gate.variables
    ]
    has_custom_gradient = passes.needs_gradient(x, weights, training)
    if not has_custom_gradient and not passes.fuses_inference():
        return formula(x, training)
    operation = FusedOperation(passes, layer, x, training)
    if not has_custom_gradient:
        return operation.output(x)
    y, *new_values = passes.custom_vjp(
        operation.forward,
        operation.backward,
        functools.partial(operation.formula, formula),
        (x, *weights),
    )
    for variable, value in zip(operation.updated, new_values, strict=True):
        variable.assign(value)
    return y


class FusedOperation:
    """One call of a layer: its gates, and the shapes of this input.

    Names are those of `contract`: `x` is the input, `y` the output, `d` marks
    cotangents, and lists have one entry for each gate, in the order in which
    the gates are applied.
    """

    def __init__(self, passes, layer, x, training):
        self.passes = passes
        self.gates = layer._gates()
        self.training = training
        self.parallel = getattr(layer, "order", None) == "parallel"
        self.dtype = layer._gate_dtype
        # On TensorFlow, sizes unknown before the model runs are tensors.
        self.shape = ops.shape(x)
        channels_first = layer.data_format == "channels_first"
        space = self.shape[2:] if channels_first else self.shape[1:-1]
        channel_axis = 1 if channels_first else len(self.shape) - 1
        # PyTorch may compile the sizes of `x` as unknown.
        self.channels = layer.input_spec.axes.get(
            channel_axis, self.shape[channel_axis]
        )
        # The shapes of a spatial map without the batch, and of the features as
        # `(B, M, N)` without the batch.
        if channels_first:
            self.map_shape = (1, *space)
            self.sizes = (self.channels, math.prod(space))
        else:
            self.map_shape = (*space, 1)
            self.sizes = (math.prod(space), self.channels)
        # The axis over which each gate pools, and the shape that this gives.
        self.axes = [
            1 if gate._pools_positions != channels_first else 2
            for gate in self.gates
        ]
        self.pooled_shapes = [
            (1, self.sizes[1]) if axis == 1 else (self.sizes[0], 1)
            for axis in self.axes
        ]
        # Variables to which the call gives new values, as moving averages.
        self.updated = []

    def output(self, x):
        """Returns the output by operations with gradients of their own."""

        def map_of(index, values):
            return self._map(index, values), None

        y, _ = self._apply(self._view(x), map_of, with_argmax=False)
        return y

    def formula(self, formula, x, *weights):
        """Returns the output by the formula, as a function of the weights."""
        with _stateless(self.gates, weights):
            return formula(x, self.training)

    def forward(self, x, *weights, with_argmax=True):
        """Returns the outputs and the residuals.

        The outputs are that of the layer and the values of `updated`.
        """
        count = len(self.gates[0].variables)
        weights_of_gates = (weights[:count], weights[count:])
        self.updated = []
        new_values = []

        def map_of(index, values):
            gate_map, new_values_of_gate, vjp = self._map_with_vjp(
                index, values, weights_of_gates[index]
            )
            new_values.extend(new_values_of_gate)
            return gate_map, vjp

        y, residuals = self._apply(self._view(x), map_of, with_argmax)
        return (y, *new_values), residuals

    def backward(self, dy, x, residuals):
        """Returns the cotangents of the input and the weights.

        It follows the gates backwards, like the second half of the formulas of
        `contract`, which stand beside each step. `p` is the output of gate 1,
        `x * map1`.
        """
        passes = self.passes.Backward(self._view(dy), self._view(x))
        map1 = residuals[0].map
        map2 = None
        dweights2 = []
        # The cotangents of pools that are added to `dp`, and to `dx`. Tensors
        # of the size of the features are not computed before `passes.dx`.
        to_dp = []
        to_dx = []
        if len(residuals) == 2:
            map2 = residuals[1].map
            # dmap2 = sum(dy * x * map1)
            dmap2 = passes.dmap2(map1, self.axes[1])
            dpools2, dweights2 = self._map_vjp(1, residuals[1], dmap2)
            # dp = dy * map2 + pools_vjp(dpools2), as gate 2 has pooled `p`;
            # if the gates are parallel, it has pooled `x`.
            if self.parallel:
                to_dx.append(dpools2)
            else:
                to_dp.append(dpools2)
        # dmap1 = sum(dp * x)
        dmap1 = passes.dmap1(map2, to_dp, self.axes[0])
        dpools1, dweights1 = self._map_vjp(0, residuals[0], dmap1)
        # dx = dp * map1 + pools_vjp(dpools1)
        to_dx.append(dpools1)
        dx = passes.dx(map1, map2, to_dp, to_dx)
        dx = self.passes.reshape(dx, self.shape)
        # As the arguments of `forward`.
        return dx, *dweights1, *dweights2

    def _view(self, x):
        """Returns features of any rank as `(B, M, N)`."""
        return self.passes.reshape(x, (-1, *self.sizes))

    def _apply(self, x, map_of, with_argmax):
        """Returns the output, and the residuals of each gate.

        `map_of(index, values)` returns the map of a gate and the map's vjp,
        given the pooled values in the order of its `pool_types`.
        """
        product = x
        residuals = []
        for index, gate in enumerate(self.gates):
            # Gate 2 pools the output of gate 1, unless they are parallel.
            is_chained = index > 0 and not self.parallel
            pooled = self.passes.pool(
                x,
                residuals[0].map if is_chained else None,
                self.axes[index],
                gate.pool_types,
                self.dtype,
                with_argmax,
            )
            if is_chained:
                product = pooled.product
            elif index > 0:
                product = self.passes.scale(x, residuals[0].map, x)
            by_type = {"avg": pooled.sum, "max": pooled.max}
            values = [by_type[pool_type] for pool_type in gate.pool_types]
            gate_map, vjp = map_of(index, values)
            residuals.append(Residuals(gate_map, pooled.argmax, vjp))
        y = self.passes.scale(product, residuals[-1].map, x)
        return self.passes.reshape(y, self.shape), residuals

    def _map(self, index, values):
        """Returns the map of a gate, given sum and maximum, in their shape."""
        gate = self.gates[index]
        count = self.sizes[self.axes[index] - 1]
        if not isinstance(count, int):
            count = ops.cast(count, self.dtype)
        shape = (self.channels,) if gate._pools_positions else self.map_shape
        pooled = [
            self.passes.reshape(
                value / count if pool_type == "avg" else value, (-1, *shape)
            )
            for pool_type, value in zip(gate.pool_types, values, strict=True)
        ]
        gate_map = gate._map_from_pools(pooled, self.training)
        return self.passes.reshape(gate_map, (-1, *self.pooled_shapes[index]))

    def _map_with_vjp(self, index, values, weights):
        """Returns the map of a gate, what it updates, and the map's vjp."""
        gate = self.gates[index]

        def map_and_state(values, weights):
            with _stateless([gate], weights) as scope:
                before = _current_values(scope, gate)
                gate_map = self._map(index, values)
                after = _current_values(scope, gate)
            is_updated = [
                old is not new for old, new in zip(before, after, strict=True)
            ]
            self.updated.extend(itertools.compress(gate.variables, is_updated))
            return gate_map, list(itertools.compress(after, is_updated))

        return self.passes.vjp(map_and_state, values, weights)

    def _map_vjp(self, index, residuals, dmap):
        """Returns the cotangents of a gate's pools and of its weights."""
        dvalues, dweights = residuals.vjp(dmap)
        by_type = {
            pool_type: self.passes.cast(dvalue, dmap.dtype)
            for pool_type, dvalue in zip(
                self.gates[index].pool_types, dvalues, strict=True
            )
        }
        dpools = PoolCotangents(
            axis=self.axes[index],
            sum=by_type.get("avg"),
            max=by_type.get("max"),
            argmax=residuals.argmax,
        )
        return dpools, dweights


def _stateless(gates, weights):
    """Context in which the variables of gates have the values `weights`."""
    variables = [variable for gate in gates for variable in gate.variables]
    return keras.StatelessScope(list(zip(variables, weights, strict=True)))


def _current_values(scope, gate):
    return [scope.get_current_value(variable) for variable in gate.variables]
