"""The gates of a model, found and measured."""

import contextlib
import dataclasses
import functools
import inspect
import math
import re
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from cbam_keras import _checks, _graph
from cbam_keras.recognition import claims
from cbam_keras.recognition.cuts import Cut, cuts, look_into
from cbam_keras.recognition.matching import Match, match, nearest, of_ours
from cbam_keras.recognition.probes import Probes, probe
from cbam_keras.recognition.verdicts import Finding, Verdict

# Replaces an unknown size of an input.
SIDES = 64
# So many images give a network's own features.
MOST_INPUTS = 4
# Names of classes end so that are no part of a gate they follow.
AFTER = ("Normalization", "Activation", "ReLU", "Relu", "Dropout")


@dataclasses.dataclass(frozen=True, eq=False)
class Gate:
    """A part of a network that is attention, or is meant to be.

    `match` is the layer of ours that computes the same. `near` is equal to it
    on most probes, `problem` says why nothing else is known of it, `ties` why
    no layer of ours can take its place. It `is_new` if its weights are initial
    ones in a network that was trained. `is_added` is what is added to its
    input, as in `x + CBAM(x)`.
    """

    cut: Cut
    probes: Probes | None = None
    match: Match | None = None
    near: Match | None = None
    problem: Verdict | None = None
    ties: Sequence[str] = ()
    is_new: bool = False
    is_added: bool = False

    @functools.cached_property
    def nearest(self) -> Match | None:
        """What it would be equal to, were it not for one thing."""
        with self.cut.in_float32():
            return nearest(self.probes, self.near) if self.probes else None

    @functools.cached_property
    def adds(self) -> bool:
        """Whether it adds numbers of channels and of positions."""
        with self.cut.in_float32():
            return self.probes is not None and bool(self.probes.adds)

    def is_misplaced(self, data_format: str) -> bool:
        """Whether it equals a layer of ours in another data format."""
        place = self.probes.data_format if self.match and self.probes else ""
        return bool(data_format and place) and place != data_format

    @property
    def pools_one_position(self) -> bool:
        """Whether it gates positions, of which there is one."""
        known: Any = self.cut.operation if self.cut.is_ours else self.probes
        if known is None:
            return False
        gated = known._gated if self.cut.is_ours else known.gated
        sizes = list(self.cut.source.shape[1:])
        del sizes[0 if known.data_format == "channels_first" else -1]
        # A size that is not known may be more than 1.
        is_one = bool(sizes) and all(size == 1 for size in sizes)
        return is_one and "spatial" in gated


def gates_of(model: Any, images: object = None) -> list[Gate]:
    """Returns the gates of a model, or of a layer or function of a shape."""
    if isinstance(images, tuple) and all(
        x is None or isinstance(x, int) for x in images
    ):
        return _gates_of_function(model, images)
    is_layer = isinstance(model, keras.layers.Layer)
    is_layer = is_layer and not isinstance(model, keras.Model)
    if is_layer or inspect.isroutine(model):
        raise TypeError(
            "A layer or a function needs the shape of its features without the "
            "batch, e.g. check(layer, (32, 32, 64)). Received: "
            f"{_checks.shown(model)}, {_checks.shown(images)}"
        )
    graph = _graph.with_graph("model", model)
    values: dict[int, Any] = {}
    inputs = noise_for(graph) if images is None else images
    # Random inputs may be none that the model takes.
    with contextlib.suppress(*([Exception] if images is None else [])):
        inputs = [x[:MOST_INPUTS] for x in _graph.in_order(graph, inputs)]
        _run_graph(graph, inputs, values)
    return _in_context(graph, _gates(graph, values))


def is_expected(layer: keras.Operation) -> bool:
    """Returns whether the class of a layer of others is called attention."""
    name = type(layer).__name__
    return _checks.is_of_others(layer) and claims.is_meant(name)


def noise_for(model: keras.Model) -> Any:
    """Returns random inputs of a model."""
    generator, inputs = np.random.default_rng(0), []
    for x in model.inputs:
        shape = (2, *(size or SIDES for size in x.shape[1:]))
        noise = generator.normal(size=shape)
        if "float" not in x.dtype:
            noise = np.abs(noise)
        # Strings of numbers, which a model of words does not know: it may
        # raise, and then nothing is known of its own features.
        if x.dtype == "string":
            inputs.append(ops.convert_to_tensor(noise.astype(str)))
        else:
            inputs.append(ops.cast(noise, x.dtype))
    return _graph.as_input(model, inputs)


