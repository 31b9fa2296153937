"""Assembling a network: input, body, head and weights."""

import functools
import inspect
from collections.abc import Callable
from typing import NamedTuple, ParamSpec

import keras
from keras import KerasTensor, layers

from cbam_keras import _checks
from cbam_keras.models.blocks import Kind, attach, class_for, head_dtype
from cbam_keras.models.weights import load_weights

# Sides in pixels of the default image for each stem.
STEMS = {"imagenet": 224, "small": 32, "strided": 64}


Arguments = ParamSpec("Arguments")


class OwnParts(NamedTuple):
    """What a network has of its own, besides input and head."""

    # It maps an image to the last feature map.
    body: Callable[[KerasTensor], KerasTensor]
    top_attention: Kind
    # A file, where the argument is another name of it.
    weights: str | None = None


def assembled(
    network: Callable[Arguments, OwnParts],
) -> Callable[Arguments, keras.Model]:
    """Adds input, head and weights, by the arguments of `ResNet`."""

    @functools.wraps(network)
    def build(*positional, **named):
        given = inspect.signature(network).bind(*positional, **named)
        given.apply_defaults()
        options = given.arguments
        top, pooling = options["include_top"], options["pooling"]
        _checks.one_of("stem", options["stem"], STEMS)
        _checks.one_of("pooling", pooling, (None, "avg", "max"))
        _checks.boolean("include_top", top)
        classes = _checks.positive_integer("classes", options["classes"])
        activation = options["classifier_activation"]
        if top:
            check_activation(activation, classes)
        tensor, shape = options["input_tensor"], options["input_shape"]
        image = _make_image(tensor, shape, top, options["stem"])
        own = network(*positional, **named)
        x = attach(own.body(image), own.top_attention, name="head_attention")
        x = apply_head(x, top, pooling, classes, activation)
        inputs = keras.utils.get_source_inputs(image)
        # A model of a list of one takes its input in a list.
        inputs = inputs[0] if len(inputs) == 1 else inputs
        model = keras.Model(inputs, x, name=options["name"])
        if (weights := own.weights or options["weights"]) is not None:
            load_weights(model, weights)
        return model

    build.__annotations__["return"] = keras.Model
    return _checks.named(build)


def check_activation(activation: str | Callable | None, classes: int) -> None:
    """Raises if a classifier would end in the softmax of one value."""
    if classes == 1 and activation in ("softmax", keras.activations.softmax):
        raise ValueError(
            '`classifier_activation` must be "sigmoid" or None with classes=1, '
            "a single value for two classes, since its softmax is always 1. "
            f"Received: classifier_activation={activation!r}"
        )


def _make_image(input_tensor, input_shape, include_top, stem):
    """Returns the input of the body: a new one, or `input_tensor`."""
    data_format = keras.config.image_data_format()
    channels_first = data_format == "channels_first"
    if input_tensor is not None:
        if not keras.utils.is_keras_tensor(input_tensor):
            raise TypeError(
                "`input_tensor` must be a Keras tensor. Received: "
                f"{_checks.shown(input_tensor)}"
            )
        received = tuple(input_tensor.shape[1:])
        if input_shape is not None and tuple(input_shape) != received:
            raise ValueError(
                "`input_shape` must be left out or that of `input_tensor`, "
                f"{received}, without the batch. Received: {input_shape=}"
            )
        input_shape = received
    elif input_shape is None:
        size = STEMS[stem] if include_top else None
        input_shape = (3, size, size) if channels_first else (size, size, 3)
    input_shape = tuple(input_shape)
    if (
        len(input_shape) not in (2, 3, 4)
        or input_shape[0 if channels_first else -1] is None
    ):
        raise ValueError(
            "`input_shape` must have one to three spatial axes and a known "
            f'number of channels, with data_format="{data_format}". Received: '
            f"input_shape={input_shape}"
        )
    return keras.Input(input_shape) if input_tensor is None else input_tensor


def apply_head(
    x: KerasTensor,
    include_top: bool = True,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: str | Callable | None = "softmax",
) -> KerasTensor:
    """Applies the layers after the last feature map, by those arguments."""
    if include_top or pooling is not None:
        kind = "Average" if include_top or pooling == "avg" else "Max"
        x = class_for(x, f"Global{kind}Pooling")(name="head_pool")(x)
    if not include_top:
        return x
    return layers.Dense(
        classes,
        activation=classifier_activation,
        # The authors' code takes Kaiming normal.
        kernel_initializer="he_normal",
        dtype=head_dtype(),
        name="predictions",
    )(x)
