"""Small networks, detectors and images with boxes, for tests of detection."""

import json

import keras
import numpy as np
from PIL import Image

from cbam_keras import models

# Two images of different sizes, as (height, width), and the boxes of each in
# pixels: left, top, width, height.
SIZES = ((20, 30), (24, 16))
OBJECTS = (((3, 4, 15, 10), (0, 0, 6, 10)), ((8, 12, 8, 6),))
CLASSES = (("cat", "dog"), ("dog",))


def network(attention="cbam", size=64, widths=(8, 16, 32), **options):
    """Returns a network of levels P2 to P4."""
    return models.ResNet(
        (1,) * len(widths),
        block="basic",
        widths=widths,
        stem_width=8,
        include_top=False,
        input_shape=(size, size, 3),
        attention=attention,
        name="small",
        **options,
    )


def randomize(model, seed=0):
    """Gives each weight a random value, so that nothing is hidden by zeros."""
    generator = keras.random.SeedGenerator(seed)
    for variable in model.trainable_variables:
        variable.assign_add(
            0.05 * keras.random.normal(variable.shape, seed=generator)
        )


def tiny_backbone(**options):
    """Builds a network in place of `"small"`."""
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


def write_coco(root, splits=("train", "val"), change=None):
    """Writes a folder as COCO has it; `change` alters the training JSON."""
    for split in splits:
        (root / split).mkdir(parents=True)
        (root / "annotations").mkdir(exist_ok=True)
        content = {
            "images": [],
            "annotations": [],
            # Ids have gaps, and need not be sorted.
            "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}],
        }
        for number, (size, objects) in enumerate(
            zip(SIZES, OBJECTS, strict=True)
        ):
            name = f"{number}.png"
            Image.fromarray(pixels(size, objects)).save(root / split / name)
            content["images"].append(
                {
                    "id": 10 + number,
                    "file_name": name,
                    "height": size[0],
                    "width": size[1],
                }
            )
            for box, kind in zip(objects, CLASSES[number], strict=True):
                content["annotations"].append(
                    {
                        "image_id": 10 + number,
                        "bbox": list(box),
                        "category_id": 3 if kind == "cat" else 7,
                        "iscrowd": int(box == OBJECTS[0][1]),
                    }
                )
        if change is not None and split == "train":
            change(content)
        file = root / "annotations" / f"instances_{split}.json"
        file.write_text(json.dumps(content))
    return root


def bright_box(image):
    """Returns the extent of the bright pixels."""
    rows, columns = (np.flatnonzero((image > 128).any(a)) for a in (1, 0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
