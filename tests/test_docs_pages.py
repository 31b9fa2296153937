"""Tests of the README and the documentation: code, links, options, numbers."""

import contextlib
import functools
import importlib
import io
import pathlib
import re

import digits
import keras
import pytest
from test_docs import PUBLIC
from test_packaging import REPOSITORY

from cbam_keras import data, training

ROOT = pathlib.Path(__file__).parent.parent
PAGES = [
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md")))
]


def _read(file):
    return (ROOT / file).read_text()


def blocks(file):
    """Returns the Python code blocks of a page."""
    return re.findall(r"```python\n(.*?)```", _read(file), flags=re.S)


def run(file, code, names=None):
    """Runs blocks in order; returns the names that they define."""
    names = {} if names is None else names
    for block in code:
        # There is no network here to download weights from.
        block = re.sub(r'weights="[^"]+"', "weights=None", block)
        exec(compile(block, file, "exec"), names)  # noqa: S102
    return names


@pytest.fixture
def small_place(tmp_path, monkeypatch):
    """Changes to a temporary folder and uses few digits, not 5,000."""
    monkeypatch.chdir(tmp_path)
    digits.replace(digits.few, monkeypatch.setattr)
    return tmp_path


# Pages that train for a few steps only, where compiling takes longest.
EAGER = (
    "docs/guides/attention.md",
    "docs/guides/detection.md",
    "docs/guides/other-tasks.md",
    "docs/guides/pretrained.md",
    "docs/guides/segmentation.md",
)
# Replacements for files that are not in the repository.
REPLACED = {
    "docs/guides/pytorch.md": {
        '"resnet18-f37072fd.pth"': '{"conv1.weight": np.zeros((64, 3, 7, 7))}'
    },
    # There are fewer test images.
    "docs/tutorial.md": {"160": "5", "epochs = 8": "epochs = 2"},
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "file",
    [
        file
        for file in PAGES
        # These are tested below.
        if blocks(file) and file not in ("README.md", "docs/guides/tune.md")
    ],
)
def test_examples_run_in_order(file, small_place, monkeypatch):
    if file in EAGER:
        compile_eager = functools.partialmethod(
            keras.Model.compile, run_eagerly=True
        )
        monkeypatch.setattr(keras.Model, "compile", compile_eager)
    code = blocks(file)
    for old, new in REPLACED.get(file, {}).items():
        assert any(old in block for block in code)
        code = [block.replace(old, new) for block in code]
    run(file, code)


def test_readme_examples_give_what_is_said(small_place):
    names = run("README.md", blocks("README.md"))
    assert names["heat_maps"].shape == (4, 32, 32)
    assert names["heat_maps"].max() <= 1
    assert names["channel_map"].shape == (4, 64)
    assert names["spatial_map"].shape == (4, 32, 32)
    assert (small_place / "grad_cam.png").is_file()
    assert (small_place / "attention.png").is_file()


def test_attention_of_ones_own_model_is_found_early_in_the_readme():
    lines = _read("README.md").splitlines()
    heading = "## See what your model attends to"
    # It is linked on the first screen and explained on the second.
    assert any(f"(#{_slug(heading)})" in line for line in lines[:20])
    assert lines.index(heading) < 85


def _slug(heading):
    """Returns the anchor of a heading on GitHub and on the site."""
    text = re.sub(r"[^\w\- ]", "", heading.lstrip("# ").strip().lower())
    return text.replace(" ", "-")


def _anchors(path):
    headings = re.findall(r"^#+ .*$", path.read_text(), flags=re.M)
    objects = re.findall(r"^::: (\S+)", path.read_text(), flags=re.M)
    return {_slug(heading) for heading in headings} | set(objects)


@pytest.mark.parametrize("file", PAGES)
def test_links_lead_somewhere(file):
    path = ROOT / file
    for target, anchor in re.findall(
        r"\]\((?!http)([^)#]*)#?([^)]*)\)", _read(file)
    ):
        aim = path.parent / target if target else path
        assert aim.exists(), target
        assert not anchor or anchor in _anchors(aim), f"{target}#{anchor}"


@pytest.mark.parametrize("file", PAGES)
def test_links_into_the_repository_lead_somewhere(file):
    for target, anchor in re.findall(
        rf"{REPOSITORY}/(?:blob|tree)/main/([^)#\s]+)#?([^)\s]*)", _read(file)
    ):
        assert (ROOT / target).exists(), target
        assert not anchor or anchor in _anchors(ROOT / target), anchor


@pytest.mark.parametrize("file", PAGES)
def test_tests_and_scripts_named_in_prose_exist(file):
    text = _read(file)
    tests = "".join(path.read_text() for path in ROOT.glob("tests/*.py"))
    for named in re.findall(r"`(test_\w+)`", text):
        assert f"def {named}(" in tests, named
    for named in re.findall(r"(test_\w+\.py)", text):
        assert (ROOT / "tests" / named).exists(), named
    for named in re.findall(r"python (\S+\.py)", text):
        assert (ROOT / named).exists(), named


