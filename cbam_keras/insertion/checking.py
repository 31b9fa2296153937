"""`check`: whether attention computes what its name says."""

import contextlib
import dataclasses
import inspect
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from cbam_keras import _checks, _graph, _terminal
from cbam_keras.insertion.cutting import Cut, cuts, look_into
from cbam_keras.insertion.probes import Probes, probe
from cbam_keras.insertion.recognition import Match, match, of_ours
from cbam_keras.insertion.training import trains_otherwise

# Replaces an unknown size of an input.
SIZE = 64
# As many images give a network's own features.
MOST_IMAGES = 4
# A gate whose factors stay above the first cannot close, and one whose factors
# stay below the second cannot open.
CLOSED, OPEN = 0.05, 0.95
# Classes that are meant to be attention, whatever they compute.
MEANT = re.compile("[Aa]tt|[Gg]ate|BAM|[Ss]queeze|[Ee]xcit|SE([A-Z_0-9]|$)|ECA")
AXES = {1: ("steps",), 2: ("rows", "columns"), 3: ("depth", "rows", "columns")}

NONE = "no attention in this model"
FAILED = "could not be run"
UNKNOWN = "not looked into"
# What is said of a gate, where the condition before it does not hold. The
# first ones do not pass.
WRONG = {
    "random": "differs from call to call: new weights, or randomness at "
    "inference",
    "untracked": "weights of {count} arrays are not tracked: not saved, not "
    "trained",
    "identity": "does nothing: returns its input",
    "constant": "constant: factors from {low:.2f} to {high:.2f}, whatever the "
    "features",
    "gradient": "weights of {count} arrays get no gradient",
    "image": "one factor for each image, not for each channel",
    "closed": "cannot close: factors from {low:.2f} to {high:.2f}",
    "open": "cannot open: factors from {low:.2f} to {high:.2f}",
}
RIGHT = {
    "equal": "{words}",
    "residual": "x + x * gate, the gate as {words}",
    "adds": "adds, does not multiply",
    "other": "does not multiply features by factors",
    "nearest": "nearest of ours: {words}; first difference: {probe}",
    "softmax": "features shrink to 1/{count} (softmax over {axes})",
    "channels": "pools channels where the paper pools positions",
    "positions": "pools positions where the paper pools channels",
    "windows": "pools over windows of {axes} where the paper pools all "
    "positions",
    "unlike": "unlike ours: factors by {axes}, {low:.2f} to {high:.2f}",
}
NOTES = {
    "alone": "returns the factors alone",
    "config": "get_config lacks {names}",
    "class": "does not load without its class",
    "inside": "inside of a layer of class {names}",
    "training": "trains otherwise: {names}",
}


@dataclasses.dataclass(frozen=True, eq=False)
class Gate:
    """A part of a network that is attention, or is meant to be.

    `problem` says why nothing else is known of it.
    """

    cut: Cut
    probes: Probes | None = None
    match: Match | None = None
    problem: str = ""
    is_residual: bool = False

    @property
    def is_equal(self) -> bool:
        """Whether a layer of ours computes the same."""
        if self.match is None or self.is_residual:
            return False
        return not self.match.first_difference and (
            self.probes is None
            or self.probes.is_repeatable
            and not self.probes.untracked
        )


@dataclasses.dataclass(frozen=True)
class CheckedGate:
    """What `check` found of a gate.

    Attributes:
        gate: String, the name of its layer, or of the operation that multiplies
            by it, prefixed with the names of models and layers around it.
        was: String, its class, or `"functions"`.
        verdict: String, what it computes.
        passed: Boolean, whether nothing is wrong with it.
        equals: String, the line of code that makes the layer of ours that
            computes the same; empty if there is none.
        low: Float, the smallest factor by which it multiplied; NaN if it does
            not multiply.
        high: Float, the largest factor.
        note: String, what else is known.
    """

    gate: str
    was: str
    verdict: str
    passed: bool
    equals: str = ""
    low: float = math.nan
    high: float = math.nan
    note: str = ""


