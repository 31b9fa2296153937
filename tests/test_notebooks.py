"""The notebooks as stored; `.ci/run` also executes them, and runs this then."""

import json
import pathlib
import re
import sys
from types import SimpleNamespace

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager

import cbam_keras

FOLDER = pathlib.Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
# Absolute paths of some machine, including Windows drives.
MACHINE_PATH = re.compile(
    r"(?<![\w.:/])/(tmp|home|root|work|usr|var|opt|mnt|content|Users|private)/"
    r"|\b[A-Z]:\\"
)
PROGRESS_BAR = re.compile(r"[\b\x1b]|\\u001b|\d/\d+ \S*━")
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
    shown += [cell.source for cell in code]
    assert not [text for text in shown if MACHINE_PATH.search(text)]
    assert path.stat().st_size < MOST_BYTES
    assert not any("pip install" in cell.source for cell in code[1:])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_installs_your_copy_or_asks_where_it_is(path, tmp_path, monkeypatch):
    notebook = nbformat.read(path, as_version=4)
    source = next(x.source for x in notebook.cells if x.cell_type == "code")
    asked = []

    def install(*magic):
        asked.append(magic)
        monkeypatch.setitem(sys.modules, "cbam_keras", cbam_keras)

    def run(folder):
        monkeypatch.chdir(folder)
        # As if it were not installed.
        monkeypatch.setitem(sys.modules, "cbam_keras", None)
        code = TransformerManager().transform_cell(source)
        shell = SimpleNamespace(run_line_magic=install)
        exec(code, {"get_ipython": lambda: shell})  # noqa: S102

    with pytest.raises(FileNotFoundError, match="`copy` must be the folder"):
        run(tmp_path)
    assert asked == []
    run(FOLDER)
    pattern = r'install -q (scikit-image )?"{copy.resolve\(\)}\[all(,\w+)?\]"'
    ((magic, line),) = asked
    assert magic == "pip" and re.fullmatch(pattern, line)