@pytest.mark.parametrize("file", PAGES[1:])
def test_pages_of_the_site_link_to_no_file_outside_it(file):
    for target in re.findall(r"\]\((?!http)([^)#]+)", _read(file)):
        aim = (ROOT / file).parent / target
        assert aim.resolve().is_relative_to(ROOT / "docs"), target


def test_numbers_in_the_readme_are_those_of_the_measured_results():
    (text,) = re.findall(r"## Measured\n(.*?)\n## ", _read("README.md"), re.S)
    numbers = re.findall(r"\d+\.\d+", text)
    assert len(numbers) == 19
    pages = _read("docs/measured.md") + _read("docs/when-it-helps.md")
    assert set(numbers) <= set(re.findall(r"\d+\.\d+", pages))


def _referenced():
    """Returns the objects on the reference pages, with their paths."""
    text = "".join(_read(file) for file in PAGES if "/reference/" in file)
    found = {}
    for path in re.findall(r"^::: (\S+)", text, flags=re.M):
        module, _, name = path.rpartition(".")
        value = getattr(importlib.import_module(module), name)
        assert value not in found, path
        found[value] = path
    return found


REFERENCED = _referenced()


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_every_public_name_is_on_a_reference_page(name):
    assert PUBLIC[name] in REFERENCED


def test_reference_pages_describe_what_is_public_alone():
    assert set(REFERENCED) == set(PUBLIC.values())


def test_index_of_the_reference_lists_every_page_and_name():
    for file in PAGES:
        if "/reference/" in file:
            page = file.rpartition("/")[2]
            for path in re.findall(r"^::: (\S+)", _read(file), flags=re.M):
                link = f"[`{path.rpartition('.')[2]}`]({page}#{path})"
                assert link in _read("docs/reference/index.md"), link


def test_the_diagram_is_what_its_script_draws():
    names = {"__file__": str(ROOT / "docs/diagram.py")}
    run("docs/diagram.py", [_read("docs/diagram.py")], names)
    assert names["draw"]() == names["FILE"].read_text("utf-8")


def test_pictures_of_the_readme_are_in_the_repository():
    found = re.findall(r"!\[.+\]\(.+/raw/main/(.+)\)", _read("README.md"))
    assert len(found) == 2
    assert all((ROOT / file).is_file() for file in found)


def test_the_gallery_has_every_figure():
    shown = re.findall(r"\]\(figures/(\S+)\)", _read("docs/gallery.md"))
    assert sorted(shown) == sorted(
        path.name for path in (ROOT / "docs/figures").iterdir()
    )


def test_readme_and_contributing_give_the_same_test_command():
    readme = _read("README.md")
    command = re.search(r"^python3 -m venv .* -m pytest .*$", readme, re.M)[0]
    assert command in (ROOT / "CONTRIBUTING.md").read_text()


@functools.cache
def described(command):
    """Returns the options that `--help` of a command lists."""
    from cbam_keras.cli import main

    text = io.StringIO()
    with contextlib.redirect_stdout(text), pytest.raises(SystemExit):
        main([command, "--help"])
    return set(re.findall(r"--[a-z][a-z0-9-]+", text.getvalue()))


COMMANDS = (
    *("train", "tune", "ablate", "table", "explain", "detect", "audit"),
    "export",
)
OPTION = r"(?<![\w-])(--[a-z][a-z0-9-]+)"


def benchmarks(pattern):
    """Returns the options that the scripts of a pattern define."""
    sources = [path.read_text() for path in ROOT.glob(f"benchmarks/{pattern}")]
    return set(re.findall(r'"(--[a-z][a-z0-9-]+)"', "".join(sources)))


@pytest.mark.parametrize(
    "file", [*PAGES, "docs/cluster/slurm.sh", "docs/cluster/kubernetes.yaml"]
)
def test_options_in_prose_exist(file):
    # Without those of other programs.
    text = re.sub(
        r"^.*(sbatch|srun|SBATCH|kubectl|mkdocs|pytest).*$",
        "",
        _read(file),
        flags=re.M,
    )
    known = benchmarks("*.py").union(*map(described, COMMANDS))
    assert set(re.findall(OPTION, text)) <= known
    command = r"python -m benchmarks(?:\.(\w+))?([^`;&\n]*)"
    for script, rest in re.findall(command, text):
        known = benchmarks(f"{script or '__main__'}.py")
        known |= benchmarks("arguments.py") if script else set()
        assert set(re.findall(OPTION, rest)) <= known
    for command, rest in re.findall(r"cbam-keras ([a-z]+)\b([^`;&\n]*)", text):
        assert command in COMMANDS
        assert set(re.findall(OPTION, rest)) <= described(command) | {"--help"}


def test_search_of_ones_own_network_runs_as_written(small_place):
    _, block = blocks("docs/guides/tune.md")
    block = block.replace(
        "tuning.search(",
        "tuning.search(max_trials=2, recipe=training.Recipe(epochs=1), "
        "hypermodel=",
        1,
    ).replace("    my_images,", "    images=my_images,")
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
    run("docs/guides/tune.md", [block], names)
    kinds = [trial.values["attention"] for trial in names["results"].trials]
    assert kinds == ["none", "se"]
    assert (small_place / "runs" / "mine" / "best.keras").is_file()
