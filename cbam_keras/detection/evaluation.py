"""Mean average precision as COCO measures it, and detections as a figure."""

import contextlib
import io
import math
import pathlib
from collections.abc import Mapping, Sequence

import keras
import numpy as np

from cbam_keras import _checks, plotting
from cbam_keras._terminal import watched
from cbam_keras.detection.batches import Batches, Examples, scale_of, table

# What COCO measures, in its order: over intersections over union from 0.5 to
# 0.95, at 0.5 (as VOC) and at 0.75; then the first of objects of less than
# 32 x 32 pixels, of up to 96 x 96 pixels, and of larger ones.
MEASURES = ("map", "map50", "map75", "small", "medium", "large")
# Detections of a lower confidence are not drawn.
CONFIDENT = 0.5
# Images side by side in the figure.
IMAGES = 6


def detect_all(
    detector: keras.Model, batches: Batches, count: int | None = None
) -> np.ndarray:
    """Returns the detections in all images, or the first, as `OBJECT`."""
    count = count or len(batches.examples)
    tables = []
    starts = range(0, count, batches.batch_size)
    for start in watched(starts, len(starts), "Detecting"):
        # The last batch is filled, so that all have one shape.
        rows = np.arange(start, start + batches.batch_size)
        outputs = detector.detect(batches.images(rows % count))
        kept = (outputs["labels"] >= 0) & (rows < count)[:, None]
        labels, boxes, confidence = (
            outputs[key][kept] for key in ("labels", "boxes", "confidence")
        )
        boxes = boxes / scale_of(batches.size)
        tables.append(table(rows[kept.nonzero()[0]], labels, boxes, confidence))
    return np.concatenate(tables)


def evaluate(
    examples: Examples, detections: np.ndarray, classes: int
) -> dict[str, float | None]:
    """Returns the mean average precision of detections over the classes."""
    cocoeval = _checks.require("pycocotools.cocoeval", extra="detect")
    # It prints its progress.
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = cocoeval.COCOeval(
            _dataset(examples, examples.objects, classes),
            _dataset(examples, detections, classes),
            "bbox",
        )
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    # -1 means that there was nothing to find.
    return {
        key: float(value) if value > -1 else None
        for key, value in zip(MEASURES, evaluation.stats, strict=False)
    }


def _dataset(examples, objects, classes):
    """Returns objects as pycocotools has them, in pixels of the originals."""
    coco = _checks.require("pycocotools.coco", extra="detect").COCO()
    scales = scale_of(examples.sizes)[objects["image"]]
    boxes = objects["box"].astype("float32") * scales
    boxes[:, 2:] -= boxes[:, :2]
    # Ids from 1: 0 would count as no match.
    coco.dataset = {
        "images": [{"id": number} for number in range(len(examples))],
        "categories": [{"id": number} for number in range(classes)],
        "annotations": [
            {
                "id": number,
                "image_id": image,
                "category_id": label,
                "bbox": box,
                "area": box[2] * box[3] if math.isnan(area) else area,
                "iscrowd": int(confidence == 0),
                "score": confidence,
            }
            for number, ((image, label, confidence, _, area), box) in enumerate(
                zip(objects.tolist(), boxes.tolist(), strict=True), 1
            )
        ],
    }
    coco.createIndex()
    return coco


def plot_detections(
    batches: Batches,
    detections: Mapping[str, np.ndarray],
    class_names: Sequence[str],
    title: str,
) -> "plotting.style.Figure":
    """Draws the first images, with their objects and confident detections.

    `detections` maps networks to what `detect_all` returns. The names of
    files stand above their images.
    """
    examples = batches.examples
    count = min(IMAGES, len(examples))
    images = batches.images(np.arange(count)).round().astype("uint8")
    rows = {"truth": examples.objects}
    for name, objects in detections.items():
        rows[name] = objects[objects["confidence"] >= CONFIDENT]
    figure = plotting.new_figure(2 * count, 2.1 * len(rows), title)
    panels = figure.subplots(len(rows), count, squeeze=False)
    for line, (name, objects) in zip(panels, rows.items(), strict=True):
        is_truth = name == "truth"
        color = plotting.TRUE_BOX if is_truth else plotting.FOUND_BOX
        for number, axes in enumerate(line):
            axes.imshow(images[number], cmap="gray", vmin=0, vmax=255)
            axes.set(xticks=[], yticks=[])
            for one in objects[objects["image"] == number]:
                text = plotting.wrap(class_names[one["label"]], 2, 6, 1)
                if not is_truth:
                    text += f" {one['confidence']:.2f}"
                _draw_box(axes, one["box"], images.shape[1:3], text, color)
        label = plotting.wrap(name, 2, 10, 2)
        line[0].set_ylabel(label, parse_math=False)
    for axes, item in zip(panels[0], examples.images, strict=False):
        if isinstance(item, str):
            name = plotting.wrap(pathlib.PurePath(item).name, 2, 8, 2)
            axes.set_title(name, fontsize=8, parse_math=False)
    return figure


def _draw_box(axes, box, size, text, color):
    # Boxes may reach out of the image, even to infinity.
    left, top, right, bottom = np.clip(box, 0, 1) * scale_of(size)
    plotting.draw_box(axes, (top, left, bottom, right), color)
    in_left_half = left + right < size[1]
    axes.text(
        (left if in_left_half else right) - 0.5,
        top - 0.5,
        text,
        ha="left" if in_left_half else "right",
        va="top" if top < 0.1 * size[0] else "bottom",
        color="white",
        fontsize=6,
        bbox={"pad": 0.5, "color": color, "linewidth": 0},
        clip_on=True,
        # Or the texts could take all the room of the images.
        in_layout=False,
        parse_math=False,
    )
