"""The gates of a model, and the model with constants in their place."""

import collections
import contextlib
import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping

import keras
from keras import ops

from cbam_keras._graph.global_state import attributes
from cbam_keras._graph.graph import Tensor
from cbam_keras._graph.steps import Graph
from cbam_keras.layers import AttentionLayer


@dataclasses.dataclass(frozen=True)
class Gate:
    """A call of a gate: of an attention layer, or of one half of `CBAM`.

    `part` computes its values, and is `layer` itself unless that has several.
    `shapes` are those of what it takes, the
    features last.
    """

    name: str
    layer: AttentionLayer = dataclasses.field(compare=False)
    part: AttentionLayer = dataclasses.field(compare=False)
    shapes: tuple[tuple[int | None, ...], ...] = dataclasses.field(
        compare=False
    )


def name_of(name: str, layer: AttentionLayer, part: AttentionLayer) -> str:
    """Returns the name of a gate, by that of its layer."""
    half = part.name.removesuffix("_attention")
    return name if part is layer else f"{name}/{half}"


class Gates:
    """The gates of a model, which can be replaced by constants.

    `names` are those of its attention layers.
    """

    def __init__(self, names: Mapping[AttentionLayer, str]):
        self.names = names
        self._constants: Mapping[Gate, Tensor] = {}
        self._record: Callable[[Gate, Tensor], object] | None = None
        self.calls: collections.Counter[AttentionLayer] = collections.Counter()

    @contextlib.contextmanager
    def replaced(
        self,
        constants: Mapping[Gate, Tensor],
        record: Callable[[Gate, Tensor], object] | None = None,
        calls: Mapping[AttentionLayer, int] | None = None,
    ) -> Iterator[None]:
        """Context in which gates take constants in place of their values.

        `record` is called with the gates that run, and their values. `calls`
        are those of each layer before the model runs.
        """
        before = self._constants, self._record, self.calls
        self._constants, self._record = constants, record
        self.calls = collections.Counter(calls or {})
        with contextlib.ExitStack() as stack:
            for layer in self.names:
                call = functools.partial(self._call, layer)
                stack.enter_context(attributes(layer, call=call))
            yield
        self._constants, self._record, self.calls = before

    def _call(
        self, layer, inputs, training=None, mask=None, return_attention_maps=0
    ):
        self.calls[layer] += 1
        number = self.calls[layer]
        outputs = inputs = layer._prepare(inputs)
        shapes = tuple(tuple(x.shape) for x in keras.tree.flatten(inputs))
        values = []
        for part in layer._gates():
            name = self.names[layer] + (f"#{number}" if number > 1 else "")
            name = name_of(name, layer, part)
            gate = Gate(name, layer, part, shapes)
            value = self._constants.get(gate)
            if value is None:
                # Both gates see the input only where they are parallel.
                is_parallel = getattr(layer, "order", "") == "parallel"
                value = part._gate_value(
                    inputs if is_parallel else outputs, mask
                )
            else:
                value = ops.convert_to_tensor(value, layer.compute_dtype)
            if self._record is not None:
                self._record(gate, value)
            outputs = part._apply_gate(outputs, value)
            values.append(value)
        return (outputs, values) if return_attention_maps else outputs


class StepByStep:
    """A graph that runs on one batch, and from any step on."""

    def __init__(self, graph: Graph):
        self.graph = graph
        kept = {id(x) for x in graph.outputs}
        # After each step, what no later one takes.
        self._done: list[list[int]] = []
        for step in reversed(graph.steps):
            taken = {id(x) for x in (*step.inputs, *step.outputs)}
            self._done.insert(0, [x for x in taken if x not in kept])
            kept |= taken

    def start(self, inputs: list[Tensor]) -> dict[int, Tensor]:
        """Returns the values of tensors before the first step, by their ids."""
        pairs = zip(self.graph.inputs, inputs, strict=True)
        return {
            id(x): ops.convert_to_tensor(y, dtype=x.dtype) for x, y in pairs
        }

    def run(self, values: dict[int, Tensor], first: int = 0) -> list[Tensor]:
        """Returns the outputs, of the steps from `first` on."""
        values = dict(values)
        for number in range(first, len(self.graph.steps)):
            self.advance(values, number)
        return [values[id(x)] for x in self.graph.outputs]

    def advance(self, values: dict[int, Tensor], number: int) -> None:
        """Runs one step, which changes `values`."""
        step = self.graph.steps[number]
        args, kwargs = keras.tree.map_structure(
            lambda x: values[id(x)] if keras.utils.is_keras_tensor(x) else x,
            step.arguments,
        )
        if "training" in inspect.signature(step.operation.call).parameters:
            kwargs = {"training": False, **kwargs}
        outputs = keras.tree.flatten(step.operation(*args, **kwargs))
        for x, y in zip(step.outputs, outputs, strict=True):
            values[id(x)] = y
        for key in self._done[number]:
            del values[key]