@dataclasses.dataclass(frozen=True)
class CheckReport(_terminal.Tabular):
    """Report of `check`; prints as a table.

    `to_dataframe()` has a row per gate, with the attributes of `CheckedGate`.

    Attributes:
        rows: Tuple of `CheckedGate`, in the order in which gates run.
    """

    rows: tuple[CheckedGate, ...]

    @property
    def passed(self) -> bool:
        """Whether there is a gate, and nothing is wrong with any."""
        known = [x for x in self.rows if not x.verdict.startswith(UNKNOWN)]
        return bool(known) and all(row.passed for row in self.rows)

    @property
    def verdict(self) -> str:
        """How many gates have something wrong."""
        if not self.rows:
            return f"{NONE}."
        wrong = sum(not row.passed for row in self.rows)
        gates = _checks.count(len(self.rows), "gate")
        return f"Something is wrong with {wrong} of {gates}."

    def _tables(self) -> Iterator[_terminal.Table]:
        rows = [
            {
                "gate": row.gate,
                "was": row.was,
                "verdict": row.verdict,
                "factors": ""
                if math.isnan(row.low)
                else f"{row.low:.2f} to {row.high:.2f}",
                **({"note": row.note} if row.note else {}),
            }
            for row in self.rows
        ]
        yield _terminal.Table("", rows)

    def _records(self) -> list[dict[str, object]]:
        return [dict(vars(row)) for row in self.rows]


def check(
    model: keras.Model | Callable[[Any], Any],
    images: object = None,
) -> CheckReport:
    """Says what attention computes, of a model, or of a layer or function.

    Each gate is measured: layers of any class, also those inside of layers of
    your own classes, and operations of functional models. What one of our
    layers computes, too, is compared with it, on random features of several
    scales, on those that the network has of images, and with other weights.

    Args:
        model: A `keras.Model`, functional, Sequential, or subclassed, called,
            and with a `call` that takes symbolic inputs. Or a layer, or a
            function of a tensor, with a shape as the second argument.
        images: Array of images, or what else the model takes. Of a layer or a
            function: tuple, the shape of the features without the batch.
            Defaults to `None`, for random images.

    Returns:
        A `CheckReport`.

    Raises:
        TypeError: If `model` is no model, and no shape is given.
        ValueError: If the graph of the model is not known.

    Example:
        >>> report = check(keras.layers.Dropout(0.5), (8, 8, 16))
        >>> report.passed, report.rows[0].verdict
        (False, 'does nothing: returns its input')
    """
    gates = gates_of(model, images)
    return CheckReport(tuple(map(row_of, gates)))


def gates_of(model: Any, images: object = None) -> list[Gate]:
    """Returns the gates of a model, or of a layer or function of a shape."""
    if isinstance(images, tuple) and all(
        x is None or isinstance(x, int) for x in images
    ):
        return _gates_of_function(model, images)
    graph = _graph.with_graph("model", model)
    values: dict[int, Any] = {}
    inputs = noise_for(graph) if images is None else images
    # Random inputs may be none that the model takes.
    with contextlib.suppress(*([Exception] if images is None else [])):
        inputs = [x[:MOST_IMAGES] for x in _graph.in_order(graph, inputs)]
        _run_graph(graph, inputs, values)
    return _gates(graph, values)


def noise_for(model: keras.Model) -> Any:
    """Returns random inputs of a model."""
    generator, inputs = np.random.default_rng(0), []
    for x in model.inputs:
        shape = (2, *(size or SIZE for size in x.shape[1:]))
        noise = generator.normal(size=shape)
        if "float" not in x.dtype:
            noise = np.abs(noise)
        with contextlib.suppress(Exception):
            noise = ops.cast(noise, x.dtype)
        inputs.append(noise)
    return _graph.as_input(model, inputs)


def _run_graph(graph, inputs, values):
    """Adds all tensors of a model to `values`, and returns its outputs."""

    def call(operation, *args, **kwargs):
        given = [*args, *kwargs.values()][:1]
        if _graph.is_graph(operation):
            given = _graph.in_order(operation, *given)
            return _run_graph(operation, given, values)
        if inner := _graph.model_per_frame(operation):
            (x,) = given
            frames = ops.reshape(x, (-1, *ops.shape(x)[2:]))
            _run_graph(inner, [frames], values)
        return operation(*args, **kwargs)

    pairs = zip(graph.inputs, inputs, strict=True)
    values.update((id(x), ops.convert_to_tensor(y)) for x, y in pairs)
    _graph.run(_graph.nodes(graph), values, call)
    return [values[id(x)] for x in graph.outputs]


def _gates_of_function(function, shape):
    """Returns the gates of a layer or of a function of a tensor."""
    name = getattr(function, "name", getattr(function, "__name__", "gate"))
    x = keras.Input(shape)
    try:
        y = function(x)
    # It may raise anything.
    except Exception as error:  # noqa: BLE001
        node = _graph.origin(x)
        cut = Cut(name, x, x, [node], is_given=True)
        return [Gate(cut, problem=f"{FAILED}: {_reason(error)}")]
    if y is x:
        y = keras.layers.Identity(name="gate")(x)
    nodes = _graph.nodes_between([x], [y])
    given = Cut(name, x, y, nodes, is_given=True)
    gates = _gates(keras.Model(x, y), {})
    gate = None if gates else _examine(given, {})[0]
    return gates or [gate]


