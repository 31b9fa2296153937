"""Mean average precision as COCO measures it, by pycocotools."""

import contextlib
import io
from collections.abc import Sequence

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from examples.detection.pictures import Object

# The first of what COCO measures, in its order: over intersections over union
# from 0.5 to 0.95, at 0.5 (as VOC) and at 0.75.
MEASURES = ("map", "map50", "map75")


def mean_average_precision(
    truth: Sequence[Sequence[Object]],
    detections: Sequence[Sequence[Object]],
    classes: int,
) -> dict[str, float]:
    """Returns the measures of the detections in each image."""
    # pycocotools prints its progress.
    with contextlib.redirect_stdout(io.StringIO()):
        truth, detections = (
            _as_coco(truth, classes),
            _as_coco(detections, classes),
        )
        evaluation = COCOeval(truth, detections, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(MEASURES, map(float, evaluation.stats), strict=False))


def _as_coco(objects_of_images, classes):
    """Returns the objects in each image as pycocotools has them."""
    annotations = []
    for image, objects in enumerate(objects_of_images):
        for label, (left, top, right, bottom), confidence, _ in objects:
            width, height = float(right - left), float(bottom - top)
            annotations.append(
                {
                    # Ids begin at 1, since 0 would count as no match.
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": label,
                    "bbox": [float(left), float(top), width, height],
                    "area": width * height,
                    "iscrowd": int(confidence == 0),
                    "score": confidence,
                }
            )
    coco = COCO()
    coco.dataset = {
        "images": [{"id": image} for image in range(len(objects_of_images))],
        "categories": [{"id": label} for label in range(classes)],
        "annotations": annotations,
    }
    coco.createIndex()
    return coco
