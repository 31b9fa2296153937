"""README and documentation: code, links, names, options."""

import contextlib
import functools
import inspect
import io
import pathlib
import re
import subprocess
import sys
import unittest.mock

import digits
import keras
import numpy as np
import pytest
from networks import without_values

from _cbam_keras_command import parser
from cbam_keras import CBAM, cli, comparison, data, tuning

ROOT = pathlib.Path(__file__).parent.parent
PAGES = [
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md")))
]


@functools.cache
def _read(file):
    return (ROOT / file).read_text()


BLOCK = re.compile(r"```python\n(.*?)```", re.S)


def blocks(file):
    """Returns the Python code blocks of a page."""
    return BLOCK.findall(_read(file))


def run(file, code, names=None):
    """Runs blocks in order; returns the names that they define."""
    names = {} if names is None else names
    for block in code:
        # There is no network here to download weights from.
        block = re.sub(r'weights="[^"]+"', "weights=None", block)
        exec(compile(block, file, "exec"), names)  # noqa: S102
    return names


# Code.


@pytest.fixture
def small_place(tmp_path, monkeypatch):
    """Changes to a temporary folder, with few digits and few articles."""
    monkeypatch.chdir(tmp_path)
    digits.replace(digits.few, monkeypatch.setattr)
    x, y = np.zeros((16, 28, 28), "uint8"), np.arange(16) % 10
    loader = keras.datasets.fashion_mnist
    monkeypatch.setattr(loader, "load_data", lambda: ((x, y), (x, y)))


def test_the_first_example_saves_what_loads_again(small_place):
    names = run("README.md", blocks("README.md")[:1])
    x = np.random.default_rng(0).random((2, 32, 32, 3), "float32")
    again = keras.saving.load_model("model.keras")
    assert len([x for x in again.layers if isinstance(x, CBAM)]) == 2
    outputs = again(x), names["model"](x)
    np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, outputs))


def test_the_first_page_builds_networks_with_attention_where_it_says():
    with without_values():
        names = run("README.md", blocks("README.md")[1:2])
    resnet, mobilenet = names["resnet"], names["mobilenet"]
    # ResNet50 has 16 blocks.
    attention = [x for x in resnet.layers if isinstance(x, CBAM)]
    assert len(attention) == 16
    assert all(layer.identity_init for layer in attention)
    attention = [x for x in mobilenet.layers if isinstance(x, CBAM)]
    stages = {layer.name.partition("_")[0] for layer in attention}
    assert stages == {"stage4", "stage5"}
    assert {layer.kernel_size for layer in attention} == {3}
    assert mobilenet.output_shape == (None, 5)


# Pages that do not take long.
QUICK = ("docs/guides/own-model.md", "docs/troubleshooting.md")
# Pages that train for a few steps only, where compiling takes longest.
EAGER = """
    attention compare detection other-tasks pretrained segmentation signals
    studies tune
""".split()
# A folder of images per class, which the page reads with Keras.
PHOTOS = "docs/guides/pretrained.md"
# Replacements for files that are not in the repository.
REPLACED = {
    "docs/guides/files.md": {
        'load_torch_weights(small, "resnet18-f37072fd.pth")': "small"
    },
    "docs/guides/compare.md": {
        'model="MobileNetV2",\n': 'model="tiny",\n',
        'data="photos",\n    seeds=5': 'data="mnist5k",\n    seeds=1',
    },
    "docs/guides/tune.md": {
        "max_trials=20": "max_trials=1",
        "epochs=3": "epochs=1",
        "seeds=(10, 11, 12)": "seeds=(10,)",
        '"resnet18"': '"tiny"',
        '"photos"': '"mnist5k"',
        "epochs=20),": "epochs=1), max_trials=1, confirm=0,",
    },
}