def _run_graph(graph, inputs, values):
    """Adds all tensors of a model to `values`, and returns its outputs."""

    def call(operation, *args, **kwargs):
        given = [*args, *kwargs.values()][:1]
        if _graph.is_graph(operation):
            given = _graph.in_order(operation, *given)
            return _run_graph(operation, given, values)
        if inner := _graph.model_per_frame(operation):
            frames = ops.reshape(given[0], (-1, *ops.shape(given[0])[2:]))
            _run_graph(inner, [frames], values)
        return operation(*args, **kwargs)

    pairs = zip(graph.inputs, inputs, strict=True)
    values.update((id(x), ops.convert_to_tensor(y)) for x, y in pairs)
    _graph.run_nodes(_graph.nodes(graph), values, call)
    return [values[id(x)] for x in graph.outputs]


def _gates_of_function(function, shape):
    """Returns the gates of a layer or of a function of a tensor."""
    if inspect.isclass(function):
        raise TypeError(
            "`check` needs a layer or a function, not a class. Received: class "
            f"{function.__name__}. Write check({function.__name__}(...), shape)"
        )
    if len(shape) == 4 and shape[0] is None and None not in shape[1:]:
        # Its first size is that of a batch, as in `layer.build(shape)`.
        shape = shape[1:]
    name = getattr(function, "name", getattr(function, "__name__", "gate"))
    x = keras.Input(shape)
    try:
        outputs = keras.tree.flatten(function(x))
    # It may raise anything.
    except Exception as error:  # noqa: BLE001
        cut = Cut(name, x, x, [_graph.origin(x)], is_given=True)
        problem = Finding.FAILED.say(reason=reason_of(error))
        return [Gate(cut, problem=problem)]
    y = next((y for y in outputs if y.shape == x.shape), outputs[0])
    if y is x:
        # A function that returns its input makes no call to look at.
        y = keras.layers.Identity(name="gate")(x)
    nodes = _graph.nodes_between([x], [y])
    given = Cut(name, x, y, nodes, is_given=True)
    model = keras.Model(x, y)
    # A class that gives its output shape builds what is inside when it runs.
    with contextlib.suppress(Exception):
        model(noise_for(model))
    whole, _ = _examine(given, {})
    probes = whole.probes
    does_more = _does_more(whole)
    if whole.match or _is(whole.problem, Finding.ONE_CHANNEL):
        return [whole]
    if whole.adds and whole.nearest and not does_more:
        return [whole]
    if probes and probes.is_attention and not does_more:
        # A sum of its input and of a gate is what that gate is.
        if not probes.adds_input or whole.nearest:
            return [whole]
    # It does more than one gate: those inside are what it has.
    inner = _gates(model, {})
    if given.own and [gate.cut.own for gate in inner] == [given.own]:
        return [whole]
    return inner or [whole]


def _gates(model, values, prefix="", inside=""):
    """Returns the gates of a model, two that follow each other as one CBAM."""
    gates: list[Gate] = []
    for cut in cuts(model, prefix, inside):
        gate, meant = _examine(cut, values)
        # A user's layer that is no gate, or does more than one, is looked
        # into. Where nothing is inside, it is itself what was meant.
        if gate is None or cut.own and _does_more(gate):
            inner = _within(cut, values) if cut.own else []
            gates += inner or filter(None, [gate or meant])
            continue
        # Gates that this one contains came before it.
        products = {id(x.outputs[0]) for x in cut.nodes}
        within = [x for x in gates if id(x.cut.product) in products]
        # A sum of features and a gate inside is no gate. Global context is
        # such a sum itself.
        is_sum = _graph.type_of(cut.operation) in _graph.ADDITIONS
        is_sum = is_sum and not gate.adds
        is_around = is_sum or any(x.match for x in within)
        if within and is_around and not gate.match:
            # In `gate(x) * f(x)`, the map that `f` makes is another gate.
            inner = within[-1]
            beside = _beside(cut, inner.cut)
            if beside is None:
                if is_sum and inner.cut.source is cut.source:
                    added = dataclasses.replace(inner, is_added=True)
                    gates[gates.index(inner)] = added
                continue
            # Where both halves share something, the whole is another formula.
            if {*beside.nodes} & {*inner.cut.nodes}:
                gates = [x for x in gates if x not in within]
                gates.append(gate)
            else:
                gates.append(_measured(beside, values))
            continue
        gates = [x for x in gates if x not in within]
        for first in [*gates]:
            is_before = first.cut.product is cut.source
            if not (is_before and first.match and gate.match):
                continue
            # Two gates that follow each other may be the halves of one CBAM.
            nodes = [*first.cut.nodes, *cut.nodes]
            made = {claims.claim_of(x.called) for x in (first.cut, cut)}
            both = Cut(
                cut.path,
                first.cut.source,
                cut.product,
                nodes,
                inside=inside,
                # Halves with claims of their own do not claim one module.
                is_named=len(made) == 1,
            )
            joined, _ = _examine(both, values)
            if joined and joined.match:
                gates.remove(first)
                gate = joined
        gates.append(gate)
    return gates


