"""Which module imports what, and what importing the package brings along."""

import ast
import json
import pathlib
import subprocess
import sys

import keras
import pytest

import cbam_keras

PACKAGE = pathlib.Path(cbam_keras.__file__).parent
GATES = {"layers._attention", "layers.channel_attention"}
# What each module may import from the package.
ALLOWED = {
    "__init__": {
        "_optimizer",
        "convert",
        "insertion",
        "layers",
        "monitor",
        "profiling",
    },
    "__main__": {"cli"},
    "_checks": set(),
    "_files": set(),
    "_graph": set(),
    "_places": {"_graph"},
    "_tables": {"_checks"},
    "layers.__init__": {
        *GATES,
        "layers.cbam",
        "layers.factory",
        "layers.spatial_attention",
        "layers.squeeze_excite",
    },
    "layers._attention": {"_checks"},
    "layers._fused": set(),
    "layers._fused_jax": {"layers._fused"},
    "layers._fused_tensorflow": {"layers._fused"},
    "layers._fused_torch": {"layers._fused"},
    "layers.channel_attention": {
        "_checks",
        "layers._attention",
        "layers._fused",
    },
    "layers.squeeze_excite": {"layers.channel_attention"},
    "layers.spatial_attention": {
        "_checks",
        "layers._attention",
        "layers._fused",
    },
    "layers.cbam": {
        "_checks",
        *GATES,
        "layers._fused",
        "layers.spatial_attention",
    },
    "layers.factory": {
        "_checks",
        "layers.cbam",
        "layers.channel_attention",
        "layers.spatial_attention",
        "layers.squeeze_excite",
    },
    "blocks": {"layers"},
    # Before the networks, whose `weights=` takes checkpoints.
    "_checkpoints": {"_checks"},
    "_torch_names": {"layers"},
    "_hints": {"_torch_names", "layers"},
    "convert": {
        "_checkpoints",
        "_checks",
        "_hints",
        "_torch_names",
        "layers",
    },
    "models.__init__": {
        "models._preprocessing",
        "models._pyramid",
        "models.mobilenet",
        "models.resnet",
    },
    "models._network": {"_checks", "blocks", "models._weights"},
    "models._preprocessing": {"_checks"},
    "models._pyramid": set(),
    "models._weights": {"_checks", "convert"},
    "models.mobilenet": {"_checks", "blocks", "models._network"},
    "models.resnet": {"_checks", "blocks", "models._network"},
    "presets": {"_checks", "layers", "layers.factory", "models"},
    "_copying": {"_graph"},
    "insertion": {
        "_checks",
        "_copying",
        "_graph",
        "_places",
        "_tables",
        "layers",
    },
    "profiling": {"_graph", "_tables", "layers"},
    "reproduction": {"_checks", "_tables", "presets", "profiling"},
    # Looking at networks.
    "_gradients": set(),
    "_heads": {"_graph"},
    "_images": {"_checks"},
    "_recording": {"_graph", "_watching", "layers", "layers._attention"},
    "_targets": {"_checks", "_graph", "_places"},
    "_watching": set(),
    "_heat": {
        "_gradients",
        "_graph",
        "_heads",
        "_recording",
        "_targets",
        "_watching",
    },
    "explain": {
        "_checks",
        "_graph",
        "_heads",
        "_heat",
        "_images",
        "_places",
        "_recording",
        "_targets",
    },
    "monitor": {"_checks", "_images", "_recording"},
    # Data of every kind, as records, then as batches.
    "_records": {"_checks"},
    "_decoding": {"_checks", "_records"},
    "_embedded": {"_checks", "_records"},
    "_sources": {"_checks", "_decoding", "_records"},
    "_tfds": {"_checks", "_decoding", "_records"},
    "_loading": {"_decoding", "_embedded", "_records", "_sources", "_tfds"},
    "_augmentation": {"_checks"},
    "_sharing": {"_augmentation"},
    "_tensor_pipeline": {
        "_augmentation",
        "_decoding",
        "_records",
        "_sharing",
    },
    "_pipeline": {
        "_augmentation",
        "_checks",
        "_decoding",
        "_records",
        "_sharing",
        "_tensor_pipeline",
    },
    "data": {
        "_augmentation",
        "_checks",
        "_embedded",
        "_loading",
        "_pipeline",
        "_records",
    },
    "_drawing": {"_checks"},
    "_pictures": {"_checks"},
    "_overlays": {"_checks", "_drawing", "_pictures"},
    "plotting": {"_checks", "_drawing", "_overlays", "_pictures"},
    # Training.
    "_optimizer": set(),
    "_recipe": {"_checks", "_optimizer"},
    "_progress": {"_files"},
    "_processes": {"_checks"},
    "_distribution": {"_checks", "_graph", "_processes"},
    "_fitting": {
        "_checks",
        "_graph",
        "_heads",
        "_distribution",
        "_progress",
        "_recipe",
    },
    "_settings": {"_checks"},
    "_session": {"_files", "_progress", "_settings", "_tables", "plotting"},
    "training": {
        "_checks",
        "_distribution",
        "_fitting",
        "_progress",
        "_recipe",
        "_session",
        "data",
    },
    "comparison": {
        "_checks",
        "_distribution",
        "_recipe",
        "data",
        "layers.factory",
        "models",
        "training",
    },
    # The search. What subclasses KerasTuner's classes is imported late.
    "_damage": {"_checks"},
    "_trial": {
        "_damage",
        "_files",
        "_fitting",
        "_progress",
        "_recipe",
        "profiling",
    },
    "_oracles": {"_damage", "_files", "_trial"},
    "_algorithms": {"_checks", "_oracles", "_trial"},
    "_client": {"_workers"},
    "_hypermodel": {
        "_checks",
        "_fitting",
        "_recipe",
        "comparison",
        "layers.factory",
    },
    "_report": {"_files", "_tables", "plotting"},
    "_search_folder": {"_checks", "_files", "_settings"},
    "_tuner": {
        "_checks",
        "_client",
        "_damage",
        "_files",
        "_fitting",
        "_hypermodel",
        "_progress",
        "_report",
        "_trial",
        "_workers",
    },
    "_workers": {"_checks", "_report"},
    "tuning": {
        "_algorithms",
        "_checks",
        "_files",
        "_hypermodel",
        "_recipe",
        "_report",
        "_search_folder",
        "_tuner",
        "_workers",
        "data",
        "training",
    },
    # The paper's tables on other data.
    "_outcomes": {"_checks", "_tables"},
    "_ledger": {"_files", "_settings", "plotting"},
    "ablation": {
        "_checks",
        "_damage",
        "_files",
        "_fitting",
        "_ledger",
        "_outcomes",
        "_recipe",
        "comparison",
        "layers.factory",
        "presets",
        "profiling",
        "training",
    },
    "_tune_command": {"_arguments", "_files", "_workers", "tuning"},
    # Explaining models and images on disk.
    "_examples": {
        "_checks",
        "_decoding",
        "_loading",
        "_pictures",
        "_records",
        "_sources",
    },
    "_classifiers": {
        "_checks",
        "_examples",
        "_graph",
        "_places",
        "layers._attention",
    },
    "_findings": {"_tables"},
    "_explaining": {
        "_checks",
        "_classifiers",
        "_decoding",
        "_examples",
        "_files",
        "_findings",
        "_pictures",
        "_settings",
        "explain",
        "plotting",
    },
    "_explain_command": {
        "_arguments",
        "_checks",
        "_classifiers",
        "_examples",
        "_explaining",
        "_records",
        "explain",
    },
    "_bench_command": {"_arguments", "_checks", "_files"},
    "cli": {
        "",
        "_arguments",
        "_bench_command",
        "_explain_command",
        "_files",
        "_tune_command",
        "ablation",
        "comparison",
        "layers.cbam",
        "reproduction",
        "training",
    },
    "_arguments": {
        "_recipe",
        "comparison",
        "data",
        "layers.cbam",
        "layers.factory",
        "training",
    },
}
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    for path in PACKAGE.rglob("*.py")
)


