"""No expression of the package puts in a line what takes an `if`, or several.

Each finder is shown what it finds, and what it leaves alone.
"""

import ast
import functools
import pathlib

import pytest

import cbam_keras

PACKAGE = pathlib.Path(cbam_keras.__file__).parent
COMMAND = PACKAGE.parent / "_cbam_keras_command"
# How names of booleans begin, and functions that return one.
BOOLEANS = ("is_", "has_", "are_", "have_")
PREDICATES = {"bool", "isinstance", "any", "all", "callable", "hasattr"}


def is_boolean(node):
    if isinstance(node, ast.Compare):
        return True
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, ast.Not)
    if isinstance(node, ast.Call):
        return ast.unparse(node.func) in PREDICATES
    name = getattr(node, "id", getattr(node, "attr", ""))
    return name.startswith(BOOLEANS)


def is_literal(node):
    return isinstance(node, ast.Tuple | ast.List | ast.Set)


def is_text(node):
    is_string = isinstance(getattr(node, "value", None), str)
    return isinstance(node, ast.JoinedStr) or is_string


def find_products(node):
    """Text or a list that is there if a condition holds."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        sides = node.left, node.right
        is_list = any(is_literal(x) or is_text(x) for x in sides)
        return is_list and any(map(is_boolean, sides))
    is_product = isinstance(node, ast.AugAssign)
    return (
        is_product and isinstance(node.op, ast.Mult) and is_boolean(node.value)
    )


def find_starred(node):
    """Several entries of a tuple, or several arguments, in a line."""
    every = getattr(node, "elts", None) or getattr(node, "args", None)
    starred = every if isinstance(every, list) else []
    return any(
        isinstance(x, ast.Starred) and is_literal(x.value) for x in starred
    )


def find_keys(node):
    """Several keys of a dictionary in a line."""
    if not isinstance(node, ast.Dict):
        return False
    inner = [y for x, y in zip(node.keys, node.values, strict=True) if not x]
    return any(isinstance(x, ast.Dict) for x in inner)


def find_booleans(node):
    """Two booleans whose names the call does not say."""
    arguments = node.args if isinstance(node, ast.Call) else []
    values = [x.value for x in arguments if isinstance(x, ast.Constant)]
    return sum(isinstance(x, bool) for x in values) > 1


def find_split(node):
    """Words in one text."""
    if not isinstance(node, ast.Call) or node.args:
        return False
    function = node.func
    is_split = isinstance(function, ast.Attribute) and function.attr == "split"
    return is_split and is_text(function.value)


FINDERS = (find_products, find_starred, find_keys, find_booleans, find_split)


def found_in(text, find):
    return [ast.unparse(x) for x in nodes_of(text) if find(x)]


@functools.cache
def nodes_of(text):
    """Returns all nodes of source, which several tests look through."""
    return [*ast.walk(ast.parse(text))]


@pytest.mark.parametrize(
    ("find", "hidden", "plain"),
    [
        (find_products, "'s' * (n > 1)", "'-' * n"),
        (find_products, "[x] * bool(y)", "[x] * len(y)"),
        (find_products, "text *= not x", "value *= 2"),
        (find_starred, "(*('a', 'b'), 'c')", "(*names, 'c')"),
        (find_starred, "f(*(a, b), c=d)", "f(*pair, c=d)"),
        (find_keys, "{**{'a': 1, 'b': 2}}", "{**values, 'b': 2}"),
        (find_booleans, "f(True, False)", "f(x, True)"),
        (find_split, "'a b'.split()", "text.split()"),
    ],
)
def test_finders_find_what_hides_lines_and_nothing_else(find, hidden, plain):
    assert len(found_in(hidden, find)) == 1
    assert found_in(plain, find) == []


@pytest.mark.parametrize("find", FINDERS, ids=lambda x: x.__name__)
def test_the_package_hides_no_lines(find):
    hidden = {}
    for path in [*PACKAGE.rglob("*.py"), *COMMAND.rglob("*.py")]:
        name = path.relative_to(PACKAGE.parent).as_posix()
        hidden[name] = found_in(path.read_text("utf-8"), find)
    assert {name: x for name, x in hidden.items() if x} == {}


# What may be anything: values of JSON, of users, and of packages without types.
MOST_ANY = 200


def test_any_is_where_nothing_better_is_known():
    names = (
        getattr(node, "id", getattr(node, "attr", ""))
        for folder in (PACKAGE, COMMAND)
        for path in folder.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Name | ast.Attribute)
    )
    assert sum(name == "Any" for name in names) <= MOST_ANY
