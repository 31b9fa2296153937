"""The networks, the data and the classes of a run are found in its folder."""

import json

import pytest
from explain_files_checks import colours, digit_network, explain, picture

from cbam_keras import cli
from cbam_keras._explanations import networks_of

DIGITS = {"name": "mnist5k"}
BY_SEED = {"4": DIGITS, "3": DIGITS}


def write_run(folder, kind, data, *, file="results.json", **content):
    """Writes what a run says of itself, as far as it is read."""
    settings = {"data": data, "networks": content.pop("networks", [])}
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"kind": kind, "settings": settings, **content})
    (folder / file).write_text(text)


def study(*cells):
    keys = "variant", "seed", "status", "file"
    cells = [dict(zip(keys, cell, strict=True)) for cell in cells]
    return {"kind": "study", "data": BY_SEED, "format": 2, "cells": cells}


NAMES = {"networks": ["none", "cbam", "unfinished"]}
# What runs say of themselves, their files, and those that are explained first.
RUNS = {
    "one seed": (
        study(("none", 0, "finished", "none.keras")),
        "none",
        1,
    ),
    "several seeds": (
        study(
            ("none", 3, "diverged", None),
            ("se", 3, "finished", "se-seed3.keras"),
            ("cbam", 3, "finished", "cbam-seed3.keras"),
            ("none", 4, "finished", "none-seed4.keras"),
        ),
        "se-seed3 cbam-seed3 none-seed4",
        2,
    ),
    "search": (
        study(("r8", 0, "finished", "r8.keras")),
        "best r8",
        1,
    ),
    # The layouts before "format": 2.
    "old training": (
        {"kind": "training run", "data": DIGITS, **NAMES},
        "none cbam",
        2,
    ),
    "old seeds": (
        {"kind": "training over seeds", "data": BY_SEED, **NAMES},
        "seed-4/none seed-4/cbam seed-3/none",
        2,
    ),
    "old ablation": (
        {"kind": "ablation", "data": BY_SEED, **NAMES},
        "none/seed-4/none cbam/seed-4/cbam cbam/seed-3/cbam",
        2,
    ),
    "old search": (
        {"kind": "search", "data": DIGITS, "file": "search.json"},
        "best trial_0001/none",
        1,
    ),
}


@pytest.mark.parametrize(("content", "names", "count"), RUNS.values(), ids=RUNS)
def test_a_run_holds_its_networks(content, names, count, tmp_path):
    write_run(tmp_path, **content)
    with pytest.raises(ValueError, match="none is finished yet"):
        networks_of(tmp_path)
    files = [tmp_path / f"{name}.keras" for name in names.split()]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    assert networks_of(tmp_path) == (files[:count], "mnist5k")


def test_where_data_lie_is_known_only_of_embedded_ones(tmp_path):
    (tmp_path / "none.keras").touch()
    write_run(tmp_path, "training run", {"name": "pets"}, networks=["none"])
    assert networks_of(tmp_path) == ([tmp_path / "none.keras"], None)


def test_a_run_of_detectors_is_refused(tmp_path):
    write_run(tmp_path, "comparison of detectors", {})
    with pytest.raises(ValueError, match=r"command \(comparison of detectors"):
        networks_of(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", '{"kind": "search"}'])
def test_a_folder_of_something_else_is_one_of_images(here, content):
    picture(here / "all/it.png")
    (here / "all/results.json").write_text(content)
    explain("colours.keras", "all", "--no-report")


def test_a_folder_of_digits_is_explained_with_its_data(
    few_digits, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    data = {"0": {"name": "cluttered_mnist"}}
    names = "none", "cbam"
    cells = [(name, 0, "finished", f"{name}.keras") for name in names]
    write_run(tmp_path / "digits", **{**study(*cells), "data": data})
    digit_network("digits/none.keras")
    digit_network("digits/cbam.keras", "cbam")
    # In the folder of a run, they belong to it.
    for output in ("runs/explain-digits", "digits/explain"):
        given = ["explain", "digits", "--count", "2", "--quiet"]
        if output == "digits/explain":
            given += ["--output", "digits"]
        assert cli.main(given) == 0
        out, err = capsys.readouterr()
        assert out.endswith(f"Files in {output}\n") and err == ""
        content = json.loads((tmp_path / output / "explain.json").read_text())
        assert list(content["images"][0]["models"]) == ["none", "cbam"]
        assert content["settings"]["data"] == "cluttered_mnist"
    files = {path.name for path in (tmp_path / "digits").iterdir()}
    assert files == {"results.json", "none.keras", "cbam.keras", "explain"}


def test_images_beside_a_run_replace_its_data_and_its_classes_are_known(
    here, capsys
):
    picture(here / "it.png")
    names = ["cat", "dog", "eel"]
    cells = study(("none", 0, "finished", "none.keras"))
    cells |= {"data": {"0": {"name": "pets"}}, "class_names": names}
    write_run(here / "pets", **cells)
    colours("pets/none.keras")
    content, _ = explain("it.png", "pets", "--class", "eel")
    assert [entry["image"] for entry in content["images"]] == ["it.png"]
    assert content["settings"]["data"] is None
    assert content["class_names"] == names
    assert content["images"][0]["models"]["none"]["class_index"] == 2
    assert cli.main(["explain", "pets"]) == 2
    assert "or --data NAME" in capsys.readouterr().err
