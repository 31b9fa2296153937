"""A small network and images with boxes, for tests of detection."""

import itertools
import json

import numpy as np
from PIL import Image

from cbam_keras import models

# Two images of different sizes, as (height, width), and the boxes of each in
# pixels: left, top, width, height.
SIZES = ((20, 30), (24, 16))
OBJECTS = (((3, 4, 15, 10), (0, 0, 6, 10)), ((8, 12, 8, 6),))
CLASSES = (("cat", "dog"), ("dog",))


def tiny_backbone(**options):
    """Builds a network of strides up to 16."""
    return models.ResNet(
        (1, 1, 1), block="basic", widths=(4, 8, 16), stem_width=4, **options
    )


def pixels(size, objects, seed=0):
    """Returns an image that is bright in the first box only."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 50, (*size, 3)).astype("uint8")
    left, top, width, height = objects[0]
    image[top : top + height, left : left + width] = 250
    return image


def write_coco(root, change=None):
    """Writes a folder as COCO has it; `change` alters the training JSON."""
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
        if change is not None and split == "train":
            change(content)
        file = root / "annotations" / f"instances_{split}.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(content))
    return root


def write_voc(root, lists=None):
    """Writes a folder as VOC has it: images 0 to 3, and lists of their names.

    The boxes are of pixels from 1 to the last one.
    """
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
        files = {f"Annotations/{name}.xml": f"<a>{size}{written}</a>"}
        if not name:
            files |= {
                f"ImageSets/Main/{split}.txt": text
                for split, text in (lists or {}).items()
            }
        for file, text in files.items():
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (root / file).write_text(text)
        (root / "JPEGImages").mkdir(exist_ok=True)
        image.save(root / "JPEGImages" / f"{name}.png")
    return root


def write_yolo(root):
    """Writes a folder as YOLO has it, of the images and boxes of COCO's."""
    for split, number in itertools.product(("train", "val"), range(2)):
        (high, wide), boxes = SIZES[number], OBJECTS[number]
        image = root / f"images/{split}/{number}.jpg"
        text = root / f"labels/{split}/{number}.txt"
        for file in (image, text):
            file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels((high, wide), boxes)).save(image)
        rows = [
            f"{int(kind == 'dog')} {(x + w / 2) / wide} {(y + h / 2) / high} "
            f"{w / wide} {h / high}\n"
            for (x, y, w, h), kind in zip(boxes, CLASSES[number], strict=True)
        ]
        text.write_text("".join(rows))
    (root / "data.yaml").write_text("names: [cat, dog]")
    return root


def picture_of(size, boxes, labels=None, scores=None, image=None):
    """Returns a `Picture` of objects, by default of class 0 and true."""
    # It needs the packages of the example.
    from examples.detection.pictures import Picture

    count = len(boxes)
    return Picture(
        image=np.zeros((*size, 1), "uint8") if image is None else image,
        size=size,
        boxes=np.array(boxes, "float64").reshape(count, 4),
        labels=np.array(labels or [0] * count, int),
        scores=np.array(scores or [1.0] * count),
    )


def bright_box(image):
    """Returns the extent of the bright pixels."""
    rows, columns = (np.flatnonzero((image > 128).any(a)) for a in (1, 0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
