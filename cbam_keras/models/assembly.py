"""Assembling a network: input, body, head and weights."""

import os
from collections.abc import Callable, Sequence

import keras
from keras import KerasTensor, layers

from cbam_keras import _checks
from cbam_keras.models.blocks import Kind, attach, class_for, head_dtype
from cbam_keras.models.weights import load_weights

# Sides in pixels of the default image for each stem.
STEMS = {"imagenet": 224, "small": 32, "strided": 64}


def assemble(
    body: Callable[[KerasTensor], KerasTensor],
    *,
    include_top: bool,
    weights: str | os.PathLike | None,
    input_tensor: KerasTensor | None,
    input_shape: Sequence[int | None] | None,
    pooling: str | None,
    classes: int,
    classifier_activation: str | Callable | None,
    stem: str,
    top_attention: Kind,
    name: str,
) -> keras.Model:
    """Builds a network from its body, adding the input, head and weights.

    Args:
        body: Function from the image, a symbolic tensor, to the last feature
            map. It is called after the other arguments have been checked.
        include_top, weights, input_tensor, input_shape, pooling, classes,
            classifier_activation, name: See `ResNet`.
        stem: A key of `STEMS`. The body builds it; here it decides the default
            size of the image.
        top_attention: Attention after the last feature map, or `None`.

    Returns:
        A functional `keras.Model`.
    """
    _checks.one_of("stem", stem, STEMS)
    _checks.one_of("pooling", pooling, (None, "avg", "max"))
    _checks.boolean("include_top", include_top)
    classes = _checks.positive_integer("classes", classes)
    if include_top:
        check_activation(classifier_activation, classes)
    image = _make_image(input_tensor, input_shape, include_top, stem)
    x = attach(body(image), top_attention, name="head_attention")
    x = apply_head(x, include_top, pooling, classes, classifier_activation)
    inputs = keras.utils.get_source_inputs(image)
    # A model of a list with one input would also take its data in a list.
    model = keras.Model(inputs[0] if len(inputs) == 1 else inputs, x, name=name)
    if weights is not None:
        load_weights(model, weights)
    return model


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
                "`input_shape` must be left out or equal the shape of "
                f"`input_tensor`. Received: input_shape={input_shape}, "
                f"input_tensor of shape {received} without the batch"
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
    """Applies the layers after the last feature map.

    The arguments are those of `ResNet`. A classifier always follows global
    average pooling, whatever `pooling` says.
    """
    if not include_top and pooling is None:
        return x
    if not include_top and pooling == "max":
        return class_for(x, "GlobalMaxPooling")(name="head_pool")(x)
    x = class_for(x, "GlobalAveragePooling")(name="head_pool")(x)
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
