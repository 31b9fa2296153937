"""`compare`: trains one network without attention, with SE and with CBAM.

All networks are trained under equal conditions.
"""

import functools
import inspect
import os
from collections.abc import Mapping, Sequence
from typing import Any

from cbam_keras import _checks, training
from cbam_keras._run_folder import default_output
from cbam_keras.layers import ATTENTION
from cbam_keras.models import NETWORKS
from cbam_keras.training import find_recipe, images_for

__all__ = ["NETWORKS", "compare"]


def compare(
    attentions: Sequence[str] = ("none", "se", "cbam"),
    *,
    model: str = "small",
    images: Any = "cluttered_mnist",
    recipe: training.Recipe | str | None = None,
    layer_options: Mapping[str, Any] | None = None,
    data_options: Mapping[str, Any] | None = None,
    output: str | os.PathLike | None = None,
    resume: bool = True,
    overwrite: bool = False,
    distribute: Any = False,
) -> training.Results:
    """Trains one network without and with attention, under equal conditions.

    What `cbam-keras train` runs. The same call given again resumes, or
    returns the results; see `training.train`.

    Args:
        attentions: Sequence of strings among `"none"`, `"se"`, `"cbam"`,
            `"channel"`, `"spatial"`. Defaults to `("none", "se", "cbam")`.
        model: String, `"small"` (78,000 parameters: one basic block in each
            of three stages of 16, 32 and 64 channels) or `"resnet18"`,
            `"resnet34"`, `"resnet50"`, `"resnet101"`, `"resnet152"`,
            `"wideresnet18"`, `"resnext50"`, `"resnext101"`, `"mobilenet"`.
            These have the small stem for images of up to 96 pixels. Each
            begins by scaling images from [0, 255] to [0, 1]. Defaults to
            `"small"`.
        images: What `cbam_keras.data.load` takes: the name of a dataset,
            the path of a folder, or arrays. Defaults to
            `"cluttered_mnist"`.
        recipe: A `training.Recipe`, or the name of one in
            `training.RECIPES`. Defaults to `None`, which means `Recipe()`.
        layer_options: Mapping of arguments of the attention layers, as
            `{"reduction_ratio": 8}`. Each layer gets those that it takes; one
            that no layer takes is an error. Defaults to `None`.
        data_options: Mapping of further arguments of `data.load`, as
            `{"download": True}`, except those of the recipe.
            Defaults to `None`.
        output: Path of a folder. Defaults to `None`, which means
            `runs/train-<images>-<model>`. A folder of images counts by its
            own name.
        resume: Boolean. `False` refuses a folder that holds a run. Defaults
            to `True`.
        overwrite: Boolean, whether to start again, see `training.train`.
            Defaults to `False`.
        distribute: See `training.train`. Defaults to `False`.

    Returns:
        A `training.Results`.

    Raises:
        ValueError: If an argument is out of range, see also
            `training.train` and `data.load`.
        ImportError: If a package for the data or the figure is missing.
    """
    attentions = _checks.subset("attention", attentions, ["none", *ATTENTION])
    _checks.one_of("model", model, NETWORKS)
    recipe = find_recipe(recipe)
    layer_options = dict(layer_options or {})
    made = _attention_layers(attentions, layer_options)
    # Processes connect before anything is computed.
    training.connect(distribute)
    loaded = images_for(images, recipe, data_options)
    if output is None:
        output = default_output("train", loaded.name, model)
    return training.train(
        {
            name: functools.partial(NETWORKS[model], loaded, attention)
            for name, attention in made.items()
        },
        loaded,
        recipe,
        output=output,
        resume=resume,
        overwrite=overwrite,
        settings={"model": model, "layer_options": layer_options},
        distribute=distribute,
    )


def _attention_layers(attentions, layer_options):
    """Returns the value of `attention=` for each name, with its options."""
    made, used = {}, set()
    for name in attentions:
        if name == "none":
            made[name] = None
            continue
        accepted = inspect.signature(ATTENTION[name]).parameters
        own = {
            key: layer_options[key] for key in layer_options if key in accepted
        }
        used.update(own)
        made[name] = functools.partial(ATTENTION[name], **own)
        # Raises for bad values before any work.
        made[name](name=name)
    unused = [key for key in layer_options if key not in used]
    if unused:
        raise ValueError(
            f"`{unused[0]}` must be an argument of one of the attention "
            f"layers that are compared. Received: {unused[0]}="
            f"{layer_options[unused[0]]!r}, attention={list(attentions)}"
        )
    return made
