"""The process that executes definitions of source, and checks their gates.

It writes what it finds line by line, since any definition may end it.
"""

import ast
import contextlib
import dataclasses
import faulthandler
import functools
import inspect
import json
import math
import pathlib
import re
import types
from collections.abc import Iterator
from typing import Any

import keras

from cbam_keras import _graph
from cbam_keras.insertion import keras_2
from cbam_keras.insertion.checking import CheckedGate, row_of
from cbam_keras.insertion.claims import claim_of
from cbam_keras.insertion.definitions import Source, Unknown
from cbam_keras.insertion.finding import MEANT, UNKNOWN, gates_of

# More memory the process does not get, in bytes.
MEMORY = 16 * 2**30
CHANNELS = 32
# Features in ranks 4, 3 and 5, and images of a network.
SHAPES = [(12, 10, CHANNELS), (12, CHANNELS), (6, 5, 4, CHANNELS)]
IMAGES = [(64, 64, 3), (64, 8), (16, 16, 16, 1)]
# Values of arguments that have no default, by patterns of their names.
USUAL: dict[str, Any] = {
    r"se_ratio": 0.25,
    r".*r.tio|r|red|.*reduction.*|squeeze.*": 8,
    r".*(channel|filter|unit|plane|feature).*|ch|c|n?f|.*dim|nb_.*|k|inr?|"
    r"out|n_?(in|out)|size": CHANNELS,
    r"kernel.*|k_?size|ks": 7,
    r".*name|prefix|scope": "gate",
    r".*(classes|labels)|n_?class|num_class|output_size": 4,
    r"strides?|dilation.*|.*depth|blocks?|stage|i|idx|index|n|layers": 1,
    r"padding": "same",
    r"activation|act": "relu",
    r"data_format": "channels_last",
    r".*dropout.*|drop.*|rate": 0.0,
    r"weight_decay|l2.*|reg": 1e-4,
    r"training|mask|weights|.*regularizer": None,
    r"gamma": 2,
    r"b": 1,
    r"heads|num_heads|groups": 4,
    r".*bias|include_top|trainable|is_?[a-z].*|use_.*": True,
}
# The first argument of a function of features.
FEATURES = re.compile(
    "x|y|ip|net|fm|z|u|.*(input|tensor|feature|layer|inp|map).*", re.I
)
# Another tensor, which no value replaces.
TENSOR = re.compile("g|.*(input|tensor|inp_|_map|gating|skip|hidden|query).*")
PRODUCT = re.compile("multiply|mul|scale|dot", re.I)


@dataclasses.dataclass(frozen=True, eq=False)
class Candidate:
    """A function or class of a file that may be a gate."""

    source: Source
    name: str

    @property
    def node(self) -> Any:
        """Its definition."""
        return self.source.definitions[self.name]

    @property
    def value(self) -> Any:
        """The function or class, or `None` if it is not defined."""
        return self.source.namespace.get(self.name)

    def not_looked_into(self, error: BaseException | str) -> CheckedGate:
        """Returns its row if it cannot be looked into."""
        reason = error if isinstance(error, str) else self.source.reason(error)
        file, line = self.source.path, self.node.lineno
        return not_looked_into(self.name, reason, file, line)


