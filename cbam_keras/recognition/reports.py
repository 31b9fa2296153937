"""`check`: whether attention computes what its name says."""

import collections
import contextlib
import dataclasses
import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras

from cbam_keras import _checks, _graph, _terminal
from cbam_keras.recognition.claims import (
    AXES,
    CLAIMS,
    claim_of,
    differs,
    fault_of,
    layer_of,
    place_kind,
    remedy,
)
from cbam_keras.recognition.departures import Departure
from cbam_keras.recognition.gates import Gate, gates_of
from cbam_keras.recognition.matching import trains_otherwise
from cbam_keras.recognition.pooling import fault_of_pools
from cbam_keras.recognition.probes import Probes
from cbam_keras.recognition.verdicts import (
    COUNTED,
    CheckState,
    Finding,
    Verdict,
)

# A gate whose factors stay above the first cannot close, and one whose factors
# stay below the second cannot open.
CLOSED = 0.05
OPEN = 0.95
# The factors of x + x * gate are 1 and more, whatever the gate.
ADDS_INPUT = 0.99


def _cannot_close(probes):
    return (
        probes.multiplies
        # A formula without weights has limits of its own.
        and probes.values
        and CLOSED < probes.limits[0] < ADDS_INPUT
        # A part of features that are added to it stays.
        and not probes.cut.adds_source
    )


# What is said of a gate that equals none of ours: the first that is true.
FAULTS: dict[Finding, Callable[[Probes], Any]] = {
    Finding.RANDOM: lambda x: x.is_random,
    Finding.UNTRACKED: lambda x: x.untracked,
    Finding.IDENTITY: lambda x: x.is_identity,
    Finding.MIXES_IMAGES: lambda x: x.mixes_images,
    Finding.CONSTANT: lambda x: x.multiplies and x.is_constant,
    Finding.NO_GRADIENT: lambda x: x.without_gradient,
    Finding.ONE_FACTOR: lambda x: x.multiplies and not x.varies,
    Finding.CANNOT_CLOSE: _cannot_close,
    Finding.CANNOT_OPEN: (
        lambda x: x.multiplies and x.values and x.limits[1] < OPEN
    ),
    Finding.NO_SIGMOID: lambda x: x.multiplies and x.is_unbounded,
}
# The same of a gate without a fault.
DESCRIPTIONS: dict[Finding, Callable[[Probes], Any]] = {
    Finding.ADDS: lambda x: not x.multiplies and x.adds,
    Finding.NO_FACTORS: lambda x: not x.multiplies,
    Finding.SOFTMAX: lambda x: x.softmax,
    Finding.WINDOW: (
        lambda x: "channel" in x.gated and not x.is_product and x.window
    ),
    Finding.UNLIKE: lambda _: True,
}


@dataclasses.dataclass(frozen=True)
class CheckedGate:
    """Result of `check` for one attention module.

    Attributes:
        gate: String, the name of its layer, or of the operation that multiplies
            by it, prefixed with the names of models and layers around it.
        verdict: String, what it computes.
        state: String, `"passed"`, `"misnamed"`, `"faulty"`,
            `"not analyzed"`, or `"not attention"` for features that are scaled
            by something that no name calls attention.
        called: String, the class, function or layer name that claims what it
            computes, e.g. `"SEBlock"`; empty if there is none.
        agrees: Boolean, whether it computes what its name claims, or `None` if
            no name claims anything.
        passed: Boolean, whether it was analyzed, has no fault, and computes
            what its name claims.
        equals: String, the line of code that makes the equivalent `cbam_keras`
            layer; empty if there is none.
        kind: String, the attention type of that layer, e.g. `"se"`.
        adopted: Boolean, whether `adopt` replaces the module by that layer.
        low: Float, the smallest factor by which it multiplied; NaN if it does
            not multiply.
        high: Float, the largest factor.
        difference: Float, the largest difference of outputs of both layers,
            relative to the largest output; NaN if there is none.
        note: String, what else to note.
        file: String, the source file that defines it; empty for a model.
        line: Integer, the line in that file; 0 for a model.
    """

    gate: str
    verdict: str
    state: CheckState
    called: str = ""
    agrees: bool | None = None
    equals: str = ""
    kind: str = ""
    adopted: bool = False
    low: float = math.nan
    high: float = math.nan
    difference: float = math.nan
    note: str = ""
    file: str = ""
    line: int = 0

    @property
    def passed(self) -> bool:
        """Whether nothing speaks against it."""
        return self.state.is_passed

    @property
    def record(self) -> dict[str, object]:
        """Its attributes as plain values."""
        record = dict(vars(self))
        record["state"] = str(self.state)
        record["passed"] = self.passed
        return record

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> "CheckedGate":
        """Returns the row whose `record` this is."""
        values = {k: x for k, x in record.items() if k != "passed"}
        return cls(**{**values, "state": CheckState(values["state"])})

    def with_verdict(self, verdict: Verdict) -> "CheckedGate":
        """Returns the row with another verdict."""
        return dataclasses.replace(
            self, verdict=verdict.text, state=verdict.state
        )


