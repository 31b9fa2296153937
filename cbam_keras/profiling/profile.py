"""Counting the parameters and multiply-accumulates of a model."""

import dataclasses
import math
from collections.abc import Iterator, Sequence

import keras
from keras import layers

from cbam_keras import _checks, _graph, _terminal
from cbam_keras.layers import AttentionLayer
from cbam_keras.profiling.macs import NOT_COUNTED, count_macs


@dataclasses.dataclass(frozen=True)
class LayerProfile:
    """Cost of one layer of a model.

    Attributes:
        name: String, the name of the layer, prefixed with the names of
            nested models: `"backbone/conv1"`.
        kind: String, the class of the layer.
        group: String, `"convolution"`, `"dense"`, `"attention"`,
            `"other"` or `"not counted"`. `"other"` is for normalization and
            other layers that only scale, shift or look up values.
        output_shape: Tuple, the shape of its first output without the batch.
        parameters: Integer, trainable parameters.
        macs: Integer, the multiply-accumulates for one sample, or `None` if
            they cannot be counted. For a shared layer, it is the sum over all
            calls.
    """

    name: str
    kind: str
    group: str
    output_shape: tuple[int | None, ...]
    parameters: int
    macs: int | None


@dataclasses.dataclass(frozen=True)
class Profile(_terminal.Tabular):
    """Cost of a model; prints as a table.

    `to_dataframe()` has a row per layer, with the attributes of `LayerProfile`.

    Attributes:
        model: String, the name of the model.
        input_shape: Shape of the counted input without the batch. If the model
            has several inputs, a tuple of shapes.
        rows: Tuple of `LayerProfile`, one for each layer with weights or
            multiplications, in the order they run.
    """

    model: str
    input_shape: tuple
    rows: tuple[LayerProfile, ...]

    @property
    def parameters(self) -> int:
        """Trainable parameters of the model."""
        return sum(row.parameters for row in self.rows)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all layers that can be counted."""
        return sum(row.macs or 0 for row in self.rows)

    @property
    def attention_parameters(self) -> int:
        """Trainable parameters of the attention layers of `cbam_keras`."""
        return self.groups.get("attention", (0, 0))[0]

    @property
    def attention_macs(self) -> int:
        """Multiply-accumulates of the attention layers of `cbam_keras`."""
        return self.groups.get("attention", (0, 0))[1]

    @property
    def groups(self) -> dict[str, tuple[int, int]]:
        """Parameters and multiply-accumulates of each group of layers."""
        totals: dict[str, tuple[int, int]] = {}
        for row in self.rows:
            parameters, macs = totals.get(row.group, (0, 0))
            totals[row.group] = (
                parameters + row.parameters,
                macs + (row.macs or 0),
            )
        return totals

    @property
    def uncounted(self) -> tuple[str, ...]:
        """Names of layers whose multiply-accumulates are not known."""
        return tuple(row.name for row in self.rows if row.macs is None)

    def _records(self):
        return [dataclasses.asdict(row) for row in self.rows]

    def _tables(self):
        rows = [
            {
                "layer": row.name,
                "kind": row.kind,
                "output shape": str(row.output_shape),
                "parameters": f"{row.parameters:,}",
                "MACs": "not counted" if row.macs is None else f"{row.macs:,}",
            }
            for row in self.rows
        ]
        totals = [
            {
                "layer": f"all: {name}",
                "parameters": f"{parameters:,}",
                "MACs": "?" if name == NOT_COUNTED[0] else f"{macs:,}",
            }
            for name, (parameters, macs) in self.groups.items()
        ]
        totals.append(
            {
                "layer": "total",
                "parameters": f"{self.parameters:,}",
                "MACs": f"{self.macs:,}",
            }
        )
        title = f"{self.model}, input {self.input_shape}"
        note = ""
        if self.uncounted:
            note = "The total excludes the MACs of layers of unknown classes: "
            note += ", ".join(self.uncounted)
        yield _terminal.Table(title, rows, totals, note)


@_checks.named
def profile_model(
    model: keras.Model, input_shape: Sequence | None = None
) -> Profile:
    """Counts trainable parameters and multiply-accumulates of a model.

    Layers of unknown classes are `.uncounted`: the totals exclude their MACs.

    A MAC is one multiply and one add of a convolution or dense layer.

    The model is not run: shapes are propagated through its graph. As in the
    tables of the paper, the attention layers of `cbam_keras` are counted too,
    the shared MLP once for each pool. Convolutions include multiplications with
    padding. Biases, normalization, activations, pooling and products of feature
    maps are not counted.

    Args:
        model: Functional `keras.Model`, or a built `keras.Sequential`. The
            layers of nested models, also in `TimeDistributed`, are counted one
            by one. A subclassed model inside another model is not counted,
            with a warning. Attention inside your own layer has a row of its
            own, without MACs.
        input_shape: Shape of the input without the batch, e.g. `(224, 224, 3)`.
            For several inputs, a list of shapes in the order of `model.inputs`.
            Defaults to `None`, which means the input shape of the model.

    Returns:
        A `Profile`. Its totals include the parameters of layers that are
        `.uncounted`. A shared layer counts its parameters once and its MACs
        for each call.

    Raises:
        TypeError: If `model` is not a `keras.Model`.
        ValueError: If the graph of the model is not known (subclassed, or
            sequential and not built), or if the shape of an input is unknown
            or does not fit.

    Example:
        >>> inputs = keras.Input((8, 8, 3))
        >>> x = keras.layers.Conv2D(16, 3, padding="same")(inputs)
        >>> model = keras.Model(inputs, CBAM(name="attention")(x))
        >>> profile = profile_model(model)
        >>> profile.parameters, profile.macs
        (595, 33984)
        >>> profile.attention_parameters, profile.attention_macs
        (147, 6336)
    """
    model = _graph.with_graph("model", model)
    shapes = _shapes(model, input_shape)
    inputs = [
        keras.KerasTensor((x.shape[0] or 1, *shape), x.dtype)
        for shape, x in zip(shapes, model.inputs, strict=True)
    ]
    graph = _graph.Graph(model, inputs)
    if graph.unreached():
        _checks.warn(f"This profile is not complete. {graph.unreached()}")
    shape = shapes[0] if len(shapes) == 1 else tuple(shapes)
    return Profile(model.name, shape, tuple(_rows(model, graph.steps)))


def _rows(model: keras.Model, steps: Sequence) -> Iterator[LayerProfile]:
    """Yields the rows of all layers with weights or multiplications."""
    batch = model.inputs[0].shape[0] or 1
    calls: dict[int, list] = {}
    for step in steps:
        if isinstance(step.operation, layers.Layer):
            calls.setdefault(id(step.operation), []).append(step)
    # The ids of variables that an earlier row has counted.
    counted: set[int] = set()

    def count_new(layer):
        """Counts the parameters of a layer that no earlier row has counted."""
        new = [v for v in layer.trainable_weights if id(v) not in counted]
        counted.update(id(v) for v in layer.weights)
        return sum(math.prod(variable.shape) for variable in new)

    for layer_steps in calls.values():
        first = layer_steps[0]
        layer = first.operation
        counts = [count_macs(layer, x.inputs, x.outputs) for x in layer_steps]
        group, macs = NOT_COUNTED
        if NOT_COUNTED not in counts:
            group = counts[0][0]
            macs = sum(macs_of_call or 0 for _, macs_of_call in counts)
        gates: dict = {}
        if isinstance(layer, AttentionLayer):
            group = "attention"
        elif group != "attention":
            gates = _graph.gate_paths(layer, f"{first.path}/")
        for gate, path in gates.items():
            if any(id(v) not in counted for v in gate.weights):
                # How often the layer calls it, and on what, is not known.
                shape = (gate.get_build_config() or {}).get("input_shape", ())
                yield LayerProfile(
                    path,
                    type(gate).__name__,
                    "attention",
                    tuple(gate.compute_output_shape(shape)[1:]),
                    count_new(gate),
                    None,
                )
        inside = {id(v) for gate in gates for v in gate.weights}
        if macs or any(id(v) not in inside for v in layer.weights):
            yield LayerProfile(
                first.path,
                type(layer).__name__,
                group,
                tuple(first.outputs[0].shape[1:]),
                count_new(layer),
                None if macs is None else macs // batch,
            )


def _shapes(model: keras.Model, input_shape: Sequence | None) -> list[tuple]:
    """Returns the shape of each input without the batch, all axes known."""
    expected = [tuple(x.shape[1:]) for x in model.inputs]
    shapes: Sequence = expected if input_shape is None else input_shape
    if not all(isinstance(x, (tuple, list)) for x in shapes):
        shapes = [shapes]
    if len(shapes) != len(expected) or not all(
        _checks.fits(axes, shape) and all(shape)
        for axes, shape in zip(expected, shapes, strict=True)
    ):
        takes = ", ".join(
            f'{axes} as "{x.name}"'
            for axes, x in zip(expected, model.inputs, strict=True)
        )
        raise ValueError(
            "`input_shape` must give all axes of each input except the batch, "
            "e.g. input_shape=(224, 224, 3). Received: input_shape="
            f'{input_shape} for model "{model.name}", which takes {takes}'
        )
    return [tuple(map(int, shape)) for shape in shapes]
