"""Detectors compared: folder, table, resuming, saved detectors, command."""

import functools
import json
import pathlib
import re
import subprocess
import sys

import digits
import keras
import numpy as np
import pytest
from detection_checks import tiny_backbone

from cbam_keras import cli, detection, training
from cbam_keras.detection import comparing, figure, networks
from cbam_keras.detection.results import DetectorRun, compared, verdict
from cbam_keras.training.checkpoints import Progress

pytest.importorskip("keras_hub", reason="needs KerasHub")
pytest.importorskip("pycocotools", reason="needs pycocotools")
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Only .* of the boxes:UserWarning"),
]

SHORT = training.Recipe(epochs=2, batch_size=20, learning_rate=2e-3)


@pytest.fixture(scope="module", autouse=True)
def small():
    """Puts few digits and a small network in place; runs without compiling."""
    with pytest.MonkeyPatch.context() as patch:
        digits.replace(digits.few, patch.setattr)
        patch.setitem(networks.BACKBONES, "small", tiny_backbone)
        patch.setattr(
            keras.Model,
            "compile",
            functools.partialmethod(keras.Model.compile, run_eagerly=True),
        )
        # So little training finds nothing at any higher confidence.
        patch.setattr(networks, "CONFIDENCE", 0.01)
        yield


@pytest.fixture(scope="module")
def finished(small, tmp_path_factory):
    return detection.compare(
        ("none", "cbam"),
        recipe=SHORT,
        output=tmp_path_factory.mktemp("detect") / "run",
    )


def test_the_folder_holds_what_is_said(finished):
    assert sorted(path.name for path in finished.output.iterdir()) == [
        "cbam-seed0.keras",
        "detections.npz",
        "detections.png",
        "history.csv",
        "none-seed0.keras",
        "results.json",
    ]
    written = json.loads((finished.output / "results.json").read_text())
    assert written["verdict"] == finished.verdict
    assert [run["network"] for run in written["runs"]] == ["none", "cbam"]
    assert len(finished.history) == 4
    assert all(np.isfinite(row["loss"]) for row in finished.history)


def test_the_arrays_hold_the_objects_and_what_is_found(finished, monkeypatch):
    monkeypatch.setattr(figure, "CONFIDENT", 0.01)
    few = detection.load_data(batch_size=20).test.first()
    model = detection.load_model(finished.output / "cbam-seed0.keras")
    found = comparing.detect_all(model, few)
    arrays = figure.arrays_of(few, {"cbam": found})
    assert arrays["images"].shape == (10, 64, 64, 1)
    for name, images in (("truth", few.records.labels), ("cbam", found)):
        rows = arrays[name]
        assert len(rows) > 0
        for number in range(10):
            own = rows[rows[:, 0] == number]
            assert len(own) == len(
                images[number] if name == "truth" else images[number]["labels"]
            )
    np.testing.assert_allclose(
        arrays["truth"][:, 3:], np.concatenate(few.records.boxes)
    )
    with np.load(finished.output / "detections.npz") as file:
        np.testing.assert_array_equal(file["truth"], arrays["truth"])


def test_the_table_is_as_table_6(finished):
    text = str(finished)
    for part in ("mAP@.5", "mAP@.75", "mAP@[.5,.95]", "small + cbam"):
        assert part in text
    assert "10 test images of digit_scenes, seed 0" in text
    assert json.loads(finished.json())["anchors"]["coverage"] > 0.5


def test_saved_detectors_are_those_that_were_measured(finished):
    loaded = detection.load_data(batch_size=20)
    for run in finished.runs:
        model = detection.load_model(finished.output / run.file)
        found = comparing.evaluate(
            loaded.test.records,
            comparing.detect_all(model, loaded.test),
            len(loaded.class_names),
        )
        assert found.map == run.precision["map"]


@pytest.mark.every_backend
@pytest.mark.slow
def test_detections_are_the_same_in_a_fresh_process(finished, tmp_path):
    images = detection.load_data(batch_size=4).test[0][0]
    model = detection.load_model(finished.output / "cbam-seed0.keras")
    expected = model.detect(images)
    assert (expected["labels"] >= 0).any()
    np.save(tmp_path / "images.npy", images)
    script = pathlib.Path(__file__).parent / "detection_script.py"
    files = [
        finished.output / "cbam-seed0.keras",
        *(tmp_path / name for name in ("images.npy", "found.npz")),
    ]
    done = subprocess.run(
        [sys.executable, script, *files], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "found.npz") as found:
        np.testing.assert_array_equal(found["labels"], expected["labels"])
        np.testing.assert_allclose(found["boxes"], expected["boxes"], atol=1e-3)


