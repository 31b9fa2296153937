"""`cbam-keras explain`: its arguments, and what is reported of wrong ones."""

import importlib
import pathlib
import re
import shlex
import sys

import keras
import pytest
from explain_files_checks import (
    brightness,
    colours,
    explain,
    picture,
    trained_on,
)
from keras import layers

from cbam_keras import SqueezeExcite, cli, report
from cbam_keras.report import Settings


@pytest.fixture
def asked(monkeypatch):
    """Returns what the command asks for; nothing is explained."""
    arguments = {}

    def explain_files(paths, settings, **options):
        arguments.update(paths=paths, settings=settings, **options)
        return "the table", pathlib.Path("there")

    monkeypatch.setattr(report, "explain_files", explain_files)
    return arguments


def test_each_option_reaches_its_argument(asked, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    given = [
        *("a.png", "--output", "there", "colours.keras", "--seed", "5"),
        *("--method", "hires_cam", "--layer", "conv5", "--class", "cat"),
        *("--image-size", "16x24", "--draw", "3", "--no-report"),
        *("--flips", "none", "cbam"),
        *("--batch-size", "2", "b.png", "--count", "4"),
        *("--data", "insects", "--split", "train", "--data-dir", "d"),
        *("--manual-dir", "m", "--download", "--no-group-by-folder"),
        *("--image-folder", "i", "--split-column", "s"),
        *("--group-column", "g", "--group-by", "[a-z]+"),
    ]
    assert cli.main(["explain", *given]) == 0
    names = ("a.png", "colours.keras", "b.png")
    assert asked == {
        "paths": [pathlib.Path(name) for name in names],
        "settings": Settings(
            wanted="cat",
            flips=["none", "cbam"],
            layer="conv5",
            method="hires_cam",
            image_size=(16, 24),
            draw=3,
            batch_size=2,
            data="insects",
            split="train",
            count=4,
            seed=5,
        ),
        "output": "there",
        "data_options": {
            "data_dir": "d",
            "manual_dir": "m",
            "download": True,
            "group_by_folder": False,
            "image_folder": "i",
            "split_column": "s",
            "group_column": "g",
            "group_by": "[a-z]+",
        },
        "described": {},
        "command": shlex.join(["cbam-keras", "explain", *given]),
    }
    assert capsys.readouterr().out == "the table\n\nFiles in there\n"


def test_layers_of_the_users_are_imported(here, monkeypatch):
    (here / "mine_to_import.py").write_text(
        "import keras\n"
        "@keras.saving.register_keras_serializable('mine')\n"
        "class Own(keras.layers.Identity):\n"
        "    pass\n"
    )
    monkeypatch.setattr("sys.path", [str(here), *sys.path])
    own = importlib.import_module("mine_to_import").Own(name="own")
    colours("own.keras", attention=own)
    keras.saving.get_custom_objects().pop("mine>Own")
    sys.modules.pop("mine_to_import")
    picture(here / "it.png")
    assert cli.main(["explain", "own.keras", "it.png"]) == 2
    explain("own.keras", "it.png", "--import", "mine_to_import")


# Arguments, and what is said of them; GOOD is a model and an image.
MISTAKES = {
    "": "at least one model",
    "colours.keras": "--data NAME",
    "GOOD --data mnist5k": "from one place",
    "colours.keras that.png": '"that.png", which does',
    "colours.keras damaged.png": r"damaged.png \(1 damaged\)",
    "broken.keras it.png": "complete file .*broken.keras",
    "colours.keras ./colours.keras it.png": "once",
    "grey.keras --data cluttered_mnist": "'grey': 2, 'the data': 10",
    "run it.png --class rad": 'Did you mean "red"',
    "GOOD --class 3": "index from 0 to 2",
    "GOOD photos": "files, or those of one folder.*it.png, photos",
    "gated.keras GOOD --layer gate": "`layer` must .*model colours.keras",
    "heads.keras it.png": r"have one output.*heads.keras.*, \(None, 3\)",
    "GOOD --import nowhere": "`import` must be a module",
    "GOOD --image-size 16x24": r"\(B, 8, 8, 3\).*\(1, 16, 24, 3\)",
    f"GOOD --output {'x' * 300}": r"`output` must .* \(File name too long\)",
    f"colours.keras {'x' * 300}": "images and folders must exist",
    "GOOD --split test": "`split` must be left out where images are files",
    "GOOD --download": "`download` must be left out",
    "GOOD --output it.png": "`output` must be a folder",
}


@pytest.fixture(scope="module")
def mistaken(tmp_path_factory):
    """Returns a folder with models and images, good and bad."""
    folder = tmp_path_factory.mktemp("mistaken")
    colours(folder / "colours.keras")
    colours(folder / "gated.keras", attention=SqueezeExcite(1, name="gate"))
    brightness(folder / "grey.keras")
    picture(folder / "it.png")
    whole = (folder / "it.png").read_bytes()
    # Its head and its end are whole.
    (folder / "damaged.png").write_bytes(
        whole[:60] + bytes(len(whole) - 80) + whole[-20:]
    )
    picture(folder / "photos/it.png")
    trained_on(["red", "green", "blue"], folder / "run")
    (folder / "broken.keras").write_bytes(b"PK no model")
    inputs = keras.Input((8, 8, 3))
    x = layers.GlobalAveragePooling2D()(inputs)
    heads = [layers.Dense(3, name=name)(x) for name in ("one", "other")]
    keras.Model(inputs, heads).save(folder / "heads.keras")
    return folder


@pytest.mark.parametrize(("command", "message"), MISTAKES.items())
def test_a_mistake_is_reported_in_one_line(
    mistaken, few_digits, monkeypatch, capsys, command, message
):
    monkeypatch.chdir(mistaken)
    before = sorted(mistaken.rglob("*"))
    given = command.replace("GOOD", "colours.keras it.png").split()
    assert cli.main(["explain", *given]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith("cbam-keras explain: error: ")
    assert re.search(message, line)
    assert sorted(mistaken.rglob("*")) == before
