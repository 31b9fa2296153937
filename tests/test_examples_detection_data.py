"""Images with boxes: readers of folders and datasets, scenes, batches."""

import functools
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


def test_values_beyond_8_bits_are_scaled_alike(tmp_path):
    root = write_coco(tmp_path)
    grays = np.array([0, 1024, 4095], "uint16").repeat(10)
    pixels = np.broadcast_to(grays, (20, 30))
    Image.fromarray(pixels).save(root / "train/0.png")
    with pytest.warns(UserWarning, match="hold 12 bits, scaled to 8"):
        loaded = read(root, image_size=(20, 30))
    image = loaded.train.images([0])[0, 0, ::10]
    assert image.tolist() == [[0] * 3, [64] * 3, [255] * 3]
    assert loaded.scale.bits == 12


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
    rewrite(voc / "Annotations/0.xml", ("<xmin>4.0<", "<xmin>0<"))
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


def rewrite(file, *changes):
    """Replaces texts in a file."""
    text = file.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    file.write_text(text)


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
    rewrite(voc / "ImageSets/Main/val.txt", ("3", "0"))
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


@pytest.mark.parametrize(
    ("damage", "error"),
    [(("</a>", ""), ""), (("<a>", '<!DOCTYPE a [<!ENTITY e "e">]><a>'), "Ent")],
    ids=["cut", "entity"],
)
def test_imperfect_entries_of_voc_are_left_out_and_counted(voc, damage, error):
    write_voc(voc, {"train": "0\n1\n", "val": "2\n3\n3 1"})
    rewrite(voc / "Annotations/0.xml", ("<name>dog</name>", ""))
    rewrite(voc / "Annotations/1.xml", damage)
    (voc / "JPEGImages/3.png").unlink()
    message = (
        "3 images left out: 1 with damaged XML, 1 without XML, 1 missing "
        rf"\(1.xml: .*{error}.*, 3 1, 3\); 1 box left out: 1 of another "
        r'class \("" in 0.png\)'
    )
    with pytest.warns(UserWarning, match=message):
        loaded = read(voc)
    assert len(scores(loaded.train) + scores(loaded.test)) == 3


def test_imperfect_entries_of_yolo_are_left_out_and_counted(tmp_path):
    root = write_yolo(tmp_path)
    text = "0 .3 .3 .4\n0 .3 .3 .4 x\n7 .3 .3 .4 .2\n\n1.0 .5 .9 .4 .4 .99"
    (root / "labels/train/0.txt").write_text(text)
    (root / "labels/train/1.txt").unlink()
    (root / "labels/val/5.txt").write_text("0 .3 .3 .4 .2")
    shutil.copy(root / "images/val/0.jpg", root / "cover.jpg")
    message = (
        "2 images left out: 1 in the folder of no split, 1 missing "
        r"\(cover.jpg, 5.txt\); 3 boxes left out: 2 not four numbers, "
        r'1 of another class \(0.jpg, "class 7" in 0.jpg\); 1 box clipped'
    )
    with pytest.warns(UserWarning, match=message):
        loaded = read(root)
    first, second = loaded.train.pictures
    assert first.labels.tolist() == [1] and second.labels.tolist() == []
    np.testing.assert_allclose(first.boxes, [[9, 14, 21, 20]])


# The lines of a text file, and the first box, in an image of 20 x 30 pixels.
FORMS_OF_YOLO = {
    "polygon": ("1 .1 .2 .5 .2 .3 .7", "", [3, 4, 15, 14]),
    "confidence": ("1 .3 .3 .4 .2 .9", "", [3, 4, 15, 8]),
    "points": ("1 .3 .3 .4 .2 .1 .1", "names:\nkpt_shape: []", [3, 4, 15, 8]),
    "floats": ("1.000 .3 .3 .4 .2", "nc: 2", [3, 4, 15, 8]),
}


@pytest.mark.parametrize("name", FORMS_OF_YOLO)
def test_yolo_is_read_as_other_tools_write_it(name, tmp_path):
    text, settings, expected = FORMS_OF_YOLO[name]
    root = write_yolo(tmp_path, settings)
    (root / "labels/train/0.txt").write_text(text)
    loaded = read(root)
    assert loaded.class_names == ("0", "1")
    picture = loaded.train.pictures[0]
    assert picture.labels.tolist() == [1]
    np.testing.assert_allclose(picture.boxes, [expected])


def contents(loaded):
    """Returns the classes and boxes of all images to train and to test."""
    return loaded.class_names, [
        (*box.round(3), loaded.class_names[label], score)
        for batches in (loaded.train, loaded.test)
        for x in batches.pictures
        for box, label, score in zip(x.boxes, x.labels, x.scores, strict=True)
    ]


def each(part, function):
    """Returns a change of all entries in a part of COCO's JSON."""
    return lambda content: [x.update(function(x)) for x in content[part]]


