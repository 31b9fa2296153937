"""How much the accuracy of a model depends on each of its gates."""

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping

import keras
import numpy as np

from cbam_keras import _checks, _graph, _terminal
from cbam_keras._graph import ArrayLike
from cbam_keras.explain.classes import (
    kind_of_classes,
    read_model,
    require_one_output,
)
from cbam_keras.profiling.macs import count_macs

ALL_GATES = "all gates"
# The quantile of the normal distribution for a 95 % interval.
WIDTH = 1.96


@dataclasses.dataclass(frozen=True)
class Change:
    """What replacing a gate changes, over the images.

    Attributes:
        accuracy: Float, the change of the fraction of images whose class is
            predicted; negative if the gate helps.
        accuracy_error: Float, half of its 95 % interval, by the images that
            change sides (Agresti and Min).
        probability: Float, the mean change of the probability of the true
            class.
        probability_error: Float, half of its 95 % interval.
    """

    accuracy: float
    accuracy_error: float
    probability: float
    probability_error: float

    @classmethod
    def of(cls, before: np.ndarray, after: np.ndarray) -> "Change":
        """Returns what changed from `(B, 2)`, right and the probability."""
        changes = after - before
        count = len(changes)
        right, probability = changes.mean(axis=0)
        # Half an image more in each of the four ways to be right or wrong.
        sides = (changes[:, 0] ** 2).sum() + 1
        square = changes[:, 0].sum() ** 2 / (count + 2)
        return cls(
            float(right),
            WIDTH * math.sqrt(max(sides - square, 0)) / (count + 2),
            float(probability),
            WIDTH * float(changes[:, 1].std()) / math.sqrt(count),
        )


@dataclasses.dataclass(frozen=True)
class GateRow:
    """A gate, and what the model does without it.

    Attributes:
        gate: String, the name of the layer, as `attention_maps` has it, with
            `"/channel"` or `"/spatial"` for the halves of `CBAM`; or
            `"all gates"`.
        shape: Tuple, the shape of the features without the batch, `None` of
            all gates.
        parameters: Integer, trainable parameters.
        macs: Integer, multiply-accumulates for one image, `None` if they
            cannot be counted.
        spread: Float in [0, 1], the variance of the map from image to image
            as a fraction of its whole variance: 0 is a map that does not
            depend on the image. `None` of all gates.
        constant: `Change` by the mean map over the images in its place.
        off: `Change` by one in its place, no gate at all.
    """

    gate: str
    shape: tuple[int | None, ...] | None
    parameters: int
    macs: int | None
    spread: float | None
    constant: Change
    off: Change


@dataclasses.dataclass(frozen=True)
class GateImportance(_terminal.Tabular):
    """How much a model depends on its gates; prints as a table.

    `to_dataframe()` has a row per gate, with what a model loses, as fractions.

    The columns are `gate`, `shape`, `parameters`, `macs`, `spread`, and of
    `Change` `constant_accuracy`, `off_accuracy` and so on.

    Attributes:
        model: String, the name of the model.
        rows: Tuple of `GateRow`, in the order in which gates run. The last is
            of all gates at once.
        accuracy: Float, the accuracy on the images.
        probability: Float, the mean probability of the true class.
        images: Integer, the number of images.
        table: The rows as text, with a note.
    """

    model: str
    rows: tuple[GateRow, ...]
    accuracy: float
    probability: float
    images: int

    @property
    def table(self) -> _terminal.Table:
        note = (
            f"On {_checks.count(self.images, 'image')}, the accuracy is "
            f"{100 * self.accuracy:.2f} %, the mean probability of the true "
            f"class, p, {100 * self.probability:.2f} %. Changes of both in "
            "points, with 95 % intervals over the images, if the map of a gate "
            "is its mean over the images (constant), or one (off)."
        )
        *rows, total = [
            {
                "gate": row.gate,
                "weights": f"{row.parameters:,}",
                "MACs": _terminal.number_cell("{:,}", row.macs),
                "spread": _terminal.number_cell("{:.2f}", row.spread),
                "accuracy, constant": _points(row.constant, "accuracy"),
                "accuracy, off": _points(row.off, "accuracy"),
                "p(class), constant": _points(row.constant, "probability"),
                "p(class), off": _points(row.off, "probability"),
            }
            for row in self.rows
        ]
        title = f"What the gates of {self.model} are worth"
        return _terminal.Table(title, rows, [total], note)

    def _tables(self):
        return [self.table]

    def _records(self) -> list[dict[str, object]]:
        records = []
        for row in self.rows:
            record = dict(vars(row))
            for name in ("constant", "off"):
                change = vars(record.pop(name))
                record |= {f"{name}_{key}": x for key, x in change.items()}
            records.append(record)
        return records


