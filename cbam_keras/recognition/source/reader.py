"""Executes definitions of one text, and checks the attention in them."""

import ast
import dataclasses
import inspect
import pathlib
import re
from typing import Any

import keras

from cbam_keras import _graph
from cbam_keras.recognition.claims import claim_of, is_meant
from cbam_keras.recognition.gates import gates_of
from cbam_keras.recognition.reports import CheckedGate, not_analyzed, row_of
from cbam_keras.recognition.source.calls import (
    OTHER_TENSORS,
    Call,
    build_model,
    ranks_of,
    recorded,
    symbols_in,
    ways_to_call,
)
from cbam_keras.recognition.source.definitions import (
    Code,
    Definition,
    Unknown,
)
from cbam_keras.recognition.source.looks import (
    builds_model,
    definitions_elsewhere,
    is_gate_by_words,
    lacks_call,
    may_be_gate,
    methods_of,
    multiplies,
)
from cbam_keras.recognition.verdicts import CheckState, Finding

# What a file has that sets or makes features with their channels first.
CHANNELS_FIRST = re.compile(
    r"channels_first|\bNC(D?H)?W\b|"
    # Permutations that bring the last axis to the front.
    r"\b[34], *1, *2\b|\b0, *2, *1\b|\(2, *1\)",
    re.I,
)


def check_text(
    text: str, path: pathlib.Path, only: str = "", imports: bool = True
) -> list[CheckedGate]:
    """Executes the definitions of a text, and returns a row for each gate.

    It reads modules beside `path`, starts no process, and prints nothing.

    Args:
        text: String, the text of a file `.py`, or of a notebook.
        path: Path, where the text is from.
        only: String, the only function or class that counts.
        imports: Boolean, whether modules beside the file have rows, too.
    """
    return TextReader().check(text, path, only, imports)


@dataclasses.dataclass
class TextReader:
    """Checks texts; modules that several import are executed once."""

    sources: dict[pathlib.Path, Code] = dataclasses.field(default_factory=dict)
    # What was called on symbolic tensors, with its arguments and outputs.
    calls: list[Call] = dataclasses.field(default_factory=list)
    examined: dict[Definition, list[CheckedGate]] = dataclasses.field(
        default_factory=dict
    )

    def check(
        self,
        text: str,
        path: pathlib.Path,
        only: str = "",
        imports: bool = True,
    ) -> list[CheckedGate]:
        """Returns the rows of a text, as `check_text` does."""
        source = self.sources.get(path)
        if source is None:
            define = lambda value: recorded(value, self.calls)  # noqa: E731
            source = Code(path, text, self.sources, define)
        definitions = [y for x in source.closure() for y in x.definitions]
        gates = [x for x in definitions if may_be_gate(x)]
        for definition in definitions:
            if definition not in gates:
                gates += methods_of(definition)
        builders = [
            x
            for x in definitions
            if builds_model(x) and only in ("", x.name)
            if imports or x.source is source
            if gates or multiplies(x) or any(map(is_meant, x.names))
        ]
        del self.calls[:]
        models, failed = self._build(builders)
        # A network that cannot be built has a row where it is asked for.
        rows = failed if only else []
        uses = {x: self._calls_of(x) for x in gates}
        is_used = any(uses.values())
        in_models = [] if is_used else _gates_in(models)
        rows += in_models
        # Networks without any attention, whose options do not ask for some.
        is_lost = models.keys() == {*builders} and models and not in_models
        if is_used or any(map(_has_option, models)):
            is_lost = False
        named_elsewhere = {
            x: _names_beside(x, definitions, builders, source) for x in gates
        }
        tensors = _tensors_in(models.values())
        for gate, calls in uses.items():
            reached = sum(id(symbols_in(y)[0]) in tensors for *_, y in calls)
            unused = ""
            if reached < len(calls):
                unused = f"called {len(calls)} times, {reached} reach an output"
            elif is_lost and gate.name not in named_elsewhere[gate]:
                unused = "never called, so this model has no attention"
            is_asked = not only or gate.name == only or calls
            is_here = imports or gate.source is source
            if is_asked and (unused or is_here):
                if gate not in self.examined:
                    self.examined[gate] = self._examine(gate, calls)
                rows += [_unused(unused, x) for x in self.examined[gate]]
        if not only:
            rows += self._elsewhere(source, {*gates, *models})
        return rows

    def _elsewhere(self, source, analyzed):
        """Returns rows of definitions that are called attention, and not run.

        They are inside of a function, or of an `if`.
        """
        nodes = {x.node for x in analyzed}
        return [
            not_analyzed(node.name, reason, str(source.path), node.lineno)
            for node, reason in definitions_elsewhere(source, nodes)
        ]

    def _build(self, builders):
        """Returns models by their builders, and rows of those that failed."""
        models: dict[Definition, keras.Model] = {}
        failed = []
        for builder in builders:
            try:
                models[builder] = build_model(builder.value, self.calls)
            # It may raise anything.
            except Exception as error:  # noqa: BLE001
                failed.append(_failed(builder, error))
        return models, failed

    def _calls_of(self, gate):
        """Returns the calls of a definition, or of layers of its class."""
        return [x for x in self.calls if gate.value in (x[0], type(x[0]))]

    def _examine(self, gate, calls):
        """Returns rows of a gate, called in the first way that works.

        Features of another rank count where one of our layers does the same.
        """
        if gate.value is None:
            return [_failed(gate, gate.missing)]
        if why := lacks_call(gate):
            verdict = Finding.NO_CALL.say(why=why)
            return [_failed(gate, "").with_verdict(verdict)]
        # Its initial weights, and so its row, follow from the definition alone,
        # whatever was checked before it.
        keras.utils.set_random_seed(0)
        names = gate.names & gate.source.namespace.keys() - {gate.name}
        has_gates = any(map(is_meant, names))
        problem: Exception | None = None
        rows: list[CheckedGate] | None = None
        ranks = ranks_of(gate)
        data_format = self._data_format(gate)
        ranks_tried = set()
        for make, shape in ways_to_call(gate, calls):
            if len(shape) in ranks_tried:
                continue
            x = keras.Input(shape)
            try:
                y = symbols_in(make()(x))[0]
            # It may raise anything.
            except Exception as error:  # noqa: BLE001
                problem = problem or error
                continue
            parts = gates_of(make(), shape)
            failed = [z.problem for z in parts if z.problem]
            failed = [z for z in failed if z.finding is Finding.FAILED]
            if failed:
                # Keras 2 may have run it.
                reason = failed[0].text.partition(": ")[2]
                problem = problem or Unknown(reason)
                continue
            ranks_tried.add(len(shape))
            is_ours = any(
                part.match and not part.is_misplaced(data_format)
                for part in parts
            )
            if rows is None or is_ours:
                fits = _fits(y.shape, x.shape)
                rows = [
                    _placed(part, gate, data_format)
                    for part in parts
                    if _has_row(part, gate, has_gates, fits)
                ]
            if is_ours or len(ranks) == 1:
                break
        if rows is not None:
            return rows
        # The gates of a block of several tensors have rows of their own.
        is_of_several = any(map(OTHER_TENSORS.fullmatch, gate.arguments[1:]))
        is_block = has_gates and (is_of_several or isinstance(problem, Unknown))
        is_gate = claim_of(gate.name) or is_gate_by_words(gate)
        is_gate = is_gate or is_meant(gate.name) and multiplies(gate)
        return [_failed(gate, problem)] if is_gate and not is_block else []

    def _data_format(self, gate):
        """Returns where channels are in the file of a gate, if that is known.

        They are last, unless the file or one that imports it has channels first
        anywhere.
        """
        files = [x for x in self.sources.values() if gate.source in x.reads]
        texts = [x.text for x in (gate.source, *files)]
        is_first = any(map(CHANNELS_FIRST.search, texts))
        usual = keras.config.image_data_format()
        return "" if is_first or usual != "channels_last" else usual


