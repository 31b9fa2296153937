"""Images with boxes: readers of folders, augmentation."""

import json

import numpy as np
import pytest
from PIL import Image

from cbam_keras import training

pytest.importorskip("keras_hub", reason="needs KerasHub")

from examples.detection.data import load  # noqa: E402
from examples.detection.pictures import (  # noqa: E402
    AUGMENTATIONS,
    Batches,
    Picture,
)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

# Two images of different sizes, as (height, width), and the boxes of each in
# pixels: left, top, width, height.
SIZES = ((20, 30), (24, 16))
OBJECTS = (((3, 4, 15, 10), (0, 0, 6, 10)), ((8, 12, 8, 6),))
CLASSES = (("cat", "dog"), ("dog",))


def pixels(size, objects, seed=0):
    """Returns an image that is bright in the first box only."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 50, (*size, 3)).astype("uint8")
    left, top, width, height = objects[0]
    image[top : top + height, left : left + width] = 250
    return image


def write_coco(root):
    """Writes a folder as COCO has it."""
    for split in ("train", "val"):
        (root / split).mkdir(parents=True)
        # Ids have gaps, and need not be sorted.
        names = {7: "dog", 3: "cat"}
        content = {
            "images": [],
            "annotations": [],
            "categories": [{"id": i, "name": names[i]} for i in names],
        }
        for number, (height, width) in enumerate(SIZES):
            image = {"id": 10 + number, "file_name": f"{number}.png"}
            image |= {"height": height, "width": width}
            content["images"].append(image)
            boxes = OBJECTS[number]
            Image.fromarray(pixels((height, width), boxes)).save(
                root / split / image["file_name"]
            )
            content["annotations"] += [
                {
                    "image_id": image["id"],
                    "bbox": list(box),
                    "category_id": {"cat": 3, "dog": 7}[kind],
                    "iscrowd": int(box == OBJECTS[0][1]),
                }
                for box, kind in zip(boxes, CLASSES[number], strict=True)
            ]
        file = root / "annotations" / f"instances_{split}.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(content))
    return root


def write_voc(root):
    """Writes a folder as VOC has it: images 0 to 3, and lists of their names.

    The boxes are of pixels from 1 to the last one.
    """
    for folder in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (root / folder).mkdir(parents=True)
    for split, names in (("train", "0\n1\n"), ("val", "2\n3\n")):
        (root / f"ImageSets/Main/{split}.txt").write_text(names)
    for name in range(4):
        (height, width), boxes = SIZES[name % 2], OBJECTS[name % 2]
        image = Image.fromarray(pixels((height, width), boxes, name))
        written = "".join(
            f"<object><name>{kind}</name>"
            # As VOC has heads and hands of persons.
            "<part><name>ear</name><bndbox><xmin>0</xmin></bndbox></part>"
            f"<difficult>{int(box == OBJECTS[0][1])}</difficult><bndbox>"
            f"<xmax>{box[0] + box[2]}</xmax><xmin>{box[0] + 1}.0</xmin>"
            f"<ymin>{box[1] + 1}</ymin><ymax>{box[1] + box[3]}</ymax>"
            "</bndbox></object>"
            for box, kind in zip(boxes, CLASSES[name % 2], strict=True)
        )
        size = f"<size><width>{width}</width><height>{height}</height></size>"
        file = root / f"Annotations/{name}.xml"
        file.write_text(f"<a>{size}{written}</a>")
        image.save(root / f"JPEGImages/{name}.png")
    return root


def bright_box(image):
    """Returns the extent of the bright pixels."""
    rows, columns = (np.flatnonzero((image > 128).any(a)) for a in (1, 0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


def read(source, **recipe):
    return load(source, training.Recipe(**recipe))


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


def test_a_folder_of_voc_is_read(tmp_path):
    pytest.importorskip("defusedxml", reason="reads VOC's XML")
    loaded = read(write_voc(tmp_path), image_size=40)
    assert loaded.class_names == ("cat", "dog")
    assert loaded.sizes == {"train": 2, "test": 2}
    pictures = loaded.train.pictures
    assert [picture.image[-5:] for picture in pictures] == ["0.png", "1.png"]
    # Parts of objects are left out, and the second object is difficult.
    assert [picture.labels.tolist() for picture in pictures] == [[0, 1], [1]]
    assert scores(loaded.train) == [1, 0, 1]
    # The box is from the 4th to the 18th column, the 5th to the 14th row.
    assert pictures[0].boxes[0].tolist() == [3, 4, 18, 14]


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_boxes_follow_the_pixels(name):
    image = np.zeros((40, 50, 1), "uint8")
    image[14:26, 12:22] = 200
    box, label, score = np.array([[12.0, 14, 22, 26]]), np.zeros(1, int), [1.0]
    picture = Picture(image, (40, 50), box, label, np.array(score))
    batches = Batches([picture] * 8, image.shape, 8, 0, (name,))
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