def gate_importance(
    model: keras.Model,
    images: _graph.Inputs,
    labels: ArrayLike | None = None,
    *,
    batch_size: int = 32,
) -> GateImportance:
    """Measures what each gate of a trained classifier is worth.

    Replaces the map of one gate at a time by its mean over the images, then by
    one, and measures what the accuracy loses.

    With the mean the gate no longer depends on the image: the loss is what it
    gives by looking. With one, which is no gate, the loss is what the other
    layers rely on. Nothing is trained, so a network that had learned without
    the gate may do better than "off".

    Args:
        model: Functional or Sequential `keras.Model` with attention layers of
            `cbam_keras`, which returns a value per class.
        images: See `attention_maps`. Take images that the network was not
            trained with.
        labels: Integers `(B,)` or `(B, 1)`, the true class of each image, or
            one-hot. Defaults to `None`, which means those of the batches.
        batch_size: Positive integer, images per batch. Defaults to `32`.

    Returns:
        A `GateImportance`. It has a row per gate, those of `CBAM` apart, and
        one of all gates.

    Raises:
        ValueError: If the model has no attention layers, if its graph is not
            known, if it gives no classes, or if images or labels do not fit.
        TypeError: If `model` is not a model, or the images are not numbers.

    Example:
        >>> model = cbam_keras.models.ResNet18(
        ...     input_shape=(32, 32, 3), classes=10, attention="se"
        ... )
        >>> images = np.random.rand(4, 32, 32, 3)
        >>> importance = gate_importance(model, images, [0, 1, 2, 3])
        >>> [row.gate for row in importance.rows][-2:]
        ['stage4_block2_attention', 'all gates']
    """
    batch_size = _checks.positive_integer("batch_size", batch_size)
    model = _graph.with_graph("model", model)
    require_one_output(model)
    images, of_batches = _graph.with_labels(images, model)
    inputs, graph, index = read_model(model, images, None)
    count, classes = len(inputs[0]), max(graph.outputs[index].shape[-1] or 0, 2)
    kind = kind_of_classes(model, graph, index, count)
    indices = choose_labels(labels, of_batches, count, classes)
    batches = list(_graph.batches([*inputs, indices], batch_size))
    first = _graph.as_input(model, [x[:1] for x in inputs])
    gates = _graph.Gates(_graph.attention_layers(model, first))
    steps = _graph.StepByStep(graph)
    moments = measure(steps, gates, [batch[:-1] for batch in batches])
    means = {gate: x.mean for gate, x in moments.items()}
    ones = {gate: gate.part._neutral for gate in means}
    constants: dict[str, dict] = {"constant": means, "off": ones}
    scores: dict[object, list[np.ndarray]] = {}
    for *batch, truth in batches:
        for key, outputs in replace_each(steps, gates, batch, constants):
            values = _graph.to_float32(outputs[index])
            values = _graph.as_probabilities(values, kind)
            at_truth = values[np.arange(len(truth)), truth]
            right = values.argmax(axis=1) == truth
            pair = np.stack([right, at_truth], axis=1).astype("float64")
            scores.setdefault(key, []).append(pair)
    joined = {key: np.concatenate(parts) for key, parts in scores.items()}
    before = joined[None]

    def changes(gate):
        return (Change.of(before, joined[gate, name]) for name in constants)

    rows = []
    for gate, moment in moments.items():
        taken = [keras.KerasTensor((1, *shape[1:])) for shape in gate.shapes]
        macs = count_macs(gate.part, taken, taken[-1:])[1]
        numbers = _count_parameters([gate.part]), macs, moment.spread
        shape = gate.shapes[-1][1:]
        row = GateRow(gate.name, shape, *numbers, *changes(gate))
        rows.append(row)
    macs_of_gates = [row.macs for row in rows if row.macs is not None]
    total = GateRow(
        ALL_GATES,
        None,
        # A layer may be called several times.
        _count_parameters({gate.part for gate in moments}),
        sum(macs_of_gates) if len(macs_of_gates) == len(rows) else None,
        None,
        *changes(ALL_GATES),
    )
    return GateImportance(
        model.name,
        (*rows, total),
        float(before[:, 0].mean()),
        float(before[:, 1].mean()),
        count,
    )


