"""Mean average precision by hand, a run, detectors saved as by 0.5.0."""

import json
import types
import zipfile

import keras
import numpy as np
import pretended
import pytest

from cbam_keras import models, study

pytest.importorskip("pycocotools", reason="needs pycocotools")
keras_hub = pytest.importorskip("keras_hub", reason="needs KerasHub")

from examples.detection import __main__ as command  # noqa: E402
from examples.detection import (  # noqa: E402
    detector,
    feature_pyramid,
    load_detector,
)
from examples.detection.pictures import Picture  # noqa: E402
from examples.detection.retinanet import Detector, losses  # noqa: E402
from examples.detection.task import (  # noqa: E402
    mean_average_precision,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Only .* of the boxes:UserWarning"),
]

# Under JAX each operation would be compiled alone, which takes longer.
EAGERLY = keras.backend.backend() != "jax"
CLASSES = 3
BOX, OTHER = (10, 10, 30, 30), (60, 20, 160, 70)


def tiny_backbone(**options):
    """Builds a network of strides up to 16."""
    return models.ResNet(
        (1, 1, 1), block="basic", widths=(4, 8, 16), stem_width=4, **options
    )


def scene(*objects):
    """Returns a picture of objects: class, box and score."""
    labels, boxes, scores = zip(*objects, strict=True) if objects else [()] * 3
    return Picture(
        image=np.zeros((200, 200, 1), "uint8"),
        size=(200, 200),
        boxes=np.array(boxes, "float64").reshape(len(boxes), 4),
        labels=np.array(labels, int),
        scores=np.array(scores),
    )


TRUE, FOUND, ELSEWHERE = (0, BOX, 1.0), (0, BOX, 0.5), (0, OTHER, 0.9)
# A score of 0 stands for a crowd, or a difficult object.
IGNORED = (0, OTHER, 0.0)


@pytest.mark.parametrize(
    ("truth", "detected", "expected"),
    [
        # Half of the objects are found, at a precision of one half: 51 of the
        # 101 points of recall from 0 to 1.
        (
            [scene(TRUE), scene(TRUE)],
            [scene((0, BOX, 0.9)), scene((0, OTHER, 0.95))],
            (0.5 * 51 / 101,) * 3,
        ),
        # Of 20 rows 12.4 are found, 0.62: of ten thresholds 0.5, 0.55 and 0.6.
        ([scene(TRUE)], [scene((0, (10, 10, 30, 22.4), 0.5))], (0.3, 1, 0)),
        ([scene(TRUE, IGNORED)], [scene(FOUND, ELSEWHERE)], (1,) * 3),
    ],
)
def test_mean_average_precision_is_that_by_hand(truth, detected, expected):
    result = mean_average_precision(truth, detected, classes=2)
    keys = ("map", "map50", "map75")
    assert result == pytest.approx(dict(zip(keys, expected, strict=True)))


@pytest.fixture(scope="module")
def small(few_digits):
    """Few digits, a small network, weak detections kept."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(detector.BACKBONES, "small", tiny_backbone)
        patch.setattr(detector, "CONFIDENCE", 0.01)
        yield patch


@pytest.mark.slow
def test_a_command_trains_and_measures(small, tmp_path, capsys):
    pretended.install(small)
    folder = tmp_path / "run"
    line = f"--attention cbam --epochs 1 --batch-size 20 --output {folder}"
    command.main([*line.split(), "--json"])
    content = json.loads(capsys.readouterr().out)
    assert [run["network"] for run in content["runs"]] == ["cbam"]
    results = study.Results.read(folder)
    assert set(results.runs[0].metrics) == {"map", "map50", "map75"}
    for heading in ("mAP@[.5,.95]", "mAP@.5", "mAP@.75"):
        assert heading in str(results)
    loaded = load_detector(folder / results.runs[0].file)
    assert loaded.detect(np.ones((2, 64, 64, 1)) * 9)["boxes"].shape[-1] == 4


# Saved, and as version 0.5.0 saved them.


def images(count=2):
    return np.random.default_rng(0).uniform(0, 255, (count, 64, 64, 3))


def objects(labels):
    """Returns a box in each of two images; a label of -1 is none."""
    boxes = np.array([[[8, 8, 30, 40]], [[20, 10, 50, 60]]], "float32")
    return {"boxes": boxes, "labels": np.array(labels, "float32")[:, None]}


def build():
    """Returns a compiled detector whose outputs are not all below a limit."""
    inputs = keras.Input((64, 64, 3))
    scaled = keras.layers.Rescaling(1 / 255)(inputs)
    network = tiny_backbone(
        include_top=False, input_tensor=scaled, attention="cbam"
    )
    backbone = keras_hub.models.RetinaNetBackbone(
        feature_pyramid(network),
        min_level=3,
        max_level=4,
        use_p5=False,
        image_shape=(64, 64, 3),
    )
    detector = Detector(
        backbone,
        num_classes=CLASSES,
        bounding_box_format="xyxy",
        pre_logits_num_conv_layers=0,
        preprocessor=None,
        prediction_decoder=keras_hub.layers.NonMaxSuppression(
            "xyxy", from_logits=True, confidence_threshold=0.001
        ),
    )
    detector.compile(
        keras.optimizers.Adam(1e-3), **losses(CLASSES), auto_scale_loss=False
    )
    detector.run_eagerly = EAGERLY
    return detector


def train_on(model, labels=(0, 2)):
    # KerasHub's own takes no dictionaries.
    values = keras.Model.train_on_batch(model, images(), objects(labels))
    return float(values[0])


def as_version_0_5_0(file):
    """Renames the modules of our classes in a saved detector."""
    written = file.with_name("of_0_5_0.keras")
    with zipfile.ZipFile(file) as new, zipfile.ZipFile(written, "w") as old:
        for name in new.namelist():
            content = new.read(name)
            if name == "config.json":
                text = content.decode()
                for module in ("pyramid", "retinanet"):
                    named = f'"examples.detection.{module}"'
                    assert text.count(named) == 1
                    text = text.replace(named, '"cbam_keras.models.detector"')
                # By these Keras finds them, whatever their module.
                for kind in ("Detector", "PyramidBackbone"):
                    assert text.count(f'"cbam_keras>{kind}"') == 1
                content = text
            old.writestr(name, content)
    return written


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A detector after two steps, the second without objects, and loaded."""
    model = build()
    values = [train_on(model), train_on(model, (-1, -1))]
    file = tmp_path_factory.mktemp("detector") / "model.keras"
    model.save(file)
    loaded = load_detector(as_version_0_5_0(file))
    loaded.run_eagerly = EAGERLY
    return types.SimpleNamespace(model=model, losses=values, loaded=loaded)


def test_a_saved_detector_gives_the_same_boxes(saved):
    assert np.isfinite(saved.losses).all()
    expected = saved.model.detect(images())
    found = saved.loaded.detect(images())
    assert (expected["labels"] >= 0).any()
    for key, value in expected.items():
        assert value.dtype in ("float32", "int32")
        np.testing.assert_array_equal(found[key], value)
