"""Images with boxes: readers of folders and datasets, scenes, batches."""

import shutil

import numpy as np
import pytest
from data_checks import builder, plain_json
from detection_checks import (
    CLASSES,
    OBJECTS,
    SIZES,
    bright_box,
    picture_of,
    pixels,
    write_coco,
    write_voc,
    write_yolo,
)

from cbam_keras import data, training

pytest.importorskip("keras_hub", reason="needs KerasHub")

from examples.detection.data import load  # noqa: E402
from examples.detection.pictures import (  # noqa: E402
    AUGMENTATIONS,
    PADDING,
    Batches,
)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def read(source, data_dir=None, **recipe):
    return load(source, training.Recipe(**recipe), data_dir=data_dir)


def scores(batches):
    return [x for picture in batches.pictures for x in picture.scores]


def test_a_folder_of_coco_is_read(tmp_path):
    path = write_coco(tmp_path / "pets")
    loaded = read(path, image_size=(40, 60), batch_size=2)
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
    assert scores(loaded.test) == [1, 0, 1]


def test_other_boxes_are_other_data(tmp_path):
    def change(content):
        content["annotations"][0]["bbox"] = [3, 4, 15, 11]

    first = read(write_coco(tmp_path / "a")).describe()
    assert read(tmp_path / "a").describe() == plain_json(first)
    assert read(write_coco(tmp_path / "b", change=change)).describe() != first


@pytest.fixture
def voc(tmp_path):
    pytest.importorskip("defusedxml", reason="reads VOC's XML")
    return write_voc(tmp_path / "voc", {"train": "0\n1\n", "val": "2\n3\n"})


def test_a_folder_of_voc_is_read(voc):
    loaded = read(voc, image_size=40)
    assert loaded.class_names == ("cat", "dog")
    assert loaded.sizes == {"train": 2, "test": 2}
    pictures = loaded.train.pictures
    assert [picture.image[-5:] for picture in pictures] == ["0.png", "1.png"]
    # Parts of objects are left out, and the second object is difficult.
    assert [picture.labels.tolist() for picture in pictures] == [[0, 1], [1]]
    assert scores(loaded.train) == [1, 0, 1]
    # The box is from the 4th to the 18th column, the 5th to the 14th row.
    assert pictures[0].boxes[0].tolist() == [3, 4, 18, 14]


def test_a_folder_of_yolo_is_read(tmp_path):
    loaded = read(write_yolo(tmp_path), image_size=40)
    assert loaded.class_names == ("cat", "dog")
    assert loaded.sizes == {"train": 2, "test": 2}
    first, second = loaded.train.pictures
    assert (first.labels.tolist(), second.labels.tolist()) == ([0, 1], [1])
    np.testing.assert_allclose(first.boxes, [[3, 4, 18, 14], [0, 0, 6, 10]])


