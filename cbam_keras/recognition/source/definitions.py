"""The definitions of a file of source, executed without the rest of it."""

import ast
import builtins
import contextlib
import dataclasses
import functools
import importlib
import io
import json
import pathlib
import re
import sys
import tokenize
import types
from collections.abc import Callable, Iterator
from typing import Any

import keras

from cbam_keras.recognition.gates import reason_of
from cbam_keras.recognition.source import keras_2

LIBRARIES = {"keras", "tensorflow", "numpy", "cbam_keras"}
# What an assignment may call: these packages (gates use the logger of their
# file, and functions with arguments fixed), and what makes a container.
CALLED = {*LIBRARIES, "functools", "logging"}
CONTAINERS = {"dict", "frozenset", "list", "set", "tuple"}
# What an assignment may consist of, beside calls of these libraries.
NAMED = (ast.Name, ast.Attribute, ast.Subscript, ast.Slice, ast.keyword)
OPERATORS = (ast.operator, ast.unaryop, ast.boolop, ast.cmpop, ast.expr_context)
OPERATIONS = (ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.IfExp)
LITERALS = (ast.Constant, ast.Tuple, ast.List, ast.Dict, ast.Set, ast.Starred)
PLAIN = (*NAMED, *OPERATORS, *OPERATIONS, *LITERALS)
# The rest of such a cell of a notebook is Python.
PYTHON_MAGICS = re.compile(r"%%(time|timeit|capture|python3?|prun)\b.*")
# Modules are searched in as many folders above a file.
MOST_ABOVE = 4


class Unknown(Exception):
    """Says why something cannot be looked into."""


class Used(Unknown):
    """Ends a function that uses a model, and hands the model over."""

    def __init__(self, model: keras.Model, method: str):
        super().__init__(f"`{method}` of a model is not run")
        self.model = model


class Late:
    """What a package has under a name, imported where it is used."""

    def __init__(self, name: str):
        self._name = name

    def _load(self):
        module, _, name = self._name.rpartition(".")
        root = self._name.partition(".")[0]
        if root == "torch":
            raise Unknown("PyTorch, not Keras")
        try:
            # A package may have a function named as the module that has it.
            with contextlib.suppress(ImportError, AttributeError, ValueError):
                return getattr(importlib.import_module(module), name)
            return importlib.import_module(self._name)
        # A package may raise anything, or end the process.
        except (Exception, SystemExit) as error:
            raise Unknown(f"{root} is missing") from error

    def __repr__(self):
        return f"<{self._name.partition('.')[0]} is missing>"

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Late(f"{self._name}.{name}")

    def __call__(self, *args, **kwargs):
        return self._load()(*args, **kwargs)

    def __mro_entries__(self, bases):
        return (self._load(),)


@dataclasses.dataclass(frozen=True, eq=False)
class Definition:
    """A `def` or `class` of a file, and the function or class that it gave.

    `value` is `None` where it could not be executed, and `missing` says why.
    `replaces` is the line of an earlier definition of the same name, or 0.
    """

    source: "Code"
    node: ast.FunctionDef | ast.ClassDef
    value: Any = None
    missing: str = ""
    replaces: int = 0

    @property
    def name(self) -> str:
        """Its name."""
        return self.node.name

    @functools.cached_property
    def names(self) -> set[str]:
        """The names in it."""
        nodes = ast.walk(self.node)
        return {getattr(x, "id", getattr(x, "attr", "")) for x in nodes}

    @property
    def arguments(self) -> list[str]:
        """The names of the arguments of a function."""
        if not isinstance(self.node, ast.FunctionDef):
            return []
        return [x.arg for x in self.node.args.posonlyargs + self.node.args.args]


