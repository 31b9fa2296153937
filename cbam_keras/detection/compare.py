"""`compare`: detectors without and with attention, trained alike."""

import dataclasses
import functools
import os
from collections.abc import Sequence
from typing import Any, Unpack

import keras

from cbam_keras import _checks, _docstrings, _files, comparison, study
from cbam_keras._checks import Options
from cbam_keras.comparison import BASELINE, Attentions
from cbam_keras.data import Source
from cbam_keras.detection.anchors import Anchors, choose_anchors
from cbam_keras.detection.detector import build_detector, compile_detector
from cbam_keras.detection.evaluation import (
    IMAGES,
    detect_all,
    evaluate,
    plot_detections,
)
from cbam_keras.detection.loading import DetectionData, load_data
from cbam_keras.detection.pyramid import (
    check_backbone,
    levels_for,
    load_model,
)
from cbam_keras.recipes import Recipe, find_recipe

# The first is compared: COCO's, over intersections over union of 0.5 to 0.95.
MEASURES = (
    study.Measure("map", "mAP@[.5,.95]", digits=1),
    study.Measure("map50", "mAP@.5", digits=1),
    study.Measure("map75", "mAP@.75", digits=1),
)


class Detection:
    """Detection of objects, measured by mean average precision: a `Task`."""

    measure = "map"
    measure_name = "mAP@[.5,.95]"
    metrics = ("loss", "cls_logits_loss", "bbox_regression_loss")

    def __init__(
        self,
        data: str | os.PathLike,
        backbone: str = "small",
        weights: str | None = None,
        **options: Any,
    ):
        self.name = Source(data).name
        self.data = data
        check_backbone(backbone, weights)
        self.backbone = backbone
        self.options = options
        # The trainings need them: they are checked before any work.
        for package in ("keras_hub", "pycocotools.cocoeval"):
            _checks.require(package, extra="detect")
        # The data are of the last seed, and the anchors of each seed.
        self.loaded: DetectionData | None = None
        self.anchors: dict[int, Anchors] = {}

    @property
    def about(self) -> str:
        """What an estimate says besides: the anchors of the first seed."""
        return str(next(iter(self.anchors.values()), ""))

    def __getstate__(self):
        # Each process loads the data itself.
        return {**vars(self), "loaded": None}

    def load(self, recipe: Recipe) -> DetectionData:
        by_recipe = {name: getattr(recipe, name) for name in study.BY_RECIPE}
        loaded = load_data(self.data, **by_recipe, **self.options)
        shape = loaded.image_shape
        anchors = choose_anchors(
            loaded.train.examples, shape[:2], *levels_for(self.backbone, shape)
        )
        self.anchors[recipe.seed] = anchors
        self.loaded = dataclasses.replace(loaded, anchors=anchors)
        return self.loaded

    def check(self, model: keras.Model, data: DetectionData) -> None:
        """Nothing: `build_detector` builds for the data."""

    def compile(
        self, model: keras.Model, recipe: Recipe, data: DetectionData
    ) -> None:
        compile_detector(model, recipe, data)

    def evaluate(self, model: keras.Model, data: DetectionData) -> dict:
        detections = detect_all(model, data.test)
        return evaluate(data.test.examples, detections, len(data.class_names))


