"""The stages of fine-tuning: which layers of a network are trained."""

import contextlib
import fnmatch
import math
from collections.abc import Iterator

import keras

from cbam_keras import _checks, _graph
from cbam_keras.insertion import freeze_batch_norm
from cbam_keras.study.plans.recipes import Recipe


@contextlib.contextmanager
def unfrozen(model: keras.Model) -> Iterator[None]:
    """Context in which all layers of a network are trainable."""
    # Layers set what is inside them, so the innermost come last.
    parts = [*_graph.layers_within(model), *model.weights]
    before = [part.trainable for part in parts]
    _unfreeze(model)
    try:
        yield
    finally:
        for part, value in zip(parts, before, strict=True):
            if part.trainable != value:
                part.trainable = value


def begin_second(
    model: keras.Model, unfreeze: int | float | str | None = None
) -> None:
    """Makes layers trainable that a recipe unfreezes for its second stage."""
    layers = _layers_in_order(model)
    new = {layer for layer in layers if layer.trainable_variables}
    _unfreeze(model)
    for layer in layers[: _first_unfrozen(layers, unfreeze)]:
        if layer not in new:
            layer.trainable = False
    freeze_batch_norm(model)
    # The optimizer of the first stage has no state for the other variables.
    model.compiled = False


def _layers_in_order(model):
    """Returns the layers of a model, a model inside by its own."""
    layers = []
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            layers += _layers_in_order(layer)
        elif not isinstance(layer, keras.layers.InputLayer):
            layers.append(layer)
    return layers


def _first_unfrozen(layers, unfreeze):
    """Returns the index of the first layer that the second stage trains."""
    if unfreeze is None:
        return 0
    if isinstance(unfreeze, float):
        unfreeze = math.ceil(unfreeze * len(layers))
    if not isinstance(unfreeze, str):
        return max(0, len(layers) - unfreeze)
    names = [layer.name for layer in layers]
    for index, name in enumerate(names):
        if fnmatch.fnmatchcase(name, unfreeze):
            return index
    raise ValueError(
        "`unfreeze` must be the name of a layer, a pattern, or a number of "
        f"layers from the end. Received: unfreeze={unfreeze!r}, which none of "
        f"{_checks.first_few(names)} matches"
    )


def _unfreeze(model):
    model.trainable = False
    model.trainable = True


def check_frozen(model: keras.Model, recipe: Recipe) -> None:
    """Raises unless what begins frozen trains a part of a network."""
    if not recipe.starts_frozen:
        return
    _first_unfrozen(_layers_in_order(model), recipe.unfreeze)
    trained = len(model.trainable_variables)
    with unfrozen(model):
        every = len(model.trainable_variables)
    if not 0 < trained < every:
        raise ValueError(
            "A network trained with frozen layers must have frozen and "
            f"trainable ones. Received: frozen_epochs={recipe.frozen_epochs}, "
            f'frozen={recipe.frozen}, model "{model.name}", in which {trained} '
            f"of {every} weights are trainable. Freeze only the pretrained "
            "layers where it is built (backbone.trainable = False), or train "
            "in one stage (frozen_epochs=0, frozen=False)"
        )