def test_the_same_call_returns_the_results(finished, monkeypatch, capsys):
    monkeypatch.setattr(training, "fit_in", None)
    again = detection.compare(
        ("none", "cbam"), recipe=SHORT, output=finished.output
    )
    assert again.runs == finished.runs
    assert again.rows == finished.rows


def test_another_call_is_refused(finished):
    with pytest.raises(ValueError, match="learning_rate was 0.002, is 0.1"):
        detection.compare(
            ("none", "cbam"),
            recipe=training.Recipe(epochs=2, batch_size=20, learning_rate=0.1),
            output=finished.output,
        )


def test_an_interrupted_run_ends_like_an_unbroken_one(
    finished, tmp_path, monkeypatch
):
    save = Progress.save
    call = functools.partial(
        detection.compare, ("none",), recipe=SHORT, output=tmp_path
    )

    def interrupted(*arguments):
        save(*arguments)
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(Progress, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        call()
    resumed = call()
    expected = finished.runs[0].precision
    assert resumed.runs[0].precision == pytest.approx(expected, abs=1e-6)
    for row, other in zip(resumed.history, finished.history[:2], strict=True):
        assert row["loss"] == pytest.approx(other["loss"], rel=1e-4)


def test_the_command_prints_the_results_as_json(finished, capsys):
    status = cli.main(
        [
            *("detect", "--attention", "none", "cbam", "--epochs", "2"),
            *("--batch-size", "20", "--json", "--output"),
            str(finished.output),
        ]
    )
    assert status == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["verdict"] == finished.verdict


def test_a_dry_run_prints_what_would_be_trained_and_writes_nothing(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training.estimates, "SECONDS", 0)
    arguments = ["--attention", "none", "cbam", "--seeds", "3"]
    assert cli.main(["detect", "--dry-run", *arguments]) == 0
    printed = capsys.readouterr().out
    assert "80 training and 10 test images of 64 x 64 pixels" in printed
    assert re.search(r"Anchors on levels P3 to P4, .*% of the boxes", printed)
    assert re.search(r"cbam .* 1[.,]\d{3},\d{3} .* 12 .* 3 ", printed)
    assert printed.splitlines()[-1].startswith("About ")
    assert not list(tmp_path.iterdir())


# The comparison itself.


def run(network, seed, value):
    precision = {"map": value, "map50": 2 * value, "map75": 0.0}
    return DetectorRun(network, seed, 1, precision, 1.0, "x.keras")


def test_differences_are_paired_by_seed():
    runs = [
        run(name, seed, value)
        for name, values in (("none", (0.1, 0.3)), ("cbam", (0.12, 0.33)))
        for seed, value in enumerate(values)
    ]
    rows = compared(runs, ["none", "cbam"], (0, 1))
    one = rows["cbam"]["map"]
    assert one.difference == pytest.approx(0.025)
    # Student's t for one degree of freedom, 12.706, times 0.005.
    assert one.interval == pytest.approx((-0.03853, 0.08853), abs=1e-5)
    assert rows["cbam"]["map50"].difference == pytest.approx(0.05)
    assert rows["none"]["map"].difference is None
    said = verdict(rows)
    assert "differs from none by +2.5 points of mAP@[.5,.95]" in said
    assert ", which may be chance (95 % interval" in said


BAD = {
    "backbone": ({"backbone": "vgg16"}, '"resnet18"'),
    "attention": ({"attentions": ("eca",)}, '"cbam"'),
    "seeds": ({"seeds": 0}, "positive integer"),
    "recipe": ({"data_options": {"augment": "flip"}}, "option of the recipe"),
    "size": (
        {"recipe": training.Recipe(image_size=16)},
        "32 pixels or more",
    ),
    "multiple": (
        {"recipe": training.Recipe(image_size=50)},
        "multiples of the coarsest stride",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments_are_refused(name, tmp_path):
    arguments, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        detection.compare(**arguments, output=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_missing_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools.cocoeval", None)
    with pytest.raises(ImportError, match=r"cbam_keras\[detect\]"):
        detection.compare(output=tmp_path / "run")