def choose_labels(
    labels: ArrayLike | None, of_batches: ArrayLike, count: int, classes: int
) -> np.ndarray:
    """Returns the true classes `(B,)`, of an argument or else of batches."""
    given: list = [x for x in (of_batches, labels) if x is not None] or [None]
    indices, *others = [true_classes(x, count, classes) for x in given]
    if others and (others[0] != indices).any():
        raise ValueError(
            "`labels` must be those of the batches, in the order in which they "
            f"are read. Received: labels={labels!r:.200}. Leave them out"
        )
    return indices


def true_classes(labels: ArrayLike, count: int, classes: int) -> np.ndarray:
    """Returns labels as integers `(B,)`; they may be `(B, 1)` or one-hot."""
    given = _graph.number_array("labels", labels)
    indices = given[:, 0] if given.shape == (count, 1) else given
    if given.shape == (count, classes) and np.isin(given, (0, 1)).all():
        if (given.sum(axis=1) == 1).all():
            indices = given.argmax(axis=1)
    # Keras' iterators over folders have them as float32.
    whole = indices.astype("int64")
    is_whole = indices.shape == (count,) and (whole == indices).all()
    if not is_whole or not 0 <= whole.min() <= whole.max() < classes:
        raise ValueError(
            f"`labels` must be a class per image, {count} integers from 0 to "
            f"{classes - 1} (of columns, np.argmax(labels, axis=1)). Received: "
            f"labels {given.shape} of {given.dtype}, labels={labels!r:.200}"
        )
    return whole


def measure(
    steps: _graph.StepByStep, gates: _graph.Gates, batches: Iterable[list]
) -> dict[_graph.Gate, "Moments"]:
    """Returns the moments of the values of each gate over the images."""
    moments: dict[_graph.Gate, Moments] = {}

    def add(gate, value):
        values = _graph.to_float32(value).astype("float64")
        moments.setdefault(gate, Moments(values[0])).add(values)

    for batch in batches:
        with gates.replaced({}, add):
            steps.run(steps.start(batch))
    return moments


def replace_each(
    steps: _graph.StepByStep,
    gates: _graph.Gates,
    batch: list,
    constants: Mapping[str, Mapping[_graph.Gate, _graph.Tensor]],
) -> Iterator[tuple[tuple | None, list[_graph.Tensor]]]:
    """Yields outputs for a batch, with each gate replaced and with all.

    `constants` has the values of gates by what they are called. Before the
    outputs are the gate and that name, `None` where nothing is replaced. What
    a gate takes is computed once.
    """
    values = steps.start(batch)
    for name, by_gate in constants.items():
        with gates.replaced(by_gate):
            yield (ALL_GATES, name), steps.run(values)
    found: list[_graph.Gate] = []
    with gates.replaced({}, lambda gate, _: found.append(gate)):
        for number in range(len(steps.graph.steps)):
            before, calls = dict(values), gates.calls.copy()
            steps.advance(values, number)
            for gate in found:
                for name, by_gate in constants.items():
                    if gate in by_gate:
                        one = {gate: by_gate[gate]}
                        with gates.replaced(one, None, calls):
                            outputs = steps.run(before, number)
                        yield (gate, name), outputs
            found.clear()
    yield None, [values[id(x)] for x in steps.graph.outputs]


def _count_parameters(parts):
    return sum(
        math.prod(x.shape) for part in parts for x in part.trainable_weights
    )


def _points(change, name):
    value, error = getattr(change, name), getattr(change, f"{name}_error")
    return f"{100 * value:+.2f} ±{100 * error:.2f}"


class Moments:
    """Mean and variance over images of the values of a gate.

    Sums are relative to the first values, so that those of a gate that is
    constant are exact.
    """

    def __init__(self, first: np.ndarray):
        self.first = first
        self.count, self.sum, self.squares = 0, 0 * first, 0 * first

    def add(self, values: np.ndarray) -> None:
        """Adds the values for a batch, `(B, ...)`."""
        shifted = values - self.first
        self.count += len(values)
        self.sum = self.sum + shifted.sum(axis=0)
        self.squares = self.squares + (shifted**2).sum(axis=0)

    @property
    def mean(self) -> np.ndarray:
        """The mean map, without the batch."""
        return self.first + self.sum / self.count

    @property
    def spread(self) -> float:
        """The variance from image to image, as a fraction of the whole."""
        variance = self.squares / self.count - (self.sum / self.count) ** 2
        from_image = max(float(variance.mean()), 0.0)
        whole = from_image + float(self.mean.var())
        return from_image / whole if whole else 0.0
