"""README and documentation: code, links, names, options, numbers."""

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

from cbam_keras import CBAM, cli

ROOT = pathlib.Path(__file__).parent.parent
PAGES = [
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md")))
]


@functools.cache
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


def offences(of, pages=PAGES):
    """Returns what `of` finds on each page that it finds something on."""
    found = {file: sorted(of(file, _read(file))) for file in pages}
    return {file: names for file, names in found.items() if names}


# Code.


@pytest.fixture
def small_place(tmp_path, monkeypatch):
    """Changes to a temporary folder and uses few digits, not 5,000."""
    monkeypatch.chdir(tmp_path)
    digits.replace(digits.few, monkeypatch.setattr)
    return tmp_path


def test_readme_examples_give_what_is_said(small_place):
    # Those after these build networks of full size.
    names = run("README.md", blocks("README.md")[:3])
    assert names["heat_maps"].shape == (4, 32, 32)
    assert names["heat_maps"].max() <= 1
    assert names["channel_map"].shape == (4, 64)
    assert names["spatial_map"].shape == (4, 32, 32)
    assert (small_place / "grad_cam.png").is_file()
    assert (small_place / "attention.png").is_file()


# Pages that do not take long.
QUICK = ("docs/guides/own-model.md", "docs/troubleshooting.md")
# Pages that train for a few steps only, where compiling takes longest.
EAGER = """
    attention compare detection other-tasks pretrained studies
""".split()
# Replacements for files that are not in the repository.
REPLACED = {
    "docs/guides/pytorch.md": {
        '"resnet18-f37072fd.pth"': '{"conv1.weight": np.zeros((64, 3, 7, 7))}'
    },
    # There are fewer test images.
    "docs/tutorial.md": {"280, 700, 200": "3", "epochs = 5": "epochs = 1"},
    "docs/guides/compare.md": {
        "max_trials=20": "max_trials=1",
        "epochs=3": "epochs=1",
        "max_parameters=12e6": "max_trials=1, confirm=0",
    },
}


def eagerly(compile_model):
    """Returns a `compile` of models that runs them eagerly."""

    def compile_eagerly(*args, **options):
        compile_model(*args, **{**options, "run_eagerly": True})

    return compile_eagerly


# KerasTuner's own, of a name of the standard library.
@pytest.mark.filterwarnings("ignore:currentThread:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:getName:DeprecationWarning")
@pytest.mark.parametrize(
    "file",
    [
        pytest.param(
            file, marks=() if file in QUICK else pytest.mark.exhaustive
        )
        for file in PAGES
        if blocks(file)
    ],
)
def test_examples_run_in_order(file, small_place, monkeypatch):
    if pathlib.Path(file).stem in EAGER:
        # Where it is defined: Keras warns of a `compile` that is not its own.
        (owner,) = (x for x in keras.Model.__mro__ if "compile" in vars(x))
        monkeypatch.setattr(owner, "compile", eagerly(owner.compile))
    code = blocks(file)
    for old, new in REPLACED.get(file, {}).items():
        assert any(old in block for block in code)
        code = [block.replace(old, new) for block in code]
    names = run(file, code)
    # What is computed for a U-Net: that inserting changes nothing.
    assert names.get("same", True)


def test_fine_tuning_trains_what_is_said(monkeypatch, capsys):
    monkeypatch.setattr(keras.Model, "fit", lambda *args, **kwargs: None)
    page = "docs/guides/pretrained.md"
    start, _, *stages = blocks(page)

    def trained(block):
        run(page, [block], names)
        return {x.path for x in names["model"].trainable_variables}

    def of(*kinds):
        return {
            variable.path
            for layer in names["model"].layers
            if isinstance(layer, kinds)
            for variable in layer.weights
        }

    names = run(page, [start.partition("\n\nmodel")[0]])
    new, everything, frozen_norm, by_type = stages
    assert trained(new) == of(CBAM, keras.layers.Dense)
    weights = {variable.path for variable in names["model"].weights}
    averages = {path for path in weights if "/moving_" in path}
    assert trained(everything) == weights - averages
    assert trained(frozen_norm) == weights - of(keras.layers.BatchNormalization)
    assert trained(by_type) == of(CBAM, keras.layers.Dense)
    numbers = re.findall(r"print\(.*# (\d+):", "".join(stages))
    assert capsys.readouterr().out.split() == numbers


