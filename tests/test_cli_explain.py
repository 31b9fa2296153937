"""`cbam-keras explain`: its arguments, and what is reported of wrong ones."""

import importlib
import re
import sys

import keras
import numpy as np
import pytest
from data_checks import write_bomb
from explain_files_checks import (
    brightness,
    colours,
    explain,
    picture,
    written,
)
from keras import layers

from cbam_keras import cli
from cbam_keras.layers import SqueezeExcite


def test_paths_may_stand_anywhere(here):
    picture(here / "a.png")
    picture(here / "b.png")
    given = ["a.png", "--output", "x", "colours.keras", "--seed", "1", "b.png"]
    assert cli.main(["explain", *given]) == 0
    content, _ = written("x")
    names = {entry["image"] for entry in content["images"]}
    assert names == {"a.png", "b.png"}


def test_output_is_named_after_the_first_model(here, capsys):
    picture(here / "it.png")
    assert cli.main(["explain", "colours.keras", "it.png"]) == 0
    files = sorted(path.name for path in (here / "runs").rglob("*.*"))
    assert files == [
        "arrays.npz",
        "explain.json",
        "grad_cam.png",
        "report.html",
    ]
    assert (here / "runs" / "explain-colours").is_dir()
    assert "Files in runs" in capsys.readouterr().out


def test_a_second_run_replaces_the_files(here):
    picture(here / "it.png")
    explain("colours.keras", "it.png", "--class", "0")
    content, _ = explain("colours.keras", "it.png", "--class", "1")
    assert content["images"][0]["models"]["colours"]["class_index"] == 1


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


def test_ctrl_c_promises_nothing(here, monkeypatch, capsys):
    picture(here / "it.png")

    def interrupted(*arguments, **arrays):
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez_compressed", interrupted)
    assert cli.main(["explain", "colours.keras", "it.png"]) == 130
    assert capsys.readouterr().err == "cbam-keras explain: interrupted\n"


def test_help_tells_files_and_arrays(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["explain", "--help"])
    assert caught.value.code == 0
    printed = capsys.readouterr().out
    for text in ("arrays.npz", "heat_maps (D, H, W)", "(default: grad_cam)"):
        assert text in printed