def _gates(model, values, prefix="", inside=""):
    """Returns the gates of a model, two that follow each other as one CBAM."""
    gates: list[Gate] = []
    for cut in cuts(model, prefix, inside):
        gate, fallback = _examine(cut, values)
        if gate is None:
            inner = _within(cut, values) if cut.own else []
            gates += inner or ([fallback] if fallback else [])
            continue
        products = {id(x.outputs[0]) for x in cut.nodes}
        within = [x for x in gates if id(x.cut.product) in products]
        is_sum = _graph.kind_of(cut.operation) in _graph.ADDITIONS
        if (
            within
            and not gate.is_equal
            and (is_sum or any(x.is_equal for x in within))
        ):
            continue
        gates = [x for x in gates if x not in within]
        before = [x for x in gates if x.cut.product is cut.source]
        for first in before:
            nodes = [*first.cut.nodes, *cut.nodes]
            both = Cut(
                cut.path, first.cut.source, cut.product, nodes, None, inside
            )
            joined, _ = _examine(both, values)
            if joined and joined.is_equal:
                gates.remove(first)
                gate = joined
        gates.append(gate)
    return gates


def _within(cut, values):
    """Returns the gates inside of a layer of a user's class."""
    name = type(cut.own).__name__
    try:
        inner = look_into(cut)
    except Exception as error:  # noqa: BLE001
        if not cut.own.variables:
            return []
        problem = f"{UNKNOWN}: {name}: {_reason(error)}"
        return [Gate(cut, problem=problem)]
    inputs = [values.get(id(x)) for x in cut.nodes[0].input_tensors]
    if cut.layer and inputs[0] is not None:
        inputs = [ops.reshape(x, (-1, *x.shape[2:])) for x in inputs]
    with contextlib.suppress(Exception):
        _run_graph(inner, inputs, values)
    return _gates(inner, values, f"{cut.path}/", name)


def _examine(cut, values):
    """Returns a part as a gate or `None`, and what it is if it has none."""
    if cut.is_ours:
        return Gate(cut, match=of_ours(cut.operation)), None
    name = type(cut.operation).__name__
    is_meant = cut.is_given or bool(cut.own and MEANT.search(name))
    problem = cut.problem and f"{UNKNOWN}: {name}: {cut.problem}"
    if cut.problem and not cut.own:
        return Gate(cut, problem=problem), None
    if not cut.is_given and (
        problem
        or cut.source.shape != cut.product.shape
        or not _graph.is_feature_map(cut.product)
    ):
        problem = problem or f"{UNKNOWN}: {name}: outputs of another shape"
        return None, Gate(cut, problem=problem) if is_meant else None
    formats = ["channels_first", "channels_last"]
    formats.sort(key=lambda x: x != keras.config.image_data_format())
    found = []
    with cut.in_float32():
        own = _own_features(cut, values)
        for data_format in formats:
            try:
                probes = probe(cut, data_format, own)
            # A part of any network may raise anything.
            except Exception as error:  # noqa: BLE001
                problem = problem or f"{FAILED}: {_reason(error)}"
                continue
            if probes is None:
                continue
            gate = Gate(cut, probes)
            found.append(gate)
            is_ready = probes.is_repeatable and not probes.untracked
            if is_ready and (probes.is_attention or probes.shifts):
                found[-1] = gate = _matched(gate)
            if gate.is_equal:
                break
        else:
            found.sort(key=lambda x: not x.probes.is_attention)
            gate = found[0] if found else Gate(cut, problem=problem)
        if gate.probes:
            is_gate = gate.probes.is_attention or gate.is_equal
        else:
            is_gate = False
    if is_gate or cut.is_given:
        return gate, None
    if cut.is_gated and not cut.own:
        return Gate(
            cut, problem=f"{UNKNOWN}: {name}: factors from several tensors"
        ), None
    return None, gate if is_meant and (gate.probes or problem) else None


def _matched(gate):
    """Returns a gate with the layer of ours that computes the same."""
    cut, probes = gate.cut, gate.probes
    found = match(probes)
    if (
        found
        and not found.first_difference
        or probes.known_factors.min() < 0.99
    ):
        return dataclasses.replace(gate, match=found)
    own = probes.features.get("the network's own features")
    rest = Probes(cut, probes.data_format, probes.shape, own, is_residual=True)
    other = match(rest) if rest.is_attention else None
    if other is None or other.first_difference:
        return dataclasses.replace(gate, match=found)
    return dataclasses.replace(gate, match=other, is_residual=True)


