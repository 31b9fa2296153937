"""Constant gates are merged into the network, where they cost nothing."""

import dataclasses
import functools
import math
from collections.abc import Collection, Iterator, Mapping

import keras
import numpy as np
from keras import layers

from cbam_keras import _checks, _graph, _terminal
from cbam_keras._graph import ArrayLike
from cbam_keras.explain.importance import measure
from cbam_keras.insertion.constant_search import (
    BATCH,
    ConstantSearch,
    Cost,
    as_constant,
    deviation,
)
from cbam_keras.insertion.copying import copy_with
from cbam_keras.layers import SCSE, AttentionLayer

# A map of positions counts as one number if its deviation over them is at most
# so much of its mean.
NEARLY = 0.1
# What layers that a constant is multiplied into are called, and the axes of
# their kernels that are its channels, of outputs and inputs.
DEPTHWISE = "depthwise convolution"
FOLDS: dict[type, tuple[str, int, int]] = {
    layers.BatchNormalization: ("batch normalization", -1, -1),
    layers.Dense: ("dense layer", -1, -2),
    **dict.fromkeys(
        (layers.Conv1D, layers.Conv2D, layers.Conv3D), ("convolution", -1, -2)
    ),
    **dict.fromkeys(
        (layers.Conv1DTranspose, layers.Conv2DTranspose),
        ("convolution", -2, -1),
    ),
    **dict.fromkeys(
        (layers.DepthwiseConv1D, layers.DepthwiseConv2D),
        (DEPTHWISE, -2, -2),
    ),
}
# Between a gate and the layer after it; the second need a map without signs.
# A subclass of a user may compute anything.
LINEAR, MONOTONIC = (
    {getattr(layers, x) for x in dir(layers) if x.startswith(names)}
    for names in (
        ("AveragePool", "Cropping", "Dropout", "GlobalAverage", "ZeroPadding"),
        ("MaxPool", "GlobalMax"),
    )
)


@dataclasses.dataclass(frozen=True)
class FoldedGate:
    """What happened to a gate.

    Attributes:
        gate: String, its name, as in `explain.gate_importance`.
        is_folded: Boolean, whether it is a constant now.
        where: String, the layer it was multiplied into, or why it was kept.
    """

    gate: str
    is_folded: bool
    where: str


@dataclasses.dataclass(frozen=True)
class FoldReport(_terminal.Tabular):
    """Report of `fold_attention`; prints as a table.

    `to_dataframe()` has a row per gate, with the attributes of `FoldedGate`.

    Attributes:
        rows: Tuple of `FoldedGate`, in the order in which gates run.
        before: `Cost` of the model.
        after: `Cost` of the new one.
        measure: String, `"accuracy"`, or `"agreement"` without labels.
    """

    rows: tuple[FoldedGate, ...]
    before: Cost
    after: Cost
    measure: str

    @property
    def verdict(self) -> str:
        """What changed."""
        a, b = self.before, self.after
        folded = sum(row.is_folded for row in self.rows)
        accuracy = ""
        if not math.isnan(a.accuracy):
            accuracy = f"{self.measure} {100 * a.accuracy:.2f} to "
            accuracy += f"{100 * b.accuracy:.2f} % on these images, "
        return (
            f"{folded} of {_checks.count(len(self.rows), 'gate')} folded: "
            f"{accuracy}{a.parameters:,} to {b.parameters:,} parameters, "
            f"{a.macs:,} to {b.macs:,} MACs, {1e3 * a.seconds:.3g} to "
            f"{1e3 * b.seconds:.3g} ms a batch."
        )

    def _tables(self) -> Iterator[_terminal.Table]:
        rows = [
            {"gate": x.gate, "folded": "yes" * x.is_folded, "where": x.where}
            for x in self.rows
        ]
        yield _terminal.Table("", rows)

    def _records(self) -> list[dict[str, object]]:
        return [dict(vars(row)) for row in self.rows]