MISTAKES = {
    "no_model": (["it.png"], "at least one model"),
    "nothing": ([], "at least one model"),
    "no_images": (["colours.keras"], "--data NAME"),
    "both": (["colours.keras", "it.png", "--data", "mnist5k"], "not both"),
    "no_such_model": (["colors.keras", "it.png"], '"colors.keras", which does'),
    "no_such_image": (["colours.keras", "that.png"], '"that.png", which does'),
    "no_image": (["colours.keras", "notes.txt"], "Received: notes.txt"),
    "cut_off": (["colours.keras", "half.png"], "Received: half.png"),
    "damaged": (
        ["colours.keras", "damaged.png"],
        '"damaged.png" cannot be decoded',
    ),
    "bomb": (["colours.keras", "bomb.png"], "Received: bomb.png"),
    "empty_folder": (["colours.keras", "empty"], "which holds none"),
    "broken_model": (
        ["broken.keras", "it.png"],
        "complete file .*broken.keras",
    ),
    "model_twice": (["colours.keras", "./colours.keras", "it.png"], "once"),
    "no_images_taken": (["table.keras", "it.png"], r"\(None, 4\)"),
    "two_inputs": (["two.keras", "it.png"], "as its one input"),
    "five_channels": (["five.keras", "it.png"], r"\(None, 8, 8, 5\)"),
    "other_classes": (
        ["colours.keras", "grey.keras", "it.png"],
        'same classes.*"colours" with 3, "grey" with 2',
    ),
    "other_data": (
        ["grey.keras", "--data", "cluttered_mnist"],
        "models of 2 classes, data of 10",
    ),
    "no_such_data": (["colours.keras", "--data", "mnist6k"], '"mnist5k"'),
    "unknown_class": (
        [*("colours.keras", "it.png", "--class", "rad")]
        + ["--class-names", "names.txt"],
        'Did you mean "red"',
    ),
    "nameless_class": (
        ["colours.keras", "it.png", "--class", "red"],
        "give --class-names FILE",
    ),
    "class_too_high": (
        ["colours.keras", "it.png", "--class", "3"],
        "index from 0 to 2",
    ),
    "class_below_0": (
        ["colours.keras", "it.png", "--class", "-1"],
        "index from 0 to 2",
    ),
    "too_few_names": (
        ["grey.keras", "it.png", "--class-names", "names.txt"],
        "3 names, models of 2 classes",
    ),
    "no_names": (
        ["colours.keras", "it.png", "--class-names", "nowhere.txt"],
        "text file with a name per line.*nowhere.txt",
    ),
    "unknown_layer": (
        ["colours.keras", "it.png", "--layer", "featurs"],
        "`layer` must .*features",
    ),
    "unknown_layer_of_one": (
        ["gated.keras", "colours.keras", "it.png", "--layer", "gate"],
        "`layer` must .*model colours.keras",
    ),
    "no_feature_map": (["flat.keras", "it.png"], "feature map"),
    "unknown_head": (
        ["colours.keras", "it.png", "--head", "top"],
        "`head` must be one of",
    ),
    "no_module": (
        ["colours.keras", "it.png", "--preprocess", "nowhere:turn"],
        "`preprocess` must be MODULE:FUNCTION.*No module",
    ),
    "no_function": (
        ["colours.keras", "it.png", "--preprocess", "math:pi"],
        "`preprocess` must be MODULE:FUNCTION.*float",
    ),
    "other_shape": (
        ["colours.keras", "it.png", "--preprocess", "numpy:mean"],
        "`preprocess` must return images of the shape",
    ),
    "no_import": (
        ["colours.keras", "it.png", "--import", "nowhere"],
        "`import` must be a module",
    ),
    "other_size": (
        ["colours.keras", "it.png", "--image-size", "16"],
        "which takes 8 x 8 pixels",
    ),
    "no_size": (
        ["colours.keras", "it.png", "--image-size", "0"],
        "`image_size` must be a positive integer",
    ),
    "count_in_words": (
        ["colours.keras", "it.png", "--count", "many"],
        "`count` must be a positive integer, or all",
    ),
    "count_of_0": (
        ["colours.keras", "it.png", "--count", "0"],
        "`count` must be a positive integer, or all",
    ),
    "draw_0": (["colours.keras", "it.png", "--draw", "0"], "`draw` must"),
    "draw_33": (
        ["colours.keras", "it.png", "--draw", "33"],
        "`draw` must be at most 32",
    ),
    "batch_of_0": (
        ["colours.keras", "it.png", "--batch-size", "0"],
        "`batch_size` must",
    ),
    "negative_seed": (
        ["colours.keras", "it.png", "--seed", "-1"],
        "`seed` must",
    ),
    "output_is_a_file": (
        ["colours.keras", "it.png", "--output", "names.txt"],
        "`output` must be a folder that can be written to",
    ),
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
    (folder / "half.png").write_bytes(whole[: len(whole) // 2])
    # Its head and its end are whole.
    (folder / "damaged.png").write_bytes(
        whole[:60] + bytes(len(whole) - 80) + whole[-20:]
    )
    write_bomb(folder / "bomb.png")
    (folder / "notes.txt").write_text("no image")
    (folder / "names.txt").write_text("red\ngreen\nblue\n")
    (folder / "empty").mkdir()
    (folder / "broken.keras").write_bytes(b"PK no model")
    table = keras.Input((4,))
    keras.Model(table, layers.Dense(3)(table)).save(folder / "table.keras")
    five = keras.Input((8, 8, 5))
    flat = layers.GlobalAveragePooling2D()(five)
    keras.Model(five, layers.Dense(3)(flat)).save(folder / "five.keras")
    images = keras.Input((8, 8, 3))
    flat = layers.Dense(3)(layers.Flatten()(images))
    keras.Model(images, flat).save(folder / "flat.keras")
    both = layers.Concatenate()([flat, table])
    keras.Model([images, table], layers.Dense(3)(both)).save(
        folder / "two.keras"
    )
    return folder


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_reported_in_one_line(
    mistaken, few_digits, monkeypatch, capsys, mistake
):
    arguments, message = MISTAKES[mistake]
    monkeypatch.chdir(mistaken)
    before = sorted(mistaken.rglob("*"))
    assert cli.main(["explain", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith("cbam-keras explain: error: ")
    assert re.search(message, line)
    assert sorted(mistaken.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "cam"], "invalid choice: 'cam'"),
        (["--split", "tests"], "invalid choice: 'tests'"),
        (["--draw", "some"], "invalid int value"),
        (["--colour", "red"], "unrecognized arguments: --colour"),
    ],
)
def test_the_parser_tells_a_mistake(capsys, arguments, message):
    with pytest.raises(SystemExit) as caught:
        cli.main(["explain", "colours.keras", "it.png", *arguments])
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_a_bug_in_a_users_function_keeps_its_traceback(here, monkeypatch):
    picture(here / "it.png")
    (here / "mine_with_a_bug.py").write_text(
        "def turn(images):\n    return images + 'x'\n"
    )
    monkeypatch.setattr("sys.path", ["", *sys.path])
    with pytest.raises(TypeError):
        cli.main(
            [
                *("explain", "colours.keras", "it.png"),
                *("--preprocess", "mine_with_a_bug:turn"),
            ]
        )
    assert not (here / "runs").exists()
