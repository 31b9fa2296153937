"""Images with boxes from folders and from TensorFlow Datasets."""

import numpy as np
import pytest
from data_checks import builder
from detection_checks import (
    CLASSES,
    OBJECTS,
    SIZES,
    bright_box,
    pixels,
    write_coco,
)
from PIL import Image

from cbam_keras import detection

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def test_a_folder_of_coco_is_read(tmp_path):
    loaded = detection.load_data(
        write_coco(tmp_path / "pets"), image_size=(40, 60), batch_size=2
    )
    assert loaded.name == "pets"
    assert loaded.class_names == ("cat", "dog")
    assert loaded.sizes == {"train": 2, "test": 2}
    images, objects = loaded.train[0]
    for row, image, boxes, labels in zip(
        loaded.train.order, images, *objects.values(), strict=True
    ):
        # The crowd is left out.
        assert labels.tolist() == [int(CLASSES[row][0] == "dog")]
        left, top, width, height = OBJECTS[row][0]
        size = SIZES[row]
        scale = np.array([60 / size[1], 40 / size[0]] * 2)
        expected = scale * [left, top, left + width, top + height]
        np.testing.assert_allclose(boxes[0], expected, atol=1e-4)
        np.testing.assert_allclose(bright_box(image[..., 0]), expected, atol=1)
    assert loaded.test.examples.objects["confidence"].tolist() == [1, 0, 1]


def test_images_may_have_no_boxes_and_boxes_an_area(tmp_path):
    def change(content):
        del content["annotations"][0]
        content["annotations"][1]["area"] = 77

    path = write_coco(tmp_path, change=change)
    loaded = detection.load_data(path, image_size=32, batch_size=2)
    _, objects = loaded.train[0]
    assert sorted(objects["labels"].ravel()) == [-1, 1]
    areas = loaded.train.examples.objects["area"]
    np.testing.assert_array_equal(areas, [np.nan, 77])


def test_batches_that_do_not_fit_into_memory_are_refused(tmp_path):
    message = r"memory, .* batches of 2 images \(1000000, 1000000, 3\)"
    with pytest.raises(ValueError, match=message):
        detection.load_data(write_coco(tmp_path), image_size=1_000_000)


def test_another_image_with_the_same_boxes_is_noticed(tmp_path):
    folder = write_coco(tmp_path)
    first = detection.load_data(folder).fingerprint
    assert detection.load_data(folder).fingerprint == first
    path = next((folder / "train").iterdir())
    image = Image.open(path)
    image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(path)
    assert detection.load_data(folder).fingerprint != first


def alter(part, index=0, **values):
    return lambda content: content[part][index].update(values)


def all_crowds(content):
    for annotation in content["annotations"]:
        annotation["iscrowd"] = 1


