"""`compare`: one network without and with attention, trained alike."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from cbam_keras import training
from cbam_keras.comparison.plan import Plan
from cbam_keras.comparison.results import Comparison


def compare(
    attentions: Sequence[str] = ("none", "se", "cbam"),
    *,
    model: str = "tiny",
    images: Any = "crowded_mnist",
    recipe: training.Recipe | str | None = None,
    layer_options: Mapping[str, Any] | None = None,
    data_options: Mapping[str, Any] | None = None,
    seeds: int | Sequence[int] = 1,
    output: str | os.PathLike | None = None,
    resume: bool = True,
    overwrite: bool = False,
    distribute: Any = False,
    tensorboard: bool = False,
) -> Comparison:
    """Trains one network without and with attention, under equal conditions.

    What `cbam-keras train` runs. The same call given again resumes, or
    returns the results; see `training.train`.

    The attention layers start as the identity (`identity_init=True`), and the
    spatial gate is normalized (`spatial_batch_norm=True`), which helps
    networks that are too small for their task; the layers' own default is the
    paper's.

    With several seeds the output folder gets a folder `seed-<seed>` each, of
    what one run writes, and `results.json` gets the rows and the verdict. The
    same call with more seeds trains what is missing.

    Args:
        attentions: Sequence of strings among `"none"`, `"se"`, `"cbam"`,
            `"channel"`, `"spatial"`. Defaults to `("none", "se", "cbam")`.
        model: String, `"tiny"` (20,000 parameters: a stem with stride 2 and
            one basic block in each of three stages of 8, 16 and 32 channels),
            `"small"` (78,000 parameters: stages of 16, 32 and 64 channels) or
            `"resnet18"`, `"resnet34"`, `"resnet50"`, `"resnet101"`,
            `"resnet152"`, `"wideresnet18"`, `"resnext50"`, `"resnext101"`,
            `"mobilenet"`. For images of up to 96 pixels these have the small
            stem. Each begins by scaling images from [0, 255] to [0, 1].
            Defaults to `"tiny"`.
        images: What `cbam_keras.data.load` takes: the name of a dataset,
            the path of a folder, or arrays; for one seed also what it
            returned. Defaults to `"crowded_mnist"`.
        recipe: A `training.Recipe`, or the name of one in
            `training.RECIPES`. Several seeds replace its seed. Defaults to
            `None`, which means `Recipe(epochs=2, batch_size=64)`, with a
            learning rate of 0.03 for the model `"tiny"`.
        layer_options: Mapping of arguments of the attention layers, as
            `{"reduction_ratio": 8}`. Each layer gets those that it takes; one
            that no layer takes is an error. Defaults to `None`. Not given,
            `identity_init` is `True`, with `spatial_batch_norm=True` for
            `"cbam"` and `batch_norm=True` for `"spatial"`, and
            `reduction_ratio` is 4 for the model `"tiny"`, whose layers have
            few channels.
        data_options: Mapping of further arguments of `data.load`, as
            `{"download": True}`, except those of the recipe.
            Defaults to `None`.
        seeds: Positive integer, how many seeds, from 0; or a sequence of
            different seeds. One seed is that of the recipe. Defaults to `1`.
        output: Path of a folder. Defaults to `None`, which means
            `runs/train-<images>-<model>`, and the same with `-seeds` for
            several. A folder of images counts by its own name.
        resume: Boolean. `False` refuses a folder that holds a run. Defaults
            to `True`.
        overwrite: Boolean, whether to start again, see `training.train`.
            Defaults to `False`.
        distribute: See `training.train`; a `Distribution` takes one seed.
            Defaults to `False`.
        tensorboard: See `training.train`. Defaults to `False`.

    Returns:
        A `Comparison`.

    Raises:
        ValueError: If an argument is out of range, see also
            `training.train` and `data.load`.
        TypeError: If `images` are loaded already and there are several seeds.
        ImportError: If a package for the data, the figure, or the intervals
            of several seeds (SciPy) is missing.
    """
    plan = Plan.of(
        attentions,
        model,
        images,
        recipe,
        layer_options,
        data_options,
        seeds,
        distribute,
    )
    run = {
        "output": plan.default_output() if output is None else output,
        "overwrite": overwrite,
        "resume": resume,
        "distribute": distribute,
        "tensorboard": tensorboard,
        "settings": {"model": model, "layer_options": plan.layer_options},
    }
    if len(plan.seeds) == 1:
        results = training.train(plan.networks, plan.images, plan.recipe, **run)
        return plan.comparison({plan.seeds[0]: results}, results.output)
    ends = training.train_over_seeds(
        plan.networks,
        images,
        plan.recipe,
        seeds=plan.seeds,
        data_options=data_options,
        loaded=plan.images,
        summarize=plan.summary,
        **run,
    )
    return plan.comparison(ends, ends[plan.seeds[0]].output.parent)


def estimate(
    attentions: Sequence[str] = ("none", "se", "cbam"),
    *,
    model: str = "tiny",
    images: Any = "crowded_mnist",
    recipe: training.Recipe | str | None = None,
    layer_options: Mapping[str, Any] | None = None,
    data_options: Mapping[str, Any] | None = None,
    seeds: int | Sequence[int] = 1,
) -> training.Estimate:
    """Estimates how long `compare` takes on one device; writes nothing."""
    plan = Plan.of(
        attentions, model, images, recipe, layer_options, data_options, seeds
    )
    return training.estimate(
        plan.networks, plan.images, plan.recipe, times=len(plan.seeds)
    )
