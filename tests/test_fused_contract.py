"""The passes keep to their contract, and private names to one module."""

import ast
import inspect
import pathlib

import pytest
from fused_checks import FALLBACKS

from cbam_keras import _fused, layers
from cbam_keras._fused import private

FOLDER = pathlib.Path(_fused.__file__).parent


def functions(file, class_name=None):
    """Returns the public functions of a file or class, with arguments."""
    nodes = ast.parse((FOLDER / file).read_text("utf-8")).body
    if class_name is not None:
        named = {getattr(node, "name", None): node for node in nodes}
        nodes = named[class_name].body
    return [
        (node.name, [a.arg for a in node.args.args if a.arg != "self"])
        for node in nodes
        if isinstance(node, ast.FunctionDef)
        and (node.name == "__init__" or node.name[0] != "_")
    ]


@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_passes_define_the_contract_in_its_order(backend):
    file = f"{backend}_passes.py"
    assert functions(file) == functions("contract.py", "Passes")
    assert functions(file, "Backward") == functions("contract.py", "Backward")


LIBRARIES = {"keras", "tf", "tensorflow", "torch", "jax", "jnp", "ops"}
PRIVATE = ("keras.src", "tensorflow.python", "jax._src", "torch._")


def private_names(path):
    """Returns what of a library's private parts a file names."""
    found = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append(node.module or "")
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(node.value)
        elif isinstance(node, ast.Attribute):
            dotted = ast.unparse(node)
            if dotted.split(".")[0] in LIBRARIES and node.attr[0] == "_":
                found.append("torch._")
    return [name for name in found if name.startswith(PRIVATE)]


def test_private_names_stand_in_one_file():
    files = [
        path
        for folder in (_fused, layers)
        for path in pathlib.Path(folder.__file__).parent.glob("*.py")
    ]
    assert len(files) > 10
    assert [path.stem for path in files if private_names(path)] == ["private"]


def test_every_private_name_has_a_fallback_that_is_tested():
    functions = {
        name
        for name, _ in inspect.getmembers(private, inspect.isfunction)
        if not name.startswith("_")
    }
    # A context, which has a test of its own.
    functions.remove("gradients_forgotten")
    assert functions == set().union(*FALLBACKS.values())
    assert private._find("no.such.module", "name") is None
    assert private._find("math", "no_such_name") is None