class Reader:
    """Reads files, and counts calls of what they define."""

    def __init__(self):
        self.sources: dict[pathlib.Path, Source] = {}
        # What was called on symbolic tensors, with its arguments and outputs.
        self.calls: list[tuple[Any, tuple, dict, Any]] = []
        self.known: dict[tuple[pathlib.Path, str], list[CheckedGate]] = {}

    def define(self, value: Any) -> Any:
        """Returns a function or layer class whose calls are counted."""
        if isinstance(value, types.FunctionType):

            @functools.wraps(value)
            def call(*args, **kwargs):
                outputs = value(*args, **kwargs)
                self._note(call, args, kwargs, outputs)
                return outputs

            return call
        if _is_layer(value):
            inner = value.__call__

            @functools.wraps(inner)
            def call_layer(layer, *args, **kwargs):
                outputs = inner(layer, *args, **kwargs)
                if type(layer) is value:
                    self._note(layer, args, kwargs, outputs)
                return outputs

            value.__call__ = call_layer
        return value

    def _note(self, called, args, kwargs, outputs):
        if _symbols((args, kwargs)):
            self.calls.append((called, args, kwargs, outputs))

    def rows(
        self, path: pathlib.Path, only: str = "", alone: bool = True
    ) -> Iterator[CheckedGate]:
        """Yields what is found in a file.

        Args:
            path: Path of the file.
            only: String, the only definition that counts; all by default.
            alone: Boolean, whether modules beside it are not checked, too, so
                that their gates are yielded with it.
        """
        source = self.sources.get(path)
        source = source or Source(path, self.sources, self.define)
        candidates = [
            Candidate(x, name)
            for x in source.closure()
            for name in x.definitions
            if _may_be_gate(x, name)
        ]
        builders = [
            Candidate(x, name)
            for x in (source.closure() if alone else [source])
            for name, node in x.definitions.items()
            if _builds_model(node) and only in ("", name)
            if candidates
            or _multiplies(node)
            or any(map(_is_meant, _names(node)))
        ]
        del self.calls[:]
        models, tensors = {}, set()
        for builder in builders:
            try:
                models[builder] = model = _built(builder.value)
            # It may raise anything.
            except Exception as error:
                if builder.name == only:
                    yield builder.not_looked_into(error)
                continue
            tensors |= {id(y) for x in _nodes(model) for y in x.outputs}
        uses = {x: self._calls_of(x) for x in candidates}
        inner = []
        for builder, model in models.items():
            if not any(uses.values()) and _graph.is_graph(model):
                for gate in gates_of(model):
                    name = f"{builder.name}/{gate.cut.path}"
                    inner.append(_placed(row_of(gate), builder, name))
        yield from inner
        is_lost = (
            models.keys() == {*builders} != set()
            and not inner
            and not any(map(_has_option, builders))
        )
        for candidate, calls in uses.items():
            reached = sum(id(_symbols(y)[0]) in tensors for *_, y in calls)
            words = ""
            if reached < len(calls):
                counts = f"called {len(calls)} times, {reached} reach an output"
                words = f"unused: {counts}"
            elif is_lost and not any(uses.values()):
                words = "unused: called 0 times, no attention in this model"
            if words or alone or candidate.source is source:
                if only and candidate.name != only and not calls:
                    continue
                for row in self._rows_of(candidate, calls):
                    yield _with(words, row)

    def _calls_of(self, candidate):
        value = candidate.value
        return [
            x
            for x in self.calls
            if (x[0] is value or type(x[0]) is value) and _symbols(x[3])
        ]

    def _rows_of(self, candidate, calls):
        key = candidate.source.path, candidate.name
        if key not in self.known:
            self.known[key] = [*self._examine(candidate, calls)]
        return self.known[key]

    def _examine(self, candidate, calls):
        """Yields rows of a gate, called in the first way that works."""
        node, value, problem = candidate.node, candidate.value, None
        is_meant = bool(_is_meant(candidate.name))
        if value is None:
            reason = candidate.source.missing.get(candidate.name)
            yield candidate.not_looked_into(reason or "not defined")
            return
        for make, shape in _ways(value, calls, " ".join(_names(node))):
            del self.calls[:]
            x = keras.Input(shape)
            try:
                y = _symbols(make()(x))[0]
            # It may raise anything.
            except Exception as error:
                problem = problem or error
                continue
            others = {
                name
                for called, *_ in self.calls
                for name in [getattr(called, "__name__", type(called).__name__)]
                if name != candidate.name and _is_meant(name)
            }
            for gate in gates_of(make(), shape):
                is_whole = gate.cut.is_given
                if is_whole and not _fits(y.shape, x.shape):
                    continue
                # Gates of other definitions have rows of their own.
                if not is_whole and others and not claim_of(candidate.name):
                    continue
                is_gate = gate.probes and gate.probes.is_attention
                if is_meant or gate.match or is_gate and not is_whole:
                    name = candidate.name
                    if not is_whole:
                        name += f"/{gate.cut.path}"
                    yield _placed(row_of(gate), candidate, name)
            return
        if claim_of(candidate.name) or is_meant and _multiplies(node):
            yield candidate.not_looked_into(problem)


def main(job: str, found: str, seconds: str) -> None:
    """Checks files of a job, and writes what it finds as lines of JSON.

    The process ends if a file takes more than so many seconds.
    """
    # Windows lacks it.
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    keras_2.install()
    reader = Reader()
    with open(found, "a", buffering=1) as file:

        def write(**values):
            print(json.dumps(values), file=file)

        for index, path, only, alone in json.loads(
            pathlib.Path(job).read_text()
        ):
            write(begun=index)
            faulthandler.dump_traceback_later(float(seconds), exit=True)
            try:
                for row in reader.rows(pathlib.Path(path), only, alone):
                    write(row=vars(row))
            # Definitions may raise anything, or end the process.
            except BaseException as error:
                write(problem=f"{type(error).__name__}: {error}")
            faulthandler.cancel_dump_traceback_later()
            write(ended=index)


def not_looked_into(
    gate: str, reason: str, file: pathlib.Path, line: int
) -> CheckedGate:
    """Returns the row of a gate of which nothing is known."""
    return CheckedGate(
        gate=gate,
        verdict=f"{UNKNOWN}: {reason}",
        called="",
        agrees=None,
        passed=False,
        equals="",
        kind="",
        adopted=False,
        low=math.nan,
        high=math.nan,
        difference=math.nan,
        note="",
        file=str(file),
        line=line,
    )


def _placed(row, candidate, name):
    """Returns a row with its place in the source."""
    file, line = str(candidate.source.path), candidate.node.lineno
    return dataclasses.replace(row, gate=name, file=file, line=line)


