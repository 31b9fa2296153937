"""Heat maps, from feature maps and the gradient of a class score at them."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from cbam_keras import _checks, _inspection
from cbam_keras._inspection import Head, watching
from cbam_keras.explain.gradients import at
from cbam_keras.explain.targets import Target, find


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
    features, gradient = at(run, (len(images), *target.shape[1:]))
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

__all__ = [
    "METHODS",
    "attention_maps",
    "class_probabilities",
    "grad_cam",
    "pointing_game",
]


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
    images, steps, result, index = _read(model, images, output)
    chosen = _class_indices(class_index, len(images), result.shape[1])
    target = find(steps, result, layer)
    head = _inspection.find(steps, result)
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


def class_probabilities(
    model: keras.Model,
    images: Any,
    *,
    output: int | str | None = None,
    batch_size: int = 32,
) -> np.ndarray:
    """Returns how probable a classifier thinks each class.

    Args:
        model: See `grad_cam`.
        images: See `grad_cam`.
        output: See `grad_cam`. Defaults to `None`.
        batch_size: See `grad_cam`. Defaults to `32`.

    Returns:
        NumPy array `(B, classes)`, float32: what the model gives where it
        ends in a softmax or sigmoid, or where that is from 0 and sums to 1
        for all images; the softmax of its logits otherwise, or of a single
        logit the sigmoid.

    Raises:
        ValueError: As `grad_cam`, of model, images and output.
        TypeError: If the images are no numbers.

    Example:
        >>> model = cbam_keras.models.ResNet18(
        ...     input_shape=(32, 32, 3), classes=10, classifier_activation=None
        ... )
        >>> images = np.random.rand(2, 32, 32, 3)
        >>> class_probabilities(model, images).shape
        (2, 10)
    """
    batch_size = _checks.positive_integer("batch_size", batch_size)
    images, steps, result, index = _read(model, images, output)
    head = _inspection.find(steps, result)
    found = []
    for start in range(0, len(images), batch_size):
        outputs = _inspection.run(model, images[start : start + batch_size])
        found.append(_inspection.float32(keras.tree.flatten(outputs)[index]))
    values = np.concatenate(found)
    if head.kind is not None or _inspection.looks_like_probabilities(values):
        return values
    if values.shape[1] == 1:
        return np.exp(-np.logaddexp(0, -values))
    powers = np.exp(values - values.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def attention_maps(
    model: keras.Model, images: Any, *, batch_size: int = 32
) -> dict[str, tuple[np.ndarray | None, np.ndarray | None]]:
    """Returns the attention of every gate of a model to some images.

    Each image goes through the model once, as in inference. The layers are
    found wherever they are: in models within, in layers of your own, in
    subclassed models.

    Args:
        model: `keras.Model` with `CBAM`, `ChannelAttention`,
            `SqueezeExcite` or `SpatialAttention` layers.
        images: Array or tensor `(B, H, W, C)`, as the model takes them.
        batch_size: Positive integer, how many images are computed at a time.
            Defaults to `32`.

    Returns:
        Dictionary, in the order in which the layers run, of the name of each
        to a tuple of its channel map, a NumPy array `(B, C)`, and its spatial
        map, `(B, h, w)` at the size of the features; `None` where it has no
        such gate. Values are in (0, 1), or (0, 2) of layers that were made
        with `identity_init`. Where several layers have one name, as in two
        models within, the names are those of the models too
        (`"backbone/cbam"`). Where one layer is called several times, its
        further calls are `"cbam#2"` and so on.

    Raises:
        ValueError: If the model has no attention layers, or if the images
            are not of the shape or range that it takes.
        TypeError: If `model` is no `keras.Model`, or the images are no
            numbers.

    Example:
        >>> model = cbam_keras.models.ResNet18(
        ...     input_shape=(32, 32, 3), classes=10, attention="cbam"
        ... )
        >>> maps = attention_maps(model, np.random.rand(2, 32, 32, 3))
        >>> channel_map, spatial_map = maps["stage4_block2_attention"]
        >>> channel_map.shape, spatial_map.shape
        ((2, 512), (2, 1, 1))
    """
    batch_size = _checks.positive_integer("batch_size", batch_size)
    _inspection.require_model(model)
    images = _inspection.check(images, model)
    if not model.built:
        # Layers that a layer makes when it is built are not there before.
        _inspection.run(model, images[:1])
    names = _inspection.gates(model)
    parts = [
        _inspection.record(model, images[start : start + batch_size], names)
        for start in range(0, len(images), batch_size)
    ]
    return {
        name: (
            _joined([part[name][0] for part in parts]),
            _joined([part[name][1] for part in parts]),
        )
        for name in parts[0]
    }


def pointing_game(heat_maps: Any, boxes: Any) -> tuple[np.ndarray, np.ndarray]:
    """Tells whether heat lies on the object, given a box around it.

    Args:
        heat_maps: Array `(B, H, W)` of numbers from 0, as of `grad_cam`.
        boxes: Array `(B, 4)` of integers: `y_min, x_min, y_max, x_max` in
            pixels, the maxima exclusive, as of `data.load(..., boxes=True)`.

    Returns:
        Tuple of two NumPy arrays: `(B,)` booleans, whether the hottest pixel
        lies in the box (of several equally hot, the first), and `(B,)`
        floats in [0, 1], which part of all heat does. Maps that are all 0
        count as missed, with no heat in the box.

    Raises:
        ValueError: If the shapes do not belong together, if there is heat
            below 0 or not finite, or if a box is empty or leaves the image.

    Example:
        >>> heat = np.zeros((1, 4, 4))
        >>> heat[0, 1, 2] = 1.0
        >>> pointing_game(heat, [[0, 2, 2, 4]])
        (array([ True]), array([1.]))

    Reference:
        Zhang et al., 2016 (https://arxiv.org/abs/1608.00507), for the
        pointing game; Wang et al., 2020 (https://arxiv.org/abs/1910.01279),
        for the part of the heat.
    """
    heat, boxes = np.asarray(heat_maps, "float64"), np.asarray(boxes)
    if heat.ndim != 3 or 0 in heat.shape:
        raise ValueError(
            "`heat_maps` must be of shape (B, H, W). Received: "
            f"heat_maps.shape={heat.shape}"
        )
    if not np.isfinite(heat).all() or heat.min() < 0:
        raise ValueError(
            "`heat_maps` must be finite and from 0. Received: numbers from "
            f"{heat.min()} to {heat.max()}"
        )
    if boxes.shape != (len(heat), 4):
        raise ValueError(
            f"`boxes` must be of shape ({len(heat)}, 4), a box per heat map. "
            f"Received: boxes.shape={boxes.shape}"
        )
    height, width = heat.shape[1:]
    y_min, x_min, y_max, x_max = boxes.T
    fits = (0 <= y_min) & (y_min < y_max) & (y_max <= height)
    fits &= (0 <= x_min) & (x_min < x_max) & (x_max <= width)
    if not fits.all():
        raise ValueError(
            "`boxes` must be y_min, x_min, y_max, x_max within heat maps of "
            f"{height} x {width} pixels. Received: {boxes[~fits][0].tolist()}"
        )
    y, x = np.arange(height)[:, None], np.arange(width)
    y_min, x_min, y_max, x_max = (
        side[:, None, None] for side in (y_min, x_min, y_max, x_max)
    )
    inside = (y_min <= y) & (y < y_max) & (x_min <= x) & (x < x_max)
    total = heat.sum(axis=(1, 2))
    flat = heat.reshape(len(heat), -1)
    hottest = flat.argmax(axis=1)[:, None]
    hits = np.take_along_axis(inside.reshape(flat.shape), hottest, 1)[:, 0]
    energy = (heat * inside).sum(axis=(1, 2)) / np.where(total == 0, 1, total)
    return hits & (total > 0), energy


def _joined(maps):
    return None if maps[0] is None else np.concatenate(maps)


def _read(model, images, output):
    """Returns the images, checked, and what the model makes of them.

    These are its steps, the output tensor that tells of the classes, and the
    place of that among its outputs.
    """
    _inspection.require_graph("model", model)
    if len(model.inputs) != 1:
        raise ValueError(
            "`model` must have one input, images. Received: model "
            f'"{model.name}" with {len(model.inputs)}: '
            f"{_checks.first_few([x.name for x in model.inputs])}"
        )
    images = _inspection.check(images, model)
    given = keras.KerasTensor((None, *images.shape[1:]), model.inputs[0].dtype)
    steps, results = _inspection.trace(model, [given])
    index = _output_index(model, output)
    result = results[index]
    if len(result.shape) != 2 or result.shape[1] is None:
        raise ValueError(
            "`model` must give a value per class, an output of shape (B, "
            f'classes). Received: model "{model.name}" with an output of '
            f"shape {tuple(result.shape)}. Name another with `output`, or "
            "end the model in a classifier"
        )
    return images, steps, result, index


def _output_index(model, output):
    """Returns the place of an output among the outputs of a model."""
    names = list(getattr(model, "output_names", None) or [])
    count = len(model.outputs)
    if output is None and count == 1:
        return 0
    structure = _inspection.structure(model)[1]
    if isinstance(structure, dict) and len(structure) == count:
        # In the order in which Keras flattens it.
        keys = keras.tree.flatten({key: key for key in structure})
        if output in keys:
            return keys.index(output)
        names = keys
    if isinstance(output, str):
        return names.index(_checks.one_of("output", output, names))
    if isinstance(output, int) and not isinstance(output, bool):
        if 0 <= output < count:
            return output
    raise ValueError(
        f'`output` must tell which output of model "{model.name}" to explain, '
        f"by name or by an index below {count}. Received: output={output!r}. "
        f"Its outputs are {_checks.first_few(names, 10)}"
    )


def _class_indices(class_index, count, classes):
    """Returns an index per image, or `None` for what is predicted."""
    if class_index is None:
        return None
    indices = np.asarray(class_index)
    if indices.dtype.kind not in "iu" or indices.shape not in ((), (count,)):
        raise ValueError(
            "`class_index` must be an integer or one per image, "
            f"{count} here. Received: class_index={class_index!r}"
        )
    if indices.min() < 0 or indices.max() >= classes:
        raise ValueError(
            f"`class_index` must be from 0 to {classes - 1}, as the model "
            f"has {classes} classes. Received: class_index={class_index!r}"
        )
    return np.broadcast_to(indices, (count,))
