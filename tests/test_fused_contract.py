"""The passes of each backend keep to the contract that is written down."""

import ast
import inspect
import pathlib

import pytest

from cbam_keras import _fused
from cbam_keras._fused import contract

pytestmark = pytest.mark.every_backend

FOLDER = pathlib.Path(_fused.__file__).parent
PASSES = sorted(path.name for path in FOLDER.glob("*_passes.py"))


def defined(body):
    """Returns the public names of a module or class, with their arguments."""
    found = {}
    for node in body:
        if isinstance(node, ast.FunctionDef):
            arguments = [argument.arg for argument in node.args.args]
            found[node.name] = [name for name in arguments if name != "self"]
        elif isinstance(node, ast.ClassDef):
            found[node.name] = None
        elif isinstance(node, ast.Assign):
            found[node.targets[0].id] = None
        elif isinstance(node, ast.AnnAssign):
            found[node.target.id] = None
    return {
        name: arguments
        for name, arguments in found.items()
        if name == "__init__" or not name.startswith("_")
    }


def body_of(source, name=None):
    tree = ast.parse(source).body
    if name is None:
        return tree
    (found,) = [
        node
        for node in tree
        if isinstance(node, ast.ClassDef) and node.name == name
    ]
    return found.body


def promised(protocol):
    return defined(body_of(inspect.getsource(protocol), protocol.__name__))


def test_all_three_backends_have_passes():
    assert PASSES == [
        "jax_passes.py",
        "tensorflow_passes.py",
        "torch_passes.py",
    ]


@pytest.mark.parametrize("name", PASSES)
def test_passes_define_the_contract_in_its_order(name):
    source = (FOLDER / name).read_text("utf-8")
    for body, protocol in (
        (body_of(source), contract.Passes),
        (body_of(source, "Backward"), contract.Backward),
    ):
        found, expected = defined(body), promised(protocol)
        assert found == expected
        assert [*found] == [*expected]
