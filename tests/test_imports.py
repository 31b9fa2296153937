"""The shape of the package: its tree, its wall, its imports, its names."""

import ast
import collections
import functools
import graphlib
import importlib
import pathlib
import re
import sys
from inspect import ismodule

import pytest

import cbam_keras

TESTS = pathlib.Path(__file__).parent
PACKAGE = pathlib.Path(cbam_keras.__file__).parent
# What adds attention to networks, and below it what trains them.
LIBRARY = (
    "_graph",
    "convert",
    "explain",
    "insertion",
    "layers",
    "models",
    "profiling",
    "recognition",
)
LABORATORY = "data study tuning report cli".split()
# The files beside the folders: what all folders share.
SHARED = {
    "__init__",
    "__main__",
    "_checks",
    "_files",
    "_private",
    "_terminal",
    "_version",
    "optimizers",
}
# Modules for users, which hold imports alone, and the folders they import.
DOORS = {
    "blocks": {"models"},
    "comparison": {"study"},
    "losses": {"models"},
    "plotting": {"explain", "study"},
    "presets": {"models"},
    "training": {"study"},
}
# The folders of `study`: each imports only those before it.
FLOORS = "plans files results running programs".split()
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    for path in PACKAGE.rglob("*.py")
)


def imports(module, top_level_only=False):
    """Returns the dotted names that a module of the package imports."""
    path = PACKAGE.joinpath(*module.split(".")).with_suffix(".py")
    return names_imported(path, top_level_only)


@functools.cache
def names_imported(path, top_level_only=False):
    """Returns the dotted names that a file imports, also by `import_module`."""
    tree = ast.parse(path.read_text())
    names = set()
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {name.name for name in node.names}
        elif isinstance(node, ast.Call) and node.args:
            called = ast.unparse(node.func)
            if called in ("importlib.import_module", "import_module"):
                # Names that are made while the program runs are of others.
                name = getattr(node.args[0], "value", None)
                names |= {name} if isinstance(name, str) else set()
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            for name in node.names:
                inner = f"{node.module}.{name.name}"
                names.add(inner if is_module(inner) else node.module)
    return names


def is_module(name):
    path = PACKAGE.parent.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").exists()


def offences(find):
    """Returns what `find` returns for each module, where it finds any."""
    names = {module: sorted(find(module)) for module in MODULES}
    return {module: names for module, names in names.items() if names}


def folder(module):
    return module.removeprefix("cbam_keras.").split(".")[0]


# The tree.


def test_the_tree_is_seen_at_one_glance():
    entries = [path for path in PACKAGE.iterdir() if path.name[0] != "."]
    folders = {path.name for path in entries if path.is_dir()}
    assert folders - {"__pycache__"} == {*LIBRARY, *LABORATORY}
    files = {path.stem for path in entries if path.suffix == ".py"}
    assert files - SHARED == {*DOORS}


def test_files_read_in_one_sitting():
    files = (*PACKAGE.rglob("*.py"), *TESTS.glob("*.py"))
    lengths = {path.name: path.read_text().count("\n") for path in files}
    assert {name: x for name, x in lengths.items() if x > 600} == {}


def test_the_page_of_tests_names_each_file():
    page = (TESTS / "README.md").read_text(encoding="utf-8")
    names = {path.stem.removeprefix("test_") for path in TESTS.glob("test_*")}
    assert names - {*re.findall(r"`(\w+)`", page)} == set()


# Its imports, those inside functions too.


def test_what_adds_attention_imports_nothing_that_trains():
    def trains(module):
        names = {folder(name) for name in imports(module)}
        if folder(module) not in LIBRARY:
            return set()
        return names & {*LABORATORY, *DOORS}

    assert offences(trains) == {}


def test_recognition_imports_nothing_that_inserts():
    def inserts(module):
        is_reader = folder(module) == "recognition"
        names = {folder(name) for name in imports(module)}
        return names & {"insertion"} if is_reader else set()

    assert offences(inserts) == {}


