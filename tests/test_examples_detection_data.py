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
)
from PIL import Image

from cbam_keras import data, training
from examples.detection.data import load
from examples.detection.pictures import AUGMENTATIONS, PADDING, Batches

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


def test_images_may_have_no_boxes(tmp_path):
    path = write_coco(tmp_path, change=lambda x: x["annotations"].pop(0))
    _, objects = read(path, image_size=32, batch_size=2).train[0]
    assert sorted(objects["labels"].ravel()) == [-1, 1]


def test_other_images_and_boxes_are_noticed(tmp_path):
    folder = write_coco(tmp_path / "a")
    first = read(folder).describe()
    assert read(folder).describe() == plain_json(first)
    change = alter("annotations", bbox=[3, 4, 15, 11])
    assert read(write_coco(tmp_path / "b", change=change)).describe() != first
    image = Image.open(folder / "train" / "1.png")
    image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(image.filename)
    assert read(folder).describe() != first


@pytest.mark.parametrize("splits", [("train",), ("train", "train2", "val")])
def test_each_split_of_coco_needs_one_file(splits, tmp_path):
    with pytest.raises(ValueError, match="must hold one annotations/"):
        read(write_coco(tmp_path, splits=splits))


@pytest.fixture
def voc(tmp_path):
    pytest.importorskip("defusedxml", reason="reads VOC's XML")
    return write_voc(tmp_path / "voc", {"train": "0\n1\n", "val": "2\n3\n"})


@pytest.mark.parametrize("inside", ["voc", "."], ids=["itself", "wrapped"])
def test_a_folder_of_voc_is_read(inside, voc):
    loaded = read(voc.parent / inside, image_size=40)
    assert loaded.class_names == ("cat", "dog")
    assert loaded.sizes == {"train": 2, "test": 2}
    pictures = loaded.train.pictures
    assert [picture.image[-5:] for picture in pictures] == ["0.png", "1.png"]
    # Parts of objects are left out, and the second object is difficult.
    assert [picture.labels.tolist() for picture in pictures] == [[0, 1], [1]]
    assert scores(loaded.train) == [1, 0, 1]
    # The box is from the 4th to the 18th column, the 5th to the 14th row.
    assert pictures[0].boxes[0].tolist() == [3, 4, 18, 14]


def test_pixels_of_voc_may_be_counted_from_zero(voc):
    written("<xmin>4.0<", "<xmin>0<")(voc)
    # The box is clipped to the image.
    assert read(voc).train.pictures[0].boxes[0].tolist() == [0, 4, 18, 14]


