"""The process that executes definitions of source, and checks their gates."""

import ast
import dataclasses
import faulthandler
import functools
import inspect
import json
import os
import pathlib
import re
import sys
import types
from collections.abc import Iterator
from typing import Any

import keras

from cbam_keras import _graph
from cbam_keras.recognition.claims import claim_of, is_meant
from cbam_keras.recognition.gates import FAILED, MIXES, gates_of
from cbam_keras.recognition.reports import (
    NOT_LOOKED_INTO,
    CheckedGate,
    row_of,
    unknown,
)
from cbam_keras.recognition.source import keras_2
from cbam_keras.recognition.source.definitions import Code, Unknown

# Features of 32 channels in ranks 4, 3 and 5, others for gates that name their
# sizes, and images of a network.
SHAPES = [(12, 10, 32), (12, 32), (6, 5, 4, 32)]
SHAPES += [(12, 12, 32), (12, 10, 64), (12, 10, 128)]
IMAGE_SHAPES = [(64, 64, 3), (224, 224, 3), (64, 8), (16, 16, 16, 1)]
# Values of arguments that have no default, by patterns of their names.
TYPICAL: dict[str, Any] = {
    r".*r.tio|r|red|.*reduction.*|squeeze.*": 8,
    r".*(channel|filter|unit|plane|feature).*|inter.*|ch|c|n?f|.*dim|k": 32,
    r"inr?|out": 32,
    r"kernel.*|k_?size|ks": 7,
    r".*name|prefix|scope": "gate",
    r".*(classes|labels)|n_?class": 4,
    r"strides?|dilation.*|.*depth|stage|i|index|n": 1,
    r"padding": "same",
    r"act(ivation)?": "relu",
    r".*drop.*|rate": 0.0,
    r"training|mask|weights|.*regularizer": None,
    r"block": "a",
    r"h|height": 12,
    r"w|width": 10,
    r".*bias|include_top|is_?[a-z].*|use_.*": True,
}
# The first argument of a function of features, and another tensor, in whose
# place the same features are.
_NO_NUMBER = "(?!.*(shape|size|dim|name|channel|filter|unit))"
TENSORS = re.compile(
    f"x|y|ip|net|fm|z|u|{_NO_NUMBER}.*(input|tensor|feature|layer|inp|map).*",
    re.I,
)
TENSOR = re.compile(
    f"g|{_NO_NUMBER}.*(input|tensor|inp_|_map|gating|skip|hidden|query).*", re.I
)
SAME_FEATURES = object()
PRODUCT = re.compile("multiply|mul|scale|dot", re.I)


@dataclasses.dataclass(frozen=True, eq=False)
class Definition:
    """A function or class of a file, by its name."""

    source: Code
    name: str

    @property
    def node(self) -> Any:
        """Its syntax tree."""
        return self.source.definitions[self.name]

    @property
    def value(self) -> Any:
        """The function or class, or `None` if it is not defined."""
        return self.source.namespace.get(self.name)

    @property
    def names(self) -> set[str]:
        """The names in it."""
        nodes = [*ast.walk(self.node)]
        return {getattr(x, "id", getattr(x, "attr", "")) for x in nodes}

    @property
    def multiplies(self) -> bool:
        """Whether there is a product in it."""
        is_product = any(isinstance(x, ast.Mult) for x in ast.walk(self.node))
        return is_product or any(map(PRODUCT.fullmatch, self.names))

    @property
    def builds_model(self) -> bool:
        """Whether it may be a function that returns a model."""
        kinds = {type(x) for x in ast.walk(self.node)}
        is_function = isinstance(self.node, ast.FunctionDef)
        has_model = bool({"Model", "Sequential"} & self.names)
        return is_function and has_model and ast.Return in kinds

    @property
    def arguments(self) -> list[str]:
        """The names of the arguments of a function."""
        if not isinstance(self.node, ast.FunctionDef):
            return []
        return [x.arg for x in self.node.args.posonlyargs + self.node.args.args]

    @property
    def may_be_gate(self) -> bool:
        """Whether it looks like a gate, by its name or by a product."""
        is_named = is_meant(self.name)
        if isinstance(self.node, ast.FunctionDef):
            # It may be a function that returns one of features.
            inner = any(isinstance(x, ast.FunctionDef) for x in self.node.body)
            is_of_features = any(map(TENSORS.fullmatch, self.arguments[:1]))
            is_kind = is_of_features or inner and is_named
            is_kind = is_kind and not self.builds_model
        else:
            is_kind = self.value is None and is_named or _is_layer(self.value)
        return bool(is_kind and (is_named or self.multiplies))

    def row(self, reason: BaseException | str) -> CheckedGate:
        """Returns its row if it cannot be looked into."""
        if not isinstance(reason, str):
            reason = self.source.reason(reason)
        path, line = str(self.source.path), self.node.lineno
        return unknown(self.name, reason, path, line)


