"""Detectors compared: files, table, differences, command, mistakes."""

import dataclasses
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
from cbam_keras.detection.evaluation import detect_all, evaluate
from cbam_keras.detection.figure import arrays_of, plot_detections
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
        patch.setattr("cbam_keras.detection.figure.CONFIDENT", 2.0)
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
    assert [row["epoch"] for row in finished.history] == [1, 1]
    assert json.loads(finished.json())["anchors"]["coverage"] > 0.5
    # The table is as table 6 of the paper.
    text = str(finished)
    for part in ("mAP@.5", "mAP@.75", "mAP@[.5,.95]", "small + cbam"):
        assert part in text
    assert "10 test images of digit_scenes, seed 0" in text


def test_saved_detectors_are_those_that_were_measured(finished):
    test = detection.load_data(batch_size=20).test
    model = detection.load_model(finished.output / "cbam-seed0.keras")
    measured = evaluate(test.records, detect_all(model, test), 10)
    (run,) = (run for run in finished.runs if run.network == "cbam")
    assert run.file == "cbam-seed0.keras"
    assert measured.map == run.precision["map"]


def test_objects_and_confident_detections_are_drawn_and_kept_as_arrays(
    finished, monkeypatch
):
    monkeypatch.setattr("cbam_keras.detection.figure.CONFIDENT", 0.5)
    test = detection.load_data(batch_size=20).test
    one = {
        "boxes": np.array([[0.1, 0.2, 0.5, 0.8], [0.3, 0.3, 0.6, 0.6]]),
        "labels": np.array([3, 7]),
        "confidence": np.array([0.75, 0.25]),
    }
    drawn = plot_detections(test, {"cbam": [one] * 10}, "0123456789", "")
    truth, cbam = drawn.axes[:6], drawn.axes[6:]
    assert len(cbam) == 6
    counts = [len(axes.patches) for axes in truth]
    assert counts == [len(own) for own in test.records.labels[:6]]
    for axes in cbam:
        (box,), (text,) = axes.patches, axes.texts
        assert text.get_text() == "3 0.75"
        # Of 64 pixels, the first of which has its middle at 0.
        extents = box.get_bbox().extents
        np.testing.assert_allclose(extents, [5.9, 12.3, 31.5, 50.7])
    arrays = arrays_of(test, {"cbam": [one] * 10})
    assert arrays["images"].shape == (10, 64, 64, 1)
    labels = np.concatenate(test.records.labels)
    np.testing.assert_array_equal(arrays["truth"][:, 1], labels)
    boxes = np.concatenate(test.records.boxes)
    np.testing.assert_allclose(arrays["truth"][:, 3:], boxes)
    rows = [[number, 3, 0.75, 0.1, 0.2, 0.5, 0.8] for number in range(10)]
    np.testing.assert_allclose(arrays["cbam"], rows, rtol=1e-6)
    with np.load(finished.output / "detections.npz") as file:
        assert list(file) == ["images", "truth", "none", "cbam"]
        np.testing.assert_array_equal(file["truth"], arrays["truth"])


def test_each_option_reaches_its_argument(finished, capsys, monkeypatch):
    calls = {}
    monkeypatch.setattr(
        detection,
        "compare",
        lambda *given, **options: (
            calls.update(options, given=given) or finished
        ),
    )
    recipe = dataclasses.replace(
        detection.DEFAULT_RECIPE, epochs=9, image_size=64
    )
    options = {
        "--attention none cbam": {"given": (["none", "cbam"],)},
        "--backbone resnet18 --seeds 3": {"backbone": "resnet18", "seeds": 3},
        "--data pets": {"images": "pets"},
        "--download": {"data_options": {"download": True}},
        "--epochs 9 --image-size 64": {"recipe": recipe},
        "--output here --json": {"output": "here"},
    }
    assert cli.main(["detect", *" ".join(options).split()]) == 0
    for option, passed in options.items():
        assert calls.items() >= passed.items(), (option, calls)
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(finished.json())


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