# The converter of ONNX looks for a name that NumPy had.
@pytest.mark.filterwarnings("ignore:In the future `np.object`:FutureWarning")
# Keras warns of its default where the data are a dataset of TensorFlow.
@pytest.mark.filterwarnings("ignore:`shuffle=True` was passed:UserWarning")
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
        # Where it is defined, and a plain function: Keras does not call a
        # `compile` that is not its own when it loads a model.
        (owner,) = (x for x in keras.Model.__mro__ if "compile" in vars(x))
        own = owner.compile

        def eagerly(model, *arguments, **options):
            return own(model, *arguments, **{**options, "run_eagerly": True})

        monkeypatch.setattr(owner, "compile", eagerly)
    if file == PHOTOS:
        for number in range(10):
            path = pathlib.Path("photos", f"{number % 2}", f"{number}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            keras.utils.save_img(path, np.full((96, 96, 3), 9 * number))
    code = blocks(file)
    for old, new in REPLACED.get(file, {}).items():
        assert any(old in block for block in code)
        code = [block.replace(old, new) for block in code]
    if file == "README.md":
        for number, block in enumerate(code):
            folder = pathlib.Path(f"{number}")
            folder.mkdir()
            with contextlib.chdir(folder):
                run(file, [block])
        return
    names = run(file, code)
    # What is computed for a U-Net: that inserting changes nothing.
    assert names.get("same", True)
    if file == "docs/guides/tune.md":
        # Optuna would choose both, and maximize an accuracy.
        trial = unittest.mock.Mock()
        trial.suggest_categorical = lambda name, choices: choices[-1]
        trial.suggest_float.return_value = 0.003
        assert 0 <= names["objective"](trial) <= 1


# Links.


def test_links_of_the_front_page_lead_somewhere():
    """Those of the other pages are checked when the site is built."""
    links = re.findall(r"\]\((?!http)([^)#]+)", _read("README.md"))
    assert links and all((ROOT / link).exists() for link in links)


# What prose names.


def test_the_reference_is_what_its_script_writes():
    # Run `python docs/reference.py` after a change of docstrings.
    script = "docs/reference.py"
    names = {"__file__": str(ROOT / script), "__name__": "reference"}
    run(script, [_read(script)], names)
    folder = names["FOLDER"]
    found = {path.name: path.read_text("utf-8") for path in folder.iterdir()}
    assert names["pages"]() == found


OPTION = r"(?<![\w-])(--[a-z][a-z0-9-]+)"
COMMANDS = "train tune report check".split()


def described(command):
    """Returns the options that `--help` of a command lists."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text), pytest.raises(SystemExit):
        cli.main([command, "--help"])
    return set(re.findall(OPTION, text.getvalue()))


def test_commands_and_options_in_prose_exist():
    paths = (
        *ROOT.glob("benchmarks/**/*.py"),
        ROOT / "examples/detection/__main__.py",
        ROOT / "examples/paper_ablations.py",
    )
    scripts = [path.read_text() for path in paths]
    others = re.findall(r'"(--[a-z][a-z0-9-]+)"', "".join(scripts))
    known = {"--help", "--version", *others}.union(
        *map(described, COMMANDS), COMMANDS
    )

    # Options of other programs do not count.
    others = r"(?m)^.*(dask|git |helm|nthreads|gpus=1|properdocs|pytest|pip).*$"
    cluster = ("docs/cluster/slurm.py", "docs/cluster/kubernetes.yaml")
    for file in (*PAGES, *cluster):
        text = re.sub(others, "", _read(file))
        named = {*re.findall(OPTION, text)}
        named |= {*re.findall(r"cbam-keras ([a-z]+)\b", text)}
        assert not named - known, file


@pytest.mark.exhaustive
def test_the_site_builds_without_warnings(tmp_path):
    pytest.importorskip("properdocs", reason="builds the site: extra `docs`")
    result = subprocess.run(
        [
            *(sys.executable, "-m", "properdocs"),
            *("build", "--strict", "-d", tmp_path),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    # Files that pages link to, which are not pages.
    for file in ("cluster/slurm.py", "cluster/kubernetes.yaml"):
        assert (tmp_path / file).exists()
    assert not [*tmp_path.glob("*.py")]


def test_the_data_that_are_taken_without_data_are_those_of_the_guide():
    guide = " ".join(_read("docs/guides/data.md").split())
    found = re.search(
        r"`cbam-keras train` takes `(\w+)` .*? `tune`, `compare`, `search` and "
        r"`data.load` take `(\w+)`",
        guide,
    )
    by_train, by_others = found.groups()
    assert parser.parse(["train"]).data == by_train
    assert parser.parse(["tune"]).data == by_others
    for function in (comparison.compare, tuning.search, data.load):
        default = inspect.signature(function).parameters["data"].default
        assert default == by_others
