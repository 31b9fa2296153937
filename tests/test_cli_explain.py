"""`cbam-keras explain`: its arguments, and what is reported of wrong ones."""

import importlib
import pathlib
import re
import shlex
import sys

import keras
import pytest
from explain_files_checks import colours, explain, picture, write_run
from report_checks import change, keep

from cbam_keras import SqueezeExcite, cli, report
from cbam_keras.report import Settings


def test_each_option_reaches_its_argument(here, monkeypatch, capsys):
    asked = {}

    def explain_run(run, settings, **options):
        asked.update(folder=run.folder, settings=settings, **options)
        return "the table", pathlib.Path("there")

    monkeypatch.setattr(report, "explain_run", explain_run)
    given = [
        *("--output", "there", "--seed", "5", "run", "--mistakes"),
        *("--method", "hires_cam", "--layer", "conv5", "--class", "cat"),
        *("--draw", "3", "--no-report", "--batch-size", "2"),
        *("--count", "4", "--images", "a.png", "b.png"),
    ]
    assert cli.main(["explain", *given]) == 0
    assert asked == {
        "folder": pathlib.Path("run"),
        "settings": Settings(
            images=["a.png", "b.png"],
            mistakes=True,
            wanted="cat",
            layer="conv5",
            method="hires_cam",
            draw=3,
            batch_size=2,
            count=4,
            seed=5,
        ),
        "output": "there",
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
    colours(attention=own).save("run/none.keras")
    keras.saving.get_custom_objects().pop("mine>Own")
    sys.modules.pop("mine_to_import")
    picture(here / "it.png")
    assert cli.main(["explain", "run", "--images", "it.png"]) == 2
    explain("run", "--images", "it.png", "--import", "mine_to_import")


# Arguments, and what is said of them; GOOD is a run and an image.
MISTAKES = {
    "nothing": '"nothing", whose results.json cannot be read',
    "empty": "must hold models",
    "run": "must say where its images are.*--images",
    "run --images that.png": r"that.png \(1 missing\)",
    "run --images damaged.png": r"damaged.png \(1 damaged\)",
    f"run --images {'x' * 300}": r"x \(1 missing\)",
    "broken --images it.png": "complete file .*none.keras",
    "GOOD --class rad": 'Did you mean "red"',
    "GOOD --class 3": "index from 0 to 2",
    "GOOD photos": "files, or those of one folder.*it.png, photos",
    "GOOD --layer gate": r"`layer` must .*\(model none\)",
    "volumes --images it.png": "on images .*of shape .8, 8, 8, 1",
    "GOOD --import nowhere": "`import` must be a module",
    f"GOOD --output {'x' * 300}": r"`output` must .* \(File name too long\)",
    "GOOD --split test": "`split` must be left out with `images`",
    "GOOD --output it.png": "`output` must be a folder",
}


@pytest.fixture(scope="module")
def mistaken(tmp_path_factory):
    """Returns a folder with runs and images, good and bad."""
    folder = tmp_path_factory.mktemp("mistaken")
    gated = colours(attention=SqueezeExcite(1, name="gate"))
    write_run(folder / "run", cbam=gated, none=colours())
    keep(write_run(folder / "empty"), ("none", 1))
    write_run(folder / "broken")
    (folder / "broken/none.keras").write_bytes(b"PK no model")
    run = report.read_run(write_run(folder / "volumes"))
    run.images["image_shape"] = [8, 8, 8, 1]
    settings = run.content["settings"] | {"data": {"0": run.images}}
    change(run.folder, settings=settings)
    picture(folder / "it.png")
    whole = (folder / "it.png").read_bytes()
    # Its head and its end are whole.
    (folder / "damaged.png").write_bytes(
        whole[:60] + bytes(len(whole) - 80) + whole[-20:]
    )
    picture(folder / "photos/it.png")
    return folder


@pytest.mark.parametrize(("command", "message"), MISTAKES.items())
def test_a_mistake_is_reported_in_one_line(
    mistaken, monkeypatch, capsys, command, message
):
    monkeypatch.chdir(mistaken)
    before = sorted(mistaken.rglob("*"))
    given = command.replace("GOOD", "run --images it.png").split()
    assert cli.main(["explain", *given]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith("cbam-keras explain: error: ")
    assert re.search(message, line)
    assert sorted(mistaken.rglob("*")) == before