def imports(module, top_level_only=False):
    """Returns the dotted names that a module of the package imports."""
    path = PACKAGE / (module.replace(".", "/") + ".py")
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else ast.walk(tree)
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            for name in node.names:
                inner = f"{node.module}.{name.name}"
                found.add(inner if is_module(inner) else node.module)
    return found


def is_module(name):
    path = PACKAGE.parent / name.replace(".", "/")
    return path.with_suffix(".py").exists() or path.is_dir()


def test_the_table_names_every_module():
    assert set(MODULES) == set(ALLOWED)


@pytest.mark.parametrize("module", MODULES)
def test_modules_import_only_from_their_left(module):
    own = {
        name.removeprefix("cbam_keras").removeprefix(".")
        for name in imports(module)
        if name.split(".")[0] == "cbam_keras"
    }
    if module == "_settings":
        # For the version that it writes down, at the moment of writing.
        own -= {""}
    assert own <= ALLOWED[module]


# They subclass classes of KerasTuner, or are written for one backend, and are
# imported when that is needed.
LATE = {
    "_algorithms": {"keras_tuner"},
    "_client": {"grpc", "keras_tuner"},
    "_hypermodel": {"keras_tuner"},
    "_oracles": {"keras_tuner"},
    "_tuner": {"keras_tuner"},
    "layers._fused_jax": {"jax"},
    "layers._fused_tensorflow": {"tensorflow"},
    "layers._fused_torch": {"torch"},
}


