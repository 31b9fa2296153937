"""What definitions of source look like, before they are called."""

import ast
import functools
import inspect
import re
from collections.abc import Collection, Iterator
from typing import Any

import keras

from cbam_keras.recognition.claims import claim_of, is_meant
from cbam_keras.recognition.source.calls import (
    FIRST_TENSORS,
    IMAGE_SHAPES,
    OTHER_TENSORS,
    USES,
    arguments_for,
    is_layer,
    usual_arguments,
)
from cbam_keras.recognition.source.definitions import (
    Code,
    Definition,
    Unknown,
)

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
PRODUCT = re.compile("multiply|mul|scale|dot", re.I)
# What makes factors of numbers.
GATING = re.compile("(hard_?)?sigmoid|softmax", re.I)
# Layers and functions that attention consists of.
PARTS = re.compile(
    "dense|.*conv(olution)?[123]d|.*pool(ing)?[123]?d?|reduce_(mean|max)|"
    "(hard_?)?sigmoid|softmax|multiply",
    re.I,
)
# What makes a model.
MODELS = ("Model", "Sequential")
# What has other statements in it, as it is called in Python.
BLOCKS = {
    ast.If: "an `if`",
    ast.For: "a loop",
    ast.While: "a loop",
    ast.With: "a `with`",
}


def words_in(node: ast.AST) -> set[str]:
    """Returns the names and the texts in a definition."""
    words = set()
    for x in ast.walk(node):
        words.add(getattr(x, "id", getattr(x, "attr", "")))
        if isinstance(x, ast.Constant) and isinstance(x.value, str):
            words.add(x.value)
    return words


def multiplies(definition: Definition) -> bool:
    """Returns whether there is a product in it."""
    nodes = ast.walk(definition.node)
    is_product = any(isinstance(x, ast.Mult) for x in nodes)
    return is_product or any(map(PRODUCT.fullmatch, definition.names))


def is_gate_by_words(definition: Definition) -> bool:
    """Returns whether it has a product, and a sigmoid or a softmax."""
    has_factors = any(map(GATING.fullmatch, words_in(definition.node)))
    return has_factors and multiplies(definition)


def claims_attention(node: ast.FunctionDef | ast.ClassDef) -> bool:
    """Returns whether a definition is called attention, and computes some.

    Functions of that name may also test it, or load its weights, and classes
    hold its settings. A class with a `call` is a layer, whatever it computes.
    """
    if not claim_of(node.name):
        return False
    if isinstance(node, ast.ClassDef) and any(
        isinstance(x, ast.FunctionDef) and x.name == "call" for x in node.body
    ):
        return True
    nodes = [*ast.walk(node)]
    returns = any(isinstance(x, ast.Return) and x.value for x in nodes)
    if isinstance(node, ast.FunctionDef) and not returns:
        return False
    names = {getattr(x, "id", getattr(x, "attr", "")) for x in nodes}
    has_parts = any(map(PARTS.fullmatch, words_in(node)))
    return has_parts or any(map(claim_of, names - {node.name}))


def may_be_gate(definition: Definition) -> bool:
    """Returns whether it looks like a gate, by its name or by a product."""
    node = definition.node
    is_named = is_meant(definition.name)
    if not isinstance(node, ast.FunctionDef):
        is_kind = is_layer(definition.value)
        if definition.value is None:
            is_kind = is_named
        return is_kind and (is_named or multiplies(definition))
    if builds_model(definition):
        return False
    if claims_attention(node):
        return True
    first = definition.arguments[:1]
    is_of_features = any(map(FIRST_TENSORS.fullmatch, first))
    if is_named or is_gate_by_words(definition):
        is_of_features |= any(map(OTHER_TENSORS.fullmatch, first))
    # It may be a function that returns one of features.
    has_function = any(isinstance(x, ast.FunctionDef) for x in node.body)
    is_kind = is_of_features or has_function and is_named
    return is_kind and (is_named or multiplies(definition))


def methods_of(definition: Definition) -> list[Definition]:
    """Returns the methods of a class that look like gates.

    Those of a layer are parts of it.
    """
    node = definition.node
    value = definition.value
    if not inspect.isclass(value) or is_layer(value):
        return []
    methods = []
    for inner in node.body:
        if isinstance(inner, ast.FunctionDef):
            call = functools.partial(_call_method, value, inner.name)
            parameters = _parameters_of(value, inner.name)
            if parameters is not None:
                call.__signature__ = parameters  # type: ignore[attr-defined]
            method = Definition(definition.source, inner, call)
            # Unless their names claim something, methods may be anything.
            is_gate = claims_attention(inner) or is_gate_by_words(method)
            if is_gate and not builds_model(method):
                methods.append(method)
    return methods


