"""`estimate`: how long a comparison of detectors takes."""

import dataclasses
import functools
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from cbam_keras import _inspection, training
from cbam_keras._terminal import watched
from cbam_keras.detection import networks
from cbam_keras.detection.anchors import Anchors
from cbam_keras.detection.plan import Plan
from cbam_keras.detection.results import BASELINE


@dataclasses.dataclass(frozen=True)
class DetectionEstimate:
    """What would be compared, and how long it takes; prints as a table.

    Attributes:
        data: String, the images.
        anchors: The anchors, with the fraction of boxes that they cover.
        times: A `training.Estimate`.
    """

    data: str
    anchors: Anchors
    times: training.Estimate

    def __str__(self) -> str:
        return f"{self.data}\n{self.anchors}\n{self.times}"


def estimate(
    attentions: Sequence[str] = (BASELINE, "se", "cbam"),
    *,
    backbone: str = "small",
    images: str | os.PathLike = "digit_scenes",
    recipe: training.Recipe | None = None,
    layer_options: Mapping[str, Any] | None = None,
    data_options: Mapping[str, Any] | None = None,
    seeds: int | Sequence[int] = 1,
) -> DetectionEstimate:
    """Estimates how long `compare` takes on this device; writes nothing."""
    plan = Plan.of(
        attentions, backbone, images, recipe, layer_options, data_options, seeds
    )
    names = list(plan.attentions)
    try:
        with _inspection.same_randomness():
            costs = tuple(
                _cost(name, plan)
                for name in watched(names, len(names), "Timing steps")
            )
    finally:
        plan.loaded.set_epoch(0)
    loaded, sizes = plan.loaded, plan.loaded.sizes
    height, width, _ = loaded.image_shape
    return DetectionEstimate(
        f"{loaded.name}: {sizes['train']:,} training and {sizes['test']:,} "
        f"test images of {height} x {width} pixels, "
        f"{len(loaded.class_names)} classes",
        plan.anchors,
        training.Estimate(costs, plan.recipe.epochs, len(plan.seeds)),
    )


def _cost(name, plan):
    loaded = plan.loaded
    detector, before, step = training.time_steps(
        functools.partial(
            networks.build_detector,
            plan.backbone,
            loaded,
            plan.attentions[name],
            plan.anchors,
            dataclasses.replace(plan.recipe, seed=loaded.seed),
        ),
        loaded,
    )
    batch, _ = loaded.test[0]
    for _ in range(2):
        # The first time compiles.
        start = time.perf_counter()
        detector.detect(batch)
        one = time.perf_counter() - start
    return training.Cost(
        network=name,
        parameters=training.count_parameters(detector),
        # Those of KerasHub's layers are not known.
        macs=None,
        seconds_per_epoch=step * len(loaded.train),
        seconds_once=before + one * len(loaded.test),
    )