def _beside(cut, first):
    """Returns what makes the map that multiplies what a gate gives, if any."""
    node = cut.nodes[-1]
    maps = [x for x in node.input_tensors if x is not first.product]
    is_product = _graph.type_of(node.operation) == "Multiply"
    if not is_product or len(maps) != 1 or first.source is not cut.source:
        return None
    nodes = _graph.nodes_between([cut.source], maps)
    return dataclasses.replace(cut, product=maps[0], nodes=nodes)


def _does_more(gate):
    """Returns whether something else follows what a gate gives.

    Such as a normalization or an activation of the features that it scaled.
    """
    last = gate.cut.operation
    if gate.match or gate.problem or gate.probes.is_alone:
        return False
    if gate.cut.own:
        # Its `call` may raise anything.
        with contextlib.suppress(Exception):
            last = _graph.origin(look_into(gate.cut).outputs[0]).operation
    return type(last).__name__.endswith(AFTER)


def _within(cut, values):
    """Returns the gates inside of a layer of a user's class."""
    name = type(cut.own).__name__
    try:
        inner = look_into(cut)
    # Its `call` may raise anything.
    except Exception as error:  # noqa: BLE001
        # Without weights, its name decides whether it has a row.
        if not cut.own.variables:
            return []
        reason = f"{name}: {reason_of(error)}"
        return [Gate(cut, problem=Finding.NOT_ANALYZED.say(reason=reason))]
    inputs = [values.get(id(x)) for x in cut.nodes[0].input_tensors]
    with contextlib.suppress(Exception):
        _run_graph(inner, inputs, values)
    gates = _gates(inner, values, f"{cut.path}/", name)
    # Some may read weights of the layer itself.
    return [x for x in gates if not (x.probes and x.probes.untracked)]


def _examine(cut, values):
    """Returns a part as a gate, and what is said of one that is only meant.

    Of these two, one at least is `None`. What is only meant to be a gate, by
    the name of its class, computes something else.
    """
    if cut.is_ours:
        layer = cut.operation
        problem: Verdict | None = _place(cut, layer.data_format)
        is_one_channel = _is(problem, Finding.ONE_CHANNEL)
        if not is_one_channel or "channel" not in layer._gated:
            problem = None
        return Gate(cut, match=of_ours(layer), problem=problem), None
    may_be_gate = bool(cut.own and is_expected(cut.own))
    if cut.problem and not cut.own:
        return _not_analyzed(cut, cut.problem), None
    is_map = cut.source.shape == cut.product.shape and _graph.is_feature_map(
        cut.product
    )
    if not cut.is_given and (cut.problem or not is_map):
        reason = cut.problem or "outputs of another shape"
        return None, _not_analyzed(cut, reason) if may_be_gate else None
    gate = _measured(cut, values)
    probes = gate.probes
    is_gate = gate.match or probes and probes.is_attention
    node = cut.nodes[-1]
    if _graph.type_of(node.operation).endswith("Divide") and not gate.match:
        # It normalizes, at any scale but the smallest.
        if any(x is cut.source for x in node.input_tensors):
            return (gate, None) if cut.is_given else (None, None)
    is_gate = is_gate or gate.adds and gate.nearest
    if is_gate or cut.is_given:
        return gate, None
    if cut.is_gated and not cut.own:
        is_one_number = any({*x.shape[1:]} == {1} for x in node.input_tensors)
        is_one_channel = _is(gate.problem, Finding.ONE_CHANNEL)
        if is_one_channel and not is_one_number:
            # A product of maps of one channel may be no attention.
            return None, None
        if not gate.problem and not (gate.probes and gate.probes.has_factors):
            gate = _not_analyzed(cut, "factors from several tensors")
        return gate, None
    is_known = gate.probes or gate.problem
    return None, gate if may_be_gate and is_known else None