# Links.


def _anchors(path):
    """Returns the anchors of a page, on GitHub and on the site."""
    headings = re.findall(r"^#+ +(.*)$", path.read_text(), flags=re.M)
    slugs = (re.sub(r"[^\w\- ]", "", h.strip().lower()) for h in headings)
    objects = re.findall(r"^::: (\S+)", path.read_text(), flags=re.M)
    return {slug.replace(" ", "-") for slug in slugs} | set(objects)


def test_links_lead_somewhere():
    def wrong(file, text):
        path = ROOT / file
        links = [
            (path.parent / target if target else path, anchor)
            for target, anchor in re.findall(
                r"\]\((?!http)([^)#]*)#?([^)]*)\)", text
            )
        ] + [
            (ROOT / target, anchor)
            for target, anchor in re.findall(
                rf"{REPOSITORY}/(?:blob|tree|raw)/main/([^)#\s]+)#?([^)\s]*)",
                text,
            )
        ]
        return {
            f"{target.relative_to(ROOT)}#{anchor}"
            for target, anchor in links
            if not target.exists() or anchor and anchor not in _anchors(target)
        }

    assert offences(wrong) == {}


# What prose names.


def test_tests_and_scripts_named_in_prose_exist():
    tests = "".join(path.read_text() for path in ROOT.glob("tests/*.py"))

    def wrong(file, text):
        named = re.findall(r"`(test_\w+)`", text)
        files = re.findall(r"python (\S+\.py)", text)
        files += [f"tests/{n}" for n in re.findall(r"(test_\w+\.py)", text)]
        return {name for name in named if f"def {name}(" not in tests} | {
            name for name in files if not (ROOT / name).exists()
        }

    assert offences(wrong) == {}


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


def test_every_public_name_and_no_other_is_on_a_reference_page():
    assert set(REFERENCED) == set(PUBLIC.values())


OPTION = r"(?<![\w-])(--[a-z][a-z0-9-]+)"
COMMANDS = "train tune ablate table explain detect audit export".split()


@functools.cache
def described(command):
    """Returns the options that `--help` of a command lists."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text), pytest.raises(SystemExit):
        cli.main([command, "--help"])
    return set(re.findall(OPTION, text.getvalue()))


def test_options_in_prose_exist():
    scripts = [path.read_text() for path in ROOT.glob("benchmarks/*.py")]
    others = re.findall(r'"(--[a-z][a-z0-9-]+)"', "".join(scripts))
    every = set(others).union(*map(described, COMMANDS))

    def wrong(file, text):
        # Without those of other programs.
        others = r"^.*(sbatch|srun|SBATCH|kubectl|mkdocs|pytest).*$"
        text = re.sub(others, "", text, flags=re.M)
        found = set(re.findall(OPTION, text)) - every
        command = r"cbam-keras ([a-z]+)\b([^`;&\n]*)"
        for name, rest in re.findall(command, text):
            known = described(name) if name in COMMANDS else set()
            found |= set(re.findall(OPTION, rest)) - known - {"--help"}
            found |= {name} - set(COMMANDS)
        return found

    cluster = ("docs/cluster/slurm.sh", "docs/cluster/kubernetes.yaml")
    assert offences(wrong, [*PAGES, *cluster]) == {}


def test_numbers_in_the_readme_are_those_of_the_measured_results():
    (text,) = re.findall(r"## Measured\n(.*?)\n## ", _read("README.md"), re.S)
    numbers = re.findall(r"\d+\.\d+", text)
    assert len(numbers) == 19
    pages = _read("docs/measured.md") + _read("docs/when-it-helps.md")
    assert set(numbers) <= set(re.findall(r"\d+\.\d+", pages))


def test_the_diagram_is_what_its_script_draws():
    names = {"__file__": str(ROOT / "docs/diagram.py")}
    run("docs/diagram.py", [_read("docs/diagram.py")], names)
    assert names["draw"]() == names["FILE"].read_text("utf-8")


def test_every_figure_is_on_a_page():
    shown = re.findall(r"figures/([\w.-]+)\)", "".join(map(_read, PAGES)))
    assert {*shown} == {x.name for x in (ROOT / "docs/figures").iterdir()}
