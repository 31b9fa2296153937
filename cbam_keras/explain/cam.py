"""Heat maps, from feature maps and the gradient of a class score at them."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from cbam_keras import _checks, _inspection
from cbam_keras._inspection import Head, hooked
from cbam_keras.explain.classes import class_indices, read
from cbam_keras.explain.gradients import gradient_at
from cbam_keras.explain.targets import Target, find_target


def features_and_gradient(
    model: keras.Model,
    images: np.ndarray,
    chosen: Sequence[int] | None,
    target: Target,
    head: Head,
    index: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the features and the gradient at them, `(B, h, w, C)`.

    Args:
        model: `keras.Model` of one input.
        images: Array, as it takes them.
        chosen: Class of each image, or `None` for those predicted.
        target: Where the features are.
        head: What turns logits into probabilities, left out meanwhile.
        index: Which of the outputs is explained.
    """

    def run(through):
        kept = {}
        calls = itertools.count(1)

        def at_target(call, *args, **kwargs):
            features = call(*args, **kwargs)
            if tuple(features.shape[1:]) != target.shape[1:]:
                return features
            if next(calls) == target.call:
                features = kept["features"] = through(features)
            return features

        watchers: dict[Any, Callable] = {target.operation: at_target}
        if head.operation is not None:
            watchers[head.operation] = head.without
        with hooked(watchers, operations):
            outputs = model(_inspection.as_input(model, images), training=False)
        logits = ops.cast(keras.tree.flatten(outputs)[index], "float32")
        of = ops.argmax(logits, axis=-1) if chosen is None else chosen
        score = ops.sum(logits * ops.one_hot(of, logits.shape[-1]))
        return score * scale, kept["features"]

    operations = _inspection.operations(model)
    # As training in float16 does, against gradients too small for it.
    scale = 1024.0 if target.dtype == "float16" else 1.0
    features, gradient = gradient_at(run, (len(images), *target.shape[1:]))
    features, gradient = (
        _inspection.float32(features),
        _inspection.float32(gradient) / scale,
    )
    if target.data_format == "channels_first":
        features, gradient = (
            np.moveaxis(x, 1, -1) for x in (features, gradient)
        )
    return features.astype("float64"), gradient.astype("float64")


def at_size(heat: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Returns heat maps `(B, h, w)` resized, each with the maximum 1."""
    peak = heat.max(axis=(1, 2), keepdims=True)
    # Before, so that float32 holds them all, and after, as a peak may lie
    # between pixels.
    heat = heat / np.where(peak == 0, 1, peak)
    resized = ops.image.resize(
        heat[..., None].astype("float32"),
        size,
        interpolation="bilinear",
        data_format="channels_last",
    )
    heat = np.maximum(ops.convert_to_numpy(resized)[..., 0], 0)
    peak = heat.max(axis=(1, 2), keepdims=True)
    return heat / np.where(peak == 0, 1, peak)


def _grad_cam(features, gradient):
    return (features * gradient.mean(axis=(1, 2), keepdims=True)).sum(axis=-1)


def _grad_cam_plus_plus(features, gradient):
    axes = {"axis": (1, 2), "keepdims": True}
    below = 2 * gradient**2 + features.sum(**axes) * gradient**3
    alpha = gradient**2 / np.where(below == 0, 1, below)
    weights = (alpha * np.maximum(gradient, 0)).sum(**axes)
    return (features * weights).sum(axis=-1)


def _hires_cam(features, gradient):
    return (features * gradient).sum(axis=-1)


METHODS: dict[str, Callable[..., np.ndarray]] = {
    "grad_cam": _grad_cam,
    "grad_cam++": _grad_cam_plus_plus,
    "hires_cam": _hires_cam,
}


def grad_cam(
    model: keras.Model,
    images: Any,
    class_index: int | Sequence[int] | None = None,
    layer: str | keras.layers.Layer | None = None,
    *,
    method: str = "grad_cam",
    output: int | str | None = None,
    batch_size: int = 32,
) -> np.ndarray:
    """Shows which parts of images speak for a class.

    The feature maps of a layer are added up, each weighed by what the score
    of the class gains from it; what speaks against the class is cut off at
    zero. The score is the logit: a softmax or sigmoid that ends the model is
    left out while this computes, since it flattens gradients of classes that
    are certain. A model that ends in anything else is taken to give logits.
    It runs as in inference, and is the same afterwards.

    Args:
        model: Functional or Sequential `keras.Model` of one input, images,
            that gives a value per class; with models within, or in mixed
            precision, too.
        images: Array or tensor `(B, H, W, C)`, or `(B, C, H, W)` if the model
            takes that, as the model takes them: preprocessed, unless it does
            that itself.
        class_index: Integer, the class to explain, or a sequence of `B` of
            them: the place of its value in the output, so that of a single
            unit it is 0. Defaults to `None`, which means the class with the
            greatest value for each image.
        layer: Name of the layer whose output is looked at, `"backbone/conv5"`
            in a model within, or the layer. Defaults to `None`, which means
            the last feature map: of several channels, and at least 2 x 2.
        method: String. `"grad_cam"` weighs each channel by the mean of its
            gradient, `"grad_cam++"` by the mean of the positive parts with
            weights of the second order, for several objects of a class, and
            `"hires_cam"` weighs each position by its own gradient. Defaults
            to `"grad_cam"`.
        output: Name, key or index of the output to explain, for models with
            several; in dictionaries the index is that of the sorted keys.
            Defaults to `None`, which means the only one.
        batch_size: Positive integer, how many images are computed at a time.
            Defaults to `32`.

    Returns:
        NumPy array `(B, H, W)`, float32, of the size of the images, resized
        bilinearly; each in [0, 1], with the maximum 1, or all 0 where
        nothing speaks for the class.

    Raises:
        ValueError: If the model is no graph of one input or has no feature
            map with positions, if there is no such layer, output or class, if
            the layer does not lead to the output, or if the images are not of
            the shape or range that the model takes.
        TypeError: If the images are no numbers, or `layer` is of a wrong
            kind.

    Example:
        >>> model = cbam_keras.models.ResNet18(
        ...     input_shape=(32, 32, 3), classes=10, attention="cbam"
        ... )
        >>> heat_maps = grad_cam(model, np.random.rand(2, 32, 32, 3))
        >>> heat_maps.shape
        (2, 32, 32)

    Reference:
        Selvaraju et al., 2017 (https://arxiv.org/abs/1610.02391);
        Chattopadhyay et al., 2018 (https://arxiv.org/abs/1710.11063), for
        Grad-CAM++; Draelos and Carin, 2020
        (https://arxiv.org/abs/2011.08891), for HiResCAM.
    """
    combine = METHODS[_checks.one_of("method", method, METHODS)]
    batch_size = _checks.positive_integer("batch_size", batch_size)
    images, steps, result, index = read(model, images, output)
    chosen = class_indices(class_index, len(images), result.shape[1])
    target = find_target(steps, result, layer)
    head = _inspection.find_head(steps, result)
    found = []
    for start in range(0, len(images), batch_size):
        part = slice(start, start + batch_size)
        features, gradient = features_and_gradient(
            model,
            images[part],
            None if chosen is None else chosen[part],
            target,
            head,
            index,
        )
        found.append(np.maximum(combine(features, gradient), 0))
    first = _inspection.input_format(model) == "channels_first"
    return at_size(
        np.concatenate(found), images.shape[2:] if first else images.shape[1:3]
    )
