"""Grad-CAM and its variants.

They give heat maps of the regions that raise the score of a class.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from cbam_keras import _checks, _inspection
from cbam_keras.explain.classes import class_indices, read_model
from cbam_keras.explain.gradients import gradient_at
from cbam_keras.explain.targets import find_target


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

    The feature maps of a layer are summed, each weighted by the gradient of
    the class score with respect to it, and the sum is clipped at zero. The
    score is the logit: a softmax or sigmoid at the end of the model is left
    out, since it flattens the gradients of confident predictions. A model
    that ends in anything else is assumed to return logits. It runs in
    inference mode and is not changed.

    Args:
        model: Functional or Sequential `keras.Model` with one input, images,
            that returns a value per class. It may have nested models and use
            mixed precision.
        images: Array or tensor `(B, H, W, C)`, or `(B, C, H, W)` if the model
            takes that, as the model takes them: preprocessed, unless it does
            that itself.
        class_index: Integer, the index in the output of the class to explain,
            or a sequence of `B` of them; `0` for a single output unit.
            Defaults to `None`, which means the class with the greatest value
            for each image.
        layer: Name of the layer whose output is explained, in a nested model
            with its path, `"backbone/conv5"`, or the layer. Defaults to
            `None`, which means the last feature map with several channels
            that is at least 2 x 2.
        method: String. `"grad_cam"` weights each channel by its mean
            gradient; `"grad_cam++"` by a weighted mean of its positive
            gradients, for several objects of a class; `"hires_cam"` weights
            each position by its own gradient. Defaults to `"grad_cam"`.
        output: Name, key or index of the output to explain, for models with
            several; in dictionaries the index is that of the sorted keys.
            Defaults to `None`, which means the only one.
        batch_size: Positive integer, images per batch. Defaults to `32`.

    Returns:
        NumPy array `(B, H, W)`, float32, resized bilinearly to the size of
        the images; each map in [0, 1] with the maximum 1, or all 0 where
        nothing speaks for the class.

    Raises:
        ValueError: If the model has no graph, several inputs or no feature
            map with positions, if there is no such layer, output or class, if
            the layer does not lead to the output, or if the images are not of
            the shape or range that the model takes.
        TypeError: If the images are not numbers, or `layer` is of a wrong
            type.

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
    images, steps, output_tensor, output_index = read_model(
        model, images, output
    )
    classes = class_indices(class_index, len(images), output_tensor.shape[1])
    target = find_target(steps, output_tensor, layer)
    head = _inspection.find_head(steps, output_tensor)
    maps = []
    for start in range(0, len(images), batch_size):
        batch = slice(start, start + batch_size)
        features, gradient = _features_and_gradient(
            model,
            images[batch],
            None if classes is None else classes[batch],
            target,
            head,
            output_index,
        )
        maps.append(np.maximum(combine(features, gradient), 0))
    first = _inspection.input_format(model) == "channels_first"
    size = images.shape[2:] if first else images.shape[1:3]
    return _resize(np.concatenate(maps), size)


def _features_and_gradient(model, images, classes, target, head, output_index):
    """Returns the target's features and their gradient, `(B, h, w, C)`.

    Args:
        model: `keras.Model` of one input.
        images: Array, as it takes them.
        classes: Class of each image, or `None` for those predicted.
        target: `Target`, the feature map.
        head: `Head`, which is left out.
        output_index: Which of the flat outputs is explained.
    """
    operations = _inspection.operations(model)
    # Scaled as in training with float16, whose gradients may underflow.
    scale = 1024.0 if target.dtype == "float16" else 1.0

    def run(watch):
        """Returns the scaled class score and the features it depends on."""
        kept = {}
        calls = itertools.count(1)

        def keep_features(call, *args, **kwargs):
            features = call(*args, **kwargs)
            if tuple(features.shape[1:]) != target.shape[1:]:
                return features
            if next(calls) == target.call:
                features = kept["features"] = watch(features)
            return features

        hooks: dict[Any, Callable] = {target.operation: keep_features}
        if head.operation is not None:
            hooks[head.operation] = head.without
        with _inspection.hooked(hooks, operations):
            outputs = model(_inspection.as_input(model, images), training=False)
        logits = ops.cast(keras.tree.flatten(outputs)[output_index], "float32")
        chosen = ops.argmax(logits, axis=-1) if classes is None else classes
        score = ops.sum(logits * ops.one_hot(chosen, logits.shape[-1]))
        return score * scale, kept["features"]

    features, gradient = (
        _inspection.to_float32(tensor).astype("float64")
        for tensor in gradient_at(run, (len(images), *target.shape[1:]))
    )
    if target.data_format == "channels_first":
        features = np.moveaxis(features, 1, -1)
        gradient = np.moveaxis(gradient, 1, -1)
    return features, gradient / scale


def _grad_cam(features, gradient):
    return (features * gradient.mean(axis=(1, 2), keepdims=True)).sum(axis=-1)


def _grad_cam_plus_plus(features, gradient):
    positions: dict[str, Any] = {"axis": (1, 2), "keepdims": True}
    # The score is the exponential of the logit, as in the paper, so that its
    # higher derivatives are powers of the gradient.
    divisor = 2 * gradient**2 + features.sum(**positions) * gradient**3
    alpha = gradient**2 / np.where(divisor == 0, 1, divisor)
    weights = (alpha * np.maximum(gradient, 0)).sum(**positions)
    return (features * weights).sum(axis=-1)


def _hires_cam(features, gradient):
    return (features * gradient).sum(axis=-1)


# Each combines features and gradient, `(B, h, w, C)`, into maps `(B, h, w)`.
METHODS: dict[str, Callable[..., np.ndarray]] = {
    "grad_cam": _grad_cam,
    "grad_cam++": _grad_cam_plus_plus,
    "hires_cam": _hires_cam,
}


def _resize(maps, size):
    """Returns heat maps `(B, h, w)` resized, each with the maximum 1."""
    resized = ops.image.resize(
        # Divided before, since float32 may not hold the values.
        _divide_by_maximum(maps)[..., None].astype("float32"),
        size,
        interpolation="bilinear",
        data_format="channels_last",
    )
    # And after, since resizing may miss the maximum.
    return _divide_by_maximum(
        np.maximum(ops.convert_to_numpy(resized)[..., 0], 0)
    )


def _divide_by_maximum(maps):
    maximum = maps.max(axis=(1, 2), keepdims=True)
    return maps / np.where(maximum == 0, 1, maximum)
