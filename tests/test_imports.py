"""The shape of the package: its tree, its imports, its public paths."""

import ast
import functools
import importlib
import json
import pathlib
import re
import subprocess
import sys

import keras
import pytest

import cbam_keras

PACKAGE = pathlib.Path(cbam_keras.__file__).parent
# Each entry of the package may import from those before it.
ORDER = """
    _version _process _checks _fused optimizers _files _terminal _run_folder
    layers convert _inspection plotting data models insertion profiling explain
    monitor auditing exporting training comparison detection presets tuning
    ablation report cli
""".split()
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    for path in PACKAGE.rglob("*.py")
)


@functools.cache
def parsed(module):
    path = PACKAGE / (module.replace(".", "/") + ".py")
    return ast.parse(path.read_text())


@functools.cache
def imports(module, top_level_only=False):
    """Returns the dotted names that a module of the package imports."""
    tree = parsed(module)
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


def test_the_order_names_every_entry():
    assert {module.split(".")[0] for module in MODULES} == {
        *ORDER,
        "__init__",
        "__main__",
    }


def test_the_top_level_is_one_screen():
    entries = {module.split(".")[0] for module in MODULES} - {"__main__"}
    assert len(entries) <= 30


@pytest.mark.parametrize("module", MODULES)
def test_files_read_in_one_sitting(module):
    path = PACKAGE / (module.replace(".", "/") + ".py")
    assert len(path.read_text().splitlines()) <= 400


@pytest.mark.parametrize(
    "folder",
    sorted({module.split(".")[0] for module in MODULES if "." in module}),
)
def test_doors_name_each_room(folder):
    docstring = ast.get_docstring(parsed(f"{folder}.__init__"))
    rooms = {
        module.partition(".")[2]
        for module in MODULES
        if module.startswith(f"{folder}.")
    } - {"__init__"}
    # "- `room`, `room`: what they hold."
    listed = re.findall(r"^- (`[^:]*):", docstring, re.M)
    named = {name for line in listed for name in re.findall(r"`(\w+)`", line)}
    assert named == rooms


@pytest.mark.parametrize("module", MODULES)
def test_modules_import_only_from_their_left(module):
    entry = module.split(".")[0]
    left = ORDER[: ORDER.index(entry) + 1] if entry in ORDER else ORDER
    own = {
        name.split(".")[1]
        for name in imports(module)
        if name.split(".")[0] == "cbam_keras"
    }
    assert own <= set(left)


@pytest.mark.parametrize("module", MODULES)
def test_other_folders_are_entered_by_their_door(module):
    inside = {
        name
        for name in imports(module)
        if name.startswith("cbam_keras.")
        and name.split(".")[1] != module.split(".")[0]
    }
    assert all(name.count(".") == 1 for name in inside)


# What users write: every path of the documentation.
PUBLIC = {
    "ablation": [
        "ABLATIONS",
        "TABLES",
        "AblationResults",
        "AblationRow",
        "run",
    ],
    "auditing": ["Audit", "audit"],
    "blocks": ["basic_block", "bottleneck_block"],
    "cli": ["main"],
    "comparison": ["NETWORKS", "Comparison", "compare"],
    "convert": ["Report", "load_torch_weights"],
    "data": ["AUGMENTATIONS", "EMBEDDED", "ImageData", "load"],
    "detection": [
        *("AUGMENTATIONS", "EMBEDDED", "DetectionData", "DetectionResults"),
        *("compare", "feature_pyramid", "load_data", "load_model"),
    ],
    "explain": [
        *("METHODS", "attention_maps", "class_probabilities", "grad_cam"),
        "pointing_game",
    ],
    "exporting": ["Exported", "export_model"],
    "insertion": ["Place", "Places", "insert_attention"],
    "layers": [
        *("CBAM", "VARIANTS", "ChannelAttention", "SpatialAttention"),
        *("SqueezeExcite", "make_attention"),
    ],
    "models": [
        *("MobileNet", "ResNeXt50", "ResNeXt101", "ResNet", "ResNet18"),
        *("ResNet34", "ResNet50", "ResNet101", "ResNet152", "WideResNet18"),
        *("preprocess_input", "pyramid"),
    ],
    "monitor": ["AttentionMonitor"],
    "plotting": [
        *("plot_ablation", "plot_attention_maps", "plot_grad_cam"),
        *("plot_history", "plot_pareto", "plot_search"),
    ],
    "presets": ["ABLATIONS", "PRESETS", "Preset", "build_preset"],
    "profiling": ["Profile", "Row", "profile_model"],
    "report": ["write"],
    "reproduction": ["paper_tables"],
    "training": [
        *("RECIPES", "Distribution", "Recipe", "Results", "Run", "train"),
    ],
    "tuning": [
        *("CBAMHyperModel", "Confirmed", "SearchResults", "Trial"),
        "search",
    ],
}


@pytest.mark.parametrize("module", sorted(PUBLIC))
def test_public_paths_hold(module):
    found = getattr(importlib.import_module("cbam_keras"), module)
    missing = [name for name in PUBLIC[module] if not hasattr(found, name)]
    assert not missing
    assert set(getattr(found, "__all__", ())) <= set(PUBLIC[module])


# Imported only when needed: they subclass classes of KerasTuner or KerasHub, or
# are written for one backend.
LATE = {
    "_fused.jax_passes": {"jax"},
    "_fused.tensorflow_passes": {"tensorflow"},
    "_fused.torch_passes": {"torch"},
    "detection.backbone": {"keras_hub"},
    "detection.detector": {"keras_hub"},
    "tuning.chief": {"grpc"},
    "tuning.hypermodel": {"keras_tuner"},
    "tuning.oracle": {"keras_tuner"},
    "tuning.remote": {"grpc", "keras_tuner"},
    "tuning.tuner": {"keras_tuner"},
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
    # The door of `tuning` names one where only the type checker looks.
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


@pytest.mark.every_backend
def test_importing_the_package_loads_nothing_more_than_keras_does():
    more = loaded_by("import cbam_keras") - loaded_by("import keras")
    assert more - set(sys.stdlib_module_names) == {"cbam_keras"}


@pytest.mark.every_backend
def test_tensorflow_is_not_imported_under_other_backends():
    if keras.backend.backend() == "tensorflow":
        pytest.skip("TensorFlow is the backend")
    modules = ", ".join(name for name in ORDER if name[0] != "_")
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