def _parameters_of(value, name):
    """Returns the signature of a method, without `self`."""
    is_static = isinstance(inspect.getattr_static(value, name), staticmethod)
    try:
        signature = inspect.signature(getattr(value, name))
    except (TypeError, ValueError):
        return None
    parameters = [*signature.parameters.values()]
    return signature.replace(parameters=parameters[0 if is_static else 1 :])


def _call_method(value, name, *args, **kwargs):
    """Calls a method of a new object of a class."""
    usual = usual_arguments(IMAGE_SHAPES[0])
    try:
        self = value(**arguments_for(value, 0, usual))
    except Unknown:
        # The method may need nothing that the constructor sets.
        self = value.__new__(value)
    return getattr(self, name)(*args, **kwargs)


def builds_model(
    definition: Definition, visited: Collection[Definition] = ()
) -> bool:
    """Returns whether a function returns a model, or trains one.

    What it returns decides, not what it mentions: attention may have a
    `Sequential` as its MLP.
    """
    if not isinstance(definition.node, ast.FunctionDef):
        return False
    builders = {*MODELS}
    for other in definition.source.definitions:
        is_new = other is not definition and other not in visited
        if is_new and other.name in definition.names:
            if builds_model(other, [*visited, definition]):
                builders.add(other.name)
    models: set[str] = set()

    def is_model(node: Any) -> bool:
        if isinstance(node, ast.Call):
            function = node.func
            name = getattr(function, "id", getattr(function, "attr", ""))
            return name in builders
        return isinstance(node, ast.Name) and node.id in models

    statements = [*_own_nodes(definition.node)]
    for node in statements:
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign) and is_model(node.value):
            targets = node.targets
        if isinstance(node, ast.AnnAssign) and is_model(node.value):
            targets = [node.target]
        models |= {x.id for x in targets if isinstance(x, ast.Name)}
    for node in statements:
        if isinstance(node, ast.Return) and node.value:
            values = getattr(node.value, "elts", [node.value])
            if any(map(is_model, values)):
                return True
        if isinstance(node, ast.Attribute) and node.attr in USES:
            if is_model(node.value):
                return True
    return False


def _own_nodes(function):
    """Yields the nodes of a function in order, without inner functions."""
    for node in ast.iter_child_nodes(function):
        if not isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            yield node
            yield from _own_nodes(node)


def lacks_call(definition: Definition) -> str:
    """Returns why a layer computes nothing, if it has no `call`."""
    value = definition.value
    if not is_layer(value):
        return ""
    owners = (x for x in value.__mro__ if "call" in vars(x))
    if next(owners, None) not in (keras.layers.Layer, keras.Model):
        return ""
    for method in definition.node.body:
        if not isinstance(method, ast.FunctionDef):
            continue
        if method.name == "forward":
            return "Keras calls `call`, not `forward`"
        inner = {x.name for x in method.body if isinstance(x, ast.FunctionDef)}
        if "call" in inner:
            return f"its `call` is inside `{method.name}`"
    return "it has no `call`" if claim_of(definition.name) else ""


def definitions_elsewhere(
    source: Code, analyzed: Collection[ast.AST]
) -> Iterator[tuple[ast.FunctionDef | ast.ClassDef, str]]:
    """Yields definitions that are called attention, and why they are not run.

    What is inside of those `analyzed` is a part of them.
    """

    def walk(node, place):
        for inner in ast.iter_child_nodes(node):
            if inner in analyzed:
                continue
            if isinstance(inner, ast.FunctionDef | ast.ClassDef):
                if place and claims_attention(inner):
                    yield inner, f"it is inside {place}"
                else:
                    yield from walk(inner, f"`{inner.name}`")
            else:
                block = BLOCKS.get(type(inner), place)
                yield from walk(inner, block)

    for statement in source.statements:
        if statement in analyzed:
            continue
        place = BLOCKS.get(type(statement), "")
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            place = f"`{statement.name}`"
        yield from walk(statement, place)