@pytest.mark.parametrize(
    ("lists", "train", "test"),
    [
        ({"train": "0", "val": "1", "test": "2\n3"}, "01", "23"),
        ({"train": "0", "trainval": "0\n3", "test": "2"}, "03", "2"),
        ({"train": "0\n1\n0", "val": "3"}, "01", "3"),
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


def alter(part, **values):
    """Returns a change of the first entry in a part of COCO's JSON."""
    return lambda content: content[part][0].update(values)


def written(old, new="", file="Annotations/0.xml"):
    """Returns a change of a file in VOC's folder."""

    def change(root):
        text = (root / file).read_text()
        assert old in text
        (root / file).write_text(text.replace(old, new, 1))

    return change


def box(*values):
    return alter("annotations", bbox=values)


# What is changed, and what the error says. All boxes have the same check.
BAD_COCO = {
    "outside": (
        box(20, 4, 15, 10),
        r"lie in its image, of height 20 and width 30. .*\[20.0, 4.0, 35.0, "
        r'14.0\] of a "cat" in the image .*0.png of .*instances_train.json',
    ),
    # Within the tolerance, but with nothing to be seen.
    "beyond": (box(30, 4, 1, 10), r"must lie in its image.*\[30.0, 4"),
    "no area": (box(3, 4, 0, 10), r"must have an area.*\[3.0, 4"),
    "text": (box("a", 4, 3, 3), "be four numbers.*cat.*0.png"),
    "missing number": (box(4, 3, 3), "be four numbers.*cat.*0.png"),
    "infinite": (box(3, 4, float("inf"), 3), "be four numbers.*cat.*0.png"),
    "category": (
        alter("annotations", category_id=5),
        r"one of the classes \['cat', 'dog'\].*category_id 5",
    ),
    # In the other file it is "dog".
    "name": (
        alter("categories", name="cow"),
        r"one of the classes \['cat', 'cow'\].*\"dog\".*instances_val.json",
    ),
    "no image": (alter("images", file_name="x.png"), "must exist.*x.png of"),
    "no images": (
        lambda content: content.pop("images"),
        "COCO's JSON.*instances_train.json.*KeyError",
    ),
    "no box": (
        lambda content: content["annotations"].clear(),
        'not of a crowd or difficult.*without.*"train"',
    ),
}
BAD_VOC = {
    "no corner": (written("<ymin>5</ymin>"), "be four numbers.*cat.*0.png"),
    "no name": (written("<name>dog</name>"), "one of the classes.*0.png"),
    "no XML": (written("</a>"), "VOC's XML. Received.*0.xml"),
    "entity": (
        written("<a>", '<!DOCTYPE a [<!ENTITY e "e">]><a>'),
        "VOC's XML. Received.*0.xml.*Entit",
    ),
    "no image": (
        lambda root: (root / "JPEGImages" / "3.png").unlink(),
        "must exist and be complete.*JPEGImages/3 of",
    ),
    "not annotated": (
        written("3", "3 1", "ImageSets/Main/val.txt"),
        "VOC's XML. Received.*3 1.xml",
    ),
    "in both": (written("3", "0", "ImageSets/Main/val.txt"), "1 of both: 0"),
    "no layout": (
        lambda root: shutil.rmtree(root / "Annotations"),
        "COCO.*VOC.*with neither",
    ),
}


@pytest.mark.parametrize("name", BAD_COCO)
def test_bad_folders_of_coco_are_refused(name, tmp_path):
    change, message = BAD_COCO[name]
    with pytest.raises(ValueError, match=message):
        read(write_coco(tmp_path, change=change))


@pytest.mark.parametrize("name", BAD_VOC)
def test_bad_folders_of_voc_are_refused(name, voc):
    change, message = BAD_VOC[name]
    change(voc)
    with pytest.raises(ValueError, match=message):
        read(voc)


@pytest.fixture
def tfds():
    pytest.importorskip("tensorflow", reason="TFDS reads by TensorFlow")
    return pytest.importorskip("tensorflow_datasets", reason="needs TFDS")


def prepare(tfds, folder, flag, is_tested):
    """Prepares a dataset as VOC or COCO, by the flag of an object."""
    features = {
        "bbox": tfds.features.BBoxFeature(),
        "label": tfds.features.ClassLabel(names=["cat", "dog"]),
        flag: np.bool_,
    }
    (height, width), objects = SIZES[0], []
    # The second is difficult, or a crowd.
    for number, (left, top, wide, high) in enumerate(OBJECTS[0]):
        box = tfds.features.BBox(
            ymin=top / height,
            xmin=left / width,
            ymax=(top + high) / height,
            xmax=(left + wide) / width,
        )
        kind = CLASSES[0][number]
        objects.append({"bbox": box, "label": kind, flag: bool(number)})
    example = {"image": pixels(SIZES[0], OBJECTS[0]), "objects": objects}
    tested = example if is_tested else example | {"objects": []}
    # Two files of a split need two images.
    splits = {"train": example, "validation": example, "test": tested}
    builder(
        "pets",
        {split: [image, image] for split, image in splits.items()},
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
    loaded = read("pets", data_dir=tmp_path, image_size=40)
    assert loaded.class_names == ("cat", "dog")
    assert loaded.sizes == {"train": trained, "test": 2}
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


def test_scenes_have_digits_in_their_boxes(scenes):
    assert scenes.sizes == {"train": 80, "test": 10}
    assert scenes.image_shape == (64, 64, 1)
    counts = {len(labels) for labels in scenes.train.labels}
    assert counts == {1, 2, 3}
    assert {*np.concatenate(scenes.train.labels)} == {*range(10)}
    boxes = 64 * np.concatenate(scenes.train.boxes)
    assert boxes.min() >= 0 and boxes.max() <= 64
    # Noise fills the image of a digit.
    sides = boxes[:, 2:] - boxes[:, :2]
    assert 21 <= sides.min() < 24 and 42 < sides.max() <= 44


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


def test_objects_that_leave_are_no_longer_learned():
    pictures = [picture_of((40, 40), [(0, 0, 0.8, 20)])] * 2
    batches = Batches(pictures, (40, 40, 1), 2, 0, ("translate",))
    gone = []
    for epoch in range(5):
        batches.set_epoch(epoch)
        _, objects = batches[0]
        away = objects["labels"] == -1
        assert (objects["boxes"][away] == PADDING).all()
        gone.append(away.any())
    assert any(gone)