class CodeReader:
    """Reads files, and counts calls of what they define."""

    def __init__(self):
        self.sources: dict[pathlib.Path, Code] = {}
        # What was called on symbolic tensors, with its arguments and outputs.
        self.calls: list[tuple[Any, tuple, dict, Any]] = []
        self.known: dict[tuple[pathlib.Path, str], list[CheckedGate]] = {}

    def define(self, value: Any) -> Any:
        """Returns a function or layer class whose calls are counted."""
        is_layer = _is_layer(value)
        if not (is_layer or isinstance(value, types.FunctionType)):
            return value
        inner = value.__call__ if is_layer else value

        @functools.wraps(inner)
        def call(*args, **kwargs):
            outputs = inner(*args, **kwargs)
            called, given = (args[0], args[1:]) if is_layer else (call, args)
            is_own = not is_layer or type(called) is value
            if is_own and _symbols((given, kwargs)) and _symbols(outputs):
                self.calls.append((called, given, kwargs, outputs))
            return outputs

        if not is_layer:
            return call
        value.__call__ = call
        return value

    def rows(
        self, path: pathlib.Path, only: str = "", alone: bool = True
    ) -> Iterator[CheckedGate]:
        """Yields what is found in a file, and in modules beside it.

        With `only`, nothing but that definition counts. Unless `alone`,
        modules beside the file are checked by themselves.
        """
        source = self.sources.get(path)
        source = source or Code(path, self.sources, self.define)
        found = [
            Definition(x, name)
            for x in source.closure()
            for name in x.definitions
        ]
        gates = [x for x in found if x.may_be_gate]
        builders = [
            x
            for x in found
            if x.builds_model and only in ("", x.name)
            if alone or x.source is source
            if gates or x.multiplies or any(map(is_meant, x.names))
        ]
        del self.calls[:]
        models, tensors, inner = {}, set(), []
        for builder in builders:
            try:
                model = models[builder] = self._build(builder.value)
            # It may raise anything.
            except Exception as error:
                if only:
                    yield builder.row(error)
                continue
            layers = filter(_graph.is_graph, _graph.layers_within(model))
            nodes = [x for layer in layers for x in _graph.nodes(layer)]
            tensors |= {id(y) for x in nodes for y in x.outputs}
        uses = {
            gate: [x for x in self.calls if gate.value in (x[0], type(x[0]))]
            for gate in gates
        }
        is_used = any(uses.values())
        for builder, model in models.items():
            if not is_used and _graph.is_graph(model):
                inner += [_placed(x, builder) for x in gates_of(model)]
        yield from inner
        is_lost = models.keys() == {*builders} and models and not inner
        if is_used or any(map(_has_option, models)):
            is_lost = False
        others = {*found} - {*builders}
        scripts = {x.id for x in source.rest() if isinstance(x, ast.Name)}
        for gate, calls in uses.items():
            reached = sum(id(_symbols(y)[0]) in tensors for *_, y in calls)
            words = ""
            if reached < len(calls):
                words = f"called {len(calls)} times, {reached} reach an output"
            elif is_lost and gate.name not in scripts.union(
                *(x.names for x in others - {gate})
            ):
                words = "called 0 times, no attention in this model"
            is_asked = not only or gate.name == only or calls
            if is_asked and (words or alone or gate.source is source):
                key = gate.source.path, gate.name
                if key not in self.known:
                    self.known[key] = self._examine(gate, calls)
                yield from (_with(words, row) for row in self.known[key])

    def _build(self, builder):
        """Returns the model that a function builds, of images it takes."""
        problem, before = None, len(self.calls)
        for shape in IMAGE_SHAPES:
            usual = {
                ".*(shape|(input|img|image)_(size|dim)).*": shape,
                ".*(height|width|rows|cols|size)|h|w": shape[0],
                ".*channels?": shape[-1],
            }
            try:
                model = builder(**_arguments(builder, 0, usual | TYPICAL))
                if isinstance(model, keras.Model):
                    return model
            # It may raise anything.
            except Exception as error:
                problem = problem or error
            # A network that is not built has no calls.
            del self.calls[before:]
        raise problem or Unknown("builds no model")

    def _examine(self, gate, calls):
        """Returns rows of a gate, called in the first way that works.

        Features of another rank count where one of our layers does the same.
        """
        if gate.value is None:
            reason = gate.source.missing.get(gate.name, "not defined")
            return [gate.row(reason)]
        others = gate.names & gate.source.namespace.keys() - {gate.name}
        others, problem, rows = any(map(is_meant, others)), None, None
        ranks, tried = _ranks(gate), set()
        for make, shape in _ways(gate, ranks, calls):
            if len(shape) in tried:
                continue
            x = keras.Input(shape)
            try:
                y = _symbols(make()(x))[0]
            # It may raise anything.
            except Exception as error:
                problem = problem or error
                continue
            found = gates_of(make(), shape)
            failed = [z.problem for z in found if FAILED in z.problem]
            if failed and MIXES not in failed[0]:
                # Keras 2 may have run it.
                problem = problem or Unknown(failed[0].partition(": ")[2])
                continue
            tried.add(len(shape))
            is_ours = any(part.match for part in found)
            if rows is None or is_ours:
                rows = [
                    _placed(part, gate)
                    for part in found
                    if _is_row(part, gate, others, _fits(y.shape, x.shape))
                ]
            if is_ours or len(ranks) == 1:
                break
        if rows is not None:
            return rows
        # The gates of a block of several tensors have rows of their own.
        is_of_several = any(map(TENSOR.fullmatch, gate.arguments[1:]))
        is_block = others and (is_of_several or isinstance(problem, Unknown))
        is_gate = claim_of(gate.name) or is_meant(gate.name) and gate.multiplies
        return [gate.row(problem)] if is_gate and not is_block else []