@pytest.mark.parametrize("name", DOORS)
def test_modules_for_users_hold_imports_alone(name):
    tree = ast.parse((PACKAGE / f"{name}.py").read_text())
    assert {folder(x) for x in imports(name)} == DOORS[name]
    _, *statements = tree.body
    kinds = {type(statement).__name__ for statement in statements}
    # The names in `__all__` and `__dir__`, where there are any.
    assert kinds <= {"ImportFrom", "Assign", "FunctionDef"}
    module = importlib.import_module(f"cbam_keras.{name}")
    assert module is getattr(cbam_keras, name)
    for statement in statements:
        if isinstance(statement, ast.ImportFrom):
            source = importlib.import_module(statement.module)
            for imported in statement.names:
                value = getattr(module, imported.asname or imported.name)
                assert value is getattr(source, imported.name)


ROOT = PACKAGE.parent


@pytest.mark.parametrize("part", ["cbam_keras", "benchmarks", "examples"])
def test_no_imports_make_a_circle(part):
    graph = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(
            ".__init__"
        ): {x for x in names_imported(path) if x.startswith(f"{part}.")}
        for path in (ROOT / part).rglob("*.py")
        if path != PACKAGE / "__init__.py"
    }
    assert sum(map(len, graph.values())) > len(graph) / 2
    graphlib.TopologicalSorter(graph).prepare()


def graph_of_folders(graph):
    """Returns which folders of the package import which others."""
    folders = collections.defaultdict(set)
    for module, names in graph.items():
        folders[folder(module)] |= {folder(name) for name in names}
    return {name: below - {name} for name, below in folders.items()}


def test_no_folders_make_a_circle():
    # The root is imported by none, and reaches all.
    graph = {
        module: {x for x in imports(module) if x.startswith("cbam_keras.")}
        for module in MODULES
        if module != "__init__"
    }
    folders = graph_of_folders(graph)
    assert {*LIBRARY, *LABORATORY} <= {*folders}
    graphlib.TopologicalSorter(folders).prepare()


def test_a_circle_of_folders_is_found_where_files_make_none():
    graph = {
        "study.given": {"cbam_keras.report.page"},
        "report.page": {"cbam_keras.study.results"},
        "study.results": set(),
    }
    graphlib.TopologicalSorter(graph).prepare()
    with pytest.raises(graphlib.CycleError):
        graphlib.TopologicalSorter(graph_of_folders(graph)).prepare()


def test_imports_by_strings_are_seen(tmp_path):
    file = tmp_path / "late.py"
    file.write_text('importlib.import_module("cbam_keras.report")')
    assert names_imported(file) == {"cbam_keras.report"}


def test_floors_of_study_import_only_those_before_them():
    def floor(name):
        parts = name.removeprefix("cbam_keras.").split(".")
        if parts[0] == "study" and len(parts) > 1 and parts[1] in FLOORS:
            return FLOORS.index(parts[1])
        return None

    def above(module):
        own = floor(module)
        floors = {name: floor(name) for name in imports(module)}
        return {
            name
            for name, other in floors.items()
            if own is not None and other is not None and other > own
        }

    assert offences(above) == {}


# Imported only when needed: they subclass classes of KerasTuner or matplotlib,
# or are written for one backend.
LATE = {
    "explain.figures.shown": {"matplotlib"},
    "layers._fused.jax_passes": {"jax"},
    "layers._fused.tensorflow_passes": {"tensorflow"},
    "layers._fused.torch_passes": {"torch"},
    "tuning.hypermodel": {"keras_tuner"},
}


def test_modules_need_only_keras_and_numpy_to_be_imported():
    free = {"cbam_keras", "_cbam_keras_command", "keras", "numpy"}
    free |= sys.stdlib_module_names

    def others(module):
        early = {name.split(".")[0] for name in imports(module, True)}
        return early - free - LATE.get(module, set())

    assert offences(others) == {}


# Its public names.

# What users write; docs/reference has a line for each, and a test of that.
PUBLIC = {
    name: module.__all__
    for name in dir(cbam_keras)
    if hasattr(module := getattr(cbam_keras, name), "__all__")
    and re.match(r"cbam_keras\.[a-z]", module.__name__)
}


@pytest.mark.parametrize("name", PUBLIC)
def test_completion_offers_what_is_public(name):
    assert dir(getattr(cbam_keras, name)) == sorted(PUBLIC[name])


def test_completion_of_the_package_offers_names_and_modules():
    modules = {x for x in dir(cbam_keras) if ismodule(getattr(cbam_keras, x))}
    assert modules == {*PUBLIC, "blocks"}
    names = {*cbam_keras.__all__, "__version__"}
    assert {*dir(cbam_keras)} - modules == names
