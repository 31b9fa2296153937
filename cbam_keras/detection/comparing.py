"""`compare`: detectors without and with attention, trained alike."""

import dataclasses
import os
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from cbam_keras import _checks, comparison, training
from cbam_keras._run_folder import default_output
from cbam_keras._terminal import TimeLeft
from cbam_keras.detection import networks
from cbam_keras.detection.anchors import Anchors, choose_anchors
from cbam_keras.detection.evaluation import detect_all, evaluate
from cbam_keras.detection.figure import plot_detections
from cbam_keras.detection.folder import DetectionFolder
from cbam_keras.detection.loading import DetectionData, load_data
from cbam_keras.detection.pyramid import load_model
from cbam_keras.detection.results import (
    BASELINE,
    DetectionResults,
    DetectorRun,
    compared,
    verdict,
)
from cbam_keras.layers import ATTENTION

METRICS = ("loss", "cls_logits_loss", "bbox_regression_loss")
DEFAULT_RECIPE = training.Recipe(epochs=12, batch_size=16, learning_rate=2e-3)


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
    it as `<attention>-seed<seed>.keras`, `history.csv`, `results.json` and
    `detections.png`.

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
                _train_one(folder, plan, seed, name, number, left)
        # An earlier call may have trained more seeds.
        runs = [DetectorRun(**run) for run in folder.runs]
        runs = [run for run in runs if run.seed in plan.seeds]
        rows = compared(runs, list(plan.attentions), plan.seeds)
        said = verdict(rows)
        folder.add({"verdict": said}, _figure(folder, plan))
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


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is compared, after all arguments have been checked."""

    backbone: str
    attentions: dict[str, Any]
    layer_options: dict[str, Any]
    images: Any
    data_options: dict[str, Any]
    recipe: training.Recipe
    seeds: tuple[int, ...]
    # Of the first seed.
    loaded: DetectionData
    anchors: Anchors

    @classmethod
    def of(
        cls,
        attentions,
        backbone,
        images,
        recipe,
        layer_options,
        data_options,
        seeds,
    ):
        names = _checks.subset("attention", attentions, [BASELINE, *ATTENTION])
        _checks.one_of("backbone", backbone, networks.BACKBONES)
        recipe = training.find_recipe(
            DEFAULT_RECIPE if recipe is None else recipe
        )
        chosen = training.check_seeds(seeds)
        # Needed only later, but checked before any work.
        for module in ("keras_hub", "pycocotools.cocoeval"):
            _checks.require(module, extra="detect")
        _checks.require("matplotlib.figure", extra="plot")
        if len(chosen) > 1:
            _checks.require("scipy.stats", extra="tune")
        made, options = comparison.attention_layers(
            names, backbone, layer_options
        )
        own = dict(data_options or {})
        loaded = _loaded(images, recipe, own, chosen[0])
        encoder = networks.build_backbone(backbone, loaded.image_shape, None)
        levels = networks.levels_for(loaded.image_shape, encoder)
        anchors = choose_anchors(
            loaded.train.records, loaded.image_shape[:2], *levels
        )
        return cls(
            *(backbone, made, options, images, own, recipe, chosen),
            *(loaded, anchors),
        )

    @property
    def names(self) -> list[tuple[int, str]]:
        """Seed and attention of each detector, in the order of training."""
        return [(seed, name) for seed in self.seeds for name in self.attentions]

    def default_output(self):
        """Returns the default folder."""
        return default_output("detect", self.loaded.name, self.backbone)

    def settings(self):
        """Returns the settings of the run, as plain values."""
        recipe = dataclasses.asdict(self.recipe)
        del recipe["seed"]
        return {
            "data": self.loaded.describe(),
            "recipe": recipe,
            "networks": list(self.attentions),
            "model": self.backbone,
            "layer_options": self.layer_options,
            "anchors": dataclasses.asdict(self.anchors),
            "backend": keras.backend.backend(),
        }

    def data_of(self, seed):
        """Returns the images of a seed."""
        if seed == self.loaded.seed:
            return self.loaded
        return _loaded(self.images, self.recipe, self.data_options, seed)


def _loaded(images, recipe, options, seed):
    by_recipe = {
        "batch_size": recipe.batch_size,
        "augment": recipe.augment,
        "image_size": recipe.image_size,
        "seed": seed,
    }
    for key in options:
        if key in by_recipe:
            raise ValueError(
                f"`{key}` is an option of the recipe, not of the data. "
                f"Received: data_options={options!r}"
            )
    return load_data(images, **by_recipe, **options)


def _train_one(folder, plan, seed, attention, number, left):
    loaded = plan.data_of(seed)
    recipe = dataclasses.replace(plan.recipe, seed=seed)
    name = f"{attention}-seed{seed}"
    try:
        detector = networks.build_detector(
            plan.backbone,
            loaded,
            plan.attentions[attention],
            plan.anchors,
            recipe,
        )
    except Exception:
        folder.forget_if_empty()
        raise
    parameters = training.count_parameters(detector)

    def announce(epochs):
        done = f"after epoch {epochs}" if epochs else "from the start"
        print(
            f"{attention}, seed {seed} ({number} of {len(plan.names)}), "
            f"{parameters:,} parameters, {done}{left.at(number)}",
            flush=True,
        )

    state = training.fit(
        detector,
        name,
        loaded,
        recipe,
        folder.progress,
        announce=announce,
        after_epoch=lambda state: folder.write_history(state.history),
        metrics=METRICS,
    )
    # From the file, so that what is measured is what is kept.
    best = load_model(folder.progress.folder / state.best)
    found = evaluate(
        loaded.test.records,
        detect_all(best, loaded.test),
        len(loaded.class_names),
    )
    seconds = [row["seconds"] for row in state.history]
    run = DetectorRun(
        network=attention,
        seed=seed,
        parameters=parameters,
        precision=dataclasses.asdict(found),
        seconds_per_epoch=statistics.median(seconds[1:] or seconds),
        file=f"{name}.keras",
    )
    folder.finish(run, state)


def _figure(folder, plan):
    """Draws what the detectors of the first seed find."""
    seed = plan.seeds[0]
    few = plan.loaded.test.first()
    files = {
        name: folder.path / f"{name}-seed{seed}.keras"
        for name in plan.attentions
    }
    found = {
        name: detect_all(load_model(file), few) for name, file in files.items()
    }
    return plot_detections(
        few,
        found,
        plan.loaded.class_names,
        f"{plan.loaded.name}, {plan.backbone}, seed {seed}",
    )