@dataclasses.dataclass(frozen=True)
class CheckReport(_terminal.Tabular):
    """Report of `check`; prints as a table.

    `to_dataframe()` has a row per module, with the attributes of `CheckedGate`.

    Attributes:
        rows: Tuple of `CheckedGate`, in the order of execution.
        place: String, what was checked.
        note: String, what else to note.
    """

    rows: tuple[CheckedGate, ...]
    place: str = "this model"
    note: str = ""

    @property
    def passed(self) -> bool:
        """Whether there is attention, and each module passed."""
        has_attention = any(row.state in COUNTED for row in self.rows)
        return has_attention and all(row.passed for row in self.rows)

    @property
    def verdict(self) -> str:
        """How many modules are passed, misnamed, faulty, not analyzed."""
        counts = collections.Counter(row.state for row in self.rows)
        number = sum(counts[state] for state in COUNTED)
        if number:
            states = ", ".join(f"{counts[state]} {state}" for state in COUNTED)
            modules = _checks.count(number, "attention module")
            sentence = f"{modules}: {states}."
        else:
            sentence = f"No attention in {self.place}."
        return " ".join(filter(None, [sentence, self.note]))

    def _tables(self) -> Iterator[_terminal.Table]:
        for file in dict.fromkeys(row.file for row in self.rows):
            rows = [_cells(row) for row in self.rows if row.file == file]
            yield _terminal.Table(file, rows)

    def _records(self) -> list[dict[str, object]]:
        return [row.record for row in self.rows]


def not_analyzed(
    gate: str, reason: str, file: str = "", line: int = 0
) -> CheckedGate:
    """Returns the row of a definition that could not be analyzed."""
    verdict = Finding.NOT_ANALYZED.say(reason=reason)
    return CheckedGate(gate, verdict.text, verdict.state, file=file, line=line)


def _cells(row):
    """Returns a row of a table."""
    cells = {"line": str(row.line)} if row.file else {}
    cells["attention module"] = row.gate
    cells["verdict"] = row.verdict
    has_factors = not math.isnan(row.low)
    cells["factors"] = f"{row.low:.2f} to {row.high:.2f}" if has_factors else ""
    if row.note:
        cells["note"] = row.note
    return cells


@_checks.named
def check(
    model: keras.Model | Callable[[Any], Any], images: object = None
) -> CheckReport:
    """Reports what the attention modules of a model or layer compute.

    Attention is found by its effect: in layers of any class, also inside your
    own layers, and in operations of functional models. It is compared with our
    layers on random features of several scales, on the network's features of
    images, and with other weights.

    Args:
        model: A `keras.Model`: functional, Sequential, or a subclassed one that
            was called and whose `call` takes symbolic inputs. Or a layer, or a
            function of a tensor, with a shape as the second argument. Models
            of `tf_keras` are refused.
        images: Array of images, or other inputs of the model. For a layer or a
            function: tuple, the shape of the features without the batch.
            Defaults to `None`, for random images.

    Returns:
        A `CheckReport`.

    Raises:
        TypeError: If `model` is not a model, and no shape is given.
        ValueError: If the graph of the model is not known.

    Example:
        >>> report = check(keras.layers.Dropout(0.5), (8, 8, 16))
        >>> report.passed, report.rows[0].verdict
        (False, 'does nothing: returns its input')
    """
    rows = tuple(map(row_of, gates_of(model, images)))
    is_given = _graph.is_graph(model) and images is not None
    note = _graph.describe_range(model, images)[0] if is_given else ""
    return CheckReport(rows, note=note)


def row_of(gate: Gate, data_format: str = "") -> CheckedGate:
    """Returns what is said of a gate.

    `data_format` is that of the features around it, where it is known.
    """
    cut = gate.cut
    with cut.in_float32():
        verdict = _verdict(gate)
        low, high = math.nan, math.nan
        if gate.probes and gate.probes.has_factors:
            low, high = gate.probes.range
        equal = gate.match
        if equal and equal.is_doubled:
            equal = None
        reasons = []
        if equal and gate.probes:
            reasons = trains_otherwise(equal, gate.probes)
        called, difference = _claim(gate, verdict)
        notes = [*_notes(gate)]
    agrees = difference is None if called else None
    # A product without a sigmoid may be anything, where no name says more.
    is_open = verdict.finding is Finding.NO_SIGMOID
    if difference and (verdict.state.is_passed or is_open):
        verdict = difference
        notes.insert(0, remedy(claim_of(called), equal or gate.nearest))
    elif called and gate.is_misplaced(data_format) and verdict.state.is_passed:
        verdict = Finding.CHANNELS_FIRST.say()
    elif is_open and not cut.is_meant:
        verdict = Finding.UNNAMED_PRODUCT.say(what=verdict.text)
    if reasons:
        notes.append(f"trains differently: {', '.join(reasons)}")
    if gate.is_added:
        text = f"{verdict.text}; {Departure.INPUT_ADDED.words}"
        verdict = dataclasses.replace(verdict, text=text)
    return CheckedGate(
        gate=cut.path,
        verdict=verdict.text,
        state=verdict.state,
        called=called,
        agrees=agrees,
        equals=equal.code if equal else "",
        kind=place_kind(equal.layer_class) if equal else "",
        adopted=bool(equal)
        and not (cut.is_ours or reasons or cut.inside or gate.ties),
        low=low,
        high=high,
        difference=equal.difference if equal else math.nan,
        note="; ".join(notes),
    )


