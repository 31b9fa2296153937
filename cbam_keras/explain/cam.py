"""Grad-CAM and its variants: heat maps of what raises the score of a class."""

import functools
from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from cbam_keras import _checks, _graph
from cbam_keras.explain.classes import class_indices, image_index, read_model
from cbam_keras.explain.gradients import gradient_at
from cbam_keras.explain.targets import find_target


@_checks.named
def grad_cam(
    model: keras.Model,
    images: _graph.Inputs,
    class_index: int | Sequence[int] | None = None,
    layer: str | keras.Layer | None = None,
    *,
    method: str = "grad_cam",
    image_input: int | str | None = None,
    batch_size: int = 32,
) -> np.ndarray:
    """Computes heat maps: which parts of an input support a class.

    The feature maps of a layer are summed, each weighted by the gradient of the
    logit of the class, and the sum is clipped at zero.

    A softmax or sigmoid at the end of the model is left out, since it flattens
    the gradients of confident predictions. A single output unit is for two
    classes if the model ends in a sigmoid, if it is compiled with a
    classification loss, or if you give a class: its logit is that of class 1
    and, negated, that of class 0. Otherwise the unit is a regression value, and
    the map shows what raises it. The model runs in inference mode and is not
    changed.

    In segmentation, the score is the sum of the logits of the class over the
    positions where it is predicted: where its logit is the greatest or, with a
    sigmoid, positive. For regression values, it is the sum over all positions.

    Args:
        model: Functional or Sequential `keras.Model` that returns a value per
            class. These may be values at each position, `(B, H, W, classes)`.
        images: See `attention_maps`. Or signals, volumes or videos, `(B, L,
            C)`, `(B, D, H, W, C)` or `(B, T, H, W, C)`.
        class_index: Integer, the class to explain, or a sequence of `B`
            integers, one per image. It is an index of the output: of a class,
            `0` or `1` for a single output unit, or of a value, if the model is
            compiled with a regression loss. Defaults to `None`, which means the
            class with the greatest logit, or the only value.
        layer: The layer whose output is explained, or its name. In a nested
            model, the name is a path, such as `"backbone/conv5"`. Defaults to
            `None`, which means the last feature map with several channels and
            at least two positions along each axis; for segmentation, the last
            of the coarsest such maps.
        method: String, `"grad_cam"`, which weights each channel by its mean
            gradient, or `"hires_cam"`, which weights each position by its own
            gradient. Defaults to `"grad_cam"`.
        image_input: Name or index of the input with the images, for models with
            several inputs. Defaults to `None`, which means the only input of
            rank 4.
        batch_size: Positive integer, images per batch. Defaults to `32`.

    Returns:
        NumPy array `(B, H, W)` in [0, 1], linearly resized to the images. It
        is float32, and for other inputs `(B, L)`, `(B, D, H, W)` or `(B, T, H,
        W)`. The maximum of each map is 1; a video has one map. A map is 0
        everywhere if nothing in the image supports the class.

    Raises:
        ValueError: If the graph of the model is not known, if it has no feature
            map with positions, or has several outputs, if there is no such
            layer, input, class or value, or if the model does not take the
            images.
        TypeError: If `model` is not a model, or the images are not numbers.

    Example:
        >>> model = cbam_keras.models.ResNet18(
        ...     input_shape=(64, 64, 3), classes=10, stem="small"
        ... )
        >>> images = np.random.rand(2, 64, 64, 3)
        >>> cbam_keras.explain.grad_cam(model, images).shape
        (2, 64, 64)

    Reference:
        Selvaraju et al., 2017 (https://arxiv.org/abs/1610.02391);
        HiResCAM: Draelos and Carin, 2020 (https://arxiv.org/abs/2011.08891);
        regions: Vinogradova et al., 2020 (https://arxiv.org/abs/2002.11434).
    """
    _checks.one_of("method", method, ("grad_cam", "hires_cam"))
    batch_size = _checks.positive_integer("batch_size", batch_size)
    model = _graph.with_graph("model", model)
    image = image_index(model, image_input)
    inputs, graph = read_model(model, images, image)
    images = inputs[image]
    (explained,) = graph.outputs
    activation = _graph.find_head(graph, explained)
    kind = _graph.find_kind(model, activation.kind)
    count = len(images)
    axis = None
    rank = len(graph.positions or images.shape[2:]) + 2
    if len(explained.shape) == rank > 2:
        # There is a value per class at each position.
        axis = graph.channel_axis(explained)
    classes = class_indices(
        class_index, count, model, explained, axis, kind == "values"
    )
    is_single = explained.shape[axis or 1] == 1
    if kind is None and is_single and classes is None:
        kind = "values"
    target = find_target(graph, activation.logits, layer, axis is not None)
    maps: list[np.ndarray] = []
    num_flat = 0
    for start, parts in zip(
        range(0, count, batch_size),
        _graph.batches(inputs, batch_size),
        strict=True,
    ):
        batch = slice(start, start + batch_size)
        score = functools.partial(
            _class_scores,
            None if classes is None else classes[batch],
            axis or 1,
            kind,
        )
        features, gradient = _features_and_gradient(
            model, parts, score, graph, target, activation
        )
        num_flat += sum(not of_image.any() for of_image in gradient)
        if method == "grad_cam":
            # The weights of channels are the means over positions.
            places = tuple(range(1, gradient.ndim - 1))
            gradient = gradient.mean(places, keepdims=True)
        heat = np.maximum((features * gradient).sum(axis=-1), 0)
        maps.append(heat)
    if num_flat and axis is None and activation.kind is None:
        _checks.warn(
            f"The heat maps of {_checks.count(num_flat, 'image')} are all "
            "zero because the gradient of the score is zero. Outputs that are "
            "probabilities may be saturated: explain a model that ends in "
            "logits, or in a softmax or sigmoid of Keras"
        )
    # The model may have permuted the axes: they get the order of the input.
    order = 1 + np.argsort(target.input_axes)
    sizes = [images.shape[axis] for axis in sorted(target.input_axes)]
    return _resize(np.concatenate(maps).transpose(0, *order), sizes)


