"""Mean average precision as COCO measures it, by pycocotools."""

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cbam_keras import _checks
from cbam_keras._terminal import watched
from cbam_keras.detection.batches import Batches
from cbam_keras.detection.records import Records, scale_of

# What COCO measures, in its order: over intersections over union from 0.5 to
# 0.95, at 0.5 (as VOC) and at 0.75; then the first of objects of less than
# 32 x 32 pixels, of up to 96 x 96 pixels, and of larger ones.
MEASURES = ("map", "map50", "map75", "small", "medium", "large")


def detect_all(detector: Any, batches: Batches) -> list[dict[str, np.ndarray]]:
    """Returns the detections in each image, boxes as `"rel_xyxy"`.

    Dictionaries of `boxes` `(n, 4)`, `labels` `(n,)`, `confidence` `(n,)`.
    """
    records, size = batches.records, batches.batch_size
    detections = []
    starts = range(0, len(records), size)
    for start in watched(starts, len(starts), "Detecting"):
        # The last batch is filled, so that all have one shape.
        rows = np.arange(start, start + size) % len(records)
        outputs = detector.detect(batches.images(rows))
        for row in range(min(size, len(records) - start)):
            kept = outputs["labels"][row] >= 0
            objects = {key: outputs[key][row][kept] for key in outputs}
            objects["boxes"] /= scale_of(*batches.size)
            detections.append(objects)
    return detections


def evaluate(
    records: Records,
    detections: Sequence[Mapping[str, np.ndarray]],
    classes: int,
) -> dict[str, float | None]:
    """Returns the mean average precision of detections over the classes.

    Crowds and difficult objects are ignored: what is found there counts
    neither for nor against.

    Args:
        records: `Records`.
        detections: Sequence of one mapping per image, see `detect_all`.
        classes: Integer, the number of classes.

    Returns:
        Dictionary of the keys `MEASURES` to numbers in [0, 1], or `None`
        where there are no objects to find.
    """
    cocoeval = _checks.require("pycocotools.cocoeval", extra="detect")
    truth = [
        {"boxes": boxes, "labels": labels, "ignored": ignored}
        for boxes, labels, ignored in zip(
            records.boxes, records.labels, records.ignored, strict=True
        )
    ]
    # It prints its progress.
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = cocoeval.COCOeval(
            _dataset(records, truth, classes),
            _dataset(records, detections, classes),
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


def _dataset(records, objects, classes):
    """Returns the objects of all images as pycocotools has them."""
    coco = _checks.require("pycocotools.coco", extra="detect").COCO()
    annotations = [
        annotation
        for image, one in enumerate(objects)
        for annotation in _annotations(image, one, *records.sizes[image])
    ]
    coco.dataset = {
        "images": [{"id": number} for number in range(len(records))],
        "categories": [{"id": number} for number in range(classes)],
        # Ids from 1: 0 would count as no match.
        "annotations": [
            {"id": number, **annotation}
            for number, annotation in enumerate(annotations, 1)
        ],
    }
    coco.createIndex()
    return coco


def _annotations(image, objects, height, width):
    """Yields the objects of an image, in pixels of the image as it was."""
    labels = objects["labels"]
    boxes = np.float32(objects["boxes"]) * scale_of(height, width)
    boxes[:, 2:] -= boxes[:, :2]
    scores = objects.get("confidence", np.ones(len(labels)))
    ignored = objects.get("ignored", np.zeros(len(labels)))
    for box, label, score, crowd in zip(
        boxes.astype("float64"), labels, scores, ignored, strict=True
    ):
        yield {
            "image_id": image,
            "category_id": int(label),
            "bbox": box.tolist(),
            "area": float(box[2] * box[3]),
            "iscrowd": int(crowd),
            "score": float(score),
        }
