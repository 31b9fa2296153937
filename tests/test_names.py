"""One word, one meaning: what modules call by one name is one thing."""

import ast
import collections
import pathlib

from test_imports import PUBLIC

import cbam_keras

PACKAGE = pathlib.Path(cbam_keras.__file__).parent
# Each backend has functions of the same names, behind which is one contract,
# and what dispatches to them is called like them.
CONTRACT = "layers/_fused/"
DISPATCHERS = {"attend", "convolve", "maximum", "pool"}
# What starts a program is called like this everywhere.
USUAL = {"__all__", "main"}


def defined(tree):
    """Yields each name that a module defines, and what it is."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name, ast.unparse(node)
        targets = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.AnnAssign) and node.value is not None:
            targets = [node.target]
        for target in targets:
            for x in ast.walk(target):
                if isinstance(x, ast.Name):
                    yield x.id, ast.unparse(node.value)


def find_meanings(texts):
    """Returns the modules of each public name that means several things."""
    places = collections.defaultdict(dict)
    for module, text in texts.items():
        for name, meaning in defined(ast.parse(text)):
            is_usual = name in USUAL or name in DISPATCHERS
            if not name.startswith("_") and not is_usual:
                places[name][module] = meaning
    return {
        name: sorted(meanings)
        for name, meanings in places.items()
        if len({*meanings.values()}) > 1
    }


def test_names_of_two_meanings_are_found():
    texts = {
        "one": "WORDS = 1\nSAME = 2\ndef f(x): return x",
        "two": "WORDS: int = 2\nSAME = 2\ndef f(x): return 2 * x\nA, B = 1, 2",
        "three": "B = 'b'\n_f = 1\nif True:\n    inner = 1",
        "four": "_f = 2\ndef main(): pass\ninner = 2",
    }
    found = {
        "WORDS": ["one", "two"],
        "f": ["one", "two"],
        "B": ["three", "two"],
    }
    assert find_meanings(texts) == found


def test_a_public_name_means_one_thing():
    texts = {
        name: path.read_text("utf-8")
        for path in PACKAGE.rglob("*.py")
        for name in [path.relative_to(PACKAGE).as_posix()]
        if not name.startswith(CONTRACT)
    }
    assert find_meanings(texts) == {}


def test_a_name_of_users_is_one_object():
    places = collections.defaultdict(dict)
    for module, names in PUBLIC.items():
        for name in names:
            found = getattr(getattr(cbam_keras, module), name)
            places[name][id(found)] = module
    assert {x: y for x, y in places.items() if len(y) > 1} == {}
