"""Tests of docstrings: arguments and defaults match, examples run."""

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
    auditing,
    comparison,
    convert,
    data,
    detection,
    explain,
    exporting,
    insertion,
    layers,
    models,
    monitor,
    plotting,
    presets,
    profiling,
    report,
    reproduction,
    training,
    tuning,
)

ROOT = pathlib.Path(__file__).parent.parent
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
    detection,
    convert,
    explain,
    auditing,
    exporting,
    insertion,
    monitor,
    presets,
    profiling,
    report,
    reproduction,
]
# Returned by functions; they document attributes instead of arguments.
RETURNED = (
    ablation.AblationResults,
    ablation.AblationRow,
    auditing.Audit,
    comparison.Comparison,
    convert.Report,
    data.ImageData,
    detection.DetectionData,
    detection.DetectionResults,
    exporting.Exported,
    insertion.Place,
    insertion.Places,
    presets.Preset,
    profiling.Profile,
    profiling.Row,
    reproduction.PaperTables,
    reproduction.TableRow,
    training.Results,
    training.Run,
    tuning.Confirmed,
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


PUBLIC: dict = {}
for module in MODULES:
    for name, value in public(module).items():
        # Of two modules, as `comparison.compare` and `detection.compare`.
        if PUBLIC.get(name, value) is not value:
            name = f"{module.__name__.removeprefix('cbam_keras.')}.{name}"
        PUBLIC[name] = value
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
    # The progress that training prints differs from run to run.
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


def test_version_is_stated_once():
    assert "version =" not in re.sub(
        r"\[tool\.setuptools\.dynamic\]\nversion = .*",
        "",
        (ROOT / "pyproject.toml").read_text(),
    )
