"""Images with boxes from TensorFlow Datasets."""

import numpy as np
import pytest
from data_checks import builder
from detection_checks import CLASSES, OBJECTS, SIZES, pixels

from cbam_keras import detection

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
# Whether the test images lack boxes, and which images are trained on.
VOC = ("is_difficult", {"train": 0, "validation": 0, "test": 0}, 4)
COCO = ("is_crowd", {"train": 0, "validation": 0, "test": 1}, 2)


@pytest.fixture
def tfds():
    pytest.importorskip("tensorflow", reason="TFDS reads by TensorFlow")
    return pytest.importorskip("tensorflow_datasets", reason="needs TFDS")


def prepare(tfds, folder, flag, splits, label=True):
    """Prepares a dataset as VOC or COCO, by the flag of an object."""
    features = {
        "bbox": tfds.features.BBoxFeature(),
        flag: np.bool_,
    }
    if label:
        features["label"] = tfds.features.ClassLabel(names=["cat", "dog"])

    def example(size, objects, kinds, empty):
        found = []
        for (left, top, width, height), kind in zip(
            objects, kinds, strict=True
        ):
            edges = (top, left, top + height, left + width)
            scaled = [a / b for a, b in zip(edges, size * 2, strict=True)]
            box = {"bbox": tfds.features.BBox(*scaled), flag: bool(found)}
            found.append({**box, "label": kind} if label else box)
        return {
            "image": pixels(size, objects),
            "objects": [] if empty else found,
        }

    rows = {
        split: [
            example(*row, empty)
            for row in zip(SIZES, OBJECTS, CLASSES, strict=True)
        ]
        for split, empty in splits.items()
    }
    builder(
        "pets",
        rows,
        folder,
        image=tfds.features.Image(shape=(None, None, 3)),
        objects=tfds.features.Sequence(features),
    )


@pytest.mark.parametrize(
    ("flag", "splits", "trained"), [VOC, COCO], ids=["voc", "coco"]
)
def test_datasets_of_tfds_are_read(flag, splits, trained, tfds, tmp_path):
    prepare(tfds, tmp_path, flag, splits)
    loaded = detection.load_data("pets", data_dir=tmp_path, image_size=40)
    assert loaded.class_names == ("cat", "dog")
    assert loaded.sizes == {"train": trained, "test": 2}
    records = loaded.test.records
    # The order of the images is that of the files.
    row = int(np.bincount(records.objects["image"]).argmax())
    objects = records.objects[records.objects["image"] == row]
    left, top, width, height = OBJECTS[0][0]
    np.testing.assert_allclose(
        objects["box"][0] * [30, 20, 30, 20],
        [left, top, left + width, top + height],
        atol=1e-4,
    )
    assert objects["label"].tolist() == [0, 1]
    # The second is difficult, or a crowd.
    assert objects["confidence"].tolist() == [1, 0]
    assert records.sizes[row].tolist() == [20, 30]
    images, _ = loaded.train[0]
    assert images.shape[1:] == (40, 40, 3)


def test_datasets_without_boxes_are_refused(tfds, tmp_path):
    prepare(tfds, tmp_path, "is_crowd", {"train": 0, "test": 0}, label=False)
    with pytest.raises(ValueError, match='"bbox" and "label"'):
        detection.load_data("pets", data_dir=tmp_path)


def test_unknown_datasets_are_refused(tfds, tmp_path):
    with pytest.raises(ValueError, match="digit_scenes"):
        detection.load_data("digit_scene", data_dir=tmp_path)