def fold_attention(
    model: keras.Model,
    images: _graph.Inputs,
    gates: Collection[str] | None = None,
    tolerance: float = 0.002,
    labels: ArrayLike | None = None,
) -> tuple[keras.Model, FoldReport]:
    """Merges constant gates into the layers around them.

    The map of a gate that hardly depends on the image becomes its mean over the
    images, and goes into the weights of a neighboring layer where possible. The
    given model is not modified.

    A map of channels is multiplied into the batch normalization, convolution or
    dense layer before it, if that has no activation and no other consumer,
    otherwise into the one after it; where neither is possible a
    `keras.layers.Rescaling` stays. A map of positions becomes one number. If no
    gate stays, the new model loads without `cbam_keras`.

    Args:
        model: Functional or Sequential `keras.Model` with attention layers of
            `cbam_keras`. Also a subclassed model whose `call` takes symbolic
            inputs.
        images: See `explain.attention_maps`. Take a thousand or more that it
            was not trained with, with `gates` a few hundred.
        gates: Names of the gates to merge, as `explain.gate_importance` has
            them. `"stage1_block1_attention"` is all of a layer,
            `"stage1_block1_attention/spatial"` one half of `CBAM`. Of these,
            maps that differ by position stay. They are merged in the order of
            what each costs by itself. Defaults to `None`, which means as many
            as cost at most `tolerance` together; then the model must have one
            output, of classes.
        tolerance: Float in [0, 1), the accuracy that may be lost on these
            images. They choose the gates, so others may lose more: count those
            of a test set again. Even where no class changes, the 95 % interval
            of n images reaches 2 / n, so 0.2 points need 1,000 images. Defaults
            to `0.002`.
        labels: See `explain.gate_importance`, or `(B, H, W)` for classes of
            positions. Defaults to `None`, which means those of the batches,
            otherwise the classes that the model predicts.

    Returns:
        Tuple of the new `keras.Model`, not compiled, and a `FoldReport`.

    Raises:
        ValueError: If the model has no attention layers, if its graph is not
            known, if it must give classes and does not, if the images do not
            fit, if `gates` or `tolerance` are none of the above, if there is
            not a label per prediction, or if merging by itself loses more
            than `tolerance`.
        TypeError: If `model` is not a model, or the images are not numbers.

    Example:
        >>> model = cbam_keras.models.ResNet18(
        ...     input_shape=(32, 32, 3), classes=10, attention="se"
        ... )
        >>> images = np.random.rand(4, 32, 32, 3)
        >>> slim, report = fold_attention(model, images)
        >>> report.rows[0].where
        'batch normalization "stage1_block1_bn2"'

    Reference:
        Attention that becomes a constant: Huang et al., 2023
        (https://arxiv.org/abs/2304.06345).
    """
    if not isinstance(tolerance, int | float) or not 0 <= tolerance < 1:
        raise ValueError(
            "`tolerance` must be a fraction from 0 and below 1. Received: "
            f"tolerance={tolerance!r}"
        )
    model = _graph.with_graph("model", model)
    images, of_batches = _graph.with_labels(images, model)
    inputs = _graph.in_order(model, _graph.check_inputs(images, model))
    hooks = _graph.Gates(_graph.attention_layers(model, None))
    folded = _select(hooks.names, gates)
    steps = _graph.StepByStep(_graph.Graph(model, model.inputs))
    search = ConstantSearch(
        model, steps.graph, inputs, labels, of_batches, gates is None
    )
    moments = measure(steps, hooks, _graph.batches(inputs, BATCH))
    plan = _Plan(model, steps.graph, list(moments))
    refused = dict(plan.reasons)
    constants = {
        gate: as_constant(gate, x.mean)
        for gate, x in moments.items()
        if gate not in refused
    }
    if gates is not None:
        for gate in folded:
            varies = deviation(gate, moments[gate].mean)
            if gate not in refused and varies > NEARLY:
                refused[gate] = f"its map differs by position ({varies:.0%})"
        folded = [gate for gate in folded if gate not in refused]
    else:
        folded, costly = search.choose(steps, hooks, constants, tolerance)
        refused |= costly
    slim, where = plan.fold({gate: constants[gate] for gate in folded})
    rows = tuple(
        FoldedGate(
            x.name, x in where, where.get(x) or refused.get(x, "not chosen")
        )
        for x in moments
    )
    before, after = search.costs(slim)
    if gates is not None:
        used = {gate: constants[gate] for gate in folded}
        context = functools.partial(hooks.replaced, used)
        least = search.accuracy(model, context) - tolerance
    else:
        least = before.accuracy - tolerance
    if after.accuracy < least - 1e-9:
        raise ValueError(
            "`model` must predict the same once its constant gates are folded. "
            f"Received: {100 * after.accuracy:.2f} % right, not at least "
            f"{100 * least:.2f}, with {_checks.first_few([*map(str, where)])} "
            "folded. Fold fewer, by `gates`, or give another `tolerance`"
        )
    name = "accuracy" if search.has_labels else "agreement"
    return slim, FoldReport(rows, before, after, name)