def _features_and_gradient(model, arrays, score, graph, target, activation):
    """Returns the target's features and their gradient, `(B, ..., C)`.

    `score` is a function of the logits that returns the scores; `activation`
    is the `Head`, which is left out.
    """
    # Gradients in float16 may underflow, so the score is scaled, as losses are
    # in training. A sum over positions has large gradients and needs no scale.
    is_half = target.tensor.dtype == "float16"
    scale = 1024.0 if is_half and len(graph.outputs[0].shape) == 2 else 1.0
    inputs = [
        ops.convert_to_tensor(array, tensor.dtype)
        for array, tensor in zip(arrays, model.inputs, strict=True)
    ]

    def run(watch):
        """Returns the scaled class score and the features it depends on."""
        steps = iter(graph.steps)
        feature_maps = []

        def call(path, operation, *args, **kwargs):
            step = next(steps)
            if step is activation.step:
                operation = functools.partial(
                    _graph.without_activation, operation
                )
            if isinstance(step.operation, keras.layers.Layer):
                kwargs["training"] = False
            outputs = operation(*args, **kwargs)
            if step is target.step:
                # What follows is computed from the watched features. A walk
                # takes a list of outputs, and this one has a single entry.
                feature_maps.append(watch(outputs))
                return feature_maps
            return outputs

        outputs = _graph.walk(model, inputs, call)
        logits = ops.cast(outputs[0], "float32")
        return ops.sum(score(logits)) * scale, feature_maps[0]

    shape = (len(arrays[0]), *target.tensor.shape[1:])
    features, gradient = gradient_at(run, shape)
    features = _with_channels_last(features, target)
    return features, _with_channels_last(gradient, target) / scale


def _with_channels_last(tensor, target):
    """Returns a tensor as a float64 array `(B, ..., C)`."""
    array = _graph.to_float32(tensor).astype("float64")
    return np.moveaxis(array, target.channel, -1)


def _class_scores(classes, axis, kind, logits):
    """Returns the logit of a class of each image, summed where it is predicted.

    `classes` are indices, one per image, or `None` for the predicted ones;
    `axis` of the logits has the classes.
    """
    logits = ops.moveaxis(logits, axis, -1)
    if logits.shape[-1] == 1 and kind != "values":
        # A single logit is that of class 1 and, negated, that of class 0.
        logits = ops.concatenate([-logits, logits], axis=-1)
    places = tuple(range(1, logits.ndim - 1))
    predicted = ops.argmax(logits, axis=-1)
    explained = predicted
    if classes is not None:
        explained = ops.expand_dims(ops.cast(classes, predicted.dtype), places)
    scores = ops.sum(logits * ops.one_hot(explained, logits.shape[-1]), axis=-1)
    if not places:
        return scores
    region = ops.equal(predicted, explained)
    if kind in ("sigmoid", "labels"):
        region = scores > 0
    elif kind == "values":
        region = ops.ones_like(scores)
    return ops.sum(scores * ops.cast(region, scores.dtype), axis=places)


def _resize(maps, size):
    """Returns heat maps `(B, ...)` of a size, each with the maximum 1."""
    for axis, length in enumerate(size, 1):
        count = maps.shape[axis]
        # Positions are resized so that their centers match, not their corners.
        places = (np.arange(length) + 0.5) * count / length - 0.5
        interpolate = functools.partial(np.interp, places, range(count))
        maps = np.apply_along_axis(interpolate, axis, maps)
    maximum = maps.max(axis=tuple(range(1, maps.ndim)), keepdims=True)
    return (maps / np.where(maximum == 0, 1, maximum)).astype("float32")
