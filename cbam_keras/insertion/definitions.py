"""The definitions of a file of source, executed without the rest of it.

Imports, `def`, `class`, and assignments of plain values are executed. What else
a file does leaves the names that it assigns undefined.
"""

import ast
import contextlib
import importlib
import importlib.util
import json
import pathlib
import re
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from cbam_keras.insertion import keras_2
from cbam_keras.insertion.finding import reason_of

# Modules are searched in as many folders above a file.
MOST_ABOVE = 4
LIBRARIES = {"keras", "tensorflow", "numpy", "cbam_keras"}
# What an assignment may consist of, beside calls of these libraries.
PLAIN = (
    *(ast.Constant, ast.Name, ast.Attribute, ast.Subscript, ast.Slice),
    *(ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.IfExp),
    *(ast.operator, ast.unaryop, ast.boolop, ast.cmpop, ast.expr_context),
    *(ast.Tuple, ast.List, ast.Dict, ast.Set, ast.Starred, ast.keyword),
    *(ast.JoinedStr, ast.FormattedValue),
)
# Parts of names of functions that read or write files, train, or wait.
FILES = re.compile(
    "load|save|read|write|file|directory|dataset|memmap|fit|train|predict|"
    r"evaluate|export|applications|^(io|data|open|config|distribute|summary)$"
)
# The rest of such a cell of a notebook is Python.
PYTHON_MAGICS = re.compile(r"%%(time|timeit|capture|python3?|prun)\b.*")


class Unknown(Exception):
    """Says why something cannot be looked into."""


class Late:
    """A package, or a name in it, that is imported where it is used."""

    def __init__(self, module: str, name: str = ""):
        self._module, self._name = module, name

    def _load(self):
        root = self._module.partition(".")[0]
        if root == "torch":
            raise Unknown("PyTorch, not Keras")
        try:
            module = importlib.import_module(self._module)
            return getattr(module, self._name) if self._name else module
        # A package may raise anything, or end the process.
        except (Exception, SystemExit) as error:
            raise Unknown(f"{root} is missing") from error

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._load(), name)

    def __call__(self, *args, **kwargs):
        return self._load()(*args, **kwargs)

    def __mro_entries__(self, bases):
        return (self._load(),)