def main() -> None:
    """Checks files of a job, each within its seconds, and writes JSON lines."""
    seconds, only, alone, paths = json.load(sys.stdin)
    file = os.fdopen(os.dup(1), "w", buffering=1)
    # What definitions print is dropped.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(nowhere, descriptor)

    def write(**values):
        print(json.dumps(values), file=file)

    keras_2.install()
    reader = CodeReader()
    for path in paths:
        write(file=path)
        faulthandler.dump_traceback_later(seconds, exit=True)
        try:
            for row in reader.rows(pathlib.Path(path), only, alone):
                write(row=vars(row))
        # Definitions may raise anything, or end the process.
        except BaseException as error:  # noqa: BLE001
            reason = f"{type(error).__name__}: {error}"
            write(row=vars(unknown(os.path.basename(path), reason, path)))
        faulthandler.cancel_dump_traceback_later()
        write(file="")


def _placed(gate, definition):
    """Returns the row of a gate that is a definition, or in one."""
    name = definition.name
    if not gate.cut.is_given:
        name += f"/{gate.cut.path}"
    file, line = str(definition.source.path), definition.node.lineno
    return dataclasses.replace(row_of(gate), gate=name, file=file, line=line)


def _with(words, row):
    """Returns a row with what is wrong about its calls."""
    if not words or row.state == NOT_LOOKED_INTO:
        return row
    verdict = f"unused: {words}; {row.verdict}"
    return dataclasses.replace(row, passed=False, verdict=verdict)


