"""`check`: whether attention computes what its name says."""

import collections
import contextlib
import dataclasses
import inspect
import math
from collections.abc import Callable, Iterator
from typing import Any

import keras

from cbam_keras import _checks, _graph, _terminal
from cbam_keras.recognition.claims import (
    AXES,
    CLAIMS,
    claim_of,
    differs,
    place_kind,
    remedy,
)
from cbam_keras.recognition.gates import MIXES, UNKNOWN, Gate, gates_of
from cbam_keras.recognition.matching import trains_otherwise
from cbam_keras.recognition.probes import Probes

# A gate whose factors stay above the first cannot close, and one whose factors
# stay below the second cannot open.
CLOSED, OPEN = 0.05, 0.95
_RANGE = "{probes.range[0]:.2f} to {probes.range[1]:.2f}"
_LIMITS = _RANGE.replace("range", "limits")
# What is said of a gate that equals none of ours: the first that is true. A
# gate with a wrong one does not pass.
NO_SIGMOID = "no sigmoid"
# What decides nothing.
NO_ATTENTION = "scales features, no attention"
DOUBLED = "adds one pool to itself, sigmoid(2 * MLP(pool))"
ONE_POSITION = "sees one position: its spatial half is one number"
WRONG: dict[str, Callable[[Probes], Any]] = {
    "differs from call to call: new weights, or randomness at inference": (
        lambda x: x.is_random
    ),
    "weights of {probes.untracked} arrays are not tracked: not saved, not "
    "trained": lambda x: x.untracked,
    "does nothing: returns its input": lambda x: x.is_identity,
    MIXES: lambda x: x.mixes_images,
    f"constant: factors {_RANGE}, whatever the features": (
        lambda x: x.multiplies and x.is_constant
    ),
    "weights of {probes.without_gradient} arrays get no gradient": (
        lambda x: x.without_gradient
    ),
    "one factor for each image, not for each channel": (
        lambda x: x.multiplies and not x.varies
    ),
    # Factors of x + x * gate are 1 and more, and a formula without weights has
    # its own.
    f"cannot close: factors from {_LIMITS}": (
        lambda x: (
            x.multiplies
            and x.values
            and CLOSED < x.limits[0] < 0.99
            # A part of features that are added to it stays.
            and not x.cut.adds_source
        )
    ),
    f"cannot open: factors from {_LIMITS}": (
        lambda x: x.multiplies and x.values and x.limits[1] < OPEN
    ),
    f"{NO_SIGMOID}: factors from {_LIMITS}": (
        lambda x: x.multiplies and x.is_unbounded
    ),
}
CALLED = "called "
# What `check` says of a gate, in the order of its last line.
STATES = ("sound", "not as called", "wrong", "not looked into")
SOUND, MISNAMED, IS_WRONG, NOT_LOOKED_INTO = STATES
UNLIKE = f"unlike ours: factors by {{probes.axes}}, {_RANGE}"
ADDS = "adds, does not multiply"
RIGHT: dict[str, Callable[[Probes], Any]] = {
    ADDS: lambda x: not x.multiplies and x.adds,
    "does not multiply features by factors": lambda x: not x.multiplies,
    "features shrink to 1/{probes.softmax} (softmax over positions)": (
        lambda x: x.softmax
    ),
    "pools over windows of {probes.window}, not over all positions": (
        lambda x: "channel" in x.gated and not x.is_product and x.window
    ),
    UNLIKE: lambda _: True,
}


