"""Images with boxes: readers of folders and datasets, scenes, batches."""

import numpy as np
import pytest
from data_checks import builder, plain_json
from detection_checks import (
    CLASSES,
    OBJECTS,
    SIZES,
    bright_box,
    pixels,
    write_coco,
    write_voc,
)
from PIL import Image

from cbam_keras import data, training
from examples.detection.loading import load
from examples.detection.pictures import (
    AUGMENTATIONS,
    PADDING,
    Batches,
    Object,
    Picture,
)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def read(source, data_dir=None, **recipe):
    return load(source, training.Recipe(**recipe), data_dir=data_dir)


def boxes_of(batches, row):
    """Returns the boxes of all objects in an image, in pixels."""
    return [[*map(float, x.box)] for x in batches.pictures[row].objects]


def confidences(batches):
    return [x.confidence for image in batches.pictures for x in image.objects]


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
    assert confidences(loaded.test) == [1, 0, 1]


def test_images_may_have_no_boxes(tmp_path):
    def change(content):
        del content["annotations"][0]

    path = write_coco(tmp_path, change=change)
    _, objects = read(path, image_size=32, batch_size=2).train[0]
    assert sorted(objects["labels"].ravel()) == [-1, 1]


def test_another_image_with_the_same_boxes_is_noticed(tmp_path):
    folder = write_coco(tmp_path)
    first = read(folder).fingerprint
    assert read(folder).fingerprint == first
    path = next((folder / "train").iterdir())
    image = Image.open(path)
    image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(path)
    assert read(folder).fingerprint != first


def alter(part, index=0, **values):
    return lambda content: content[part][index].update(values)


def all_crowds(content):
    for annotation in content["annotations"]:
        annotation["iscrowd"] = 1


