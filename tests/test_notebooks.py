"""The notebooks as stored; `.ci/run` also executes them, and runs this then."""

import json
import pathlib
import re

import nbformat
import pytest
from test_packaging import REPOSITORY

FOLDER = pathlib.Path(__file__).parent.parent / "notebooks"
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


@pytest.mark.parametrize(
    "path", sorted(FOLDER.glob("*.ipynb")), ids=lambda path: path.stem
)
def test_it_is_whole_clean_of_no_machine_and_installs_in_colab(path):
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
    file = f"/blob/main/notebooks/{path.name}"
    address = REPOSITORY.replace("https://github.com", "/github") + file
    assert f"(https://colab.research.google.com{address})" in (
        notebook.cells[0].source
    )
    assert f"@ git+{REPOSITORY}" in code[0].source
    assert not any("pip install" in cell.source for cell in code[1:])