@pytest.mark.parametrize("module", MODULES)
def test_modules_need_only_keras_and_numpy_to_be_imported(module):
    roots = {name.split(".")[0] for name in imports(module, True)}
    others = roots - set(sys.stdlib_module_names)
    assert others <= {
        "cbam_keras",
        "keras",
        "numpy",
        *LATE.get(module, ()),
    }


@pytest.mark.parametrize("module", MODULES)
def test_what_needs_more_than_keras_is_imported_late(module):
    early = {name.removeprefix("cbam_keras.") for name in imports(module, True)}
    # `tuning` names one where only the type checker looks.
    assert module in LATE or not early & set(LATE)


@pytest.mark.parametrize("module", MODULES)
def test_no_module_uses_private_keras(module):
    assert not {name for name in imports(module) if "keras.src" in name}


def loaded_by(statement):
    code = (
        f"import json, sys; {statement}; "
        "print(json.dumps(sorted({n.split('.')[0] for n in sys.modules})))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
    )
    return set(json.loads(result.stdout.splitlines()[-1]))


def test_importing_the_package_loads_nothing_more_than_keras_does():
    more = loaded_by("import cbam_keras") - loaded_by("import keras")
    assert more - set(sys.stdlib_module_names) == {"cbam_keras"}


def test_tensorflow_is_not_imported_under_other_backends():
    if keras.backend.backend() == "tensorflow":
        pytest.skip("TensorFlow is the backend")
    modules = ", ".join(name for name in ALLOWED if not set(name) & set("_."))
    assert "cli" in modules
    assert "tensorflow" not in loaded_by(f"from cbam_keras import {modules}")


def test_public_names_exist():
    for module in (cbam_keras, cbam_keras.layers):
        assert all(hasattr(module, name) for name in module.__all__)


def test_modules_are_reached_without_importing_them_first():
    script = """
import sys, cbam_keras
assert "cbam_keras.explain" not in sys.modules
assert callable(cbam_keras.explain.grad_cam)
assert callable(cbam_keras.models.ResNet18)
assert {"explain", "CBAM"} <= set(dir(cbam_keras))
try:
    cbam_keras.explainn
except AttributeError as error:
    assert "explainn" in str(error)
else:
    raise SystemExit("no error")
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
