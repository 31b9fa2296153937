"""The networks, the data and the classes of a run are found in its folder."""

import functools
import json
import re

import networks
import numpy as np
import pretended
import pytest
from data_checks import write_folder
from explain_files_checks import explain, picture, written
from folder_checks import call
from PIL import Image
from report_checks import FOLDERS, change, quick, train
from tuning_checks import warned

from cbam_keras import _files, cli, data, report, study, training
from cbam_keras.explain import (
    gate_importance,
    heat_in_region,
    pointing_game,
)
from cbam_keras.report import read_run
from cbam_keras.report.images import find_images

# What writes a run, files there, and those of them that are explained.
RUNS = {
    "one seed": (FOLDERS["train"], "none se other", "none se"),
    "several seeds": (
        *(FOLDERS["seeds"], "none-seed0 cbam-seed0 none-seed1"),
        "none-seed0 cbam-seed0",
    ),
    "search": (FOLDERS["tune"], "best none", "best"),
}


@pytest.mark.parametrize(("write", "names", "chosen"), RUNS.values(), ids=RUNS)
def test_a_run_holds_its_networks(write, names, chosen, tmp_path):
    write(tmp_path)
    for file in tmp_path.glob("*.keras"):
        file.unlink()
    with pytest.raises(ValueError, match="none is finished yet"):
        read_run(tmp_path)
    for name in names.split():
        (tmp_path / f"{name}.keras").touch()
    files = [tmp_path / f"{name}.keras" for name in chosen.split()]
    assert read_run(tmp_path).files == files


def test_a_damaged_run_is_reported(tmp_path, capsys):
    folder = train(tmp_path / "run")
    cells = json.loads((folder / "results.json").read_text())["cells"]
    change(folder, cells=[{**cells[0], "seed": "x"}])
    assert cli.main(["explain", str(folder)]) == 2
    message = capsys.readouterr().err
    assert "results.json cannot be read" in message
    assert "a cell is of no variant and seed of the run" in message


def test_nothing_is_downloaded_because_a_run_says_so(tmp_path):
    source = {"name": "cifar10", "data_dir": "/d", "download": True}
    change(train(tmp_path), source=source)
    assert read_run(tmp_path).source == data.Source("cifar10", data_dir="/d")


def test_heat_on_digits_is_compared_with_their_boxes(
    few_digits, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    loaded = data.load("cluttered_mnist", batch_size=None, boxes=True)
    options = {"data": "cluttered_mnist", "attentions": ["cbam"], "seeds": [0]}

    def network(attention):
        options = {"input_shape": (48, 48, 1), "classes": 10}
        return networks.resnet(**options, attention=attention)

    with quick():
        call("compare", "digits", model=network, **options)
    given = ["--count", "all", "--draw", "6", "--batch-size", "10"]
    assert cli.main(["explain", "digits", *given]) == 0
    out = capsys.readouterr().out
    assert out.endswith("Files in runs/explain-digits\n")
    content, arrays = written("runs/explain-digits")
    images, labels, boxes = loaded.test
    names = [entry["image"] for entry in content["images"]]
    places = [int(name.removeprefix("test ")) for name in names]
    assert sorted(places) == list(range(len(images))) == list(range(20))
    for entry, place in zip(content["images"], places, strict=True):
        assert entry["box"] == boxes[place].tolist()
        assert entry["true_class"] == str(labels[place])
        assert entry["models"]["cbam"]["class"] == entry["true_class"]
    drawn = places[:6]
    np.testing.assert_array_equal(arrays["images"], images[drawn])
    np.testing.assert_array_equal(arrays["boxes"], boxes[drawn])
    rows = [entry["models"]["cbam"] for entry in content["images"]]
    hits, energy = pointing_game(arrays["cbam-seed0/heat_maps"], boxes[drawn])
    assert [row["hit"] for row in rows[:6]] == hits.tolist()
    found = [row["energy"] for row in rows[:6]]
    np.testing.assert_allclose(found, energy, atol=1e-5)
    rate = content["summary"]["cbam"]["hit_rate"]
    assert rate == pytest.approx(np.mean([row["hit"] for row in rows]))
    sides = boxes[:, 2:] - boxes[:, :2]
    share = 100 * sides.prod(axis=1).mean() / 48**2
    assert content["box_fraction"] == pytest.approx(share / 100)
    assert "6 of 20 images" in out
    page = (tmp_path / "runs/explain-digits/report.html").read_text()
    assert "The white box is around the digit." in page
    assert re.search(rf"│ uniform heat .*{share:.1f} .*{share:.1f} ", out)


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """Trains a network on a folder, and goes elsewhere."""
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "pets", size=(8, 8))
    pretended.install(monkeypatch)

    def build(data):
        return networks.resnet(classes=2)

    described = study.Study(
        task=study.Classification("pets", validation_fraction=0.3),
        variants=(study.Variant("none", build),),
        seeds=(3,),
        recipe=training.Recipe(epochs=1, batch_size=2),
    )
    train = functools.partial(study.run, described, tmp_path / "run")
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


