"""The data of a training run, loaded as its recipe says."""

import dataclasses
import inspect
import os
from collections.abc import Mapping
from typing import Any

from cbam_keras import _checks, data, training
from cbam_keras.training.recipe import Recipe


def load(images, recipe, data_options=None):
    """Returns images as a recipe wants them."""
    return training.load_by_recipe(
        images, recipe, **check_data_options(data_options)
    )


def check_data_options(data_options):
    """Returns them as a dictionary; raises if a recipe holds one of them."""
    if not isinstance(data_options, (Mapping, type(None))):
        raise TypeError(
            "`data_options` must be a mapping of arguments of data.load. "
            f"Received: data_options={data_options!r}"
        )
    options = dict(data_options or {})
    held = ("batch_size", "seed", "augment", "image_size")
    known = [
        name
        for name in list(inspect.signature(data.load).parameters)[1:]
        # Boxes would be taken for sample weights.
        if name not in (*held, "boxes")
    ]
    for name in options:
        if name in held:
            raise ValueError(
                f"`{name}` is an argument of the recipe. Received: "
                f"data_options={data_options!r}"
            )
        _checks.one_of("data_options", name, known)
    return options


def load_by_recipe(
    images: Any, recipe: Recipe, **options: Any
) -> data.ImageData:
    """Returns images as a recipe wants them, but for what options say."""
    by_recipe = {
        "batch_size": recipe.batch_size,
        "seed": recipe.seed,
        "augment": recipe.augment,
        "image_size": recipe.image_size,
    }
    return data.load(images, **{**by_recipe, **options})


def as_images(
    images: str | os.PathLike | data.ImageData, recipe: Recipe
) -> data.ImageData:
    """Returns images that networks can be trained on, loaded if need be."""
    if isinstance(images, (str, os.PathLike)):
        images = load_by_recipe(images, recipe)
    elif not isinstance(images, data.ImageData):
        raise TypeError(
            "`images` must be the name of a data set or what "
            f"cbam_keras.data.load returned. Received: images={images!r}"
        )
    if images.batch_size is None:
        raise ValueError(
            "`images` must come in batches. Received: images loaded with "
            "batch_size=None"
        )
    if images.boxes:
        raise ValueError(
            "`images` must be images and labels alone. Received: images "
            "loaded with boxes=True, which would be taken for weights"
        )
    return images


def describe_recipe(recipe, images):
    """Returns the recipe as it holds for these images, for the settings."""
    described = dataclasses.asdict(recipe)
    # The data tell of their shape, whatever was asked for.
    del described["image_size"]
    return described | {
        "batch_size": images.batch_size,
        "augment": images.augment,
    }