def _verdict(gate):
    """Returns what a gate computes, whatever it is called."""
    probes = gate.probes
    if gate.problem:
        return gate.problem
    if gate.pools_one_position:
        return Finding.ONE_POSITION.say()
    if gate.match and gate.match.is_doubled:
        return Finding.DOUBLED.say()
    if gate.match and not gate.match.has_sigmoid:
        return Finding.NO_SIGMOID.say(what=gate.match.words)
    if gate.match:
        return Finding.EQUAL.say(ours=gate.match.words)
    findings = FAULTS | DESCRIPTIONS
    finding = next(x for x, is_true in findings.items() if is_true(probes))
    is_gate = finding is Finding.UNLIKE and probes.is_attention
    near = gate.nearest if is_gate or finding is Finding.ADDS else None
    if near:
        difference = near.first_difference
        words = difference.words if difference else ""
        return Finding.NEAREST.say(ours=near.words, difference=words)
    if finding is Finding.NO_SIGMOID and probes.is_alone:
        return Finding.LOGITS.say()
    low, high = probes.limits if finding is Finding.NO_SIGMOID else (0, 0)
    factors = f"factors from {low:.2f} to {high:.2f}"
    return finding.say(probes=probes, what=factors)


def _claim(gate, verdict):
    """Returns the name of a gate that claims something, and what is false.

    `verdict` is what the gate computes.
    """
    cut = gate.cut
    probes = gate.probes
    equal = gate.match
    claim = claim_of(cut.called)
    if not claim or cut.is_ours or probes is None:
        return "", None
    # What the caller makes of the factors decides whether the name is right.
    if verdict.finding is Finding.LOGITS:
        return "", None
    # A block that adds its input is not what it is named for.
    if probes.adds_input and claim != "BAM" and not equal:
        fault = _fault_beside_input(gate, claim)
        return (cut.called, fault) if fault else ("", None)
    if not (equal or probes.has_factors or probes.adds):
        return "", None
    if claim in AXES:
        return cut.called, _differs_from_half(gate, claim)
    if equal:
        return cut.called, differs(claim, equal, probes.gated)
    near = (probes.is_attention or probes.adds) and gate.nearest
    if near and near.layer_class is CLAIMS[claim][0]:
        difference = near.first_difference
        if difference.is_variant:
            return cut.called, None
        what = difference.words
        return cut.called, Finding.CHANGED.say(claim=claim, what=what)
    is_unlike = verdict.finding is Finding.UNLIKE
    finding = Finding.CHANGED if is_unlike else Finding.NONE
    return cut.called, finding.say(claim=claim, what=verdict.text)


def _fault_beside_input(gate, claim):
    """Returns a fault of what a gate adds to its input, if that is a match."""
    near = gate.nearest if gate.probes.is_attention else None
    if near is None or near.layer_class is not layer_of(claim):
        return None
    if near.first_difference.departure is not Departure.INPUT_ADDED:
        return None
    return fault_of(claim, near)


def _differs_from_half(gate, claim):
    """Returns how a gate differs from a half of CBAM, if it is a fault.

    Other papers have gates of channels and of positions, too.
    """
    probes = gate.probes
    if not probes.multiplies:
        return Finding.NONE.say(claim=claim, what=Departure.ADDS.words)
    if difference := differs(claim, gate.match, probes.gated):
        return difference
    if gate.match or not probes.is_attention:
        return None
    difference = gate.nearest and gate.nearest.first_difference
    if difference and difference.is_variant:
        return None
    is_fault = difference and difference.is_fault
    fault = difference if is_fault else fault_of_pools(probes)
    return fault and Finding.CHANGED.say(claim=claim, what=fault.words)


def _notes(gate):
    """Yields what else is known of a gate."""
    cut, probes = gate.cut, gate.probes
    if probes and probes.is_alone:
        yield "returns only the factors"
    if gate.is_new:
        yield "still has initial weights (biases 0, moving averages 0 and 1)"
    yield from gate.ties
    if cut.inside:
        yield f"inside a layer of class {cut.inside}"
    if cut.own is None or gate.problem:
        return
    taken = inspect.signature(type(cut.own)).parameters.values()
    names = [x.name for x in taken if x.kind == x.POSITIONAL_OR_KEYWORD]
    # A class of the user may raise anything.
    with contextlib.suppress(Exception):
        config = cut.own.get_config()
        if lacking := [f"`{x}`" for x in names if x not in config]:
            yield f"get_config lacks {', '.join(lacking)}"
    name = keras.saving.get_registered_name(type(cut.own))
    if keras.saving.get_registered_object(name) is None:
        yield "needs custom_objects to load"