BAD = {
    "outside": (
        alter("annotations", bbox=[20, 4, 15, 10]),
        r"lie in its image, of height 20 and width 30.*\[20, 4",
    ),
    # Within the tolerance, but with nothing to be seen.
    "beyond": (
        alter("annotations", bbox=[30, 4, 1, 10]),
        r"must lie in its image.*\[30, 4",
    ),
    "no area": (
        alter("annotations", bbox=[3, 4, 0, 10]),
        r"must have an area.*\[3, 4",
    ),
    "crowds": (all_crowds, "at least one box that is not of a crowd"),
    "category": (alter("annotations", category_id=5), "'category_id': 5"),
    "no images": (lambda content: content.pop("images"), "COCO's JSON"),
    "file": (alter("images", file_name="x.png"), "x.png must exist"),
    "two images": (alter("images", 1, id=10), "another image"),
    # In the other file it is "dog".
    "name": (alter("categories", name="cow"), "'dog'.*_val.*another category"),
    "size": (
        alter("images", height=30, width=20),
        "height 20 and width 30.*'id': 10",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_annotations_are_refused(name, tmp_path):
    change, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        read(write_coco(tmp_path, change=change))


def test_damaged_files_are_refused(tmp_path):
    write_coco(tmp_path)
    image = tmp_path / "train" / "1.png"
    image.write_bytes(image.read_bytes()[:-20])
    with pytest.raises(
        ValueError, match="1.png must exist and be complete.*'id': 11"
    ):
        read(tmp_path)
    (tmp_path / "annotations" / "instances_train.json").write_text("[" * 10**5)
    with pytest.raises(ValueError, match="instances_train.json.*Recursion"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (("train",), "without a file for test or val"),
        (("train", "train2", "val"), "several: instances_train.json, "),
    ],
)
def test_each_split_needs_one_file(splits, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        read(write_coco(tmp_path, splits=splits))


# Pascal VOC.


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
    labels = [[x.label for x in picture.objects] for picture in pictures]
    assert labels == [[0, 1], [1]]
    assert confidences(loaded.train) == [1, 0, 1]
    # The box is from the 4th to the 18th column, the 5th to the 14th row.
    assert boxes_of(loaded.train, 0)[0] == [3, 4, 18, 14]


def test_annotations_may_lack_a_size_and_count_pixels_from_zero(voc):
    file = voc / "Annotations" / "0.xml"
    text = file.read_text().replace("size>", "extent>")
    text = text.replace("<xmin>4.0<", "<xmin>0<").replace("min>5<", "min>14<")
    file.write_text(text)
    # It is clipped to the image, and of one row.
    assert boxes_of(read(voc).train, 0)[0] == [0, 13, 18, 14]


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
    write_voc(voc, lists)
    loaded = read(voc, seed=3)
    names = [
        "".join(picture.image[-5] for picture in batches.pictures)
        for batches in (loaded.train, loaded.test)
    ]
    assert names == [train, test]


def written(file, old, new=""):
    def change(root):
        text = (root / file).read_text()
        assert old in text
        (root / file).write_text(text.replace(old, new, 1))

    return change


XML = "Annotations/0.xml"
# What is changed, and what the error says.
BAD_VOC = {
    "outside": (
        written(XML, "<xmax>18<", "<xmax>32<"),
        r"height 20 and width 30. Received: object 1, .*cat.*<xmax>32<.*0\.xml",
    ),
    "swapped": (
        written(XML, "<xmin>4.0<", "<xmin>19<"),
        "object 1, .*cat.*Swap",
    ),
    "unknown size": (
        written(XML, "<width>30<", "<width>0<"),
        "height 20 and width 30.*0.png with.*<width>0<",
    ),
    "no number": (
        written(XML, "<width>30<", "<width><"),
        "<width></width>.*0.xml",
    ),
    "no corner": (written(XML, "<ymin>5</ymin>"), "cat.*<bndbox>.*TypeError"),
    "no name": (
        written(XML, "<name>dog</name>"),
        'object 2, .*0.xml.*name is ""',
    ),
    "space": (
        written(XML, ">dog", ">dog "),
        'object 2, .*0.xml.*name is "dog "',
    ),
    "no XML": (written(XML, "</a>"), "0.xml.*ParseError"),
    "entity": (
        written(XML, "<a>", '<!DOCTYPE a [<!ENTITY e "e">]><a>'),
        "0.xml.*EntitiesForbidden",
    ),
    "no image": (
        lambda root: (root / "JPEGImages" / "3.png").unlink(),
        r"3 with one of the endings .avif.*Received: 0 .*3\.xml",
    ),
    "two images": (
        lambda root: write_voc(root, ending=".webp"),
        r"Received: 2 .*0\.xml",
    ),
    "no file": (
        written("ImageSets/Main/val.txt", "3", "3 1"),
        r'Received: "3 1" in .*val.txt',
    ),
    "empty": (written("ImageSets/Main/val.txt", "2\n3"), "at least one line"),
    "both": (written("ImageSets/Main/val.txt", "3", "0"), "1 of both: 0"),
    "no training": (
        lambda root: (root / "ImageSets" / "Main" / "train.txt").unlink(),
        "with 0 and 2 images",
    ),
    "classes": (
        lambda root: [
            written(f"Annotations/{image}.xml", f"{kind}<", "cow<")(root)
            for image, kind in ((2, "cat"), (3, "dog"))
        ],
        r"class in common.*'train': \['cat', 'dog'\], 'test': \['cow'\]",
    ),
}


@pytest.mark.parametrize("name", BAD_VOC)
def test_bad_folders_of_voc_are_refused(name, voc):
    change, message = BAD_VOC[name]
    change(voc)
    with pytest.raises(ValueError, match=message):
        read(voc)


def test_a_folder_has_one_layout(voc):
    with pytest.raises(ValueError, match="COCO.*VOC.*with neither"):
        read(voc / "JPEGImages")
    write_coco(voc.parent / "coco")
    with pytest.raises(ValueError, match="COCO.*VOC.*coco.*voc"):
        read(voc.parent)


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
    loaded = read("pets", data_dir=tmp_path, image_size=40)
    assert loaded.class_names == ("cat", "dog")
    assert loaded.sizes == {"train": trained, "test": 2}
    # The order of the images is that of the files.
    row = np.argmax([len(x.objects) for x in loaded.test.pictures])
    left, top, width, height = OBJECTS[0][0]
    expected = [left, top, left + width, top + height]
    np.testing.assert_allclose(boxes_of(loaded.test, row)[0], expected, 1e-5)
    picture = loaded.test.pictures[row]
    # The second is difficult, or a crowd.
    labels = [(x.label, x.confidence) for x in picture.objects]
    assert labels == [(0, 1), (1, 0)]
    assert picture.size == (20, 30)
    images, _ = loaded.train[0]
    assert images.shape[1:] == (40, 40, 3)


@pytest.mark.parametrize(
    ("name", "message"),
    [("mnist", '"bbox" and "label"'), ("digit_scene", '"digit_scenes"')],
)
def test_datasets_without_boxes_are_refused(name, message, tfds, tmp_path):
    with pytest.raises(ValueError, match=message):
        read(name, data_dir=tmp_path)


# The embedded scenes, and batches.


@pytest.fixture(scope="module")
def scenes(few_digits):
    return read("digit_scenes", batch_size=4)


def test_scenes_have_digits_in_their_boxes(scenes):
    assert scenes.sizes == {"train": 80, "test": 10}
    assert scenes.image_shape == (64, 64, 1)
    assert plain_json(scenes.describe()) == scenes.describe()
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
        count = len(picture.objects)
        assert labels[:count].tolist() == [x.label for x in picture.objects]
        assert (labels[count:] == -1).all() and (boxes[count:] == PADDING).all()
        np.testing.assert_allclose(
            boxes[:count], [x.box for x in picture.objects], atol=1e-4
        )


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_boxes_follow_the_pixels(name):
    image = np.zeros((40, 50, 1), "uint8")
    image[14:26, 12:22] = 200
    picture = Picture(image, (40, 50), [Object(0, (12, 14, 22, 26))])
    batches = Batches([picture] * 8, image.shape, 8, 0, (name,))
    moved, objects = batches[0]
    assert (moved != image).any()
    assert (objects["labels"] == 0).all()
    for shown, box in zip(moved[..., 0], objects["boxes"][:, 0], strict=True):
        np.testing.assert_allclose(bright_box(shown), box, atol=1.01)
    np.testing.assert_array_equal(batches[0][0], moved)
    batches.set_epoch(1)
    assert (batches[0][0] != moved).any()


def test_objects_that_leave_are_no_longer_learned():
    image = np.full((40, 40, 1), 9, "uint8")
    picture = Picture(image, (40, 40), [Object(0, (0, 0, 0.8, 20))])
    batches = Batches([picture] * 2, image.shape, 2, 0, ("translate",))
    gone = []
    for epoch in range(5):
        batches.set_epoch(epoch)
        _, objects = batches[0]
        away = objects["labels"] == -1
        assert (objects["boxes"][away] == PADDING).all()
        gone.append(away.any())
    assert any(gone)