FORMS = {
    "text": each(
        "annotations",
        lambda x: {
            **{k: f"{x[k]}.0" for k in ("image_id", "category_id")},
            "iscrowd": f"{x['iscrowd']}",
            "bbox": [*map(str, x["bbox"])],
        },
    ),
    "paths": each("images", lambda x: {"file_name": f"C:\\{x['file_name']}"}),
    "heading": lambda content: (
        each("categories", lambda x: {"supercategory": "pets"})(content),
        content["categories"].insert(0, {"id": 0, "name": "pets"}),
    ),
    "image twice": lambda content: (
        content["images"].append(content["images"][0] | {"id": 99}),
        content["annotations"][0].update(image_id=99),
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_coco_is_read_as_other_tools_write_it(name, tmp_path):
    expected = read(write_coco(tmp_path / "a"))
    loaded = read(write_coco(tmp_path / "b", change=FORMS[name]))
    assert sorted(contents(loaded)[1]) == sorted(contents(expected)[1])
    assert loaded.class_names == expected.class_names


def test_voc_is_read_as_other_tools_write_it(voc):
    expected = read(voc)
    changes = [
        ("<a>", '<a xmlns="http://www.w3.org/1999/xhtml">'),
        *(("object>", "Object>"), ("bndbox>", "BndBox>")),
    ]
    for file in voc.glob("Annotations/*"):
        rewrite(file, *changes)
    rewrite(voc / "Annotations/0.xml", ("<difficult>1", "<difficult> True "))
    assert contents(read(voc)) == contents(expected)


# Old and new paths, by what writes the folder. A new one that ends with "/" is
# the folder to move files into.
LAYOUTS = """
coco: annotations/instances_train.json train/_annotations.coco.json,
  annotations/instances_val.json val/_annotations.coco.json, val valid
coco: train/* train/data/, val/* validation/data/,
  annotations/instances_train.json train/labels.json,
  annotations/instances_val.json validation/labels.json
coco: train images/train2017, val images/val,
  annotations/instances_train.json annotations/instances_train2017.json
voc: ImageSets/Main imagesets/main, JPEGImages images,
  Annotations annotations/xmls
voc: JPEGImages/* ./, Annotations/* ./
voc: ImageSets lists, JPEGImages/[01].png train/, Annotations/[01].xml train/,
  JPEGImages/* valid/images/, Annotations/* valid/annotations/
yolo: images/train train/images, labels/train train/labels,
  images/val valid/images, labels/val valid/labels
yolo: images/train/* train/, labels/train/* train/, images/val/* val/,
  labels/val/* val/, data.yaml x
""".replace("\n  ", " ").split("\n")[1:-1]
WRITERS = {
    "coco": write_coco,
    "voc": functools.partial(write_voc, lists={"train": "0\n1", "val": "2\n3"}),
    "yolo": write_yolo,
}


def move(root, moves):
    for old, new in map(str.split, moves.split(",")):
        for path in [*root.glob(old)]:
            goal = root / (f"{new}{path.name}" if new.endswith("/") else new)
            goal.parent.mkdir(parents=True, exist_ok=True)
            path.rename(goal)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_are_read_wherever_their_files_are(layout, voc):
    source, moves = layout.split(": ")
    folders = [WRITERS[source](voc.parent / name) for name in "ab"]
    move(folders[1], moves)
    (folders[1] / "obj.names").write_text("cat\ndog\n")
    assert contents(read(folders[1])) == contents(read(folders[0]))


# What `data.yaml` says, the second of a dataset that was moved.
YAML = {
    "{train: images/a, val: [images/b], names: {0: cat, 1: dog}}": (
        "images/train images/a, labels/train labels/a, "
        "images/val images/b, labels/val labels/b"
    ),
    "{path: /x, train: ../train, val: y, names: [cat, dog]}": (
        "images/train train, labels/train/* train/, "
        "images/val valid, labels/val/* valid/"
    ),
}


@pytest.mark.parametrize("settings", YAML)
def test_yaml_says_what_yolo_is_trained_on(settings, tmp_path):
    expected = read(write_yolo(tmp_path / "a"))
    moved = write_yolo(tmp_path / "b", settings)
    move(moved, YAML[settings])
    assert contents(read(moved)) == contents(expected)


def test_lists_say_what_yolo_is_trained_on(tmp_path):
    root = write_yolo(tmp_path, "{train: a.txt, val: b.txt, names: [cat, dog]}")
    (root / "a.txt").write_text("/x/images/val/1.jpg\nimages/train/0.jpg\n")
    (root / "b.txt").write_text("./images/train/1.jpg\n")
    loaded = read(root)
    assert loaded.sizes == {"train": 2, "test": 1}
    paths = [x.image[-9:] for x in loaded.train.pictures]
    assert paths == ["val/1.jpg", "ain/0.jpg"]


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
