"""The models and the data of a run are found in its folder."""

import json
import pathlib

import pytest
from explain_files_checks import colours, digit_network, picture, written

from cbam_keras import cli
from cbam_keras.explain import files_of_run

SETTINGS = {"networks": ["none", "cbam"], "data": {"name": "mnist5k"}}


def folder(path, kind, settings=SETTINGS, file="results.json", models=()):
    path = pathlib.Path(path)
    path.mkdir(parents=True, exist_ok=True)
    content = {"kind": kind, "settings": settings}
    (path / file).write_text(json.dumps(content))
    for name in models:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).touch()
    return path


def test_a_training_run_holds_its_networks(tmp_path):
    run = folder(
        tmp_path, "training run", models=["cbam.keras", "none.keras", "x.keras"]
    )
    found = files_of_run(run)
    assert found.models == [run / "none.keras", run / "cbam.keras"]
    assert found.data == "mnist5k"


def test_unfinished_networks_are_left_out(tmp_path):
    run = folder(tmp_path, "training run", models=["none.keras"])
    assert files_of_run(run).models == [run / "none.keras"]


def test_of_several_seeds_the_first_is_taken(tmp_path):
    settings = {**SETTINGS, "data": {"3": SETTINGS["data"], "4": {}}}
    names = [f"seed-{s}/{n}.keras" for s in (3, 4) for n in ("none", "cbam")]
    run = folder(tmp_path, "training over seeds", settings, models=names)
    found = files_of_run(run)
    assert found.models == [run / names[0], run / names[1]]
    assert found.data == "mnist5k"


def test_an_ablation_holds_the_networks_of_its_first_seed(tmp_path):
    settings = {
        "networks": {"none": "a1", "cbam": "b2"},
        "data": {"3": SETTINGS["data"], "4": {}},
    }
    names = [f"{n}/seed-3/{n}.keras" for n in ("none", "cbam")]
    run = folder(tmp_path, "ablation", settings, models=names)
    found = files_of_run(run)
    assert found.models == [run / name for name in names]
    assert found.data == "mnist5k"


def test_a_search_holds_its_best_model(tmp_path):
    settings = {"data": {"name": "photos"}}
    # It has both files.
    (tmp_path / "results.json").write_text('{"trials": []}')
    run = folder(tmp_path, "search", settings, "search.json", ["best.keras"])
    found = files_of_run(run)
    assert found.models == [run / "best.keras"]
    # Where the images lie is not known.
    assert found.data is None


@pytest.mark.parametrize("content", [None, "{", "[]", '{"kind": "search"}'])
def test_other_folders_are_no_runs(tmp_path, content):
    if content is not None:
        (tmp_path / "results.json").write_text(content)
    assert files_of_run(tmp_path) is None


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("training run", "none is finished yet"),
        ("comparison of detectors", r"command \(comparison of detectors\)"),
    ],
)
def test_runs_without_models_are_refused(tmp_path, capsys, kind, message):
    run = folder(tmp_path, kind)
    with pytest.raises(ValueError, match=message):
        files_of_run(run)
    assert cli.main(["explain", str(run)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_folder_of_digits_is_explained_with_its_data(
    few_digits, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    settings = {**SETTINGS, "data": {"name": "cluttered_mnist"}}
    run = folder("runs/mine", "training run", settings)
    digit_network(run / "none.keras")
    digit_network(run / "cbam.keras", "cbam")
    given = ["explain", "runs/mine", "--count", "2", "--quiet"]
    assert cli.main(given) == 0
    content, _ = written("runs/explain-mine")
    assert list(content["images"][0]["models"]) == ["none", "cbam"]
    assert content["settings"]["data"] == "cluttered_mnist"
    assert capsys.readouterr().err == ""


def test_images_beside_a_run_replace_its_data(here):
    run = folder("run", "training run", {**SETTINGS, "networks": ["colours"]})
    colours(run / "colours.keras")
    picture(here / "it.png")
    assert cli.main(["explain", "it.png", "run", "--output", "out"]) == 0
    content, _ = written("out")
    assert [entry["image"] for entry in content["images"]] == ["it.png"]
    assert content["settings"]["data"] is None


def test_a_run_on_other_data_needs_images(here, capsys):
    settings = {"networks": ["colours"], "data": {"name": "photos"}}
    run = folder("run", "training run", settings)
    colours(run / "colours.keras")
    assert cli.main(["explain", "run"]) == 2
    assert "or --data NAME" in capsys.readouterr().err
