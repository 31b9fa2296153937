"""Heat maps, from feature maps and the gradient of a class score at them."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from cbam_keras import _gradients, _inspection
from cbam_keras._inspection import Head, watching
from cbam_keras._targets import Target


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
        with watching(watchers, operations):
            outputs = model(_inspection.as_input(model, images), training=False)
        logits = ops.cast(keras.tree.flatten(outputs)[index], "float32")
        of = ops.argmax(logits, axis=-1) if chosen is None else chosen
        score = ops.sum(logits * ops.one_hot(of, logits.shape[-1]))
        return score * scale, kept["features"]

    operations = _inspection.operations(model)
    # As training in float16 does, against gradients too small for it.
    scale = 1024.0 if target.dtype == "float16" else 1.0
    features, gradient = _gradients.at(run, (len(images), *target.shape[1:]))
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
