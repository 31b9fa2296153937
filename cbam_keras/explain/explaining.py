"""Probabilities, heat maps and attention maps of models, batch by batch."""

import collections
from collections.abc import Sequence
from typing import Any

import numpy as np

from cbam_keras import _terminal
from cbam_keras.explain.attention import attention_maps
from cbam_keras.explain.cam import grad_cam
from cbam_keras.explain.classes import class_probabilities
from cbam_keras.explain.images import (
    Examples,
    resize_heat_maps,
    to_grayscale,
)
from cbam_keras.explain.models import LoadedModel
from cbam_keras.explain.pointing import pointing_game
from cbam_keras.explain.results import ExplainResults
from cbam_keras.explain.settings import Settings

# Explains the predicted class.
PREDICTED = -1


def explain_images(
    loaded: Sequence[LoadedModel],
    examples: Examples,
    class_names: Sequence[str] | None,
    class_index: int | None,
    settings: Settings,
) -> ExplainResults:
    """Explains the predictions of models for some images.

    Args:
        loaded: The models, the first of which decides the size of figures.
        examples: The images.
        class_names: Sequence of strings, or `None`.
        class_index: The class to explain, or `None`, which means the true
            class where it is known, else the predicted one.
        settings: A `Settings`.
    """
    labels = examples.labels(class_names)
    wanted = labels
    if class_index is not None:
        wanted = np.full_like(labels, class_index)
    batches = -(-len(examples) // settings.batch_size)
    parts = collections.defaultdict(list)
    for name, arrays in _terminal.watched(
        _batch_results(loaded, examples, wanted, settings),
        batches * (1 + len(loaded)),
        "Explaining",
    ):
        parts[name].append(arrays)
    joined = {
        name: {
            key: np.concatenate([part[key] for part in own if key in part])
            for key in own[0]
        }
        for name, own in parts.items()
    }
    shown = joined.pop(None)
    return ExplainResults(
        names=examples.names,
        class_names=class_names,
        labels=labels,
        boxes=shown.get("boxes"),
        images=shown["images"],
        models=joined,
    )


def heat_maps(one: LoadedModel, images, wanted, settings: Settings) -> tuple:
    """Returns probabilities, heat maps and the classes that they explain.

    `wanted` are the classes, or `PREDICTED`.
    """
    inputs = one.prepare(images)
    common: dict[str, Any] = {
        "output": settings.head,
        "batch_size": settings.batch_size,
    }
    probabilities = class_probabilities(one.model, inputs, **common)
    explained = np.where(
        wanted == PREDICTED, probabilities.argmax(axis=1), wanted
    )
    maps = grad_cam(
        one.model,
        inputs,
        explained,
        settings.layer,
        method=settings.method,
        **common,
    )
    return probabilities, maps, explained


def _batch_results(loaded, examples, wanted, settings):
    """Yields pairs of a name and arrays for each batch.

    First `None` with the drawn images and the boxes, then the name of each
    model with its results.
    """
    first = loaded[0]
    for batch in examples.batches(settings.batch_size, first.size):
        drawn = max(0, settings.draw - batch.start)
        images = batch.images(first.size)[:drawn]
        shown = {
            "images": to_grayscale(images) if first.is_grayscale else images
        }
        boxes = batch.boxes(first.size)
        if boxes is not None:
            shown["boxes"] = boxes
        yield None, shown
        for one in loaded:
            images = batch.images(one.size)
            classes = wanted[batch.start : batch.start + len(images)]
            probabilities, maps, explained = heat_maps(
                one, images, classes, settings
            )
            arrays = _predictions(probabilities, explained)
            if boxes is not None:
                arrays["hit"], arrays["energy"] = pointing_game(
                    maps, batch.boxes(one.size)
                )
            arrays["heat_maps"] = resize_heat_maps(maps[:drawn], first.size)
            arrays["probabilities"] = probabilities[:drawn]
            if drawn and one.has_attention:
                arrays.update(_attention(one, images[:drawn], settings))
            yield one.name, arrays


def _predictions(probabilities, explained):
    rows = np.arange(len(explained))
    predicted = probabilities.argmax(axis=1)
    return {
        "explained": explained,
        "probability": probabilities[rows, explained],
        "predicted": predicted,
        "predicted_probability": probabilities[rows, predicted],
    }


def _attention(one, images, settings):
    """Returns the attention maps of a model, by layer and kind."""
    maps = attention_maps(
        one.model, one.prepare(images), batch_size=settings.batch_size
    )
    return {
        f"attention/{layer}/{kind}": array
        for layer, pair in maps.items()
        for kind, array in zip(("channel", "spatial"), pair, strict=True)
        if array is not None
    }
