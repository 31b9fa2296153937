"""`feature_pyramid`: any network as a backbone of KerasHub, and loading it."""

import importlib
import math
import os
import warnings
from collections import Counter
from collections.abc import Mapping
from typing import Any

import keras

from cbam_keras import _checks, _inspection

LEVELS = ("P2", "P3", "P4", "P5")
# Stands for a side that a network leaves open: a multiple of all strides.
SIDE = 512


def feature_pyramid(
    model: keras.Model, levels: Mapping[str, str] | None = None
) -> keras.Model:
    """Turns a network into a backbone for KerasHub's detectors.

    The result is a `keras_hub.models.FeaturePyramidBackbone`, whose
    `pyramid_outputs` maps `"P2"` to the feature map of stride 4, and so on to
    `"P5"` of stride 32, as far as the network has them. Give it to
    `keras_hub.models.RetinaNetBackbone` for detection, or to
    `DeepLabV3Backbone` for segmentation. It shares the layers, and so the
    weights, of the network. Load what you saved with `detection.load_model`.

    Args:
        model: Functional `keras.Model`, with or without classifier, that
            takes images `(H, W, C)`: a network of `cbam_keras.models`, of
            `keras.applications`, or one with `insert_attention`. `H` and `W`
            may be `None`, otherwise the coarsest stride must divide them.
        levels: Mapping of the levels to names of layers, as
            `{"P3": "stage2_block2_out"}`. Defaults to `None`, which means the
            last layer of each stride 4, 8, 16 and 32.

    Returns:
        A KerasHub backbone.

    Raises:
        TypeError: If `model` is not a `keras.Model`.
        ValueError: If `model` is not functional, or takes something else than
            one image; if strides are not powers of two, a level between two
            others is missing, or a layer of `levels` has another stride; if
            the coarsest stride does not divide the image size.
        ImportError: If KerasHub is missing.

    Example:
        >>> model = cbam_keras.models.ResNet18(
        ...     include_top=False, input_shape=(64, 64, 3), attention="cbam"
        ... )
        >>> backbone = feature_pyramid(model)
        >>> for level, tensor in backbone.pyramid_outputs.items():
        ...     print(level, tensor.shape[1:])
        P2 (16, 16, 64)
        P3 (8, 8, 128)
        P4 (4, 4, 256)
        P5 (2, 2, 512)
    """
    _inspection.require_graph("model", model)
    _checks.require("keras_hub", extra="detect")
    shape = _image_shape(model)
    strides = _strides(model, shape)
    chosen = (
        _last_of_each(model, strides)
        if levels is None
        else _checked(levels, strides)
    )
    _check_gaps(model, chosen)
    coarsest = 2 ** int(max(chosen)[1])
    if any(side is not None and side % coarsest for side in shape[:2]):
        raise ValueError(
            "The height and width of the images must be multiples of the "
            f"coarsest stride, {coarsest} ({max(chosen)}), so that feature "
            f'maps fit on each other. Received: model "{model.name}" with '
            f"input_shape={model.inputs[0].shape}. Build it for such a size, "
            "or for (None, None, C)"
        )
    network = keras.Model(
        model.inputs[0],
        [model.get_layer(name).output for name in chosen.values()],
        name=model.name,
    )
    return _late("PyramidBackbone")(
        network, chosen, name=f"{model.name}_pyramid"
    )


def load_model(path: str | os.PathLike) -> keras.Model:
    """Loads a saved detector or segmenter that holds a `feature_pyramid`.

    `keras.saving.load_model` does the same once `cbam_keras.detection` has been
    imported.

    Args:
        path: Path of a `.keras` file.

    Returns:
        A `keras.Model`. KerasHub's tasks do not load how they were compiled:
        compile it again to train it. The detectors of `compare` do.

    Raises:
        ImportError: If KerasHub is missing.
    """
    _checks.require("keras_hub", extra="detect")
    with warnings.catch_warnings():
        # What KerasHub's tasks say of their compilation, which is said above.
        for known in ("`compile.*was not called", "Skipping variable loading"):
            warnings.filterwarnings("ignore", known)
        return keras.saving.load_model(path)


