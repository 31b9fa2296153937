"""The notebooks as stored; `.ci/run` also executes them, and runs this then."""

import json
import pathlib
import re

import nbformat
import pytest
from test_packaging import REPOSITORY

ROOT = pathlib.Path(__file__).parent.parent
NAMES = [
    "01_add_cbam_to_your_model",
    "02_cbam_into_a_pretrained_network",
    "03_tune_reduction_ratio_and_kernel_size",
    "04_see_what_the_network_attends_to",
    "05_train_on_your_own_images",
    "06_detect_with_a_cbam_backbone",
    "07_reproduce_the_papers_tables",
]
# Anywhere: Colab, Kaggle, a clone.
INSTALL = """\
try:
    import cbam_keras
except ImportError:
    %pip install -q{} "cbam_keras[{}] @ git+{}"
    # Without a network, a wheel, which `pip wheel --no-deps .` makes:
    # %pip install -q --no-deps path/to/cbam_keras-0.2.0-py3-none-any.whl
    import cbam_keras"""
# What notebooks need, other than `all`, and other than this package.
EXTRAS = {
    "02_cbam_into_a_pretrained_network": ("all,pretrained", ""),
    "04_see_what_the_network_attends_to": ("all,pretrained", " scikit-image"),
    "06_detect_with_a_cbam_backbone": ("all,detect", ""),
}
# Absolute paths of some machine, including Windows drives.
MACHINE_PATH = re.compile(
    r"(?<![\w.:/])/(tmp|home|root|work|usr|var|opt|mnt|content|Users|private)/"
    r"|\b[A-Z]:\\"
)
PROGRESS_BAR = re.compile(r"[\b\x1b]|\\u001b|\d/\d+ \S*━")
# Photographs take most of it.
MOST_BYTES = 1_100_000
MOST_CELLS = 10
CLEAN = {
    ("stream", "stdout"),
    ("execute_result", None),
    ("display_data", None),
}


@pytest.fixture(scope="module")
def notebooks():
    """Returns the notebooks by name, valid by the format's own schema."""
    found = {}
    for path in sorted(ROOT.glob("notebooks/*.ipynb")):
        found[path.stem] = nbformat.read(path, as_version=4)
        nbformat.validate(found[path.stem])
    assert list(found) == NAMES
    return found


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def texts(output):
    """Returns the text of an output, without images."""
    shown = {
        kind: text
        for kind, text in output.get("data", {}).items()
        if not kind.startswith("image/")
    }
    return output.get("text", "") + json.dumps(shown)


def wrong_links(notebook):
    main = f"{REPOSITORY}/blob/main/"
    cells = [x.source for x in notebook.cells if x.cell_type == "markdown"]
    for link in re.findall(r"\]\(([^()#]+)", "\n".join(cells)):
        if link.startswith(main) or "://" not in link:
            path = link.removeprefix(main)
            path = path if path != link else f"notebooks/{link}"
            if not (ROOT / path).is_file():
                yield f"link {link}"


def wrong_outputs(notebook):
    for cell in code(notebook):
        kinds = [(out.output_type, out.get("name")) for out in cell.outputs]
        if {*kinds} - CLEAN:
            yield f"error or warning of {cell.source}"
        if "print(" in cell.source and ("stream", "stdout") not in kinds:
            yield f"not stored: {cell.source}"
        drawn = "plotting.plot_" in cell.source or "plt.subp" in cell.source
        pictures = ["image/png" in out.get("data", {}) for out in cell.outputs]
        if drawn is not any(pictures):
            yield f"picture of {cell.source}"
        for shown in map(texts, cell.outputs):
            if PROGRESS_BAR.search(shown):
                yield f"progress bar: {shown}"
        for shown in (cell.source, *map(texts, cell.outputs)):
            if MACHINE_PATH.search(shown):
                yield f"path of a machine: {shown}"


def test_outputs_are_whole_clean_and_of_no_machine(notebooks):
    wrong = {name: [*wrong_outputs(book)] for name, book in notebooks.items()}
    assert not any(wrong.values()), wrong
    for name, notebook in notebooks.items():
        counts = [cell.execution_count for cell in code(notebook)]
        assert counts == list(range(1, len(counts) + 1)), name
        size = (ROOT / "notebooks" / f"{name}.ipynb").stat().st_size
        assert size < MOST_BYTES, name


def test_each_opens_in_colab_installs_where_needed_and_names_the_device(
    notebooks,
):
    colab = "https://colab.research.google.com"
    path = REPOSITORY.removeprefix("https://github.com/") + "/blob/main"
    for name, notebook in notebooks.items():
        badge = (
            f"[![Open In Colab]({colab}/assets/colab-badge.svg)]"
            f"({colab}/github/{path}/notebooks/{name}.ipynb)"
        )
        assert badge in notebook.cells[0].source, name
        first, *others = code(notebook)
        extras, more = EXTRAS.get(name, ("all", ""))
        assert first.source == INSTALL.format(more, extras, REPOSITORY), name
        assert not any("pip install" in cell.source for cell in others), name
        assert "keras.distribution.list_devices()" in others[0].source, name
        assert len(others) < MOST_CELLS, name


def test_links_lead_somewhere_and_the_readme_lists_each(notebooks):
    wrong = {name: [*wrong_links(book)] for name, book in notebooks.items()}
    assert not any(wrong.values()), wrong
    readme = (ROOT / "README.md").read_text()
    for name in notebooks:
        assert f"notebooks/{name}.ipynb)" in readme, name
