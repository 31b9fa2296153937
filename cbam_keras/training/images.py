"""The images of a training run, loaded as its recipe says."""

import dataclasses
import inspect
import os
from collections.abc import Mapping
from typing import Any

from cbam_keras import _checks, data
from cbam_keras.training.recipe import Recipe

# Arguments of `data.load` that a recipe decides.
BY_RECIPE = ("batch_size", "seed", "augment", "image_size")


def images_for(
    images: Any,
    recipe: Recipe,
    data_options: Mapping[str, Any] | None = None,
) -> data.ImageData:
    """Returns images that networks can be trained on by a recipe.

    Args:
        images: What `data.load` takes: the name of a dataset, the path of a
            folder or arrays. Or an `ImageData`, which is returned as it is.
        recipe: `Recipe`, decides batch size, seed, augmentation and image
            size.
        data_options: Mapping of further arguments of `data.load`, or `None`.
            For images that are not loaded yet.
    """
    options = _check_data_options(data_options)
    if isinstance(images, data.ImageData):
        _check_loaded(images, data_options)
        return images
    if not isinstance(images, str | os.PathLike | tuple | list | Mapping):
        raise TypeError(
            "`images` must be the name of a dataset, the path of a folder, "
            "arrays (images, labels) or what cbam_keras.data.load returned. "
            f"Received: images={images!r}"
        )
    by_recipe = {name: getattr(recipe, name) for name in BY_RECIPE}
    return data.load(images, **by_recipe, **options)


def _check_data_options(data_options):
    """Returns them as a dictionary, or raises if `data.load` takes no such."""
    if not isinstance(data_options, Mapping | None):
        raise TypeError(
            "`data_options` must be a mapping of arguments of data.load. "
            f"Received: data_options={data_options!r}"
        )
    known = [
        name
        for name in list(inspect.signature(data.load).parameters)[1:]
        # `fit` would take boxes for sample weights.
        if name not in (*BY_RECIPE, "boxes")
    ]
    for name in data_options or {}:
        if name in BY_RECIPE:
            raise ValueError(
                f"`{name}` is an argument of the recipe. Received: "
                f"data_options={data_options!r}"
            )
        _checks.one_of("data_options", name, known)
    return dict(data_options or {})


def _check_loaded(images, data_options):
    if data_options:
        raise ValueError(
            "`data_options` must be left out for images that are loaded "
            f'already. Received: images of "{images.name}", '
            f"data_options={data_options!r}"
        )
    if images.batch_size is None:
        raise ValueError(
            "`images` must come in batches. Received: images loaded with "
            "batch_size=None"
        )
    if images.boxes:
        raise ValueError(
            "`images` must hold images and labels only. Received: images "
            "loaded with boxes=True. `fit` would take boxes for weights"
        )


def describe_recipe(recipe: Recipe, images: data.ImageData) -> dict[str, Any]:
    """Returns the recipe as it applies to these images, for the settings."""
    described = dataclasses.asdict(recipe)
    # The description of the images holds their shape.
    del described["image_size"]
    return described | {
        "batch_size": images.batch_size,
        "augment": images.augment,
    }
