"""Tests of the notebooks as stored; `.ci/run` also executes them."""

import json
import pathlib
import re

import pytest
from test_packaging import REPOSITORY

ROOT = pathlib.Path(__file__).parent.parent
NAMES = [
    "01_add_cbam_to_your_model",
    "02_cbam_into_a_pretrained_network",
    "03_tune_reduction_ratio_and_kernel_size",
    "04_see_what_the_network_attends_to",
    "05_reproduce_the_papers_tables",
    "06_detect_with_a_cbam_backbone",
]
GITHUB = "https://github.com/"
INSTALL = """\
import sys

if "google.colab" in sys.modules:
    %pip install -q "cbam_keras[{}] @ git+{}\""""
# What notebooks need, other than `all`.
EXTRAS = {"06_detect_with_a_cbam_backbone": "all,detect"}
# Absolute paths of some machine, including Windows drives.
MACHINE_PATH = re.compile(
    r"(?<![\w.:/])/(tmp|home|root|work|usr|var|opt|mnt|content|Users|private)/"
    r"|\b[A-Z]:\\"
)
MOST_BYTES = 300_000

each_notebook = pytest.mark.parametrize("name", NAMES)


def read(name):
    return json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text())


def cells(name, kind):
    return [cell for cell in read(name)["cells"] if cell["cell_type"] == kind]


def sources(name, kind):
    return ["".join(cell["source"]) for cell in cells(name, kind)]


def outputs(name):
    return [out for cell in cells(name, "code") for out in cell["outputs"]]


def texts(output):
    """Returns the text of an output, without images."""
    shown = {
        kind: text
        for kind, text in output.get("data", {}).items()
        if not kind.startswith("image/")
    }
    return "".join(output.get("text", "")) + json.dumps(shown)


def test_these_are_all_notebooks():
    found = sorted(path.stem for path in ROOT.glob("notebooks/*.ipynb"))
    assert found == NAMES


@each_notebook
def test_title_is_a_question(name):
    title = sources(name, "markdown")[0].splitlines()[0]
    assert title.startswith("# ") and title.endswith("?")


@each_notebook
def test_badge_opens_this_notebook_in_colab(name):
    colab = "https://colab.research.google.com"
    badge = (
        f"[![Open In Colab]({colab}/assets/colab-badge.svg)]"
        f"({colab}/github/{REPOSITORY.removeprefix(GITHUB)}/blob/main/notebooks/"
        f"{name}.ipynb)"
    )
    assert badge in sources(name, "markdown")[0]


@each_notebook
def test_first_cell_says_how_long_it_takes(name):
    assert re.search(r"takes\s.*minute", sources(name, "markdown")[0], re.S)


@each_notebook
def test_last_section_is_the_conclusion(name):
    headings = re.findall(
        r"^## (.*)$", "\n".join(sources(name, "markdown")), re.M
    )
    assert headings[-1] == "Conclusion"
    assert read(name)["cells"][-1]["cell_type"] == "markdown"


@each_notebook
def test_first_code_installs_on_colab_alone(name):
    first, *others = sources(name, "code")
    assert first == INSTALL.format(EXTRAS.get(name, "all"), REPOSITORY)
    assert not any("pip install" in source for source in others)


@each_notebook
def test_no_layer_is_defined_again(name):
    code = "\n".join(sources(name, "code"))
    assert not re.search(r"^\s*class ", code, re.M)


@each_notebook
def test_cells_have_run_once_in_order(name):
    counts = [cell["execution_count"] for cell in cells(name, "code")]
    assert counts == list(range(1, len(counts) + 1))


@each_notebook
def test_what_is_printed_is_stored(name):
    silent = [
        "".join(cell["source"])
        for cell in cells(name, "code")
        if "print(" in "".join(cell["source"])
        and not any(out["output_type"] == "stream" for out in cell["outputs"])
    ]
    assert silent == []


@each_notebook
def test_what_is_drawn_is_stored_as_a_picture(name):
    drawing = [
        "plotting.plot_" in source or "plt.subplots" in source
        for source in sources(name, "code")
    ]
    pictures = [
        any("image/png" in out.get("data", {}) for out in cell["outputs"])
        for cell in cells(name, "code")
    ]
    assert any(drawing)
    assert pictures == drawing


@each_notebook
def test_outputs_hold_neither_errors_nor_warnings(name):
    kinds = {(out["output_type"], out.get("name")) for out in outputs(name)}
    assert kinds <= {
        ("stream", "stdout"),
        ("execute_result", None),
        ("display_data", None),
    }


@each_notebook
def test_no_output_is_empty(name):
    shown = [out["data"] for out in outputs(name) if "data" in out]
    assert [data for data in shown if not data["text/plain"]] == []


@each_notebook
def test_no_progress_bar_is_stored(name):
    printed = "".join(map(texts, outputs(name)))
    assert not re.search(r"[\b\x1b]|\\u001b|\d/\d+ \S*━", printed)


@each_notebook
def test_no_path_of_a_machine_is_shown(name):
    shown = [*sources(name, "code"), *map(texts, outputs(name))]
    assert [text for text in shown if MACHINE_PATH.search(text)] == []


@each_notebook
def test_metadata_hold_nothing_of_the_run(name):
    notebook = read(name)
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert notebook["metadata"]["language_info"] == {"name": "python"}
    assert not any(cell["metadata"] for cell in notebook["cells"])


@each_notebook
def test_file_is_small(name):
    size = (ROOT / "notebooks" / f"{name}.ipynb").stat().st_size
    assert size < MOST_BYTES


@each_notebook
def test_links_lead_somewhere(name):
    prose = "\n".join(sources(name, "markdown"))
    linked = re.findall(r"\]\(([^()]+)\)", prose)
    within = [f"notebooks/{link}" for link in linked if "://" not in link]
    of_main = [
        link.removeprefix(f"{REPOSITORY}/blob/main/")
        for link in linked
        if link.startswith(f"{REPOSITORY}/blob/main/")
    ]
    assert within or of_main
    assert [x for x in within + of_main if not (ROOT / x).is_file()] == []


@each_notebook
def test_readme_lists_it(name):
    link = f"({REPOSITORY}/blob/main/notebooks/{name}.ipynb)"
    assert link in (ROOT / "README.md").read_text()
