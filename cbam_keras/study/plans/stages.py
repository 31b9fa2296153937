"""The stages of fine-tuning: which layers of a network are trained."""

import contextlib
from collections.abc import Iterator, Sequence

import keras

from cbam_keras import _graph
from cbam_keras.insertion import freeze_batch_norm
from cbam_keras.study.plans.recipes import Recipe


def trainable_parts(model: keras.Model) -> list[bool]:
    """Returns of each layer and weight of a network whether it is trainable."""
    return [part.trainable for part in _parts(model)]


def set_trainable_parts(model: keras.Model, trainable: Sequence[bool]) -> None:
    """Makes the layers and weights trainable that were so in another copy."""
    for part, value in zip(_parts(model), trainable, strict=True):
        if part.trainable != value:
            part.trainable = value


def _parts(model):
    # Layers set what is inside them, so the innermost come last.
    return [*_graph.layers_within(model), *model.weights]


@contextlib.contextmanager
def unfrozen(model: keras.Model) -> Iterator[None]:
    """Context in which all layers of a network are trainable."""
    before = trainable_parts(model)
    _unfreeze(model)
    try:
        yield
    finally:
        set_trainable_parts(model, before)


def begin_second(model: keras.Model) -> None:
    """Makes all layers trainable, except batch normalization."""
    _unfreeze(model)
    freeze_batch_norm(model)
    # The optimizer of the first stage has no state for the other variables.
    model.compiled = False


def _unfreeze(model):
    # TensorFlow's tracking skips an assignment that changes nothing, so that
    # the layers inside would stay as they are.
    model.trainable = False
    model.trainable = True


def check_stages(model: keras.Model, recipe: Recipe) -> None:
    """Raises unless the first of two stages trains a part of a network."""
    if not recipe.frozen_epochs:
        return
    trained = len(model.trainable_variables)
    with unfrozen(model):
        every = len(model.trainable_variables)
    if not 0 < trained < every:
        raise ValueError(
            "A network that is trained in two stages must have frozen layers, "
            "and others that the first stage trains. Received: frozen_epochs="
            f'{recipe.frozen_epochs}, model "{model.name}", in which {trained} '
            f"of {every} weights are trainable. Freeze the pretrained layers "
            "where it is built (backbone.trainable = False), and not the new "
            "ones; or train it in one stage (frozen_epochs=0)"
        )
