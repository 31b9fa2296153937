"""Attention put into a network that exists, its weights kept."""

import dataclasses
import math
from collections.abc import Callable, Iterable
from typing import Any

import keras

from cbam_keras import _checks, _inspection, _tables
from cbam_keras.insertion.candidates import Spots
from cbam_keras.insertion.copying import copy_with


@dataclasses.dataclass(frozen=True)
class Place:
    """A layer after which attention goes.

    Attributes:
        layer: String, the name of the layer, after the names of the models
            it is in: `"backbone/conv5_block3_3_bn"`.
        shape: Tuple, the shape of its output, `(B, H, W, C)`, `None` for
            what is unknown.
        attention: String, the name of the attention layer.
        parameters: Integer, the trainable parameters that this adds.
    """

    layer: str
    shape: tuple[int | None, ...]
    attention: str
    parameters: int


class Places(tuple[Place, ...]):
    """The places of a dry run: a tuple of `Place` that prints as a table."""

    @property
    def parameters(self) -> int:
        """Trainable parameters that all places together add."""
        return sum(place.parameters for place in self)

    def __str__(self) -> str:
        rows = [
            (place.layer, str(place.shape), f"{place.parameters:,}")
            for place in self
        ]
        return _tables.render(
            {"after": "left", "shape": "left", "added parameters": "right"},
            [rows, [(f"{len(self)} places", "", f"{self.parameters:,}")]],
        )


def insert_attention(
    model: keras.Model,
    attention: Any = "cbam",
    after: str | Iterable[str] | Callable[[Any], bool] | None = None,
    identity: bool = True,
    *,
    dry_run: bool = False,
) -> keras.Model | Places:
    """Puts attention into a trained network without losing what it learned.

    Returns a new functional model with the layers of the given one, its
    weights, and attention after the chosen layers. The given model is left
    as it is. Every layer is made anew from its configuration and keeps its
    name, data type and whether it is trainable; the values of all variables
    are carried over by name, and that all have arrived is verified. Models
    within models are changed inside. Attention layers are named after the
    layer they follow, with `_attention`, take its data format and precision,
    and can be trained even where that layer is frozen.

    With `identity=True` the new model predicts what the old one did: to the
    last bit run operation by operation, and to rounding (a few 1e-6 of the
    largest output at most) where a compiler fuses operations in another way.

    Args:
        model: Functional `keras.Model`, as those of `keras.applications`,
            KerasHub or `keras.saving.load_model`, or a `keras.Sequential`
            that is built.
        attention: `"cbam"`, `"se"`, `"channel"`, `"spatial"`; a layer class;
            a callable that takes `name=` and returns a layer; or a layer
            used as template. See `cbam_keras.layers.make_attention`. Defaults
            to `"cbam"`.
        after: Where. A regular expression, found anywhere in the name of a
            layer (`re.search`); a sequence of names; or a function that takes
            a layer and returns whether attention follows it. A string that is
            the name of a layer means that one alone. Layers within models are
            named `"backbone/conv1"`, or `"conv1"` where that is clear; those
            within other layers, as in `TimeDistributed`, can't be reached.
            Defaults to `None`: in a residual network the end of
            every residual branch, before the addition (before stochastic
            depth and layer scale, where they end it), else the last layer at
            each resolution.
        identity: Boolean, whether the new layers start out returning their
            input (`identity_init=True`). Defaults to `True`.
        dry_run: Boolean. If `True`, no model is made, and the places that
            would be used are returned. Defaults to `False`.

    Returns:
        A functional `keras.Model`, not compiled; or, with `dry_run`, a tuple
        of `Place` (`.layer`, `.shape`, `.attention`, `.parameters`) that
        prints as a table.

    Raises:
        TypeError: If `model` is no `keras.Model`, or `attention` or `after`
            is of a wrong kind.
        ValueError: If the graph of the model is not known, if `after` finds
            nothing or a layer that gives no feature map, if a name is taken,
            if the default places have attention of `cbam_keras` already,
            if a layer can't be made anew from its configuration, or if
            `identity` is asked of a layer without `identity_init`.

    Example:
        >>> old = keras.applications.MobileNetV2(
        ...     weights=None, input_shape=(32, 32, 3), classes=10
        ... )
        >>> new = insert_attention(old)
        >>> x = np.random.rand(2, 32, 32, 3)
        >>> bool(keras.ops.all(new(x) == old(x)))
        True
        >>> len(insert_attention(old, dry_run=True))
        10
    """
    _inspection.require_graph("model", model)
    _checks.boolean("identity", identity)
    _checks.boolean("dry_run", dry_run)
    if attention is None:
        raise ValueError(
            "`attention` must say what to insert. Received: attention=None"
        )
    spots = Spots(model)
    chosen = spots.default() if after is None else spots.matching(after)
    added = {
        id(spot.operation): spots.attention(spot, attention, identity)
        for spot in chosen
    }
    if dry_run:
        return Places(
            Place(spot.path, spot.shape, layer.name, _parameters(layer))
            for spot, layer in zip(chosen, added.values(), strict=True)
        )
    result = copy_with(model, added)
    _tell_what_stays_behind(model)
    return result


def _tell_what_stays_behind(model):
    if model.compiled:
        _checks.warn(
            f'Model "{model.name}" is compiled, the new model is not: its '
            "optimizer must begin anew with the new variables. Compile it, "
            "for instance with "
            "new.compile_from_config(model.get_compile_config())",
        )
    own = [
        name
        for name in ("train_step", "test_step", "predict_step", "compute_loss")
        if getattr(type(model), name) is not getattr(keras.Model, name)
    ]
    if own:
        _checks.warn(
            f'Model "{model.name}" is a {type(model).__name__} with its own '
            f"{' and '.join(own)}, the new model is a plain functional one. "
            f"Make it one of yours: {type(model).__name__}(new.inputs, "
            "new.outputs)",
        )
    if getattr(model, "preprocessor", None) is not None:
        _checks.warn(
            f'Model "{model.name}" preprocesses its input, the new model '
            "does not. Give it model.preprocessor(images), or set "
            "model.preprocessor = None beforehand if the images are "
            "preprocessed",
        )


def _parameters(layer):
    return sum(math.prod(v.shape) for v in layer.trainable_weights)
