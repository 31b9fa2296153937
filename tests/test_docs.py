"""Docstrings: arguments and defaults match signatures, examples run."""

import doctest
import inspect
import pathlib
import re
import runpy

import keras
import keras_tuner
import numpy as np
import pytest
from test_imports import PUBLIC as PATHS

import cbam_keras
from cbam_keras import insertion
from cbam_keras.layers import AttentionLayer, TrainableAttention


def _public():
    """Returns the public classes and functions, by name."""
    found = {name: getattr(cbam_keras, name) for name in cbam_keras.__all__}
    for module, names in PATHS.items():
        # The command has no page.
        if module == "cli":
            continue
        for name in names:
            value = getattr(getattr(cbam_keras, module), name)
            # Two modules have it.
            if found.get(name, value) is not value:
                name = f"{module}.{name}"
            found[name] = value
    return {name: value for name, value in found.items() if callable(value)}


PUBLIC = _public()
PAGES = pathlib.Path(__file__).parents[1] / "docs/reference.py"
# Returned by functions; it has no attributes of its own.
TUPLES = (insertion.Places,)


def sections(docstring):
    """Returns the text below each heading of a docstring."""
    parts = re.split(
        r"^([A-Z][a-z ]+):$", inspect.cleandoc(docstring), flags=re.M
    )
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def documented(text):
    """Returns the arguments in a section, each with its default or `None`."""
    found = {}
    for entry in re.split(r"^    (?=\*{0,2}\w+:)", text, flags=re.M)[1:]:
        default = re.search(r"Defaults\s+to\s+`([^`]*)`", entry)
        found[entry.split(":")[0].lstrip("*")] = default and " ".join(
            default[1].split()
        )
    return found


def parameters_of(value):
    """Returns the parameters of a call, also those of a layer's base class.

    Layers pass these on by `**kwargs`, and document them before it.
    """
    parameters = dict(inspect.signature(value).parameters)
    kwargs = parameters.pop("kwargs", None)
    for base in (TrainableAttention, AttentionLayer):
        if inspect.isclass(value) and issubclass(value, base):
            for name, parameter in inspect.signature(base).parameters.items():
                if name != "kwargs":
                    parameters.setdefault(name, parameter)
    if kwargs is not None:
        parameters["kwargs"] = kwargs
    return parameters.values()


def test_documented_arguments_are_those_of_the_signature():
    wrong, explained = {}, runpy.run_path(str(PAGES))["explained"]
    for name, value in PUBLIC.items():
        parts = sections(explained(value))
        returned = "Attributes" in parts or value in TUPLES
        if "Args" not in parts and returned:
            # Functions return it, and users do not make it.
            continue
        expected = {
            # An empty dictionary, made anew, has no name.
            parameter.name: None
            if parameter.default is parameter.empty
            or repr(parameter.default) == "<factory>"
            else repr(parameter.default).replace("'", '"')
            for parameter in parameters_of(value)
        }
        found = documented(parts.get("Args", ""))
        # The order counts.
        if [*found.items()] != [*expected.items()]:
            wrong[name] = {*found.items()} ^ {*expected.items()} or "order"
    assert wrong == {}


@pytest.mark.parametrize("name", PUBLIC)
def test_no_paragraph_stands_twice_in_a_docstring(name):
    paragraphs = inspect.getdoc(PUBLIC[name]).split("\n\n")
    texts = [" ".join(paragraph.split()) for paragraph in paragraphs]
    assert [text for text in texts if texts.count(text) > 1] == []


# Examples that take about a second or more, most of them builders that share a
# docstring with `ResNet`.
DEAR = """
    EfficientNetLite0 MobileNet MobileNetV2 Regression ResNet34 ResNet50
    ResNet101 ResNet152 ResNeXt50 ResNeXt101 Segmentation WideResNet18 adopt
    build_preset compare freeze_batch_norm insert_attention remove_attention
    run search to_core train
""".split()


@pytest.mark.parametrize(
    "chosen",
    [
        [name for name in PUBLIC if name not in DEAR],
        pytest.param(DEAR, marks=pytest.mark.exhaustive),
    ],
    ids=["quick", "dear"],
)
def test_docstring_examples_run(tmp_path, chosen):
    names = {"cbam_keras": cbam_keras, "keras": keras, "np": np, **PUBLIC}
    names["keras_tuner"] = keras_tuner
    finder = doctest.DocTestFinder(recurse=False)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    failed, tried = [], 0
    for name in chosen:
        keras.utils.clear_session(free_memory=False)
        folder = tmp_path / name
        folder.mkdir()
        if name == "write":
            # A report is of a run.
            (folder / "study.json").write_text("{}")
        globs = {**names, "folder": folder}
        for test in finder.find(PUBLIC[name], name, globs=globs, module=False):
            result = runner.run(test)
            failed += [name] * bool(result.failed)
            tried += result.attempted
    assert not failed
    assert tried > len(chosen)