def _symbols(values):
    given = keras.tree.flatten(values)
    return [x for x in given if keras.utils.is_keras_tensor(x)]


def _is_layer(value):
    return inspect.isclass(value) and issubclass(value, keras.layers.Layer)


def _has_option(builder):
    """Returns whether an argument may put attention into a model."""
    parameters = inspect.signature(builder.value).parameters.values()
    falsy = [x.name for x in parameters if x.default in (None, False)]
    return any(is_meant(x) or "mod" in x for x in falsy)


def _arguments(function, skipped, usual):
    """Returns arguments for the parameters that have no default."""
    arguments = {}
    for x in [*inspect.signature(function).parameters.values()][skipped:]:
        is_needed = x.kind not in (x.VAR_POSITIONAL, x.VAR_KEYWORD)
        if not is_needed or x.default is not x.empty:
            continue
        values = [v for p, v in usual.items() if re.fullmatch(p, x.name, re.I)]
        if usual is TYPICAL and TENSOR.fullmatch(x.name):
            values = [SAME_FEATURES]
        if not values:
            raise Unknown(f"needs `{x.name}`")
        arguments[x.name] = values[0]
    return arguments


def _is_row(part, gate, others, fits):
    """Returns whether a part of a definition has a row."""
    is_whole = part.cut.is_given
    # Gates of other definitions have rows of their own.
    is_other = not is_whole and others and not claim_of(gate.name)
    if is_other or is_whole and not fits:
        return False
    is_attention = part.probes and part.probes.is_attention and not is_whole
    return bool(part.match or is_attention or is_meant(gate.name))


def _ranks(gate):
    """Returns the ranks of positions that layers of a gate, or beside it, have.

    Others may convolve channels in one dimension.
    """
    every = (Definition(gate.source, x) for x in gate.source.definitions)
    several = [gate.names, set().union(*(x.names for x in every))]
    kind = re.compile("(?:[23]|Pooling1)D$")
    ranks = ({x[-2] for x in names if kind.search(x)} for names in several)
    return next(filter(None, ranks), set())


def _ways(gate, ranks, calls):
    """Yields ways to call a gate: functions that give it, and features."""
    first = {("1",): SHAPES[1], ("3",): SHAPES[2]}.get((*ranks,), SHAPES[0])
    for shape in sorted(SHAPES, key=lambda x: x is not first):
        yield functools.partial(_usual, gate.value, shape), shape
    for called, args, kwargs, _ in calls:
        tensors = _symbols((args, kwargs))
        if len(tensors) == 1 and args and args[0] is tensors[0]:
            make = functools.partial(_function, called, args[1:], kwargs)
            yield make, tensors[0].shape[1:]


def _usual(value, shape):
    """Returns a layer of a class, or a function, with usual arguments."""
    if not inspect.isclass(value):
        first = next(iter(inspect.signature(value).parameters))
        if TENSORS.fullmatch(first):
            return _function(value, (), _arguments(value, 1, TYPICAL))
        return value(**_arguments(value, 0, TYPICAL))
    layer = value(**_arguments(value, 0, TYPICAL))
    arguments = _arguments(layer.call, 1, TYPICAL)
    return _function(layer, (), arguments) if arguments else layer


def _function(function, args, kwargs):
    def gate(x):
        named = {k: x if y is SAME_FEATURES else y for k, y in kwargs.items()}
        return function(x, *args, **named)

    default = type(function).__name__
    gate.__name__ = getattr(function, "__name__", default)
    return gate


def _fits(shape, features):
    """Returns whether an output may be features, or factors of them."""
    is_broadcast = len(shape) == len(features) and all(
        x in (1, y) for x, y in zip(shape[1:], features[1:], strict=True)
    )
    return is_broadcast or tuple(shape[1:]) == features[-1:]
