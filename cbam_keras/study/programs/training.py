"""Training by recipe, resumable after a crash."""

import functools
import os
from collections.abc import Callable, Mapping
from concurrent.futures import Executor

import keras

from cbam_keras import _checks, data
from cbam_keras.study.files.folder import StudyFolder
from cbam_keras.study.files.options import CallbackMakers
from cbam_keras.study.plans import recipes
from cbam_keras.study.plans.networks import fingerprint
from cbam_keras.study.plans.recipes import RECIPES, Recipe
from cbam_keras.study.plans.study import Study, Variant
from cbam_keras.study.plans.tasks import Classification
from cbam_keras.study.results.figures.curves import draw_curves
from cbam_keras.study.results.results import Results
from cbam_keras.study.running.run import run

__all__ = ["train", "Recipe", "RECIPES"]


@_checks.named_with(recipes.find_place_of_loaded)
def train(
    networks: keras.Model | Mapping[str, Callable[[], keras.Model]],
    data: data.Images = "crowded_mnist",
    recipe: Recipe | str | None = None,
    *,
    output: str | os.PathLike | None = None,
    resume: bool = True,
    overwrite: bool = False,
    workers: int = 1,
    executor: Executor | None = None,
    callbacks: CallbackMakers = (),
) -> Results:
    """Trains one or several classifiers with the same data and recipe.

    The same call resumes an interrupted run, or trains only what is missing.

    The output folder gets the files of `study.run`, and `curves.png`.

    Args:
        networks: A `keras.Model` that returns a value per class, or a single
            one for two classes; or a mapping of names to functions without
            arguments that build one, called with the recipe's seed. A model is
            trained in place unless a checkpoint is resumed or workers train it.
            Outputs without a final softmax or sigmoid are logits.
        data: Anything that `cbam_keras.data.load` accepts, or its result. The
            recipe sets batch size, seed, augmentation and image size, except of
            loaded data. Defaults to `"crowded_mnist"`.
        recipe: A `training.Recipe`, or the name of one in `training.RECIPES`.
            Defaults to `None`, which means `Recipe()`, with at least 200 steps
            except for the embedded digits.
        output: Path of a folder that is new, empty, or holds this run.
            Defaults to `None`, which means `runs/train-<data>`.
        resume, overwrite, workers, executor, callbacks: See `compare`.

    Returns:
        A `study.Results`.

    Raises:
        ValueError: If an argument is out of range; see also `study.run`.
        TypeError: If an argument is of a wrong kind, or unknown.
        ImportError: If a package for the data or the figure is missing.

    Example:
        >>> model = cbam_keras.models.ResNet(
        ...     (1,), block="basic", widths=(4,), stem_width=4, stem="small",
        ...     input_shape=(28, 28, 1), classes=10, attention="cbam",
        ... )
        >>> results = train(
        ...     model, "mnist5k", Recipe(epochs=1, batch_size=400),
        ...     output=folder,
        ... )  # doctest: +ELLIPSIS
        3,600 images of 10 classes (0, 1, 2, ...) in train, 400 in ...
        ...
        >>> sorted(path.name for path in folder.glob("resnet*"))
        ['resnet-seed0']
    """
    recipe = recipes.find_recipe(recipe, recipes.suit_to(data))
    recipes.check_single_rate(recipe, "training.train")
    settings = {}
    if isinstance(networks, keras.Model):
        settings["layers"] = fingerprint(networks)
        model = networks
        networks = {model.name: lambda: model}
    if not isinstance(networks, Mapping) or not all(
        isinstance(name, str) and callable(build)
        for name, build in networks.items()
    ):
        raise TypeError(
            "`networks` must be a keras.Model or a mapping of names to "
            f"functions that build one. Received: {_checks.shown(networks)}"
            f"{_checks.next_step('networks', networks)}"
        )
    # The figures at the end need it: it is checked before any work.
    _checks.require("matplotlib.figure", extra="plot")
    return run(
        Study(
            task=Classification(data),
            variants=[
                Variant(name, functools.partial(_build, build))
                for name, build in networks.items()
            ],
            seeds=(recipe.seed,),
            recipe=recipe,
            settings=settings,
            kind="train",
            finish=finish,
        ),
        output,
        resume=resume,
        overwrite=overwrite,
        workers=workers,
        executor=executor,
        callbacks=callbacks,
    )


def finish(results: Results, folder: StudyFolder) -> None:
    """Ends a study: with the history of its networks, and what it found."""
    draw_curves(results)
    folder.add({"verdict": results.verdict})


def _build(build, data):
    return build()
