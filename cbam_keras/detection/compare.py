"""`compare`: detectors without and with attention, trained alike."""

import dataclasses
import functools
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cbam_keras import _checks, _files, comparison, study
from cbam_keras.detection.evaluation import detect_all
from cbam_keras.detection.figure import arrays_of, plot_detections
from cbam_keras.detection.networks import build_detector
from cbam_keras.detection.pyramid import load_model
from cbam_keras.detection.results import BASELINE, DetectionResults
from cbam_keras.detection.task import Detection
from cbam_keras.recipes import Recipe, find_recipe

DEFAULT_RECIPE = Recipe(epochs=12, batch_size=16, learning_rate=2e-3)


def compare(
    attentions: Sequence[Any] = (BASELINE, "se", "cbam"),
    *,
    backbone: str = "small",
    images: str | os.PathLike = "digit_scenes",
    recipe: Recipe | str | None = None,
    layer_options: Mapping[str, Any] | None = None,
    data_options: Mapping[str, Any] | None = None,
    seeds: int | Sequence[int] = 1,
    output: str | os.PathLike | None = None,
    resume: bool = True,
    overwrite: bool = False,
    workers: int = 1,
    tensorboard: bool = False,
) -> DetectionResults:
    """Trains detectors on one backbone without and with attention.

    What `cbam-keras detect` runs. The detector is RetinaNet as KerasHub has
    it, on `feature_pyramid`. For images of less than 256 pixels it has the
    levels from P3 on whose feature maps have four rows and columns or more,
    and no layers in its heads but the last; for larger ones it has P3 to P7
    and heads of four layers, as in its paper. Suppression does not tell
    classes apart: of two objects that overlap by more than half, one is lost.

    The anchors are chosen from the training boxes of each seed. The detector
    after the last epoch is measured, once, on the test images. The output
    folder gets the files of `study.run`, and the detections in some test
    images as `detections.png` and `detections.npz`.

    The same call given again resumes; with more seeds or kinds of attention
    it trains what is missing.

    Args:
        attentions: See `comparison.compare`. Defaults to
            `("none", "se", "cbam")`.
        backbone: String, `"small"` (a ResNet of two basic blocks in each of
            three stages of 32, 64 and 128 channels), `"resnet18"`,
            `"resnet34"`, `"resnet50"`, `"resnet101"`, `"resnet152"`,
            `"wideresnet18"`, `"resnext50"`, `"resnext101"` or
            `"mobilenet"`. Defaults to `"small"`.
        images: What `detection.load_data` takes. Defaults to
            `"digit_scenes"`.
        recipe: A `training.Recipe`, or the name of one; `augment` is that of
            `detection.load_data`, and several seeds replace its seed.
            Defaults to `None`, which means
            `Recipe(epochs=12, batch_size=16, learning_rate=0.002)`.
        layer_options: See `comparison.compare`. Defaults to `None`.
        data_options: Mapping of further arguments of `load_data`, as
            `{"download": True}`, except those of the recipe. Defaults to
            `None`.
        seeds: See `comparison.compare`. Defaults to `1`.
        output: Path of a folder. Defaults to `None`, which means
            `runs/detect-<images>-<backbone>`.
        resume: See `study.run`. Defaults to `True`.
        overwrite: See `study.run`. Defaults to `False`.
        workers: See `study.run`. Defaults to `1`.
        tensorboard: See `study.run`. Defaults to `False`.

    Returns:
        A `DetectionResults`.

    Raises:
        ValueError: If an argument is out of range, see also
            `training.train`, `load_data` and `feature_pyramid`.
        ImportError: If KerasHub, pycocotools, or a package for the data, the
            figure or the intervals of several seeds is missing.
    """
    _checks.require("matplotlib.figure", extra="plot")
    planned = _study(
        attentions, backbone, images, recipe, layer_options, data_options, seeds
    )
    if output is None:
        output = study.default_output("detect", planned.task.name, backbone)
    results = study.run(
        planned,
        output,
        resume=resume,
        overwrite=overwrite,
        workers=workers,
        tensorboard=tensorboard,
        finish=functools.partial(_draw, planned.task),
    )
    content = json.loads((results.output / study.RESULTS).read_text())
    first = content["settings"]["data"][str(results.seeds[0])]
    return DetectionResults.of(results, backbone, first["anchors"])


def estimate(
    attentions: Sequence[Any] = (BASELINE, "se", "cbam"),
    *,
    backbone: str = "small",
    images: str | os.PathLike = "digit_scenes",
    recipe: Recipe | str | None = None,
    layer_options: Mapping[str, Any] | None = None,
    data_options: Mapping[str, Any] | None = None,
    seeds: int | Sequence[int] = 1,
    workers: int = 1,
) -> study.Estimate:
    """Estimates how long `compare` takes on this device; writes nothing."""
    planned = _study(
        attentions, backbone, images, recipe, layer_options, data_options, seeds
    )
    times = study.estimate(planned, workers=workers)
    loaded = planned.task.loaded
    height, width, _ = loaded.image_shape
    about = (
        f"{loaded.name}: {loaded.sizes['train']:,} training and "
        f"{loaded.sizes['test']:,} test images of {height} x {width} pixels, "
        f"{len(loaded.class_names)} classes\n{loaded.anchors}"
    )
    return dataclasses.replace(times, about=about)


def _study(
    attentions, backbone, images, recipe, layer_options, data_options, seeds
):
    """Returns the study of a comparison, after checking all arguments."""
    recipe = find_recipe(DEFAULT_RECIPE if recipe is None else recipe)
    task = Detection(images, backbone, **(data_options or {}))
    layers = comparison.attention_layers(attentions, backbone, layer_options)
    return study.Study(
        task=task,
        variants=[
            study.Variant(
                name,
                functools.partial(build_detector, backbone, attention),
                options,
            )
            for name, attention, options in layers
        ],
        seeds=comparison.seeds_of(seeds, recipe),
        recipe=recipe,
        baseline=BASELINE if BASELINE in attentions else None,
        settings={"model": backbone},
        kind="detect",
    )


def _draw(task, results, folder):
    """Draws what the detectors of the folder's first seed find, once."""
    if len(results.outcomes) < len(results.variants) * len(results.seeds):
        # Interrupted.
        return
    known = study.Results.of(folder.path, folder.content)
    seed = known.seeds[0]
    files = {o.variant: o.file for o in known.finished if o.seed == seed}
    paths = [folder.path / f"detections.{end}" for end in ("png", "npz")]
    if folder.content.get("drawn") == list(files) and all(
        path.exists() for path in paths
    ):
        return
    few = task.loaded.test.first()
    detections = {
        name: detect_all(load_model(folder.path / file), few)
        for name, file in files.items()
    }
    figure = plot_detections(
        few,
        detections,
        task.loaded.class_names,
        f"{known.data}, {task.backbone}, seed {seed}",
    )
    with _files.replacing(paths[0]) as beside:
        figure.savefig(beside, dpi=150)
    with _files.replacing(paths[1]) as beside:
        np.savez_compressed(beside, **arrays_of(few, detections))
    folder.add(drawn=list(files))