def _has_option(builder):
    """Returns whether an argument may put attention into a model."""
    parameters = inspect.signature(builder.value).parameters.values()
    falsy = [x.name for x in parameters if x.default in (None, False)]
    return any(is_meant(x) or "mod" in x for x in falsy)


def _names_beside(gate, definitions, builders, source):
    """Returns the names that other definitions and scripts use."""
    names = {x.id for x in source.rest() if isinstance(x, ast.Name)}
    for definition in {*definitions} - {*builders, gate}:
        names |= definition.names
    return names


def _tensors_in(models):
    """Returns the ids of all tensors in models, those inside of others too."""
    return {
        id(y)
        for model in models
        for layer in _graph.layers_within(model)
        if _graph.is_graph(layer)
        for node in _graph.nodes(layer)
        for y in node.outputs
    }


def _gates_in(models):
    """Returns rows of the gates of models."""
    return [
        _placed(gate, builder)
        for builder, model in models.items()
        if _graph.is_graph(model)
        for gate in gates_of(model)
    ]


def _has_row(part, gate, has_gates, fits):
    """Returns whether a part of a definition has a row."""
    is_whole = part.cut.is_given
    # Gates of other definitions have rows of their own.
    is_other = not is_whole and has_gates and not claim_of(gate.name)
    if is_other or is_whole and not fits:
        return False
    is_attention = part.probes and part.probes.is_attention and not is_whole
    return bool(part.match or is_attention or is_meant(gate.name))


def _fits(shape, features):
    """Returns whether an output may be features, or factors of them."""
    is_broadcast = len(shape) == len(features) and all(
        x in (1, y) for x, y in zip(shape[1:], features[1:], strict=True)
    )
    return is_broadcast or tuple(shape[1:]) == features[-1:]


def _failed(definition, reason):
    """Returns the row of a definition that could not be analyzed."""
    if isinstance(reason, BaseException):
        reason = definition.source.reason(reason)
    path = str(definition.source.path)
    return not_analyzed(definition.name, reason, path, definition.node.lineno)


def _placed(gate, definition, data_format=""):
    """Returns the row of a gate that is a definition, or in one."""
    row = row_of(gate, data_format)
    name = definition.name
    if not gate.cut.is_given:
        name += f"/{gate.cut.path}"
    note = row.note
    if definition.replaces:
        replaces = f"replaces the definition in line {definition.replaces}"
        note = "; ".join(filter(None, [note, replaces]))
    return dataclasses.replace(
        row,
        gate=name,
        note=note,
        file=str(definition.source.path),
        line=definition.node.lineno,
    )


def _unused(calls: str, row: CheckedGate) -> Any:
    """Returns a row with what is wrong about its calls, if anything is."""
    if not calls or row.state == CheckState.NOT_ANALYZED:
        return row
    return row.with_verdict(
        Finding.UNUSED.say(calls=calls, verdict=row.verdict)
    )
