"""Mean average precision as COCO measures it, by pycocotools."""

import contextlib
import dataclasses
import io
from collections.abc import Mapping, Sequence

import numpy as np

from cbam_keras import _checks
from cbam_keras._terminal import watched
from cbam_keras.detection.batches import Batches
from cbam_keras.detection.records import Records, convert


@dataclasses.dataclass(frozen=True)
class Precision:
    """Mean average precision over the classes.

    Each is a number in [0, 1], or `None` where there are no objects to find.

    Attributes:
        map: Over intersections over union from 0.5 to 0.95, COCO's measure.
        map50: At an intersection over union of 0.5, as VOC measures.
        map75: At 0.75.
        small: `map` of objects of less than 32 x 32 pixels.
        medium: `map` of objects of up to 96 x 96 pixels.
        large: `map` of larger objects.
    """

    map: float | None
    map50: float | None
    map75: float | None
    small: float | None
    medium: float | None
    large: float | None


def detect_all(detector, batches: Batches) -> list[dict[str, np.ndarray]]:
    """Returns the detections in each image, boxes as `"rel_xyxy"`.

    Dictionaries of `boxes` `(n, 4)`, `labels` `(n,)`, `confidence` `(n,)`.
    """
    records, size = batches.records, batches.batch_size
    found = []
    starts = range(0, len(records), size)
    for start in watched(starts, len(starts), "Detecting"):
        # The last batch is filled, so that all have one shape.
        rows = np.arange(start, start + size) % len(records)
        outputs = detector.detect(batches.images(rows))
        for row in range(min(size, len(records) - start)):
            kept = outputs["labels"][row] >= 0
            own = {key: outputs[key][row][kept] for key in outputs}
            own["boxes"] = convert(
                own["boxes"], "xyxy", "rel_xyxy", *batches.size
            )
            found.append(own)
    return found


def evaluate(
    records: Records,
    detections: Sequence[Mapping[str, np.ndarray]],
    classes: int,
) -> Precision:
    """Returns the mean average precision of detections.

    Crowds and difficult objects are ignored: what is found there counts
    neither for nor against.

    Args:
        records: `Records`.
        detections: Sequence of one mapping per image, see `detect_all`.
        classes: Integer, the number of classes.
    """
    cocoeval = _checks.require("pycocotools.cocoeval", extra="detect")
    # It prints its progress.
    with contextlib.redirect_stdout(io.StringIO()):
        truth = _dataset(_objects(records), len(records), classes)
        found = _dataset(_detected(records, detections), len(records), classes)
        evaluation = cocoeval.COCOeval(truth, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    # -1 means that there was nothing to find.
    return Precision(
        *(
            float(value) if value > -1 else None
            for value in evaluation.stats[:6]
        )
    )


def _dataset(annotations, images, classes):
    coco = _checks.require("pycocotools.coco", extra="detect").COCO()
    coco.dataset = {
        "images": [{"id": number} for number in range(images)],
        "categories": [{"id": number} for number in range(classes)],
        # Ids from 1: 0 would count as no match.
        "annotations": [
            {"id": number, **annotation}
            for number, annotation in enumerate(annotations, 1)
        ],
    }
    coco.createIndex()
    return coco


def _objects(records):
    for image in range(len(records)):
        boxes = _in_pixels(records, image, records.boxes[image])
        for box, label, ignored in zip(
            boxes, records.labels[image], records.ignored[image], strict=True
        ):
            yield {
                **_annotation(image, box, label),
                "iscrowd": int(ignored),
            }


def _detected(records, detections):
    for image, own in enumerate(detections):
        boxes = _in_pixels(records, image, own["boxes"])
        for box, label, score in zip(
            boxes, own["labels"], own["confidence"], strict=True
        ):
            yield {
                **_annotation(image, box, label),
                "iscrowd": 0,
                "score": float(score),
            }


def _annotation(image, box, label):
    return {
        "image_id": image,
        "category_id": int(label),
        "bbox": box.tolist(),
        "area": float(box[2] * box[3]),
    }


def _in_pixels(records, image, boxes):
    """Returns boxes in pixels of the image as it was, as `"xywh"`."""
    height, width = records.sizes[image].tolist()
    return convert(boxes, "rel_xyxy", "xywh", height, width).astype("float64")
