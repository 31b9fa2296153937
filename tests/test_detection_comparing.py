"""Detectors compared: files, table, differences, command, mistakes."""

import functools
import json
import re
import sys

import digits
import keras
import numpy as np
import pretended
import pytest
from detection_checks import tiny_backbone

from cbam_keras import cli, detection, training
from cbam_keras.detection import figure
from cbam_keras.detection.evaluation import detect_all, evaluate
from cbam_keras.detection.results import DetectorRun, compared, verdict

pytest.importorskip("keras_hub", reason="needs KerasHub")
pytest.importorskip("pycocotools", reason="needs pycocotools")
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Only .* of the boxes:UserWarning"),
]

SHORT = training.Recipe(epochs=1, batch_size=20, learning_rate=2e-3)


@pytest.fixture(scope="module", autouse=True)
def small():
    """Few digits, a small network, no training, weak detections kept."""
    with pytest.MonkeyPatch.context() as patch:
        digits.replace(digits.few, patch.setattr)
        patch.setitem(detection.BACKBONES, "small", tiny_backbone)
        pretended.install(patch)
        patch.setattr("cbam_keras.detection.networks.CONFIDENCE", 0.01)
        # Weights that are not trained find more than there is room for.
        patch.setattr(figure, "CONFIDENT", 2.0)
        yield


@pytest.fixture(scope="module")
def finished(small, tmp_path_factory):
    return detection.compare(
        ("none", "cbam"),
        recipe=SHORT,
        output=tmp_path_factory.mktemp("detect") / "run",
    )


@pytest.fixture(scope="module")
def found(finished):
    """Returns the test images, and what the saved detector finds in them."""
    test = detection.load_data(batch_size=20).test
    model = detection.load_model(finished.output / "cbam-seed0.keras")
    return test, detect_all(model, test)


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
    assert [row["epoch"] for row in finished.history] == [1, 1]


def test_saved_detectors_are_those_that_were_measured(finished, found):
    test, detections = found
    measured = evaluate(test.records, detections, 10)
    (run,) = (run for run in finished.runs if run.network == "cbam")
    assert run.file == "cbam-seed0.keras"
    assert measured.map == run.precision["map"]


def test_the_arrays_hold_the_objects_and_what_is_found(
    finished, found, monkeypatch
):
    test, detections = found
    monkeypatch.setattr(figure, "CONFIDENT", 0.01)
    arrays = figure.arrays_of(test, {"cbam": detections})
    with np.load(finished.output / "detections.npz") as file:
        assert list(file) == ["images", "truth", "none", "cbam"]
        np.testing.assert_array_equal(file["truth"], arrays["truth"])
    assert arrays["images"].shape == (10, 64, 64, 1)
    records = test.records
    np.testing.assert_allclose(
        arrays["truth"][:, 3:], np.concatenate(records.boxes)
    )
    labels = [own["labels"] for own in detections]
    for name, expected in (("truth", records.labels), ("cbam", labels)):
        rows = arrays[name]
        assert len(rows) > 0
        for number, own in enumerate(expected):
            kinds = rows[rows[:, 0] == number, 1]
            np.testing.assert_array_equal(kinds, own)


def test_the_figure_shows_objects_and_confident_detections(found, monkeypatch):
    test, _ = found
    monkeypatch.setattr(figure, "CONFIDENT", 0.5)
    one = {
        "boxes": np.array([[0.1, 0.2, 0.5, 0.8], [0.3, 0.3, 0.6, 0.6]]),
        "labels": np.array([3, 7]),
        "confidence": np.array([0.75, 0.25]),
    }
    drawn = figure.plot_detections(test, {"cbam": [one] * 10}, "0123456789", "")
    truth, cbam = drawn.axes[:6], drawn.axes[6:]
    assert len(cbam) == 6
    counts = [len(axes.patches) for axes in truth]
    assert counts == [len(own) for own in test.records.labels[:6]]
    for axes in cbam:
        (box,), (text,) = axes.patches, axes.texts
        assert text.get_text() == "3 0.75"
        # Of 64 pixels, the first of which has its middle at 0.
        np.testing.assert_allclose(
            box.get_bbox().extents, [5.9, 12.3, 31.5, 50.7]
        )


def test_the_table_is_as_table_6(finished):
    text = str(finished)
    for part in ("mAP@.5", "mAP@.75", "mAP@[.5,.95]", "small + cbam"):
        assert part in text
    assert "10 test images of digit_scenes, seed 0" in text
    assert json.loads(finished.json())["anchors"]["coverage"] > 0.5


def test_the_command_returns_the_results_of_a_finished_run_as_json(
    finished, capsys, monkeypatch
):
    monkeypatch.setattr(keras.Model, "fit", None)
    status = cli.main(
        [
            *("detect", "--attention", "none", "cbam", "--epochs", "1"),
            *("--batch-size", "20", "--json", "--output"),
            str(finished.output),
        ]
    )
    assert status == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["verdict"] == finished.verdict
    assert printed["runs"] == json.loads(finished.json())["runs"]


def test_a_dry_run_prints_what_would_be_trained_and_writes_nothing(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("cbam_keras.training.estimates.SECONDS", 0)
    compile = functools.partialmethod(keras.Model.compile, run_eagerly=True)
    monkeypatch.setattr(keras.Model, "compile", compile)
    arguments = ["--attention", "cbam", "--seeds", "3"]
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backbone": "vgg16"}, '"resnet18"'),
        ({"attentions": ("eca",)}, '"cbam"'),
        ({"seeds": 0}, "positive integer"),
        ({"data_options": {"augment": "flip"}}, "option of the recipe"),
        ({"recipe": training.Recipe(image_size=16)}, "32 pixels or more"),
        (
            {"recipe": training.Recipe(image_size=50)},
            "multiples of the coarsest stride",
        ),
    ],
)
def test_bad_arguments_are_refused(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        detection.compare(**arguments, output=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_missing_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools.cocoeval", None)
    with pytest.raises(ImportError, match=r"cbam_keras\[detect\]"):
        detection.compare(output=tmp_path / "run")
