"""The notebooks as stored; `.ci/run` also executes them, and runs this then."""

import ast
import functools
import importlib
import inspect
import json
import pathlib
import re

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager

import cbam_keras

FOLDER = pathlib.Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
# Absolute paths of some machine, including Windows drives.
MACHINE_PATH = re.compile(
    r"(?<![\w.:/])/(tmp|home|root|work|usr|var|opt|mnt|content|kaggle|Users|"
    r"private)/|\b[A-Z]:\\"
)
PROGRESS_BAR = re.compile(r"[\b\x1b]|\\u001b|\d/\d+ \S*━")
# A result in prose: a percentage, or a difference in points. The level of a
# confidence interval is none.
RESULT = re.compile(r"[+-]?\d+(?:\.\d+)?(?= ?%(?! conf)| points?\b)")
NUMBER = re.compile(r"\d+(?:\.\d+)?")
# Photographs take most of it.
MOST_BYTES = 1_100_000
# No error, and nothing on standard error.
CLEAN = {("stream", "stdout"), ("execute_result", None), ("display_data", None)}


def texts(output):
    """Returns the text of an output, without images."""
    shown = {
        kind: text
        for kind, text in output.get("data", {}).items()
        if not kind.startswith("image/")
    }
    return output.get("text", "") + json.dumps(shown)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_whole_clean_and_of_no_machine(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [x for x in notebook.cells if x.cell_type == "code"]
    counts = [cell.execution_count for cell in code]
    assert counts == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert {(x.output_type, x.get("name")) for x in outputs} <= CLEAN
    shown = [*map(texts, outputs)]
    assert not [text for text in shown if PROGRESS_BAR.search(text)]
    # The first cell looks for archives in those of Colab and Kaggle.
    shown += code_of(path)[1:]
    assert not [text for text in shown if MACHINE_PATH.search(text)]
    assert path.stat().st_size < MOST_BYTES
    assert not any("pip install" in cell.source for cell in code[1:])
    # A kernel does not find `cbam-keras` unless its environment is activated.
    commands = re.findall(r"^ *!.*cbam.keras", "\n".join(shown), re.M)
    assert all("{sys.executable}" in line for line in commands)


def code_of(path):
    """Returns the sources of the cells with code."""
    cells = nbformat.read(path, as_version=4).cells
    return [cell.source for cell in cells if cell.cell_type == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_it_calls_of_the_package_has_these_arguments(path):
    """Most notebooks are executed before a release alone."""
    python = TransformerManager().transform_cell("\n".join(code_of(path)))
    nodes = [*ast.walk(ast.parse(python))]
    used = {"cbam_keras": cbam_keras}
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and "cbam_keras" in node.module:
            module = importlib.import_module(node.module)
            used |= {x.name: getattr(module, x.name) for x in node.names}
    for node in nodes:
        is_call = isinstance(node, ast.Call)
        name = ast.unparse(node.func if is_call else node)
        first, *others = name.split(".")
        if re.fullmatch(r"[\w.]+", name) and first in used:
            # Fails where there is no such name, or argument.
            found = functools.reduce(getattr, others, used[first])
            if is_call:
                given = {x.arg: None for x in node.keywords if x.arg}
                inspect.signature(found).bind_partial(*node.args, **given)


EXTRA = re.compile(r"(?<=\[)(all|notebooks)(?=\]\"$)", re.M)


def test_all_begin_with_the_same_cell_but_for_what_they_need():
    notebooks = [*map(code_of, NOTEBOOKS)]
    # What looks for the packages of an extra.
    looks = re.compile(r"\nelif not all(.*)", re.S)
    (cell,) = {looks.sub("", EXTRA.sub("", first)) for first, *_ in notebooks}
    # Colab folds the cell.
    assert cell.startswith('# @title Install { display-mode: "form" }\n')
    more = re.compile(r"skimage|elpv_dataset|examples\.detection")
    for first, *others in notebooks:
        needs_more = more.search("\n".join(others))
        assert EXTRA.search(first)[0] == ("notebooks" if needs_more else "all")
        assert bool(needs_more) == bool(looks.search(first))


def test_they_lead_to_no_file_that_an_uploaded_notebook_lacks():
    text = "".join(path.read_text() for path in NOTEBOOKS)
    assert not re.findall(r"\]\((?!http)[^)]*\)", text)
    # They name pages and notebooks, which are links in the site.
    pages = re.findall(r"`(docs/[^`]*)`", text)
    assert pages and all((FOLDER.parent / page).exists() for page in pages)
    numbers = re.findall(r"[Nn]otebook (\d\d)", text)
    assert {*numbers} <= {path.stem[:2] for path in NOTEBOOKS}


def unprinted(cells):
    """Returns the results that prose names and no cell has printed."""
    printed, unknown = [], []
    for cell in cells:
        if cell.cell_type == "code":
            shown = " ".join(texts(output) for output in cell.outputs)
            printed += map(float, NUMBER.findall(shown))
            continue
        for text in RESULT.findall(cell.source):
            decimals = len(text.partition(".")[2])
            number = abs(float(text))
            if not any(round(x, decimals) == number for x in printed):
                unknown.append(text)
    return unknown


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_prose_names_only_results_that_a_cell_has_printed(path):
    assert not unprinted(nbformat.read(path, as_version=4).cells)


def test_a_result_that_no_cell_has_printed_is_found():
    code = nbformat.v4.new_code_cell("print(mean)")
    code.outputs = [nbformat.v4.new_output("stream", text="+6.84 points\n")]
    prose = "CBAM is 6.8 points better, and none reaches 94% or 41.5 %."
    cells = [code, nbformat.v4.new_markdown_cell(prose)]
    assert unprinted(cells) == ["94", "41.5"]