def _late(name: str) -> Any:
    """Returns a class of `detector`, which needs KerasHub."""
    _checks.require("keras_hub", extra="detect")
    module = importlib.import_module("cbam_keras.detection.detector")
    return getattr(module, name)


class _Placeholder:
    """What Keras finds for a class of `detector` that is not imported yet."""

    def __init__(self, name: str):
        self.name = name

    def from_config(self, config: Any) -> keras.Model:
        return _late(self.name).from_config(config)


# Importing `detector` replaces these.
for _name in ("PyramidBackbone", "Detector"):
    keras.saving.get_custom_objects().setdefault(
        f"cbam_keras>{_name}", _Placeholder(_name)
    )


def _image_shape(model):
    """Returns `(H, W, C)` of the images that a model takes."""
    shapes = [tuple(tensor.shape) for tensor in model.inputs]
    if len(shapes) != 1 or len(shapes[0]) != 4:
        raise ValueError(
            "`model` must take images of shape (H, W, C). Received: model "
            f'"{model.name}" with inputs of shape {shapes}'
        )
    return shapes[0][1:]


def _strides(model, shape):
    """Returns the stride of each layer whose output is a feature map."""
    tensors: dict[str, Any] = {}
    calls = [
        call
        for call in _inspection.calls(model)
        if isinstance(call.operation, keras.Layer)
    ]
    times = Counter(call.operation.name for call in calls)
    for call in calls:
        # A layer that is called twice has no output of its own.
        if len(call.outputs) == times[call.operation.name] == 1:
            if len(call.outputs[0].shape) == 4:
                tensors[call.operation.name] = call.outputs[0]
    sides = [SIDE if side is None else side for side in shape[:2]]
    maps = list(tensors.values())
    if None in shape[:2] and maps:
        maps = keras.Model(model.inputs[0], maps).compute_output_spec(
            keras.KerasTensor((1, *sides, shape[2]), model.inputs[0].dtype)
        )
    return {
        name: _stride(sides, tensor.shape[1:3])
        for name, tensor in zip(tensors, maps, strict=True)
        # Pooled over all positions, as in a gate.
        if tuple(tensor.shape[1:3]) != (1, 1)
    }


def _stride(sides, reduced):
    """Returns the power of two that leads to a size, else the quotient."""
    quotient = max(sides) / reduced[sides.index(max(sides))]
    level = round(math.log2(quotient))
    # Layers round a remainder up, or drop it.
    for rounded in (math.ceil, math.floor):
        if [rounded(side / 2**level) for side in sides] == list(reduced):
            return 2**level
    return quotient


def _last_of_each(model, strides):
    """Returns the last layer of each level that a network has."""
    last = {f"P{math.log2(stride):g}": n for n, stride in strides.items()}
    chosen = {level: last[level] for level in LEVELS if level in last}
    coarsest = max(strides.values(), default=1)
    if not chosen or math.log2(coarsest) % 1:
        listed = sorted({round(stride, 2) for stride in strides.values()})
        raise ValueError(
            "`model` must have feature maps whose strides are powers of two, "
            "one of them 4, 8, 16 or 32. Received: model "
            f'"{model.name}" with strides {listed}'
        )
    return chosen


def _checked(levels, strides):
    """Returns `levels` in order, after comparing them with the strides."""
    names = _checks.subset("levels", list(levels), LEVELS)
    chosen = {level: levels[level] for level in sorted(names)}
    for level, name in chosen.items():
        _checks.one_of("levels", name, strides)
        if strides[name] != 2 ** int(level[1]):
            raise ValueError(
                f"The layer of level {level} must have stride "
                f"{2 ** int(level[1])}. Received: levels={dict(levels)}, "
                f'where layer "{name}" has stride {strides[name]:g}'
            )
    return chosen


def _check_gaps(model, chosen):
    first, last = LEVELS.index(min(chosen)), LEVELS.index(max(chosen))
    for level in LEVELS[first : last + 1]:
        if level not in chosen:
            raise ValueError(
                "The levels of a pyramid must follow each other. Received: "
                f'model "{model.name}" with levels {", ".join(chosen)}, and '
                f"without {level} (stride {2 ** int(level[1])})"
            )
