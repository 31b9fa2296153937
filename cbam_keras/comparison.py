"""One network without and with attention, under equal conditions."""

import functools
import inspect
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
from keras import layers

from cbam_keras import _checks, data, models, training
from cbam_keras.layers.factory import ATTENTION


def compare(
    attentions: Sequence[str] = ("none", "se", "cbam"),
    *,
    model: str = "small",
    images: str = "cluttered_mnist",
    recipe: training.Recipe | None = None,
    layer_options: Mapping[str, Any] | None = None,
    output: str | os.PathLike | None = None,
    resume: bool = False,
) -> training.Results:
    """Trains one network without and with attention, under equal conditions.

    What `cbam-keras train` runs.

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
        images: Name for `cbam_keras.data.load`. Defaults to
            `"cluttered_mnist"`.
        recipe: A `training.Recipe`. Defaults to `None`, which means
            `Recipe()`.
        layer_options: Mapping of arguments of the attention layers, as
            `{"reduction_ratio": 8}`. Each layer gets those that it takes; one
            that no layer takes is an error. Defaults to `None`.
        output: Path of a folder. Defaults to `None`, which means
            `runs/<images>-<model>`.
        resume: See `training.train`. Defaults to `False`.

    Returns:
        A `training.Results`.

    Raises:
        ValueError: If an argument is out of range, see also
            `training.train`.
        ImportError: If a package for the data or the figure is missing.
    """
    attentions = _checks.subset("attention", attentions, ["none", *ATTENTION])
    _checks.one_of("model", model, NETWORKS)
    _checks.one_of("images", images, data.EMBEDDED)
    recipe = training.Recipe() if recipe is None else recipe
    layer_options = dict(layer_options or {})
    made = _attention_layers(attentions, layer_options)
    if output is None:
        output = pathlib.Path("runs") / f"{images}-{model}"
    loaded = data.load(images, batch_size=recipe.batch_size, seed=recipe.seed)
    return training.train(
        {
            name: functools.partial(NETWORKS[model], loaded, attention)
            for name, attention in made.items()
        },
        loaded,
        recipe,
        output=output,
        resume=resume,
        settings={"model": model, "layer_options": layer_options},
    )


def _small(images, attention):
    return _network(
        functools.partial(
            models.ResNet,
            (1, 1, 1),
            block="basic",
            widths=(16, 32, 64),
            stem_width=16,
        ),
        images,
        attention,
    )


def _network(build, images, attention):
    """Returns a network for images in [0, 255]."""
    inputs = keras.Input(images.image_shape, name="images")
    large = max(images.image_shape) > 96
    return build(
        input_tensor=layers.Rescaling(1 / 255, name="rescale")(inputs),
        classes=len(images.class_names),
        attention=attention,
        stem="imagenet" if large else "small",
    )


NETWORKS: dict[str, Callable[..., keras.Model]] = {
    "small": _small,
    **{
        build.__name__.lower(): functools.partial(_network, build)
        for build in (
            models.ResNet18,
            models.ResNet34,
            models.ResNet50,
            models.ResNet101,
            models.ResNet152,
            models.WideResNet18,
            models.ResNeXt50,
            models.ResNeXt101,
            models.MobileNet,
        )
    },
}


def _attention_layers(attentions, layer_options):
    """Returns what `attention=` takes, by name, with the options given."""
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
        # Bad values are told before any work is done.
        made[name](name=name)
    unused = [key for key in layer_options if key not in used]
    if unused:
        raise ValueError(
            f"`{unused[0]}` must be an argument of one of the attention "
            f"layers that are compared. Received: {unused[0]}="
            f"{layer_options[unused[0]]!r}, attention={list(attentions)}"
        )
    return made