@_docstrings.explained_by(comparison.plan)
@_checks.former_names(images="data")
def plan(
    attentions: Attentions = (BASELINE, "se", "cbam"),
    *,
    backbone: str = "small",
    weights: str | None = None,
    data: str | os.PathLike = "digit_scenes",
    recipe: Recipe | str | None = None,
    layer_options: Options | None = None,
    data_options: Options | None = None,
    seeds: int | Sequence[int] = 1,
) -> study.Study:
    """Plans to train detectors on one backbone without and with attention.

    The detector is KerasHub's RetinaNet on `feature_pyramid`. For images of
    less than 256 pixels it has the levels from P3 on whose feature maps have
    four rows and columns or more, and no layers in its heads but the last; for
    larger ones it has P3 to P7 and heads of four layers, as in its paper.
    Suppression ignores classes: of two objects that overlap by more than half,
    one is lost.

    The anchors are chosen from the training boxes of each seed. The detector
    after the last epoch is measured, once, on the test images.

    Args:
        attentions: See `comparison.plan`. Defaults to
            `("none", "se", "cbam")`.
        backbone: String, `"small"` (a ResNet of two basic blocks in each of
            three stages of 32, 64 and 128 channels); a key of
            `comparison.NETWORKS` from `"resnet18"` on; `"EfficientNetLite0"`;
            or a network of `keras.applications`, by the name of its function.
            Defaults to `"small"`.
        weights: `"imagenet"` for `"EfficientNetLite0"` (from a package) or a
            network of `keras.applications` (downloaded by Keras). Attention
            starts as the identity, unless `layer_options` or layers of your
            own say otherwise. Defaults to `None`, random weights.
        data: What `detection.load_data` takes. Defaults to
            `"digit_scenes"`.
        recipe: A `training.Recipe`, or the name of one; `augment` is that of
            `detection.load_data`. Its `frozen_epochs` are for a backbone with
            weights. Defaults to `None`, which means
            `Recipe(epochs=12, batch_size=16, learning_rate=0.002)`; with
            `weights` three of the epochs are `frozen_epochs`, since the
            backbone would forget what it knows at that rate.
        layer_options: See `comparison.plan`. Defaults to `None`.
        data_options: Mapping of further arguments of `load_data`, as
            `{"download": True}`, except those of the recipe. Defaults to
            `None`.
        seeds: See `comparison.plan`. Defaults to `1`.

    Returns:
        A `study.Study`, for `study.run` and `study.estimate`.

    Raises:
        ValueError: If an argument is out of range; see also `load_data` and
            `feature_pyramid`.
        ImportError: If a package is missing.
    """
    # The figures at the end need it: it is checked before any work.
    _checks.require("matplotlib.figure", extra="plot")
    recipe = find_recipe(recipe, default_recipe(weights))
    task = Detection(data, backbone, weights, **(data_options or {}))
    layers = comparison.attention_layers(attentions, backbone, layer_options)
    return study.Study(
        task=task,
        variants=[
            study.Variant(
                name,
                functools.partial(
                    build_detector,
                    backbone,
                    attention,
                    weights=weights,
                    is_frozen=weights is not None and recipe.frozen_epochs > 0,
                ),
                attention.options if attention else {},
                label=f"{backbone} + {name}".removesuffix(f" + {BASELINE}"),
            )
            for name, attention in layers.items()
        ],
        seeds=comparison.seeds_of(seeds, recipe),
        recipe=recipe,
        baseline=BASELINE if BASELINE in layers else None,
        settings={"model": backbone}
        | ({} if weights is None else {"weights": weights}),
        measures=MEASURES,
        kind="detect",
        finish=functools.partial(_draw, task),
    )


@_docstrings.explained_by(plan)
@_checks.former_names(images="data")
@study.takes_run_options
def compare(
    attentions: Attentions = (BASELINE, "se", "cbam"),
    *,
    backbone: str = "small",
    weights: str | None = None,
    data: str | os.PathLike = "digit_scenes",
    recipe: Recipe | str | None = None,
    layer_options: Options | None = None,
    data_options: Options | None = None,
    seeds: int | Sequence[int] = 1,
    **options: Unpack[study.RunOptions],
) -> study.Results:
    """Trains detectors on one backbone without and with attention.

    What `cbam-keras detect` runs: `study.run(plan(...), **options)`. The
    output folder gets what `study.run` writes, and what the detectors of the
    first seed find in some test images as `detections.png`. The same call
    given again resumes.

    Args:
        The arguments of `plan`, and:

        **options: `output`, `resume`, `overwrite`, `workers`, `executor` and
            `tensorboard`, as for `study.run`. `output` defaults to
            `runs/detect-<data>-<backbone>`.

    Returns:
        A `study.Results`. Its measures are `"map"` (COCO's, over
        intersections over union from 0.5 to 0.95), `"map50"` and `"map75"`,
        each with its differences in `results.compared(measure)`; `metrics` of
        its `runs` also have `"small"`, `"medium"` and `"large"`, by the size
        of objects.

    Raises:
        ValueError: If an argument is out of range, see `plan`, `study.run`.
        TypeError: If an argument is of a wrong kind, or unknown.
        ImportError: If a package is missing.
    """
    planned = plan(
        attentions,
        backbone=backbone,
        weights=weights,
        data=data,
        recipe=recipe,
        layer_options=layer_options,
        data_options=data_options,
        seeds=seeds,
    )
    return study.run(planned, **options)


def estimate(*arguments, **options) -> study.Estimate:
    """Counts what `compare` would train, by the arguments of `plan`."""
    return study.estimate(plan(*arguments, **options))


def default_recipe(weights: str | None = None) -> Recipe:
    """Returns what `recipe=None` means for a backbone with weights or not."""
    frozen = 0 if weights is None else 3
    return Recipe(
        frozen_epochs=frozen,
        epochs=12 - frozen,
        batch_size=16,
        learning_rate=2e-3,
    )


def _draw(task, results, folder):
    """Draws what the detectors of the first seed find, once."""
    seed = results.seeds[0]
    files = {o.variant: o.file for o in results.runs if o.seed == seed}
    count = len(results.variants) * len(results.seeds)
    is_interrupted = len(results.outcomes) < count
    if is_interrupted or folder.content.get("drawn") == [seed, *files]:
        return
    test = task.loaded.test
    detections = {
        name: detect_all(load_model(folder.path / file), test, IMAGES)
        for name, file in files.items()
    }
    title = f"{results.data}, {task.backbone}, seed {seed}"
    figure = plot_detections(test, detections, task.loaded.class_names, title)
    _files.write_figure(folder.path / "detections.png", figure)
    folder.add(drawn=[seed, *files])
