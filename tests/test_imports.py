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

TESTS = pathlib.Path(__file__).parent
PACKAGE = pathlib.Path(cbam_keras.__file__).parent
# Each entry of the package may import from those before it. In the first part
# are the layers and what looks at networks, in the second what trains them.
LIBRARY = """
    _version _process _checks _fused optimizers _files _terminal
    layers convert _inspection plotting models insertion profiling presets
    explain monitor auditing exporting
""".split()
LABORATORY = """
    data recipes _devices study training comparison ablation detection tuning
    _explanations report cli
""".split()
ORDER = LIBRARY + LABORATORY
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    for path in PACKAGE.rglob("*.py")
)
# Lines, which read in one sitting.
MOST_LINES = 600


@functools.cache
def parsed(path):
    return ast.parse(path.read_text())


def tree(module):
    return parsed(PACKAGE / (module.replace(".", "/") + ".py"))


@functools.cache
def imports(module, top_level_only=False):
    """Returns the dotted names that a module of the package imports."""
    nodes = tree(module).body if top_level_only else ast.walk(tree(module))
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


def offences(of):
    """Returns what `of` finds in each module that it finds something in."""
    found = {module: of(module) for module in MODULES}
    return {module: sorted(names) for module, names in found.items() if names}


def entry(module):
    return module.split(".")[0]


def imported(module):
    """Returns the entries of the package that a module imports from."""
    names = imports(module)
    return {n.split(".")[1] for n in names if entry(n) == "cbam_keras"}


# Its tree.


def test_the_order_names_every_entry():
    entries = {entry(module) for module in MODULES}
    assert entries == {*ORDER, "__init__", "__main__"}
    # One screen.
    assert len(entries) <= 34


def test_files_read_in_one_sitting():
    long = [
        path.name
        for path in (*PACKAGE.rglob("*.py"), *TESTS.glob("*.py"))
        if len(path.read_text().splitlines()) > MOST_LINES
    ]
    assert not long


def test_doors_name_each_room():
    def wrong(module):
        folder, _, door = module.rpartition(".")
        if door != "__init__" or not folder:
            return set()
        # "- `room`, `room`: what they hold."
        docstring = ast.get_docstring(tree(module))
        listed = re.findall(r"^- (`[^:]*):", docstring, re.M)
        named = {n for line in listed for n in re.findall(r"`(\w+)`", line)}
        rooms = {m for m in MODULES if m.startswith(f"{folder}.")} - {module}
        return named ^ {room.rpartition(".")[2] for room in rooms}

    assert offences(wrong) == {}


# Its imports.


def test_modules_import_only_from_their_left():
    def wrong(module):
        left = ORDER.index(entry(module)) + 1 if entry(module) in ORDER else 99
        return imported(module) - set(ORDER[:left])

    assert offences(wrong) == {}


def test_the_library_imports_nothing_from_the_laboratory():
    def wrong(module):
        return imported(module) & set(
            LABORATORY if entry(module) in LIBRARY else ()
        )

    assert offences(wrong) == {}


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
    "detection.detector": {"keras_hub"},
    "tuning.hypermodel": {"keras_tuner"},
    "tuning.tuner": {"keras_tuner"},
}


def test_modules_need_only_keras_and_numpy_to_be_imported():
    free = {"cbam_keras", "keras", "numpy", *sys.stdlib_module_names}
    # What the command does before Keras is imported.
    free |= {"_cbam_keras_command"}

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


def test_no_module_uses_private_keras():
    def wrong(module):
        return {name for name in imports(module) if "keras.src" in name}

    assert offences(wrong) == {}


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

# What users write: every path of the documentation.
PUBLIC = {
    "ablation": "ABLATIONS TABLES AblationResults AblationRow run",
    "auditing": "Audit audit",
    "blocks": "basic_block bottleneck_block",
    "cli": "main",
    "comparison": "NETWORKS Comparison compare",
    "convert": "Report load_torch_weights",
    "data": "AUGMENTATIONS EMBEDDED ImageData load",
    "detection": "AUGMENTATIONS EMBEDDED DetectionData DetectionResults "
    "compare feature_pyramid load_data load_model",
    "explain": "METHODS attention_maps class_probabilities grad_cam "
    "pointing_game",
    "exporting": "Exported export_model",
    "insertion": "Place Places freeze_batch_norm insert_attention",
    "layers": "CBAM VARIANTS ChannelAttention SpatialAttention "
    "SqueezeExcite make_attention",
    "models": "EfficientNetLite0 MobileNet ResNeXt50 ResNeXt101 ResNet "
    "ResNet18 ResNet34 ResNet50 ResNet101 ResNet152 WideResNet18 "
    "preprocess_input pyramid",
    "monitor": "AttentionMonitor",
    "plotting": "plot_ablation plot_attention_maps plot_grad_cam "
    "plot_history plot_pareto plot_search",
    "presets": "ABLATIONS PRESETS Preset build_preset",
    "profiling": "Profile Row profile_model",
    "report": "write",
    "study": "Budget Classification Estimate Outcome Results Row Study Task "
    "Variant estimate run",
    "reproduction": "PaperTables TableRow paper_tables",
    "training": "RECIPES Distribution Recipe Results Run train",
    "tuning": "CBAMHyperModel Confirmed SearchResults Trial search",
}


