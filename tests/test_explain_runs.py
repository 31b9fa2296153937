"""The networks, the data and the classes of a run are found in its folder."""

import json

import keras
import pretended
import pytest
from data_checks import write_folder
from explain_files_checks import (
    colours,
    digit_network,
    explain,
    picture,
    written,
)
from keras import layers
from report_checks import OLD_FOLDERS

from cbam_keras import _files, cli, data, study, training
from cbam_keras._explanations import networks_of


def write_run(folder, *cells, kind="study", data="mnist5k", **content):
    """Writes what a run says of itself, as far as it is read."""
    keys = "variant", "seed", "status", "file"
    described = {"3": {"name": data, "sizes": {}}}
    content |= {
        "format": 2,
        "kind": kind,
        **dict.fromkeys(("command", "measure", "measure_name", "baseline")),
        "settings": {
            "variants": {cell[0]: {} for cell in cells},
            "data": described,
        },
        "seeds": [cell[1] for cell in cells],
        "cells": [dict(zip(keys, cell, strict=True)) for cell in cells],
    }
    folder.mkdir(exist_ok=True)
    (folder / "results.json").write_text(json.dumps(content))
    return folder


def run_of(*cells, **content):
    return lambda folder: write_run(folder, *cells, **content)


NONE = "none", 0, "finished", "none.keras"
SEEDS = run_of(
    ("none", 3, "diverged", None),
    ("se", 3, "finished", "se-seed3.keras"),
    ("cbam", 3, "finished", "cbam-seed3.keras"),
    ("none", 4, "finished", "none-seed4.keras"),
)
# What writes a run, its files, and those that are explained.
RUNS = {
    "one seed": (run_of(NONE), "none other", "none"),
    "several seeds": (
        SEEDS,
        "se-seed3 cbam-seed3 none-seed4",
        "se-seed3 cbam-seed3",
    ),
    "search": (run_of(NONE, kind="tune"), "best none", "best"),
    "old seeds": (
        OLD_FOLDERS["seeds"],
        "seed-0/none seed-0/cbam seed-1/none",
        "seed-0/none seed-0/cbam",
    ),
    "old search": (OLD_FOLDERS["tune"], "best trial_0001/none", "best"),
}


@pytest.mark.parametrize(("write", "names", "chosen"), RUNS.values(), ids=RUNS)
def test_a_run_holds_its_networks(write, names, chosen, tmp_path):
    write(tmp_path)
    with pytest.raises(ValueError, match="none is finished yet"):
        networks_of(tmp_path)
    for name in names.split():
        (tmp_path / f"{name}.keras").touch()
    files = [tmp_path / f"{name}.keras" for name in chosen.split()]
    assert networks_of(tmp_path)[0] == files


def test_a_run_of_detectors_is_refused(tmp_path):
    with pytest.raises(ValueError, match="which is one of detect"):
        networks_of(write_run(tmp_path, kind="detect"))


def test_a_damaged_run_is_not_taken_for_images(tmp_path, capsys):
    folder = write_run(tmp_path / "run", ("none", "x", "finished", "it.keras"))
    (folder / "it.keras").touch()
    assert cli.main(["explain", str(folder)]) == 2
    message = capsys.readouterr().err
    assert "results.json cannot be read" in message
    assert "`cells[0].seed` must be int. Received: x" in message


def test_a_folder_of_digits_is_explained_with_its_data(
    few_digits, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    cells = [(x, 0, "finished", f"{x}.keras") for x in ("none", "cbam")]
    write_run(tmp_path / "digits", *cells, data="cluttered_mnist")
    digit_network("digits/none.keras")
    digit_network("digits/cbam.keras", "cbam")
    assert cli.main(["explain", "digits", "--count", "2", "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert out.endswith("Files in runs/explain-digits\n") and err == ""
    content, _ = written("runs/explain-digits")
    assert list(content["images"][0]["models"]) == ["none", "cbam"]
    assert content["settings"]["data"] == "cluttered_mnist"


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """Trains a network on a folder, and goes elsewhere."""
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "pets", size=(8, 8))
    pretended.install(monkeypatch)

    def build(data):
        inputs = keras.Input(data.image_shape)
        x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(inputs))
        return keras.Model(inputs, layers.Dense(2)(x))

    def train(**options):
        task = study.Classification("pets", validation_fraction=0.3)
        variants = (study.Variant("none", build),)
        recipe = training.Recipe(epochs=1, batch_size=2)
        study.run(
            study.Study(task, variants, seeds=(3,), recipe=recipe),
            tmp_path / "run",
            **options,
        )

    train()
    monkeypatch.chdir("/")
    return tmp_path, train


def test_a_run_on_a_folder_is_explained_with_its_data(trained, capsys):
    folder, _ = trained
    given = [folder / "run", "--count", "all", "--no-report"]
    for split in ("test", "validation"):
        content, _ = explain(*given, "--split", split, output=folder / "seen")
        assert content["settings"]["data"] == str(folder / "pets")
        assert content["class_names"] == ["cat", "dog"]
        expected = data.load(
            folder / "pets", validation_fraction=0.3, seed=3, batch_size=None
        )
        _, labels = getattr(expected, split)
        found = [x["true_class"] == "dog" for x in content["images"]]
        assert sorted(found) == sorted(labels)
    names = {entry["image"] for entry in content["images"]}
    content, _ = explain(*given, "--split", "train", output=folder / "seen")
    assert not names & {entry["image"] for entry in content["images"]}
    (folder / "pets/cat/0.png").unlink()
    arguments = ["explain", *map(str, given)]
    assert cli.main(arguments) == 2
    assert "which has changed since" in capsys.readouterr().err


def test_a_run_that_is_explained_in_its_folder_can_be_overwritten(
    trained, monkeypatch, capsys
):
    folder, train = trained
    given = ["explain", str(folder / "run"), "--output", str(folder / "run")]
    with _files.locked(folder / "run/explain/.lock"):
        assert cli.main(given) == 2
    assert "is in use by process" in capsys.readouterr().err
    assert cli.main(given) == 0
    assert (folder / "run/explain/report.html").exists()
    monkeypatch.chdir(folder)
    train(overwrite=True)
    files = {path.name for path in (folder / "run").iterdir()}
    assert files == {"results.json", "history.csv", "none.keras"}


def test_images_beside_a_run_replace_its_data_and_its_classes_are_known(
    here, capsys
):
    picture(here / "it.png")
    names = ["cat", "dog", "eel"]
    write_run(here / "pets", NONE, data="pets", class_names=names)
    colours("pets/none.keras")
    content, _ = explain("it.png", "pets", "--class", "eel")
    assert [entry["image"] for entry in content["images"]] == ["it.png"]
    assert content["settings"]["data"] is None
    assert content["class_names"] == names
    assert content["images"][0]["models"]["none"]["class_index"] == 2
    # Another model has them in another order.
    write_run(here / "more", NONE, data="pets", class_names=names[::-1])
    colours("more/none.keras")
    assert cli.main(["explain", "it.png", "pets", "more"]) == 2
    text = "same order to be compared. Received: cat, dog, eel; eel, dog, cat"
    assert text in capsys.readouterr().err
    assert cli.main(["explain", "pets"]) == 2
    assert "or --data NAME" in capsys.readouterr().err
