"""Detections beside the truth, as a figure and as arrays."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cbam_keras import plotting
from cbam_keras.detection.batches import Batches

# Detections of a lower confidence are not drawn.
CONFIDENT = 0.5
# Images side by side.
IMAGES = 6


def plot_detections(
    batches: Batches,
    detections: Mapping[str, Sequence[Mapping[str, np.ndarray]]],
    class_names: Sequence[str],
    title: str,
) -> Any:
    """Draws the first test images with their objects and detections.

    Args:
        batches: `Batches` of the test images.
        detections: Mapping of networks to detections, see `detect_all`.
        class_names: Sequence of strings.
        title: String.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    count = min(IMAGES, len(batches.records))
    images = batches.images(np.arange(count)) / 255
    rows = {"truth": _truth(batches.records), **detections}
    figure = plotting.new_figure(2 * count, 2.1 * len(rows), title)
    panels = figure.subplots(len(rows), count, squeeze=False)
    for line, (name, objects) in zip(panels, rows.items(), strict=True):
        color = plotting.TRUE_BOX if name == "truth" else plotting.FOUND_BOX
        for axes, image, one in zip(line, images, objects, strict=False):
            axes.imshow(image, cmap="gray", vmin=0, vmax=1)
            axes.set(xticks=[], yticks=[])
            _draw_boxes(axes, _confident(one), image.shape, class_names, color)
        label = plotting.wrap(name, 2, 10, 2)
        line[0].set_ylabel(label, parse_math=False)
    for axes, item in zip(panels[0], batches.records.images, strict=False):
        if isinstance(item, str):
            title = plotting.wrap(pathlib.PurePath(item).name, 2, 8, 2)
            axes.set_title(title, fontsize=8, parse_math=False)
    return figure


def _draw_boxes(axes, objects, shape, class_names, color):
    """Draws the boxes of objects in an image, with their classes."""
    height, width = shape[:2]
    # Boxes may reach out of the image, even to infinity.
    boxes = np.clip(objects["boxes"], 0, 1) * [width, height, width, height]
    for number, (left, top, right, bottom) in enumerate(boxes):
        plotting.draw_box(axes, (top, left, bottom, right), color)
        name = class_names[int(objects["labels"][number])]
        text = plotting.wrap(name, 2, 6, 1)
        if "confidence" in objects:
            text += f" {objects['confidence'][number]:.2f}"
        in_left_half = left + right < width
        axes.text(
            (left if in_left_half else right) - 0.5,
            top - 0.5,
            text,
            ha="left" if in_left_half else "right",
            va="top" if top < 0.1 * height else "bottom",
            color="white",
            fontsize=6,
            bbox={"pad": 0.5, "color": color, "linewidth": 0},
            clip_on=True,
            # Or the texts could take all the room of the images.
            in_layout=False,
            parse_math=False,
        )


def arrays_of(
    batches: Batches,
    detections: Mapping[str, Sequence[Mapping[str, np.ndarray]]],
) -> dict[str, np.ndarray]:
    """Returns the images, their objects and the detections as flat arrays.

    Args:
        batches: `Batches` of the test images.
        detections: Mapping of networks to detections, see `detect_all`.

    Returns:
        Dictionary of `"images"`, uint8 `(N, H, W, C)`, and of float32 arrays
        `(n, 7)`, `"truth"` and one for each network: the number of the image,
        class, confidence, and the left, top, right and bottom edge as
        fractions of the image. The confidence of true objects is 1, that of
        those that do not count is 0; detections below 0.5 are left out.
    """
    records = batches.records
    truth = _truth(records)
    for objects, ignored in zip(truth, records.ignored, strict=True):
        objects["confidence"] = ~ignored
    images = batches.images(np.arange(len(records)))
    arrays = {"images": images.round().astype("uint8"), "truth": _flat(truth)}
    for name, objects in detections.items():
        arrays[name] = _flat(map(_confident, objects))
    return arrays


def _truth(records):
    return [
        {"boxes": boxes, "labels": labels}
        for boxes, labels in zip(records.boxes, records.labels, strict=True)
    ]


def _confident(objects):
    if "confidence" not in objects:
        return objects
    kept = objects["confidence"] >= CONFIDENT
    return {key: values[kept] for key, values in objects.items()}


def _flat(images):
    """Returns the objects of images as rows of numbers."""
    rows = []
    for number, objects in enumerate(images):
        labels = objects["labels"]
        columns = np.full(len(labels), number), labels, objects["confidence"]
        rows.append(np.column_stack([*columns, objects["boxes"]]))
    return np.concatenate(rows).astype("float32")
