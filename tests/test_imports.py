"""The shape of the package: its tree, its imports, its public paths."""

import ast
import functools
import graphlib
import json
import pathlib
import re
import subprocess
import sys

import keras
import pytest

import cbam_keras

TESTS = pathlib.Path(__file__).parent
PACKAGE = pathlib.Path(cbam_keras.__file__).parent
# Each entry of the package may import from those before it: so the library, the
# layers and what looks at networks, from nothing of the laboratory below it.
ORDER = """
    _version _process _docstrings _checks _fused optimizers
    _files _terminal layers convert _inspection plotting insertion models
    profiling presets explain monitor

    data recipes study training comparison ablation tuning
    _explanations report cli
""".split()
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    for path in PACKAGE.rglob("*.py")
)


@functools.cache
def imports(module, top_level_only=False):
    """Returns the dotted names that a module of the package imports."""
    path = PACKAGE / (module.replace(".", "/") + ".py")
    tree = ast.parse(path.read_text())
    return names_in(tree.body if top_level_only else ast.walk(tree))


def names_in(nodes):
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            for name in node.names:
                path = PACKAGE.parent / node.module.replace(".", "/")
                path /= name.name
                is_module = path.is_dir() or path.with_suffix(".py").exists()
                inner = f"{node.module}.{name.name}"
                found.add(inner if is_module else node.module)
    return found


def offences(of):
    """Returns what `of` finds in each module that it finds something in."""
    found = {module: of(module) for module in MODULES}
    return {module: sorted(names) for module, names in found.items() if names}


def entry(module):
    return module.split(".")[0]


# Its tree.


def test_files_read_in_one_sitting():
    long = [
        path.name
        for path in (*PACKAGE.rglob("*.py"), *TESTS.glob("*.py"))
        if len(path.read_text().splitlines()) > 600
    ]
    assert not long


# Its imports.


def test_modules_import_only_from_their_left():
    def wrong(module):
        # What is no entry is the door, which may import all.
        left = [*ORDER, "__init__", "__main__"].index(entry(module)) + 1
        return {
            name
            for name in imports(module)
            if entry(name) == "cbam_keras"
            and name.split(".")[1] not in ORDER[:left]
        }

    assert offences(wrong) == {}


def test_no_imports_make_a_circle():
    """Nor those that only a type checker sees."""
    graph = {}
    for module in MODULES:
        path = PACKAGE / (module.replace(".", "/") + ".py")
        nodes = []
        for node in ast.parse(path.read_text()).body:
            nodes += ast.walk(node) if isinstance(node, ast.If) else [node]
        graph[module] = {
            known
            for name in names_in(nodes)
            for known in (
                name.removeprefix("cbam_keras."),
                f"{name}.__init__".removeprefix("cbam_keras."),
            )
            if known in MODULES
        }
    assert sum(map(len, graph.values())) > len(MODULES)
    graphlib.TopologicalSorter(graph).prepare()


def test_other_folders_are_entered_by_their_door():
    def wrong(module):
        return {
            name
            for name in imports(module)
            if name.startswith("cbam_keras.")
            and name.split(".")[1] != entry(module)
            and name.count(".") > 1
        }

    assert offences(wrong) == {}


# Imported only when needed: they subclass classes of KerasTuner or KerasHub, or
# are written for one backend.
LATE = {
    "_fused.jax_passes": {"jax"},
    "_fused.tensorflow_passes": {"tensorflow"},
    "_fused.torch_passes": {"torch"},
    "models.detector": {"keras_hub"},
    "tuning.adaptor": {"keras_tuner"},
    "tuning.hypermodel": {"keras_tuner"},
    "tuning.tuner": {"keras_tuner"},
}


def test_modules_need_only_keras_and_numpy_to_be_imported():
    free = {"cbam_keras", "keras", "numpy", *sys.stdlib_module_names}
    # What the command does before Keras is imported.
    free.add("_cbam_keras_command")

    def wrong(module):
        early = imports(module, True)
        others = {entry(name) for name in early} - free
        if module in LATE:
            return others - LATE[module]
        # The door of `tuning` names one where only the type checker looks.
        return others | (
            {name.removeprefix("cbam_keras.") for name in early} & set(LATE)
        )

    assert offences(wrong) == {}


def test_private_parts_of_libraries_are_named_in_one_file():
    private = r"\b(?:keras\w*\.src|tensorflow\.python|jax\._src|torch\._C)\b"
    named = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if re.search(private, path.read_text())
    }
    assert named == {"_fused/private.py"}


def run(statements):
    """Returns what a fresh interpreter prints as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", f"import json, sys\n{statements}"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.every_backend
def test_importing_the_package_loads_nothing_more_than_keras_does():
    more, modules = run(
        "import keras\n"
        "before = set(sys.modules)\n"
        "import cbam_keras\n"
        "more = sorted({*sys.modules} - before)\n"
        # Modules are reached without importing them first.
        "found = cbam_keras.explain.grad_cam, cbam_keras.models.ResNet18\n"
        "print(json.dumps([more, [x.__module__ for x in found]]))"
    )
    roots = {entry(name) for name in more} - set(sys.stdlib_module_names)
    assert roots == {"cbam_keras"}
    assert all(entry(module) == "cbam_keras" for module in modules)
    assert not {"cbam_keras.explain", "cbam_keras.models"} & set(more)


@pytest.mark.every_backend
@pytest.mark.skipif(
    keras.backend.backend() == "tensorflow", reason="TensorFlow is the backend"
)
def test_tensorflow_is_not_imported_under_other_backends():
    modules = ", ".join(name for name in ORDER if name[0] != "_")
    assert "cli" in modules
    loaded = run(
        f"from cbam_keras import {modules}\nprint(json.dumps([*sys.modules]))"
    )
    assert "tensorflow" not in loaded


# Its public paths.

# What users write; docs/reference has a line for each, and a test of that.
PUBLIC = {
    name: module.__all__
    for name in dir(cbam_keras)
    if hasattr(module := getattr(cbam_keras, name), "__all__")
    and re.match(r"cbam_keras\.[a-z]", module.__name__)
}


def test_public_paths_hold():
    assert {*cbam_keras.__all__, *PUBLIC} <= set(dir(cbam_keras))
    for module, names in PUBLIC.items():
        found = getattr(cbam_keras, module)
        assert [name for name in names if not hasattr(found, name)] == []
    with pytest.raises(AttributeError, match="explainn"):
        cbam_keras.explainn  # noqa: B018


# What tests import from inside the package, where no public name shows the
# fact. Anything else they import from the root, or by the door of a folder.
INSIDE = """
    _explanations _explanations.images _files _fused _fused.decorator
    _fused.operation
    _fused.private _fused.rows _process _terminal cli.tables
    convert.legacy convert.matching convert.torch_files data.augmentation
    data.digits data.loading data.tfds models.by_name optimizers study.cells
    study.checkpoints study.machine study.stages study.worker study.workers
""".split()


def test_tests_import_public_names():
    known = {*PUBLIC, *INSIDE}
    for folder, names in PUBLIC.items():
        known |= {f"{folder}.{name}" for name in names}
    found = {
        name.removeprefix("cbam_keras.")
        for path in TESTS.glob("*.py")
        for name in names_in(ast.walk(ast.parse(path.read_text())))
        if name.startswith("cbam_keras.")
    }
    assert found - known == set()