@pytest.mark.parametrize(
    ("lists", "train", "test"),
    [
        ({"train": "0", "val": "1", "test": "2\n3"}, "01", "23"),
        # A fifth, one at least.
        ({"trainval": "0\n1\n2"}, "01", "2"),
        (None, "013", "2"),
    ],
)
def test_lists_of_voc_say_what_is_trained_on(lists, train, test, voc):
    for file in (voc / "ImageSets" / "Main").iterdir():
        file.unlink()
    loaded = read(write_voc(voc, lists), seed=3)
    names = [
        "".join(picture.image[-5] for picture in batches.pictures)
        for batches in (loaded.train, loaded.test)
    ]
    assert names == [train, test]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x.pop("images"), "JSON.*instances_train.json.*KeyError"),
        (
            lambda x: [each.update(bbox=[]) for each in x["annotations"]],
            'of a crowd or difficult.*"train". 3 boxes left out: 3 not four',
        ),
    ],
    ids=["no images", "no good box"],
)
def test_bad_folders_of_coco_are_refused(change, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        read(write_coco(tmp_path, change=change))


def test_bad_folders_of_voc_are_refused(voc):
    (voc / "ImageSets/Main/val.txt").write_text("2\n0\n")
    with pytest.raises(ValueError, match="1 of both: 0"):
        read(voc)
    shutil.rmtree(voc / "Annotations")
    with pytest.raises(ValueError, match="COCO.*VOC.*YOLO.*with neither"):
        read(voc)


# Of the first image, whose boxes end at 30 and 20.
BAD_BOXES = (
    *((20, 4, 15, 10), (30, 4, 1, 10), (40, 10, 5, 5), (3, 4, 0, 10)),
    *((9, 9, -2, 3), ("a", 4, 3, 3), (4, 3, 3), (3, 4, float("inf"), 3)),
    (3, 4, 15, 10),
)


def test_imperfect_entries_of_coco_are_left_out_and_counted(tmp_path):
    added = [(10, 3, each) for each in BAD_BOXES]
    added += [(5, 3, OBJECTS[0][0]), (10, 5, OBJECTS[0][0])]
    keys = "image_id", "category_id", "bbox"

    def change(content):
        content["annotations"] += [
            dict(zip(keys, each, strict=True)) for each in added
        ]
        content["images"].append({"id": 99, "file_name": "x"})

    message = (
        r"1 image left out: 1 missing \(x\); 10 boxes left out: 1 of no image, "
        "2 outside, 1 empty, 1 with exchanged corners, 3 not four numbers, "
        r"1 repeated, 1 of another class \(image_id 5, 0.png, "
        r'"category_id 5" in 0.png\); 1 box clipped: 1 beyond the edge \(0.png'
    )
    with pytest.warns(UserWarning, match=message):
        loaded = read(write_coco(tmp_path, change=change))
    assert len(scores(loaded.train) + scores(loaded.test)) == 7


@pytest.fixture
def tfds():
    pytest.importorskip("tensorflow", reason="TFDS reads by TensorFlow")
    return pytest.importorskip("tensorflow_datasets", reason="needs TFDS")


def prepare(tfds, folder):
    """Prepares a dataset without boxes of the test images."""
    features = {
        "bbox": tfds.features.BBoxFeature(),
        "label": tfds.features.ClassLabel(names=["cat", "dog"]),
        "is_crowd": np.bool_,
    }
    (height, width), objects = SIZES[0], []
    # The second is a crowd.
    for number, (left, top, wide, high) in enumerate(OBJECTS[0]):
        box = tfds.features.BBox(
            ymin=top / height,
            xmin=left / width,
            ymax=(top + high) / height,
            xmax=(left + wide) / width,
        )
        kind = CLASSES[0][number]
        objects.append({"bbox": box, "label": kind, "is_crowd": bool(number)})
    example = {"image": pixels(SIZES[0], OBJECTS[0]), "objects": objects}
    # Two files of a split need two images.
    splits = {"train": example, "validation": example}
    splits["test"] = example | {"objects": []}
    builder(
        "pets",
        {split: [image, image] for split, image in splits.items()},
        folder,
        image=tfds.features.Image(shape=(None, None, 3)),
        objects=tfds.features.Sequence(features),
    )


def test_a_dataset_of_tfds_is_read_and_tested_on_validation(tfds, tmp_path):
    prepare(tfds, tmp_path)
    loaded = read("pets", data_dir=tmp_path, image_size=40)
    assert loaded.class_names == ("cat", "dog")
    assert loaded.sizes == {"train": 2, "test": 2}
    picture = loaded.test.pictures[0]
    left, top, width, height = OBJECTS[0][0]
    expected = [left, top, left + width, top + height]
    np.testing.assert_allclose(picture.boxes[0], expected, 1e-5)
    assert picture.labels.tolist() == [0, 1]
    assert picture.scores.tolist() == [1, 0]
    assert loaded.train[0][0].shape[1:] == (40, 40, 3)


@pytest.mark.parametrize(
    ("name", "message"),
    [("mnist", '"bbox" and "label"'), ("digit_scene", '"digit_scenes"')],
)
def test_datasets_without_boxes_are_refused(name, message, tfds, tmp_path):
    with pytest.raises(ValueError, match=message):
        read(name, data_dir=tmp_path)


@pytest.fixture(scope="module")
def scenes(few_digits):
    return read("digit_scenes", batch_size=4)


def test_scenes_stay_what_they_were(few_digits):
    loaded = read("digit_scenes", batch_size=16, augment=AUGMENTATIONS)
    images = np.stack([picture.image for picture in loaded.train.pictures])
    boxes = np.concatenate(loaded.train.boxes)
    augmented, objects = loaded.train[0]
    drawn = images, boxes, augmented, objects["boxes"]
    assert data.digest(*drawn) == "cf3802bac6960d4f"
    other = read("digit_scenes", seed=1).test.pictures
    for picture, same in zip(loaded.test.pictures, other, strict=True):
        np.testing.assert_array_equal(picture.image, same.image)


def test_batches_hold_each_image_once_in_an_order_of_their_own(scenes):
    orders = []
    for epoch in (0, 1, 0):
        scenes.set_epoch(epoch)
        orders.append(scenes.train.order)
    assert (orders[0] == orders[2]).all() and (orders[0] != orders[1]).any()
    assert sorted(orders[1]) == list(range(80))
    images, objects = scenes.train[1]
    assert images.shape == (4, 64, 64, 1) and images.dtype == "float32"
    rows = orders[0][4:8]
    for row, image, boxes, labels in zip(
        rows, images, *objects.values(), strict=True
    ):
        picture = scenes.train.pictures[row]
        np.testing.assert_array_equal(image, picture.image)
        count = len(picture.labels)
        np.testing.assert_array_equal(labels[:count], picture.labels)
        np.testing.assert_allclose(boxes[:count], picture.boxes, atol=1e-4)
        assert (labels[count:] == -1).all() and (boxes[count:] == PADDING).all()


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_boxes_follow_the_pixels(name):
    image = np.zeros((40, 50, 1), "uint8")
    image[14:26, 12:22] = 200
    pictures = [picture_of((40, 50), [(12, 14, 22, 26)], image=image)] * 8
    batches = Batches(pictures, image.shape, 8, 0, (name,))
    moved, objects = batches[0]
    assert (moved != image).any()
    assert (objects["labels"] == 0).all()
    for shown, moved_box in zip(
        moved[..., 0], objects["boxes"][:, 0], strict=True
    ):
        np.testing.assert_allclose(bright_box(shown), moved_box, atol=1.01)
    np.testing.assert_array_equal(batches[0][0], moved)
    batches.set_epoch(1)
    assert (batches[0][0] != moved).any()
