"""`compare`: detectors without and with attention, trained alike."""

import dataclasses
import functools
import os
from collections.abc import Mapping, Sequence
from typing import Any

from cbam_keras import _checks, training
from cbam_keras._terminal import TimeLeft
from cbam_keras.detection import networks
from cbam_keras.detection.evaluation import detect_all, evaluate
from cbam_keras.detection.figure import arrays_of, plot_detections
from cbam_keras.detection.folder import DetectionFolder
from cbam_keras.detection.plan import Plan
from cbam_keras.detection.pyramid import load_model
from cbam_keras.detection.results import (
    BASELINE,
    DetectionResults,
    DetectorRun,
    compared,
    verdict,
)

METRICS = ("loss", "cls_logits_loss", "bbox_regression_loss")


def compare(
    attentions: Sequence[str] = (BASELINE, "se", "cbam"),
    *,
    backbone: str = "small",
    images: str | os.PathLike = "digit_scenes",
    recipe: training.Recipe | None = None,
    layer_options: Mapping[str, Any] | None = None,
    data_options: Mapping[str, Any] | None = None,
    seeds: int | Sequence[int] = 1,
    output: str | os.PathLike | None = None,
    resume: bool = True,
    overwrite: bool = False,
) -> DetectionResults:
    """Trains detectors on one backbone without and with attention.

    What `cbam-keras detect` runs. The detector is RetinaNet as KerasHub has
    it, on `feature_pyramid`. For images of less than 256 pixels it has the
    levels from P3 on whose feature maps have four rows and columns or more,
    and no layers in its heads but the last; for larger ones it has P3 to P7
    and heads of four layers, as in its paper. Suppression does not tell
    classes apart: of two objects that overlap by more than half, one is lost.

    The anchors are chosen from the training boxes. The detector after the
    last epoch is measured, once, on the test images. The output folder gets
    it as `<attention>-seed<seed>.keras`, `history.csv`, `results.json`, and
    the detections in some test images as `detections.png` and
    `detections.npz`.

    The same call given again resumes from the last finished epoch, and ends
    as it would have without the interruption; with more seeds it trains what
    is missing. A call with other settings is refused.

    Args:
        attentions: Sequence of strings among `"none"`, `"se"`, `"cbam"`,
            `"channel"`, `"spatial"`. Defaults to `("none", "se", "cbam")`.
        backbone: String, `"small"` (a ResNet of two basic blocks in each of
            three stages of 32, 64 and 128 channels), `"resnet18"`,
            `"resnet34"`, `"resnet50"`, `"resnet101"`, `"resnet152"`,
            `"wideresnet18"`, `"resnext50"`, `"resnext101"` or
            `"mobilenet"`. Defaults to `"small"`.
        images: What `detection.load_data` takes. Defaults to
            `"digit_scenes"`.
        recipe: A `training.Recipe`; its seed is replaced, and `augment` is
            that of `detection.load_data`. Defaults to `None`, which means
            `Recipe(epochs=12, batch_size=16, learning_rate=0.002)`.
        layer_options: See `comparison.compare`. Defaults to `None`.
        data_options: Mapping of further arguments of `load_data`, as
            `{"download": True}`, except those of the recipe. Defaults to
            `None`.
        seeds: Positive integer, how many seeds, from 0; or a sequence of
            different seeds. Defaults to `1`.
        output: Path of a folder. Defaults to `None`, which means
            `runs/detect-<images>-<backbone>`.
        resume: Boolean. `False` refuses a folder that holds a run. Defaults
            to `True`.
        overwrite: Boolean, whether to start again, see `training.train`.
            Defaults to `False`.

    Returns:
        A `DetectionResults`.

    Raises:
        ValueError: If an argument is out of range, see also
            `training.train`, `load_data` and `feature_pyramid`.
        ImportError: If KerasHub, pycocotools, or a package for the data, the
            figure or the intervals of several seeds is missing.
    """
    _checks.boolean("resume", resume)
    _checks.boolean("overwrite", overwrite)
    plan = Plan.of(
        attentions, backbone, images, recipe, layer_options, data_options, seeds
    )
    folder = DetectionFolder(
        plan.default_output() if output is None else output,
        plan.settings(),
        plan.loaded.class_names,
    )
    with folder.opened(resume=resume, overwrite=overwrite):
        left = TimeLeft(len(plan.names))
        for number, (seed, name) in enumerate(plan.names, 1):
            if f"{name}-seed{seed}" not in folder.finished:
                _train_one(folder, plan, seed, name, number=number, left=left)
        # An earlier call may have trained more seeds.
        runs = [DetectorRun(**run) for run in folder.runs]
        runs = [run for run in runs if run.seed in plan.seeds]
        rows = compared(runs, list(plan.attentions), plan.seeds)
        said = verdict(rows)
        folder.add({"verdict": said}, *_drawn(folder, plan))
    return DetectionResults(
        runs=runs,
        rows=rows,
        history=folder.content["history"],
        anchors=plan.anchors,
        data=plan.loaded.name,
        backbone=plan.backbone,
        seeds=plan.seeds,
        test_images=plan.loaded.sizes["test"],
        verdict=said,
        output=folder.path,
    )


def _train_one(folder, plan, seed, attention, **place):
    loaded = plan.data_of(seed)
    recipe = dataclasses.replace(plan.recipe, seed=seed)
    name = f"{attention}-seed{seed}"
    state, parameters = training.fit_in(
        folder,
        name,
        functools.partial(
            networks.build_detector,
            plan.backbone,
            loaded,
            plan.attentions[attention],
            plan.anchors,
            recipe,
        ),
        loaded,
        recipe,
        title=f"{attention}, seed {seed}",
        metrics=METRICS,
        **place,
    )
    # From the file, so that what is measured is what is kept.
    best = load_model(folder.progress.folder / state.best)
    found = evaluate(
        loaded.test.records,
        detect_all(best, loaded.test),
        len(loaded.class_names),
    )
    run = DetectorRun(
        network=attention,
        seed=seed,
        parameters=parameters,
        precision=dataclasses.asdict(found),
        seconds_per_epoch=state.seconds_per_epoch,
        file=f"{name}.keras",
    )
    folder.finish(run, state)


def _drawn(folder, plan):
    """Returns figure and arrays of what detectors of the first seed find."""
    seed = plan.seeds[0]
    few = plan.loaded.test.first()
    files = {
        name: folder.path / f"{name}-seed{seed}.keras"
        for name in plan.attentions
    }
    found = {
        name: detect_all(load_model(file), few) for name, file in files.items()
    }
    figure = plot_detections(
        few,
        found,
        plan.loaded.class_names,
        f"{plan.loaded.name}, {plan.backbone}, seed {seed}",
    )
    return figure, arrays_of(few, found)