def remove_attention(
    model: keras.Model, gates: Collection[str] | None = None
) -> keras.Model:
    """Removes attention: returns a new model without it.

    All other layers keep their weights; the given model is not modified. What
    `insert_attention` inserted is taken out again, trained or not.

    Args:
        model: See `fold_attention`.
        gates: Names of layers, or of halves of `CBAM`; see `fold_attention`.
            Defaults to `None`, which means all.

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
    names = _graph.attention_layers(model, None)
    selected = _select(names, gates)
    plan = _Plan(model, _graph.Graph(model, model.inputs), selected, False)
    for gate in selected:
        if gate in plan.reasons:
            raise ValueError(
                "`gates` must be in the graph of the model, and their maps not "
                f'among its values. Received: gate "{gate.name}": '
                f"{plan.reasons[gate]}"
            )
    return plan.fold(dict.fromkeys(selected))[0]


def _select(
    names: Mapping[AttentionLayer, str], wanted: Collection[str] | None
) -> list[_graph.Gate]:
    """Returns the gates of layers, of these names or all."""
    gates = [
        _graph.Gate(_graph.name_of(name, layer, part), layer, part, ())
        for layer, name in names.items()
        for part in layer._gates()
    ]
    if wanted is None:
        return gates
    if isinstance(wanted, str):
        wanted = [wanted]
    if not isinstance(wanted, Collection):
        raise TypeError(
            "`gates` must be names of gates, or None. Received: "
            f"gates={wanted!r} of type {type(wanted).__name__}"
        )
    selected = []
    for name in wanted:
        matching = [x for x in gates if name in (x.name, names[x.layer])]
        if not matching:
            names_of_gates = [gate.name for gate in gates]
            raise ValueError(
                "`gates` must be names of gates of the model: "
                f"{_checks.first_few(names_of_gates)}. Received: {name!r}"
                f"{_checks.did_you_mean(name, names_of_gates)}"
            )
        selected += matching
    return selected


class _Plan:
    """Where each gate of a model can go.

    `reasons` say of gates why they stay: without `folds`, only of those that
    cannot even be taken out.
    """

    def __init__(self, model, graph, gates, folds=True):
        self.model, self.graph = model, graph
        self.names = {step.operation.name for step in graph.steps}
        self.calls: dict[int, list[_graph.Step]] = {}
        for step in graph.steps:
            self.calls.setdefault(id(step.operation), []).append(step)
        reasons = {gate: self._reason(gate, folds) for gate in gates}
        self.reasons = {gate: x for gate, x in reasons.items() if x}

    def _reason(self, gate, folds):
        calls = self.calls.get(id(gate.layer), [])
        if not calls:
            return "its layer is inside another layer"
        if any(len(step.outputs) > 1 for step in calls):
            return "its map is an output of its layer"
        # A mask is another argument.
        args, kwargs = calls[0].arguments
        if len(keras.tree.flatten(args or kwargs["inputs"])) > 1:
            return "it takes a gating signal, and transforms the features"
        if not folds:
            return None
        if len(calls) > 1:
            return "its layer is called several times"
        if gate.part._neutral == 0:
            return "it adds to the features"
        if len(gate.part._gated) > 1 and not isinstance(gate.part, SCSE):
            return "its map is one of positions and channels"
        return None

    def fold(
        self, constants: Mapping[_graph.Gate, np.ndarray | None]
    ) -> tuple[keras.Model, dict[_graph.Gate, str]]:
        """Returns the model with constants for gates, and where they went.

        Constants are as `as_constant` returns them, `None` for one.
        """
        replaced: dict[int, list[keras.layers.Layer]] = {}
        where: dict[_graph.Gate, str] = {}
        edits: list[tuple] = []
        clones: dict = {}
        for layer in dict.fromkeys(gate.layer for gate in constants):
            folded = [gate for gate in constants if gate.layer is layer]
            parts = layer._gates()
            stay = [x for x in parts if x not in [gate.part for gate in folded]]
            new = {part: _clone_gate(part, layer.name) for part in stay}
            clones |= new
            replaced[id(layer)] = [*new.values()]
            # A gate that stays must see what it saw.
            is_first = folded[0].part is parts[0]
            is_parallel = getattr(layer, "order", "") == "parallel"
            before = not stay or (is_first and not is_parallel)
            maps = [x for x in map(constants.get, folded) if x is not None]
            words = "taken out"
            if maps:
                value = np.prod(np.broadcast_arrays(*maps), axis=0)
                step = self.calls[id(layer)][0]
                neighbor = self._find(layer, step, value, before, not stay)
                if neighbor is None:
                    name = f"{layer.name}_scale"
                    while name in self.names:
                        name += "_1"
                    self.names.add(name)
                    scale = layers.Rescaling(
                        value.tolist(),
                        name=name,
                        dtype=layer.dtype_policy,
                    )
                    replaced[id(layer)].insert(0 if before else 1, scale)
                    words = f'Rescaling "{scale.name}"'
                else:
                    target, of_input = neighbor
                    words = (
                        f'{FOLDS[type(target.operation)][0]} "{target.path}"'
                    )
                    edits.append((target.operation, of_input, value))
            where |= dict.fromkeys(folded, words)
        copy, cloned = copy_with(self.model, {}, None, replaced)
        for part, new in clones.items():
            pairs = zip(part.variables, new.variables, strict=True)
            for old, variable in pairs:
                variable.assign(keras.ops.convert_to_numpy(old))
        for operation, of_input, value in edits:
            new = cloned[id(operation)][1]
            for weight, values in _scaled(new, value.ravel(), of_input):
                weight.assign(values)
        return copy, where

    def _find(self, layer, step, value, before, either):
        """Returns the step to multiply a constant into, and if at its input.

        It is the one before the gate, or the one after it, or `either`.
        """
        (x, *_), (y,) = step.inputs, step.outputs
        maker = self.graph.maker(x)
        if before and maker is not None and self._is_alone(x):
            operation = maker.operation
            activation = getattr(operation, "activation", None)
            is_linear = activation in (None, keras.activations.linear)
            if is_linear and self._takes(operation, layer, x, value, False):
                return maker, False
        while (not before or either) and self._is_alone(y):
            (user,) = self.graph.users(y)
            operation = user.operation
            is_norm = isinstance(operation, layers.BatchNormalization)
            if is_norm and user.arguments[1].get("training"):
                # The mean of the batch would be scaled, too.
                break
            is_whole = getattr(operation, "groups", 1) == 1
            if is_whole and self._takes(operation, layer, y, value, True):
                return user, True
            passes = LINEAR | (MONOTONIC if (value >= 0).all() else set())
            data_format = getattr(operation, "data_format", layer.data_format)
            if (
                type(operation) not in passes
                or len(user.outputs) != 1
                # It would pool channels.
                or data_format != layer.data_format
            ):
                break
            (y,) = user.outputs
        return None

    def _is_alone(self, tensor):
        """Returns whether a single step takes a tensor, and no output is it."""
        is_output = any(tensor is x for x in self.graph.outputs)
        return not is_output and len(self.graph.users(tensor)) == 1

    def _takes(self, operation, layer, tensor, value, of_input):
        """Returns whether weights of an operation can scale channels so."""
        rank = len(tensor.shape)
        if type(operation) not in FOLDS or len(self.calls[id(operation)]) > 1:
            return False
        is_adapted = getattr(operation, "lora_enabled", False)
        if is_adapted or getattr(operation, "quantization_mode", None):
            # The kernel is computed of several weights.
            return False
        if isinstance(operation, layers.BatchNormalization):
            axis = operation.axis % rank if operation.scale else None
        else:
            data_format = getattr(operation, "data_format", "channels_last")
            axis = 1 if data_format == "channels_first" else rank - 1
        return axis == layer._channel_axis(rank) and all(
            np.isfinite(
                _graph.to_float32(keras.ops.cast(values, x.dtype))
            ).all()
            for x, values in _scaled(operation, value.ravel(), of_input)
        )


def _clone_gate(part, name):
    return type(part).from_config({**part.get_config(), "name": name})


def _scaled(layer, vector, of_input):
    """Yields weights of a layer whose outputs are multiplied by a vector.

    Or what it takes is, `of_input`. Yields their new values with them.
    """

    def scale(variable, factors):
        values = keras.ops.convert_to_numpy(variable).astype("float64")
        return variable, values * factors

    if isinstance(layer, layers.BatchNormalization):
        yield scale(layer.gamma, vector)
        if of_input:
            with np.errstate(divide="ignore", invalid="ignore"):
                yield scale(layer.moving_mean, 1 / vector)
        elif layer.center:
            yield scale(layer.beta, vector)
        return
    shape = [1] * len(layer.kernel.shape)
    axis = FOLDS[type(layer)][1 + of_input]
    shape[axis] = vector.size if vector.size == 1 else layer.kernel.shape[axis]
    if FOLDS[type(layer)][0] == DEPTHWISE and not of_input:
        # Each channel has `depth_multiplier` outputs, one after another.
        shape[-1] = vector.size // shape[axis]
    yield scale(layer.kernel, vector.reshape(shape))
    if not of_input and getattr(layer, "bias", None) is not None:
        yield scale(layer.bias, vector)