def _measured(cut, values):
    """Returns a part as a gate, with channels where most is known of it.

    The data format that its layers or Keras say is tried first, and the other
    one where that does not show what it is.
    """
    formats = ["channels_first", "channels_last"]
    used = [getattr(x, "data_format", None) for x in cut.layers]
    usual = next(filter(None, used), keras.config.image_data_format())
    formats.sort(key=lambda x: x != usual)
    best: Gate | None = None
    problem: Verdict | None = None
    with cut.in_float32():
        own = values.get(id(cut.source))
        if own is not None:
            # Features that are all 0, or not finite, tell nothing.
            own = _graph.to_float32(own)[:MOST_INPUTS]
            if not np.isfinite(own).all() or not own.any():
                own = None
        for data_format in formats:
            try:
                probes = probe(cut, data_format, own)
                if probes is None:
                    # Its channels are none of the other axes.
                    break
                gate = Gate(cut, probes)
                is_random = probes.is_random or probes.untracked
                may_be = cut.is_gated or probes.is_attention or probes.adds
                may_match = not is_random and not probes.mixes_images
            # A part of any network may raise anything.
            except Exception as error:  # noqa: BLE001
                reason = reason_of(error)
                problem = problem or Finding.FAILED.say(reason=reason)
                with contextlib.suppress(Exception):
                    # It runs on one image, and not on several.
                    if probe(cut, data_format, images=1):
                        problem = Finding.MIXES_IMAGES.say()
                continue
            if may_be and may_match:
                # Channels in another place would say something else of it.
                try:
                    gate = Gate(cut, probes, *match(probes))
                except Exception as error:  # noqa: BLE001
                    reason = reason_of(error)
                    return Gate(cut, problem=Finding.FAILED.say(reason=reason))
            if gate.match:
                return gate
            if data_format == usual and probes.gated == {"channel"}:
                return gate
            if best is None or probes.is_attention > best.probes.is_attention:
                best = gate
            if probes.has_factors and {*probes.window} == {1}:
                # Channels would be positions in the other format.
                break
    return best or Gate(cut, problem=problem or _place(cut, usual))


def _place(cut, data_format):
    """Returns why nothing is known of a part that could be run."""
    sizes = cut.source.shape[1:]
    if len(sizes) < 2:
        reason = f"features of {len(sizes)} axis have no positions"
        return Finding.NOT_ANALYZED.say(reason=reason)
    if sizes[0 if data_format == "channels_first" else -1] == 1:
        return Finding.ONE_CHANNEL.say()
    if math.prod(x or 2 for x in sizes) == max(sizes):
        return Finding.NOT_ANALYZED.say(reason="the features have one position")
    return Finding.NOT_ANALYZED.say(reason="its outputs are not finite")


def _is(problem, finding):
    """Returns whether a problem, if there is one, is that finding."""
    return problem is not None and problem.finding is finding


def _not_analyzed(cut, reason):
    """Returns the gate of a part of which nothing but its class is known."""
    reason = f"{type(cut.operation).__name__}: {reason}"
    return Gate(cut, problem=Finding.NOT_ANALYZED.say(reason=reason))


def _in_context(model: keras.Model, gates: list[Gate]) -> list[Gate]:
    """Returns gates with what is tied to the rest, and what is not trained."""
    inside = {id(x) for gate in gates for x in gate.cut.variables}
    rest = [x for x in model.variables if id(x) not in inside]
    is_trained = _graph.are_initial(rest) is False
    return [
        dataclasses.replace(
            gate,
            ties=[*_ties(gate, gates, model)],
            is_new=is_trained
            and _graph.are_initial(gate.cut.variables) is True,
        )
        for gate in gates
    ]


def _ties(gate, gates, model):
    """Yields why a part of a network is no layer of its own."""
    cut = gate.cut
    if gate.match is None or cut.is_ours:
        return
    own = {id(x) for x in cut.variables}
    # The same gate, called again, stays one layer.
    nodes = set()
    for other in gates:
        is_same_layer = other.match and other.match.code == gate.match.code
        if is_same_layer and {id(x) for x in other.cut.variables} == own:
            nodes |= {id(node) for node in _expanded(other.cut.nodes)}
    # What is inside of it, and would be gone with it.
    factors = {id(y) for node in cut.nodes for y in node.outputs}
    factors.remove(id(cut.product))
    # Tensors and weights that the rest of the model uses.
    used = {id(x) for x in model.outputs}
    called = set()
    for node in _expanded(_graph.nodes(model)):
        if inner := _graph.inner_model(node.operation):
            used |= {id(x) for x in inner.outputs}
        elif id(node) not in nodes:
            called |= {id(x) for x in getattr(node.operation, "variables", ())}
        if id(node) not in nodes:
            used |= {id(x) for x in node.input_tensors}
    if factors & used:
        yield "its factors are used elsewhere, too"
    elif len(cut.nodes[-1].outputs) > 1:
        yield f"returns {len(cut.nodes[-1].outputs)} tensors"
    if own & called:
        yield "shares weights with layers outside the module"


def _expanded(nodes):
    """Yields nodes, and those of models that they call."""
    for node in nodes:
        yield node
        if inner := _graph.inner_model(node.operation):
            yield from _expanded(_graph.nodes(inner))


def reason_of(error: BaseException) -> str:
    """Returns the first line of an error, without what Keras adds."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    text = re.sub(r"\{\{.*?\}\} ", "", text)
    text = re.sub(r"^Exception encountered when calling.*\n+", "", text)
    text = text.rpartition("Error encountered:")[2].strip()
    return f"{type(error).__name__}: {text.partition(chr(10))[0]}"
