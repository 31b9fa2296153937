"""Detections beside the truth, as a figure and as arrays."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cbam_keras import _checks, plotting
from cbam_keras.detection.batches import Batches

# Detections of a lower confidence are not drawn.
CONFIDENT = 0.5
# Images side by side.
IMAGES = 6
TRUE, FOUND = "#009E73", "#D55E00"


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
    figure = plotting.new_figure(2 * count, 2.2 * (1 + len(detections)), title)
    panels = figure.subplots(1 + len(detections), count, squeeze=False)
    rows = {"truth": _truth(batches.records), **detections}
    for (name, found), line in zip(rows.items(), panels, strict=True):
        for axes, image, own in zip(line, images, found, strict=False):
            axes.imshow(image, cmap="gray", vmin=0, vmax=1)
            axes.set_xticks([])
            axes.set_yticks([])
            _draw(axes, own, batches.size, class_names)
        line[0].set_ylabel(name)
    return figure


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
    found = {
        "truth": [
            {**objects, "confidence": ~ignored}
            for objects, ignored in zip(
                _truth(batches.records), batches.records.ignored, strict=True
            )
        ],
        **{
            name: [_confident(one) for one in own]
            for name, own in detections.items()
        },
    }
    images = batches.images(np.arange(len(batches.records)))
    return {
        "images": images.round().astype("uint8"),
        **{name: _flat(own) for name, own in found.items()},
    }


def _truth(records):
    return [
        {"boxes": boxes, "labels": labels}
        for boxes, labels in zip(records.boxes, records.labels, strict=True)
    ]


def _confident(found):
    kept = found["confidence"] >= CONFIDENT
    return {key: values[kept] for key, values in found.items()}


def _flat(images):
    """Returns the objects of images as rows of numbers."""
    rows = [
        np.column_stack(
            [
                np.full(len(one["labels"]), number),
                one["labels"],
                one["confidence"],
                one["boxes"],
            ]
        )
        for number, one in enumerate(images)
    ]
    return np.concatenate(rows).astype("float32")


def _draw(axes, found, size, class_names):
    patches = _checks.require("matplotlib.patches", extra="plot")
    confidence = found.get("confidence")
    colour = TRUE if confidence is None else FOUND
    scale = np.array([size[1], size[0]] * 2)
    for number, box in enumerate(found["boxes"] * scale):
        text = class_names[int(found["labels"][number])]
        if confidence is not None:
            if confidence[number] < CONFIDENT:
                continue
            text += f" {confidence[number]:.2f}"
        left, top, right, bottom = box - 0.5
        axes.add_patch(
            patches.Rectangle(
                (left, top),
                right - left,
                bottom - top,
                fill=False,
                color=colour,
                linewidth=1.5,
            )
        )
        axes.text(
            left,
            top,
            text,
            color="white",
            backgroundcolor=colour,
            fontsize=6,
            verticalalignment="bottom",
            bbox={"pad": 0.5, "color": colour, "linewidth": 0},
            parse_math=False,
        )