class Code:
    """A file of source, of which imports and definitions were executed.

    `definitions` are its functions and classes, in the order of execution,
    `missing` says why a name has no value, and `reads` are the modules beside
    it. `define` gets each function or class, and returns what takes its place.
    `sources` are the files that were executed, by their paths.
    """

    def __init__(
        self,
        path: pathlib.Path,
        text: str,
        sources: dict[pathlib.Path, "Code"],
        define: Callable[[Any], Any],
    ):
        sources[path] = self
        self.path = path
        self.text = text
        self.sources = sources
        self.define = define
        self.module = types.ModuleType(f"source_of_{path.stem}")
        self.namespace = vars(self.module)
        sys.modules[self.module.__name__] = self.module
        self.definitions: list[Definition] = []
        self.missing: dict[str, str] = {}
        self.reads: list[Code] = []
        self.futures: list[ast.stmt] = []
        self.statements = [*statements_of(text, path)]
        # A fragment may lack its imports.
        usual = {**vars(keras.layers), **vars(builtins)}
        usual["keras"] = keras
        usual["layers"] = keras.layers
        usual["K"] = keras.backend
        usual["__import__"] = self._import
        self.namespace["__builtins__"] = usual
        self._run(self.statements)

    def closure(self) -> list["Code"]:
        """Returns this source and those of modules that it imports."""
        found = [self]
        for source in found:
            found += [x for x in source.reads if x not in found]
        return found

    def rest(self) -> Iterator[ast.AST]:
        """Yields what is outside of its definitions."""
        for node in self.statements:
            if not isinstance(node, ast.FunctionDef | ast.ClassDef):
                yield from ast.walk(node)

    def reason(self, error: BaseException) -> str:
        """Returns why an error keeps something from being looked into."""
        text = str(error)
        if isinstance(error, Unknown) or keras_2.NEEDS in text:
            return text
        if found := re.search(r"name '(\w+)' is not defined", text):
            return self.missing.get(found[1], f"needs `{found[1]}`")
        for pattern in (
            r"No module named '((?:keras|tensorflow)\.[\w.]+)'",
            r"module '(?:\w+\.)*(\w+)' has no attribute '(\w+)'",
            r"cannot import name '(\w+)' from '(?:keras|tensorflow)",
        ):
            if found := re.search(pattern, text):
                return keras_2.needs(".".join(found.groups()))
        if found := re.search(
            r"No module named '(\w+)|<(\w+) is missing", text
        ):
            return f"{found[1] or found[2]} is missing"
        return reason_of(error)

    def _run(self, statements):
        for node in statements:
            if isinstance(node, ast.Try) or _only_imports(node):
                self._run(node.body)
                continue
            parts = [node]
            if isinstance(node, ast.ImportFrom):
                # One that fails does not keep others.
                parts = [
                    ast.ImportFrom(node.module, [x], node.level)
                    for x in node.names
                ]
            for part in parts:
                self._execute(ast.copy_location(part, node))

    def _execute(self, node):
        is_definition = isinstance(node, ast.FunctionDef | ast.ClassDef)
        is_import = isinstance(node, ast.Import | ast.ImportFrom)
        if not (is_definition or is_import or self._is_plain(node)):
            self._forget(node)
            return
        if is_import and getattr(node, "module", "") == "__future__":
            self.futures.append(node)
        module = ast.Module([*self.futures, node], [])
        code = ast.fix_missing_locations(module)
        try:
            exec(compile(code, str(self.path), "exec"), self.namespace)
            if is_definition:
                value = self.define(self.namespace[node.name])
                self.namespace[node.name] = value
                self._add(node, value)
        # Definitions may raise anything, or end the process.
        except (Exception, SystemExit) as error:
            reason = self.reason(error)
            is_module = str(error).startswith("module() takes at most")
            if isinstance(node, ast.ClassDef) and is_module:
                bases = ", ".join(f"`{ast.unparse(x)}`" for x in node.bases)
                reason = f"its base {bases} is a module, not a class"
            self._forget(node, reason)
            if is_definition:
                self._add(node, missing=reason)

    def _add(self, node, value=None, missing=""):
        """Adds a definition in the place of an earlier one of its name."""
        replaces = 0
        for earlier in [*self.definitions]:
            if earlier.name == node.name:
                replaces = earlier.node.lineno
                self.definitions.remove(earlier)
        definition = Definition(self, node, value, missing, replaces)
        self.definitions.append(definition)

    def _forget(self, node, reason=""):
        """Leaves the names that a statement gives undefined."""
        names = {getattr(node, "name", "")}
        for x in ast.walk(node):
            if isinstance(x, ast.alias):
                names.add(x.asname or x.name.partition(".")[0])
            if isinstance(x, ast.Name) and isinstance(x.ctx, ast.Store):
                names.add(x.id)
        for name in names:
            self.namespace.pop(name, None)
            if reason:
                self.missing[name] = reason

    def _is_plain(self, node):
        """Returns whether a statement assigns what may be computed."""
        if not isinstance(node, ast.Assign | ast.AnnAssign) or not node.value:
            return False
        targets = getattr(node, "targets", None) or [node.target]
        names = [x for target in targets for x in ast.walk(target)]
        kinds = (ast.Name, ast.Tuple, ast.List, ast.Store)
        return all(isinstance(x, kinds) for x in names) and all(
            self._is_of_library(x.func)
            if isinstance(x, ast.Call)
            else isinstance(x, PLAIN)
            for x in ast.walk(node.value)
        )

    def _is_of_library(self, function):
        """Returns whether a function is one that an assignment may call."""
        path = ast.unparse(function)
        if path in CONTAINERS and path not in self.namespace:
            return True
        value = self.namespace.get(path.partition(".")[0].partition("(")[0])
        if not hasattr(value, "__name__"):
            value = type(value)
        package = getattr(value, "__module__", None) or value.__name__
        return package.partition(".")[0] in CALLED

    def _import(self, name, given=None, local=None, names=(), level=0):
        """Imports a module: one beside the file is read by the same rule."""
        module = self._module(name, level)
        for x in names or ():
            if x != "*" and not hasattr(module, x):
                inner = self._beside(f"{name}.{x}".strip("."), level)
                if inner is not None:
                    setattr(module, x, inner.module)
                for source in self.reads:
                    if source.module is module and x in source.missing:
                        raise Unknown(source.missing[x])
        root, _, others = name.partition(".")
        if names or not others:
            return module
        top = place = self._module(root, level)
        for x in others.split("."):
            root = f"{root}.{x}"
            if not hasattr(place, x):
                setattr(place, x, self._module(root, level))
            place = getattr(place, x)
        return top

    def _module(self, name, level):
        root = name.partition(".")[0]
        if not level and root in LIBRARIES:
            return keras_2.find_module(name)
        source = self._beside(name, level)
        if source is not None:
            return source.module
        if not level and root in sys.stdlib_module_names:
            return importlib.import_module(name)
        if level:
            raise Unknown(f"{name} is missing")
        return Late(name)

    def _beside(self, name, level):
        """Returns the source of a module beside the file, or above it."""
        folders = [*self.path.parents][:MOST_ABOVE]
        for folder in folders[level - 1 : level] if level else folders:
            module = folder.joinpath(*filter(None, name.split(".")))
            for path in (
                module.with_suffix(".py"),
                module / "__init__.py",
                module,
            ):
                is_folder = path.is_dir() and (level or any(path.glob("*.py")))
                if path != self.path and (path.is_file() or is_folder):
                    source = self.sources.get(path)
                    if source is None:
                        text = "" if is_folder else read_text(path)
                        source = Code(path, text, self.sources, self.define)
                    self.reads.append(source)
                    return source
        return None