def _with(words, row):
    """Returns a row with what is wrong about its calls."""
    if not words or row.verdict.startswith(UNKNOWN):
        return row
    verdict = f"{words}; {row.verdict}"
    return dataclasses.replace(row, passed=False, verdict=verdict)


def _symbols(values):
    given = keras.tree.flatten(values)
    return [x for x in given if keras.utils.is_keras_tensor(x)]


def _nodes(model):
    """Yields calls in a model, and in models in it."""
    for layer in model._flatten_layers():
        if _graph.is_graph(layer):
            yield from _graph.nodes(layer)


def _is_layer(value):
    return inspect.isclass(value) and issubclass(value, keras.layers.Layer)


def _is_meant(name):
    return claim_of(name) or MEANT.search(name)


def _may_be_gate(source, name):
    """Returns whether a definition looks like a gate."""
    node, value = source.definitions[name], source.namespace.get(name)
    if _builds_model(node):
        return False
    is_candidate = _is_layer(value)
    if isinstance(node, ast.FunctionDef):
        arguments = [*node.args.posonlyargs, *node.args.args]
        is_candidate = arguments and FEATURES.fullmatch(arguments[0].arg)
    elif value is None:
        is_candidate = _is_meant(name)
    return bool(is_candidate and (_is_meant(name) or _multiplies(node)))


def _names(node):
    for x in ast.walk(node):
        yield from filter(None, (getattr(x, "id", ""), getattr(x, "attr", "")))


def _multiplies(node):
    is_product = any(isinstance(x, ast.Mult) for x in ast.walk(node))
    return is_product or any(map(PRODUCT.fullmatch, _names(node)))


def _builds_model(node):
    """Returns whether a function returns what may be a model."""
    called = (
        {*_names(x.func)} for x in ast.walk(node) if isinstance(x, ast.Call)
    )
    return (
        isinstance(node, ast.FunctionDef)
        and any(isinstance(x, ast.Return) for x in ast.walk(node))
        and any({"Model", "Sequential"} & names for names in called)
    )


def _has_option(builder):
    """Returns whether an argument may put attention into a model."""
    parameters = inspect.signature(builder.value).parameters.values()
    return any(
        x.default in (None, False) and (_is_meant(x.name) or "mod" in x.name)
        for x in parameters
    )


def _arguments(function, skipped, usual):
    """Returns arguments for the parameters that have no default."""
    arguments = {}
    for x in [*inspect.signature(function).parameters.values()][skipped:]:
        if x.kind in (x.VAR_POSITIONAL, x.VAR_KEYWORD):
            continue
        if x.default is not x.empty:
            continue
        values = [v for p, v in usual.items() if re.fullmatch(p, x.name, re.I)]
        if not values or usual is USUAL and TENSOR.fullmatch(x.name):
            raise Unknown(f"needs `{x.name}`")
        arguments[x.name] = values[0]
    return arguments


def _built(builder):
    """Returns the model that a function of a file builds."""
    problem = None
    for shape in IMAGES:
        usual = {
            ".*(shape|input_size|input_dim|img_size|image_size).*": shape,
            ".*(height|width|rows|cols|size)|h|w": shape[0],
            ".*channels?": shape[-1],
            **USUAL,
        }
        try:
            model = builder(**_arguments(builder, 0, usual))
            if isinstance(model, keras.Model):
                return model
        # It may raise anything.
        except Exception as error:
            problem = problem or error
    raise problem or Unknown("builds no model")


def _ways(value, calls, text):
    """Yields ways to call a gate: functions that give it, and features."""
    shapes = SHAPES
    for rank, shape in (("1D", SHAPES[1]), ("3D", SHAPES[2])):
        if rank in text:
            shapes = [shape, *(x for x in SHAPES if x is not shape)]
    for shape in shapes:
        yield functools.partial(_gate, value), shape
    for called, args, kwargs, _ in calls:
        (first, *others) = _symbols((args, kwargs))
        if not others and args and args[0] is first:
            arguments = called, args[1:], kwargs
            yield (
                functools.partial(_with_arguments, *arguments),
                first.shape[1:],
            )


def _gate(value):
    """Returns a layer of a class, or a function, with usual arguments."""
    if not inspect.isclass(value):
        return _with_arguments(value, (), _arguments(value, 1, USUAL))
    layer = value(**_arguments(value, 0, USUAL))
    arguments = _arguments(layer.call, 1, USUAL)
    return _with_arguments(layer, (), arguments) if arguments else layer


def _with_arguments(function, args, kwargs):
    def gate(x):
        return function(x, *args, **kwargs)

    default = type(function).__name__
    gate.__name__ = getattr(function, "__name__", default)
    return gate


def _fits(shape, features):
    """Returns whether an output may be features, or factors of them."""
    return tuple(shape[1:]) == features[-1:] or (
        len(shape) == len(features)
        and all(
            x in (1, y) for x, y in zip(shape[1:], features[1:], strict=True)
        )
    )