class Source:
    """A file of source, of which the definitions were executed.

    `definitions` are the last `def` or `class` of each name, `missing` says why
    a name has no value, and `reads` are the modules beside it. `define` gets
    each function or class, and returns what takes its place.
    """

    def __init__(
        self,
        path: pathlib.Path,
        known: dict[pathlib.Path, "Source"],
        define: Callable[[Any], Any],
    ):
        known[path] = self
        self.path, self.known, self.define = path, known, define
        self.module = types.ModuleType(f"source_of_{path.stem}")
        self.module.__file__ = str(path)
        self.namespace = vars(self.module)
        sys.modules[self.module.__name__] = self.module
        self.definitions: dict[str, Any] = {}
        self.missing: dict[str, str] = {}
        self.reads: list[Source] = []
        self.futures: list[ast.stmt] = []
        self.statements = [] if path.is_dir() else [*statements_of(path)]
        self._run(self.statements)

    def closure(self) -> list["Source"]:
        """Returns this source and those of modules that it imports."""
        found = [self]
        for source in found:
            found += [x for x in source.reads if x not in found]
        return found

    def reason(self, error: BaseException) -> str:
        """Returns why an error keeps something from being looked into."""
        text = str(error)
        if isinstance(error, Unknown):
            return text
        if name := re.search(r"name '(\w+)' is not defined", text):
            return self.missing.get(name[1], f"needs `{name[1]}`")
        if name := re.search(r"No module named '([\w.]+)'", text):
            root = name[1].partition(".")[0]
            old = keras_2.needs(name[1])
            return old if root in LIBRARIES else f"{root} is missing"
        lacking = r"module '(?:\w+\.)*(\w+)' has no attribute '(\w+)'"
        if name := re.search(lacking, text):
            return keras_2.needs(f"{name[1]}.{name[2]}")
        if isinstance(error, AttributeError) and "Keras 2's" in text:
            return text
        return reason_of(error)

    def _run(self, statements):
        for node in statements:
            try:
                if isinstance(node, ast.Import | ast.ImportFrom):
                    self._import(node)
                elif isinstance(node, ast.Try) or _only_imports(node):
                    self._run(node.body)
                elif isinstance(node, ast.FunctionDef | ast.ClassDef):
                    self.definitions[node.name] = node
                    self._execute(node)
                    value = self.namespace[node.name]
                    self.namespace[node.name] = self.define(value)
                elif self._is_plain(node):
                    self._execute(node)
                else:
                    self._forget(node)
            # Definitions may raise anything, or end the process.
            except (Exception, SystemExit) as error:
                self._forget(node, self.reason(error))

    def _execute(self, *nodes):
        module = ast.Module([*self.futures, *nodes], [])
        exec(compile(module, str(self.path), "exec"), self.namespace)

    def _forget(self, node, reason=""):
        """Leaves the names that a statement gives undefined."""
        for x in ast.walk(node):
            name = getattr(x, "id", getattr(x, "name", None))
            is_bound = not isinstance(x, ast.Name | ast.alias)
            if isinstance(x, ast.alias):
                name, is_bound = x.asname or x.name.partition(".")[0], True
            elif isinstance(x, ast.Name):
                is_bound = isinstance(x.ctx, ast.Store)
            if is_bound and isinstance(name, str):
                self.namespace.pop(name, None)
                if reason:
                    self.missing[name] = reason
            if isinstance(x, ast.FunctionDef | ast.ClassDef) and x is node:
                break

    def _is_plain(self, node):
        """Returns whether a statement assigns what may be computed."""
        if not isinstance(node, ast.Assign | ast.AnnAssign) or not node.value:
            return False
        targets = getattr(node, "targets", None) or [node.target]
        names = [x for target in targets for x in ast.walk(target)]
        kinds = (ast.Name, ast.Tuple, ast.List, ast.Store)
        return all(isinstance(x, kinds) for x in names) and all(
            self._is_library(x.func)
            if isinstance(x, ast.Call)
            else isinstance(x, PLAIN)
            for x in ast.walk(node.value)
        )

    def _is_library(self, function):
        """Returns whether a function is of a library, and takes no files."""
        names = []
        while isinstance(function, ast.Attribute):
            names.append(function.attr)
            function = function.value
        if isinstance(function, ast.Call):
            # What a call of a library returns may be called.
            return not any(map(FILES.search, names))
        if not isinstance(function, ast.Name):
            return False
        value = self.namespace.get(function.id)
        names += [getattr(value, x, "") for x in ("__name__", "__module__")]
        if not isinstance(value, types.ModuleType):
            names.append(function.id)
            value = value if hasattr(value, "__name__") else type(value)
        package = getattr(value, "__module__", None) or value.__name__
        is_of_library = package.partition(".")[0] in LIBRARIES
        return is_of_library and not any(map(FILES.search, names))

    def _import(self, node):
        if isinstance(node, ast.Import):
            for x in node.names:
                module, root = self._find(x.name), x.name.partition(".")[0]
                bound = module if x.asname else self._find(root)
                self.namespace[x.asname or root] = bound
            return
        if node.module == "__future__":
            self.futures.append(node)
            return
        module = self._find(node.module or "", node.level)
        for x in node.names:
            if x.name == "*":
                if isinstance(module, Late):
                    continue
                names = getattr(module, "__all__", None) or vars(module)
                self.namespace.update(
                    (name, getattr(module, name))
                    for name in [*names]
                    if name[0] != "_" and hasattr(module, name)
                )
                continue
            name = x.asname or x.name
            try:
                self.namespace[name] = self._member(node, module, x.name)
            except Exception as error:
                self._forget(x, self.reason(error))

    def _member(self, node, module, name):
        if isinstance(module, Late):
            return Late(module._module, name)
        if isinstance(module, types.ModuleType) and not hasattr(module, name):
            path = f"{node.module}.{name}" if node.module else name
            source = self._beside(path, node.level)
            if source is not None:
                return source.module
            for source in self.known.values():
                if source.module is module and name in source.missing:
                    raise Unknown(source.missing[name])
            if path.partition(".")[0] in LIBRARIES:
                raise Unknown(keras_2.needs(path))
            with contextlib.suppress(ImportError):
                return importlib.import_module(path)
            raise Unknown(f"needs `{name}`")
        return getattr(module, name)

    def _find(self, name, level=0):
        """Returns a module: one beside the file is read, not imported."""
        root = name.partition(".")[0]
        if not level and root in LIBRARIES:
            try:
                return keras_2.find_module(name)
            except ImportError as error:
                raise Unknown(f"{root} is missing") from error
        source = self._beside(name, level)
        if source is not None:
            return source.module
        if level:
            raise Unknown(f"{name} is missing")
        if root in sys.stdlib_module_names:
            return importlib.import_module(name)
        return Late(name)

    def _beside(self, name, level=0):
        """Returns the source of a module beside the file, or above it."""
        parts = name.split(".") if name else []
        folders = [*self.path.parents][:MOST_ABOVE]
        for folder in folders[level - 1 : level] if level else folders:
            module = folder.joinpath(*parts)
            for path in (module.with_suffix(".py"), module / "__init__.py"):
                if path.is_file() and path != self.path:
                    return self._known(path)
            if parts and any(module.glob("*.py")) or level and not parts:
                return self._known(module)
        return None

    def _known(self, path):
        source = self.known.get(path)
        source = source or Source(path, self.known, self.define)
        self.reads.append(source)
        return source


def _only_imports(node):
    return isinstance(node, ast.If) and all(
        isinstance(x, ast.Import | ast.ImportFrom) for x in node.body
    )


def statements_of(path: pathlib.Path) -> Iterator[ast.stmt]:
    """Yields the statements of a file, of a notebook those of all cells."""
    if path.suffix != ".ipynb":
        yield from ast.parse(path.read_bytes()).body
        return
    line = 0
    for text in cells_of(path):
        # A cell may hold anything.
        with contextlib.suppress(SyntaxError, ValueError):
            for node in ast.parse(text).body:
                yield ast.increment_lineno(node, line)
        line += text.count("\n") + 1


def cells_of(path: pathlib.Path) -> Iterable[str]:
    """Yields the code of the cells of a notebook, without magics."""
    notebook = json.loads(path.read_text("utf-8"))
    sheets = notebook.get("worksheets", [notebook])
    for cell in [x for sheet in sheets for x in sheet["cells"]]:
        if cell["cell_type"] != "code":
            continue
        text = "".join(cell.get("source", cell.get("input", "")))
        text = PYTHON_MAGICS.sub("", text, count=1)
        if not text.lstrip().startswith("%%"):
            yield re.sub(r"(?m)^(\s*)[%!?].*", r"\1pass", text)