def test_public_paths_hold():
    wrong = {}
    for module, names in PUBLIC.items():
        found = getattr(importlib.import_module("cbam_keras"), module)
        names = names.split()
        missing = {name for name in names if not hasattr(found, name)}
        unknown = set(getattr(found, "__all__", ())) - set(names)
        if missing or unknown:
            wrong[module] = sorted(missing | unknown)
    assert wrong == {}
    assert all(hasattr(cbam_keras, name) for name in cbam_keras.__all__)


def test_modules_are_attributes_of_the_package():
    assert {"explain", "CBAM"} <= set(dir(cbam_keras))
    with pytest.raises(AttributeError, match="explainn"):
        cbam_keras.explainn  # noqa: B018


# What tests import from inside the package, where no public name shows the
# fact. Anything else they import from the root, or by the door of a folder.
# Without `cbam_keras.`, and the names of the files without `.py`.
INSIDES = {
    "digits": "data.digits",
    "fused_checks": "_fused.private",
    "layer_checks": "_fused.decorator",
    "networks": "models.by_name",
    "slowed_script": "_process",
    "test_convert_torch_files": "convert.legacy convert.torch_files",
    "test_data_batches": "data.decoding",
    "test_data_folder": "data.loading",
    "test_devices": "_devices _files",
    "test_detection_comparing": "detection.batches detection.evaluation",
    "test_detection_detector": "detection.batches detection.detector",
    "test_detection_evaluation": "detection.batches detection.detector "
    "detection.evaluation",
    "test_detection_scenes": "detection.batches",
    "test_explain_images": "_explanations data.tfds",
    "test_cli_explain": "_explanations",
    "test_cli_runs": "_explanations cli.options",
    "test_explain_explaining": "_explanations",
    "test_explain_runs": "_explanations _files",
    "test_files": "_files",
    "test_fused": "_fused.decorator",
    "test_fused_contract": "_fused _fused.private",
    "test_fused_layers": "_fused _fused.decorator",
    "test_fused_tensorflow": "_fused _fused.private",
    "test_fused_torch": "_fused.torch_passes",
    "test_process": "_process",
    "test_random_kills": "_files",
    "test_terminal": "_terminal",
    "test_tuning_workers": "tuning.search tuning.tuner",
    "training_checks": "study.checkpoints",
}


def inside(path):
    """Returns what a test file imports that is not public."""
    found = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            names = [(alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [(node.module or "", alias.name) for alias in node.names]
        else:
            continue
        for module, name in names:
            if entry(module) != "cbam_keras":
                continue
            full = f"{module}.{name}" if name else module
            if module.count(".") > 1:
                found.add(module)
            elif name and (name[0] == "_" or is_room(module, name)):
                found.add(full)
            elif "._" in module:
                found.add(module)
    return found


@functools.cache
def is_room(folder, name):
    """Returns whether a name is a file of a folder, and not a public name."""
    if folder == "cbam_keras" or not is_module(f"{folder}.{name}"):
        return False
    door = parsed(PACKAGE.parent / folder.replace(".", "/") / "__init__.py")
    return not any(
        name in (alias.asname or alias.name for alias in node.names)
        for node in door.body
        if isinstance(node, ast.ImportFrom)
    )


def test_tests_import_public_names():
    found = {path.stem: inside(path) for path in sorted(TESTS.glob("*.py"))}
    wrong = []
    for file in sorted({*found, *INSIDES}):
        known = {f"cbam_keras.{x}" for x in INSIDES.get(file, "").split()}
        names = found.get(file, set())
        wrong += [f"{file} imports {name}" for name in sorted(names - known)]
        wrong += [f"{file} need not {name}" for name in sorted(known - names)]
    assert wrong == [], "\n".join(wrong)
