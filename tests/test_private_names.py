"""Private names of libraries, each read in one file and in one function."""

import ast
import collections
import pathlib
import re

import keras
import keras_tuner
import pytest

import cbam_keras
from cbam_keras import _private

PACKAGE = pathlib.Path(cbam_keras.__file__).parent
# A private name, not one of Python's own such as `__name__`.
PRIVATE = re.compile(r"_[a-zA-Z]\w*\Z")
# Modules that libraries do not document.
MODULES = re.compile(
    r"\b(?:keras\w*\.src|tensorflow\.python|jax\._src|torch\._C)\b"
)
# Functions whose second argument is the name of an attribute.
READERS = {"getattr", "setattr", "hasattr", "delattr", "_find", "_read"}
# Names of Python's own library that begin with an underscore.
OF_PYTHON = {"_exit", "_fields", "_getframe", "_replace", "_Unpickler"}
NAMES = {
    "_private.py": {
        "_flatten_layers",
        "_get_name",
        "_get_variable_index",
        "_h5_entry_group",
        "_inbound_nodes",
        "_keras_history",
        "_keras_mask",
        "_output_shape",
        "_registry",
    },
    "layers/_fused/private.py": {"_are_functorch_transforms_active"},
}


def parse(folder):
    """Returns the syntax tree of each file, by its path."""
    return {
        path.relative_to(folder).as_posix(): ast.parse(path.read_text("utf-8"))
        for path in folder.rglob("*.py")
    }


def own_names(trees):
    """Returns the private names that files define themselves."""
    names = set()
    for tree in trees.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                names.add(node.name)
            elif isinstance(node, ast.Name):
                names |= {node.id} if isinstance(node.ctx, ast.Store) else set()
            elif isinstance(node, ast.Attribute):
                is_own = ast.unparse(node.value) == "self"
                if is_own and isinstance(node.ctx, ast.Store):
                    names.add(node.attr)
    return {name for name in names if PRIVATE.match(name)}


def read_names(tree):
    """Yields each private name that a file reads of something."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.Call) and len(node.args) > 1:
            name = getattr(node.args[1], "value", None)
            if ast.unparse(node.func) in READERS and isinstance(name, str):
                yield name
        elif isinstance(node, ast.ImportFrom):
            # Ours are named by their path from the root.
            if not (node.module or "").startswith(("cbam_keras", "_cbam_")):
                yield from (name.name for name in node.names)


def find_foreign(trees):
    """Returns the private names of others, by the file that reads them."""
    known = own_names(trees) | OF_PYTHON
    # Files of the package's root.
    known |= {path.removesuffix(".py") for path in trees}
    known |= {path.split("/")[0] for path in trees}
    foreign = collections.defaultdict(set)
    for path, tree in trees.items():
        for name in read_names(tree):
            if PRIVATE.match(name) and name not in known:
                foreign[path].add(name)
    return dict(foreign)


def test_private_names_of_libraries_are_read_in_two_files():
    assert find_foreign(parse(PACKAGE)) == NAMES


@pytest.mark.parametrize(
    "line",
    [
        "x = layer._added",
        "x = getattr(layer, '_added', None)",
        "setattr(layer, '_added', 1)",
        "layer._added = 1",
        "from keras import _added",
    ],
)
def test_a_private_name_that_is_added_is_found(line):
    source = f"class Own:\n    def _own(self):\n        self._made = 1\n{line}"
    trees = {"own.py": ast.parse(f"{source}\nx = layer._own(layer._made)")}
    assert find_foreign(trees) == {"own.py": {"_added"}}


def test_private_modules_of_libraries_are_named_in_two_files():
    named = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if MODULES.search(path.read_text("utf-8"))
    }
    assert named == {*NAMES}


def test_each_function_reads_one_private_name():
    tree = ast.parse((PACKAGE / "_private.py").read_text("utf-8"))
    reads = {}
    for function in tree.body:
        if isinstance(function, ast.FunctionDef) and function.name[0] != "_":
            foreign = find_foreign({"one.py": function}).get("one.py", set())
            reads[function.name] = foreign
    assert max(map(len, reads.values())) == 1
    # Two are no attributes of this form: a name that is set by a dictionary,
    # and one of a private module.
    without = {name for name, names in reads.items() if not names}
    assert without == {"without_rematerialization", "counts_of_names"}


# A class of ours that defines a name which Keras reads changes Keras.
LIBRARY_CLASSES = (
    keras.Layer,
    keras.Loss,
    keras.Metric,
    keras.optimizers.Optimizer,
    keras_tuner.HyperModel,
)


# Modules whose classes are imported only when they are needed.
LATE = [cbam_keras.losses, cbam_keras.models, cbam_keras.tuning.CBAMHyperModel]


def subclasses(kind):
    """Yields the classes of ours below a class of a library."""
    for below in kind.__subclasses__():
        if below.__module__.startswith("cbam_keras."):
            yield below
        yield from subclasses(below)


@pytest.mark.parametrize("kind", LIBRARY_CLASSES)
def test_no_class_of_ours_replaces_a_private_name(kind):
    of_library = {name for name in dir(kind) if PRIVATE.match(name)}
    ours = [*subclasses(kind)]
    replaced = {
        f"{below.__name__}.{name}"
        for below in ours
        for name in of_library & {*vars(below)}
    }
    assert ours and replaced == set()


class Bare:
    """An object of a version in which private names are gone."""


@pytest.mark.parametrize(
    ("call", "name", "library"),
    [
        (_private.call_of, "_keras_history", keras),
        (_private.calls_of, "_inbound_nodes", keras),
        (_private.layers_in, "_flatten_layers", keras),
        (lambda x: _private.index_of(x, 1), "_get_variable_index", keras),
        (lambda x: _private.name_in_scopes(x, ""), "_get_name", keras_tuner),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_name_that_is_gone_is_told_with_the_version(call, name, library):
    words = re.escape(f"of {library.__name__}, which {library.__version__}")
    with pytest.raises(RuntimeError, match=f"`{name}`.*{words} .*Bare"):
        call(Bare())


@pytest.mark.parametrize(
    "call", [_private.mask_of, _private.output_shape_of, _private.file_group_of]
)
def test_a_name_that_can_be_missed_gives_none(call):
    assert call(Bare()) is None