BAD = {
    "outside": (
        alter("annotations", bbox=[20, 4, 15, 10]),
        r"\[20, 4.*lie in its image, of height 20 and width 30",
    ),
    "no area": (
        alter("annotations", bbox=[3, 4, 0, 10]),
        r"\[3, 4.*must have an area",
    ),
    "crowds": (all_crowds, "at least one box that is not of a crowd"),
    "category": (alter("annotations", category_id=5), "'category_id': 5"),
    "no images": (lambda content: content.pop("images"), "COCO's JSON"),
    "file": (alter("images", file_name="x.png"), "x.png.*missing"),
    "two images": (alter("images", 1, id=10), "another image"),
    # In the other file it is "dog".
    "name": (alter("categories", name="cow"), "'dog'.*_val.*another category"),
    "size": (
        alter("images", height=30, width=20),
        "'id': 10.* height 20 and width 30",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_annotations_are_refused(name, tmp_path):
    change, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        detection.load_data(write_coco(tmp_path, change=change))


def test_damaged_files_are_refused(tmp_path):
    write_coco(tmp_path)
    image = tmp_path / "train" / "1.png"
    image.write_bytes(image.read_bytes()[:-20])
    with pytest.raises(ValueError, match="'id': 11.*missing or truncated"):
        detection.load_data(tmp_path)
    (tmp_path / "annotations" / "instances_train.json").write_text("[" * 10**5)
    with pytest.raises(ValueError, match="instances_train.json.*Recursion"):
        detection.load_data(tmp_path)


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (("train",), "without a file for test or val"),
        (("train", "train2", "val"), "several: instances_train.json, "),
    ],
)
def test_each_split_needs_one_file(splits, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        detection.load_data(write_coco(tmp_path, splits=splits))


def test_bad_arguments_are_refused_before_any_work():
    with pytest.raises(ValueError, match='"translate"'):
        detection.load_data("nowhere/", augment="crop")


# TensorFlow Datasets.


@pytest.fixture
def tfds():
    pytest.importorskip("tensorflow", reason="TFDS reads by TensorFlow")
    return pytest.importorskip("tensorflow_datasets", reason="needs TFDS")


def prepare(tfds, folder, flag, is_tested):
    """Prepares a dataset as VOC or COCO, by the flag of an object."""
    features = {
        "bbox": tfds.features.BBoxFeature(),
        "area": np.int64,
        "label": tfds.features.ClassLabel(names=["cat", "dog"]),
        flag: np.bool_,
    }

    def described(image, number):
        left, top, width, height = OBJECTS[image][number]
        edges = (top, left, top + height, left + width)
        scaled = [a / b for a, b in zip(edges, SIZES[image] * 2, strict=True)]
        box, kind = tfds.features.BBox(*scaled), CLASSES[image][number]
        return {"bbox": box, "area": 5, "label": kind, flag: bool(number)}

    examples = [
        {
            "image": pixels(SIZES[image], OBJECTS[image]),
            "objects": [
                described(image, n) for n in range(len(OBJECTS[image]))
            ],
        }
        for image in (0, 1)
    ]
    tested = [x if is_tested else x | {"objects": []} for x in examples]
    builder(
        "pets",
        {"train": examples, "validation": examples, "test": tested},
        folder,
        image=tfds.features.Image(shape=(None, None, 3)),
        objects=tfds.features.Sequence(features),
    )


# Without boxes of the test images, the validation images are tested on.
@pytest.mark.parametrize(
    ("flag", "is_tested", "trained"),
    [("is_difficult", True, 4), ("is_crowd", False, 2)],
    ids=["voc", "coco"],
)
def test_datasets_of_tfds_are_read(flag, is_tested, trained, tfds, tmp_path):
    prepare(tfds, tmp_path, flag, is_tested)
    loaded = detection.load_data("pets", data_dir=tmp_path, image_size=40)
    assert loaded.class_names == ("cat", "dog")
    assert loaded.sizes == {"train": trained, "test": 2}
    examples = loaded.test.examples
    # The order of the images is that of the files.
    row = int(np.bincount(examples.objects["image"]).argmax())
    objects = examples.objects[examples.objects["image"] == row]
    left, top, width, height = OBJECTS[0][0]
    np.testing.assert_allclose(
        objects["box"][0] * [30, 20, 30, 20],
        [left, top, left + width, top + height],
        atol=1e-4,
    )
    assert objects["label"].tolist() == [0, 1]
    # The second is difficult, or a crowd.
    assert objects["confidence"].tolist() == [1, 0]
    assert objects["area"].tolist() == [5, 5]
    assert examples.sizes[row].tolist() == [20, 30]
    images, _ = loaded.train[0]
    assert images.shape[1:] == (40, 40, 3)


def test_damaged_datasets_are_named(tfds, tmp_path, monkeypatch):
    prepare(tfds, tmp_path, "is_crowd", True)
    monkeypatch.setattr(
        "cbam_keras.detection.loading.headers", lambda *_: [None, None]
    )
    with pytest.raises(ValueError, match='"pets".*2 of whose images'):
        detection.load_data("pets", data_dir=tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [("mnist", '"bbox" and "label"'), ("digit_scene", '"digit_scenes"')],
)
def test_datasets_without_boxes_are_refused(name, message, tfds, tmp_path):
    with pytest.raises(ValueError, match=message):
        detection.load_data(name, data_dir=tmp_path)
