"""What the documentation says is so: examples run, arguments are named."""

import doctest
import inspect
import pathlib
import re

import keras
import keras_tuner
import numpy as np
import pytest

import cbam_keras
from cbam_keras import (
    ablation,
    comparison,
    convert,
    data,
    insertion,
    layers,
    models,
    plotting,
    presets,
    profiling,
    reproduction,
    training,
    tuning,
)

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
MODULES = [
    cbam_keras,
    layers,
    models,
    data,
    plotting,
    training,
    tuning,
    ablation,
    comparison,
    convert,
    insertion,
    presets,
    profiling,
    reproduction,
]
# What functions return documents attributes instead of arguments.
RETURNED = (
    ablation.AblationResults,
    ablation.AblationRow,
    convert.Report,
    data.ImageData,
    insertion.Place,
    insertion.Places,
    presets.Preset,
    profiling.Profile,
    profiling.Row,
    reproduction.PaperTables,
    reproduction.TableRow,
    training.Results,
    training.Run,
    tuning.SearchResults,
    tuning.Trial,
)


def public(module):
    """Returns the public classes and functions that a module defines."""
    names = getattr(module, "__all__", None) or [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and getattr(value, "__module__", None) == module.__name__
    ]
    values = {name: getattr(module, name) for name in names}
    return {name: value for name, value in values.items() if callable(value)}


PUBLIC = {
    name: value for module in MODULES for name, value in public(module).items()
}
CONSTRUCTED = {
    name: value for name, value in PUBLIC.items() if value not in RETURNED
}
everything = pytest.mark.parametrize("name", sorted(PUBLIC))


def sections(docstring):
    """Returns the text below each heading of a docstring."""
    parts = re.split(
        r"^([A-Z][a-z ]+):$", inspect.cleandoc(docstring), flags=re.M
    )
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@everything
def test_docstrings_begin_with_a_sentence(name):
    first = PUBLIC[name].__doc__.split("\n\n")[0]
    assert first[0].isupper()
    assert not first.startswith(("This ", "A class"))


@pytest.mark.parametrize("name", sorted(CONSTRUCTED))
def test_arguments_are_documented_in_order(name):
    documented = re.findall(
        r"^    \*{0,2}(\w+):",
        sections(CONSTRUCTED[name].__doc__).get("Args", ""),
        flags=re.M,
    )
    signature = inspect.signature(CONSTRUCTED[name])
    assert documented == list(signature.parameters)


@pytest.mark.parametrize("name", sorted(CONSTRUCTED))
def test_documented_defaults_are_true(name):
    text = sections(CONSTRUCTED[name].__doc__).get("Args", "")
    entries = re.split(r"^    (?=\*{0,2}\w+:)", text, flags=re.M)[1:]
    documented = {
        entry.split(":")[0]: match[1]
        for entry in entries
        if (
            match := re.search(
                r"Defaults\s+to\s+`([^`]*)`", " ".join(entry.split())
            )
        )
    }
    defaults = {
        parameter.name: repr(parameter.default).replace("'", '"')
        for parameter in inspect.signature(
            CONSTRUCTED[name]
        ).parameters.values()
        if parameter.default is not inspect.Parameter.empty
    }
    assert documented == defaults


@everything
def test_docstring_examples_run(name, tmp_path):
    tests = doctest.DocTestFinder(recurse=False).find(
        PUBLIC[name],
        name,
        globs={
            **PUBLIC,
            "cbam_keras": cbam_keras,
            "keras": keras,
            "keras_tuner": keras_tuner,
            "np": np,
            "folder": tmp_path,
        },
        module=False,
    )
    # What training prints of its progress differs from run to run.
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    failures = [runner.run(test).failed for test in tests]
    assert not any(failures)


@pytest.mark.parametrize(
    "name",
    sorted(
        name
        for name, value in PUBLIC.items()
        if inspect.isclass(value) and issubclass(value, keras.layers.Layer)
    ),
)
def test_layers_document_shapes_errors_and_source(name):
    headings = set(sections(PUBLIC[name].__doc__))
    assert {
        "Args",
        "Call arguments",
        "Input shape",
        "Output shape",
        "Raises",
        "Example",
        "Reference",
    } <= headings


def test_readme_examples_run_in_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    assert len(blocks) >= 4
    names = {}
    for block in blocks:
        # There is no network here to download weights from.
        block = re.sub(r'weights="[^"]+"', "weights=None", block)
        exec(compile(block, "README.md", "exec"), names)  # noqa: S102
    assert names["channel_map"].shape == (2, 1, 1, 64)
    assert names["spatial_map"].shape == (2, 32, 32, 1)


@pytest.mark.parametrize(
    "file",
    [
        "README.md",
        "docs/ablation.md",
        "docs/fidelity.md",
        "docs/search.md",
    ],
)
def test_links_and_tests_named_in_prose_exist(file):
    text = (ROOT / file).read_text()
    folder = (ROOT / file).parent
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert (folder / target).exists(), target
    tests = "".join(path.read_text() for path in ROOT.glob("tests/*.py"))
    for named in re.findall(r"`(test_\w+)`", text):
        assert f"def {named}(" in tests, named
    for named in re.findall(r"(test_\w+\.py)", text):
        assert (ROOT / "tests" / named).exists(), named


def test_readme_and_contributing_give_the_same_test_command():
    command = re.search(r"^python3 -m venv .* -m pytest$", README, re.M)[0]
    assert command in (ROOT / "CONTRIBUTING.md").read_text()


@pytest.mark.parametrize(
    "file",
    [
        "README.md",
        "docs/search.md",
        "docs/cluster/slurm.sh",
        "docs/cluster/kubernetes.yaml",
    ],
)
def test_options_in_prose_exist(file, capsys):
    from cbam_keras.cli import main

    for command in ("train", "tune", "ablate", "table"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
    described = capsys.readouterr().out
    # Nor those of other programs.
    text = re.sub(
        r"^.*(sbatch|srun|SBATCH|kubectl).*$", "", _read(file), flags=re.M
    )
    options = re.findall(r"(?<![\w-])(--[a-z][a-z-]+)", text)
    assert options
    for option in options:
        assert option in described, option


def test_search_of_ones_own_network_runs_as_written(
    few_digits, tmp_path, monkeypatch
):
    (block,) = re.findall(
        r"```python\n(.*?)```", _read("docs/search.md"), flags=re.S
    )
    block = block.replace(
        "tuning.search(",
        "tuning.search(max_trials=2, recipe=training.Recipe(epochs=1), "
        "hypermodel=",
        1,
    ).replace("    my_images,", "    images=my_images,")
    monkeypatch.chdir(tmp_path)
    names = {
        "training": training,
        "my_backbone": lambda: keras.Sequential(
            [
                keras.Input((28, 28, 1)),
                keras.layers.Conv2D(4, 3, strides=4),
                keras.layers.ReLU(),
                keras.layers.GlobalAveragePooling2D(),
                keras.layers.Dense(10),
            ]
        ),
        "my_images": data.load("mnist5k"),
    }
    exec(compile(block, "docs/search.md", "exec"), names)  # noqa: S102
    kinds = [trial.values["attention"] for trial in names["results"].trials]
    assert kinds == ["none", "se"]
    assert (tmp_path / "runs" / "mine" / "best.keras").is_file()


def _read(file):
    return (ROOT / file).read_text()


def test_version_is_stated_once():
    assert "version =" not in re.sub(
        r"\[tool\.setuptools\.dynamic\]\nversion = .*",
        "",
        (ROOT / "pyproject.toml").read_text(),
    )