def _only_imports(node):
    kinds = (ast.Import, ast.ImportFrom)
    is_if = isinstance(node, ast.If)
    return is_if and all(isinstance(x, kinds) for x in node.body)


def read_text(path: pathlib.Path) -> str:
    """Returns the text of a file, in the encoding that Python reads it in."""
    content = path.read_bytes()
    encoding = "utf-8"
    # Some declare an encoding that does not exist.
    with contextlib.suppress(SyntaxError):
        encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
    return content.decode(encoding, "replace")


def statements_of(text: str, path: pathlib.Path) -> Iterator[ast.stmt]:
    """Yields the statements of a file, of a notebook those of all cells."""
    if path.suffix != ".ipynb":
        yield from ast.parse(text).body
        return
    line = 0
    for cell in cells_of(text, path):
        # A cell may hold anything.
        with contextlib.suppress(SyntaxError, ValueError):
            for node in ast.parse(cell).body:
                yield ast.increment_lineno(node, line)
        line += cell.count("\n") + 1


def cells_of(text: str, path: pathlib.Path) -> Iterator[str]:
    """Yields the text of a file, of a notebook its code without magics."""
    if path.suffix != ".ipynb":
        yield text
        return
    for cell in json.loads(text)["cells"]:
        code = PYTHON_MAGICS.sub("", "".join(cell["source"]), count=1)
        if cell["cell_type"] == "code" and code.lstrip()[:2] != "%%":
            yield re.sub(r"(?m)^(\s*)[%!?].*", r"\1pass", code)