def test_a_training_measures_heat_on_test_images_with_masks(trained, capsys):
    folder, _ = trained
    (folder / "masks/cat").mkdir(parents=True)
    for number, path in enumerate(sorted(folder.glob("pets/cat/*.png"))):
        mask = Image.fromarray(np.tri(8, k=number, dtype="uint8"))
        mask.save(folder / "masks/cat" / path.name)
    given = f"train --data {folder}/pets --attention none --epochs 1".split()
    given += ["--regions", f"{folder}/masks", "--output", f"{folder}/new"]
    with warned("measured on . images? without a mask in"):
        assert cli.main(given) == 0
    # The same command does not measure it again.
    assert cli.main(given) == 0
    content, arrays = written(folder / "new/explain")
    paths = [folder / f"masks/cat/{x.split('/')[-1]}" for x in arrays["names"]]
    masks = [
        np.asarray(Image.open(x)) if "cat" in y else np.zeros((8, 8))
        for x, y in zip(paths, arrays["names"], strict=True)
    ]
    frame = heat_in_region(arrays["none-seed0/heat_maps"], masks)
    expected = {f"region_{x}": frame[x].mean() for x in frame}
    assert content["summary"]["none"] == pytest.approx(expected, rel=1e-5)
    page = (folder / "new/report.html").read_text()
    assert f"{100 * frame['iou'].mean():.1f}" in page
    assert (folder / "new/tables/heat.csv").exists()
    assert cli.main([*given, "--regions", "nowhere"]) == 2
    assert "must be a folder of masks" in capsys.readouterr().err


def test_figures_are_not_written_among_the_images_of_the_user(trained, capsys):
    folder, _ = trained
    before = sorted(folder.rglob("*"))
    given = ["explain", str(folder / "run"), "--output", str(folder / "pets")]
    assert cli.main(given) == 2
    message = "which holds other files: cat, dog. Choose another folder"
    assert message in capsys.readouterr().err
    assert sorted(folder.rglob("*")) == before
    # As a process leaves a folder that is killed while it writes.
    (folder / "seen").mkdir()
    picture(folder / "seen/grad_cam.png")
    (folder / "seen/.lock").touch()
    given = [folder / "run", "--no-report"]
    for _ in range(2):
        explain(*given, output=folder / "seen")
    # A file manager leaves such files.
    (folder / "hidden").mkdir()
    (folder / "hidden/.DS_Store").touch()
    explain(*given, output=folder / "hidden")
    # Nor is a folder of figures among the images taken for a class.
    explain(*given, output=folder / "pets/seen")
    assert data.load(folder / "pets").class_names == ("cat", "dog")
    found = find_images(read_run(folder / "run"), [folder / "pets"])
    assert not [name for name in found.names if "seen" in name]


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
    assert files == {"results.json", "history.csv", "study.json"}


def test_gates_of_each_network_are_weighed_on_validation_images(
    few_digits, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)

    def network(attention):
        options = {"input_shape": (28, 28, 1), "classes": 10}
        return networks.resnet(**options, attention=attention)

    kinds = {"attentions": ["none", "se", "cbam"], "seeds": [0]}
    with quick():
        call("compare", "run", model=network, data="mnist5k", **kinds)
    folder = tmp_path / "run"
    given = "--mistakes", "--count", "4", "--output", "run"
    assert cli.main(["explain", "run", *given]) == 0
    _, (images, labels), _ = data.load("mnist5k", batch_size=None)
    content = json.loads((folder / "explain/explain.json").read_text())
    page = report.write(folder).read_text()
    assert [*content["gate_tables"]] == ["se-seed0", "cbam-seed0"]
    for name, found in content["gate_tables"].items():
        model = _files.load_model(folder / f"{name}.keras")
        expected = gate_importance(model, images, labels).table
        assert found["title"] == f"What the gates of {name} are worth"
        assert found["rows"] == expected.rows
        assert found["totals"] == expected.totals
        assert found["note"].startswith(f"On {len(labels)} images, ")
        assert found["title"] in page
        assert f"What {name} loses without each gate" in page
    assert "The channel gates of se by layer" in page
    assert "The channel and spatial gates of cbam by layer" in page
    assert "mnist5k: 5,000 digits" in page and "white box" not in page
    assert "Loss and score over the epochs" in page
    # A single epoch has no curve.
    monkeypatch.setattr(study.Results, "history", [{"epoch": 1}])
    assert "over the epochs" not in report.write(folder).read_text()