@dataclasses.dataclass(frozen=True)
class CheckedGate:
    """Result of `check` for one attention module.

    Attributes:
        gate: String, the name of its layer, or of the operation that multiplies
            by it, prefixed with the names of models and layers around it.
        verdict: String, what it computes.
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
    called: str = ""
    agrees: bool | None = None
    passed: bool = False
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
    def state(self) -> str:
        """One of `STATES`, or empty where it is no attention."""
        if self.verdict.startswith(NO_ATTENTION):
            return ""
        if self.verdict.startswith(UNKNOWN):
            return NOT_LOOKED_INTO
        if self.passed:
            return SOUND
        return MISNAMED if self.verdict.startswith(CALLED) else IS_WRONG


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
        """Whether there is a gate, and each one passed."""
        is_there = any(row.state for row in self.rows)
        return is_there and all(row.passed for row in self.rows)

    @property
    def verdict(self) -> str:
        """How many gates are sound, not as called, wrong, not looked into."""
        counts = collections.Counter(row.state for row in self.rows)
        count = sum(counts[state] for state in STATES)
        words = ", ".join(f"{counts[state]} {state}" for state in STATES)
        said = f"{_checks.count(count, 'gate')}: {words}."
        if not count:
            said = f"No attention in {self.place}."
        return " ".join(filter(None, [said, self.note]))

    def _tables(self) -> Iterator[_terminal.Table]:
        for file in dict.fromkeys(row.file for row in self.rows):
            rows = [_cells(row) for row in self.rows if row.file == file]
            yield _terminal.Table(file, rows)

    def _records(self) -> list[dict[str, object]]:
        return [dict(vars(row)) for row in self.rows]


def unknown(
    gate: str, reason: str, file: str = "", line: int = 0
) -> CheckedGate:
    """Returns the row of a gate of source of which nothing is known."""
    return CheckedGate(gate, f"{UNKNOWN}: {reason}", file=file, line=line)


def _cells(row):
    """Returns a row of a table."""
    line = {"line": str(row.line)} if row.file else {}
    low, high = row.low, row.high
    factors = "" if math.isnan(low) else f"{low:.2f} to {high:.2f}"
    note = {"note": row.note} if row.note else {}
    cells = {"gate": row.gate, "verdict": row.verdict, "factors": factors}
    return line | cells | note


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


def row_of(gate: Gate) -> CheckedGate:
    """Returns what is said of a gate."""
    cut = gate.cut
    with cut.in_float32():
        passed, verdict = _verdict(gate)
        low, high = math.nan, math.nan
        if gate.probes and gate.probes.has_factors:
            low, high = gate.probes.range
        equal, reasons = gate.match, []
        if equal and equal.is_doubled:
            equal = None
        if equal and gate.probes:
            reasons = trains_otherwise(equal, gate.probes)
        called, difference = _claim(gate)
        notes = [*_notes(gate)]
    agrees = None if not called else not difference
    is_open = not passed and verdict.startswith(NO_SIGMOID)
    if difference and (passed or is_open):
        claim = claim_of(called)
        separator = "; " if difference.startswith("not") else ", "
        passed, verdict = False, f"{CALLED}{claim}{separator}{difference}"
        notes.insert(0, remedy(claim, equal or gate.nearest))
    elif is_open and not cut.is_meant:
        passed, verdict = True, f"{NO_ATTENTION}: {verdict}"
    if reasons:
        notes.append(f"trains otherwise: {', '.join(reasons)}")
    return CheckedGate(
        gate=cut.path,
        verdict=verdict,
        called=called,
        agrees=agrees,
        passed=passed,
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
    """Returns whether a gate passes, and the sentence on it."""
    probes = gate.probes
    if gate.problem:
        return False, gate.problem
    if gate.pools_one_position:
        return False, ONE_POSITION
    if gate.match and gate.match.is_doubled:
        return False, DOUBLED
    if gate.match:
        has_sigmoid = gate.match.has_sigmoid
        words = gate.match.words
        return has_sigmoid, words if has_sigmoid else f"{NO_SIGMOID}: {words}"
    sentences = WRONG | RIGHT
    words = next(x for x, is_true in sentences.items() if is_true(probes))
    may_be_near = words == ADDS or words == UNLIKE and probes.is_attention
    if may_be_near and (near := gate.nearest):
        words = f"nearest of ours: {near.words}; first difference: "
        return True, words + near.first_difference
    text = words.format(probes=probes)
    return words in RIGHT, text


def _claim(gate):
    """Returns the name of a gate that claims something, and what is false."""
    cut, probes, equal = gate.cut, gate.probes, gate.match
    claim = claim_of(cut.called)
    if not claim or cut.is_ours or probes is None:
        return "", ""
    # A block that adds its input is not what it is named for.
    if probes.adds_input and claim != "BAM" and not equal:
        return "", ""
    is_known = equal or probes.has_factors
    if not is_known and (claim in AXES or not probes.adds):
        return "", ""
    if claim in AXES or equal:
        return cut.called, differs(claim, equal, probes.gated)
    near = (probes.is_attention or probes.adds) and gate.nearest
    if near and near.layer_class is CLAIMS[claim][0]:
        if near.is_formula:
            return cut.called, ""
        return cut.called, f"not the paper's: {near.first_difference}"
    _, verdict = _verdict(gate)
    kind = "not the paper's" if verdict.startswith(UNLIKE[:6]) else "is none"
    return cut.called, f"{kind}: {verdict}"


def _notes(gate):
    """Yields what else is known of a gate."""
    cut, probes = gate.cut, gate.probes
    if probes and probes.is_alone:
        yield "returns the factors alone"
    if gate.is_new:
        yield "as initialized: all biases are 0, averages 0 and 1"
    yield from gate.ties
    if cut.inside:
        yield f"inside of a layer of class {cut.inside}"
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
        yield "does not load without its class"