def _own_features(cut, values):
    x = values.get(id(cut.source))
    if x is None:
        return None
    x = _graph.to_float32(x)
    x = x.reshape(-1, *x.shape[2:]) if cut.layer else x
    return x[:MOST_IMAGES] if np.isfinite(x).all() and x.any() else None


def _verdict(gate):
    """Returns the key of what is said of a gate, and the words."""
    probes, found = gate.probes, gate.match
    if gate.problem:
        return "problem", gate.problem
    if probes is None:
        return "equal", found.words
    low, high = probes.range
    said: dict[str, Any] = {"low": low, "high": high}
    if found:
        said |= {"words": found.words, "probe": found.first_difference}
    key = _first(gate, said)
    return key, {**WRONG, **RIGHT}[key].format_map(said)


def _first(gate, said):
    """Returns the first key that is true, and adds what its sentence says."""
    probes, found = gate.probes, gate.match
    if not probes.is_repeatable:
        return "random"
    if probes.untracked:
        said["count"] = len(probes.untracked)
        return "untracked"
    if gate.is_equal:
        return "equal"
    if probes.is_identity:
        return "identity"
    if not probes.multiplies:
        return "adds" if probes.adds else "other"
    factors = probes.known_factors
    if not probes.depends:
        said["low"], said["high"] = factors.min(), factors.max()
        return "constant"
    if probes.without_gradient:
        said["count"] = len(probes.without_gradient)
        return "gradient"
    if not probes.varies:
        return "image"
    if gate.is_residual:
        return "residual"
    said["low"], said["high"] = probes.limits
    if said["low"] > CLOSED:
        return "closed"
    if said["high"] < OPEN:
        return "open"
    said["low"], said["high"] = probes.range
    if found:
        return "nearest"
    last = factors.ndim - 1
    grid = tuple(range(1, last))
    for axes, words in ((grid, "positions"), ((last,), "channels")):
        if np.allclose(factors.sum(axis=axes), 1, atol=1e-3):
            said["count"] = math.prod(factors.shape[x] for x in axes)
            said["axes"] = words
            return "softmax"
    if probes.varies == [last] and probes.is_kept("channels"):
        return "channels"
    if last not in probes.varies and probes.is_kept("positions"):
        return "positions"
    pairs = zip(probes.window, factors.shape[1:], strict=False)
    if last in probes.varies and all(x < y for x, y in pairs):
        said["axes"] = " x ".join(map(str, probes.window))
        return "windows"
    names = (*AXES[len(grid)], "channels")
    said["axes"] = ", ".join(names[x - 1] for x in probes.varies)
    return "unlike"


def row_of(gate: Gate) -> CheckedGate:
    """Returns what is said of a gate."""
    with gate.cut.in_float32():
        return _row(gate)


def _row(gate):
    cut, probes = gate.cut, gate.probes
    key, words = _verdict(gate)
    is_known = probes is not None and key not in ("adds", "other", "random")
    low, high = probes.range if is_known else (math.nan, math.nan)
    was = type(cut.operation).__name__
    is_function = _checks.package_of(cut.operation) == "keras"
    return CheckedGate(
        gate=cut.path,
        was="functions" if is_function else was,
        verdict=words,
        passed=key not in WRONG and not words.startswith(FAILED),
        equals=gate.match.code if gate.is_equal else "",
        low=low,
        high=high,
        note="; ".join(_notes(gate)),
    )


def _notes(gate):
    """Yields what else is known of a gate."""
    cut, probes = gate.cut, gate.probes
    if probes and probes.is_alone:
        yield NOTES["alone"]
    if gate.is_equal and gate.match.note:
        yield gate.match.note
    if cut.inside:
        yield NOTES["inside"].format(names=cut.inside)
    if gate.is_equal and probes and (reasons := trains_otherwise(gate)):
        yield NOTES["training"].format(names=", ".join(reasons))
    if cut.own is None or gate.problem:
        return
    taken = inspect.signature(type(cut.own)).parameters.values()
    names = [x.name for x in taken if x.kind == x.POSITIONAL_OR_KEYWORD]
    # A class of the user may raise anything.
    with contextlib.suppress(Exception):
        config = cut.own.get_config()
        lacking = [f"`{x}`" for x in names if x not in config]
        if lacking:
            yield NOTES["config"].format(names=", ".join(lacking))
    if (
        keras.saving.get_registered_object(
            keras.saving.get_registered_name(type(cut.own))
        )
        is None
    ):
        yield NOTES["class"]


def _reason(error):
    """Returns the first line of an error, without what Keras adds."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    text = re.sub(r"^Exception encountered when calling.*\n+", "", text)
    return f"{type(error).__name__}: {text.partition(chr(10))[0]}"
