"""`feature_pyramid`: any network as a backbone of KerasHub, and loading it."""

import functools
import importlib
import math
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType

import keras
from keras import layers

from cbam_keras import _checks, _inspection, models
from cbam_keras.layers import MakeLayer

BACKBONES: dict[str, Callable[..., keras.Model]] = {
    # Of 0.7 million parameters, for scenes of 64 pixels.
    "small": functools.partial(
        models.ResNet,
        (2, 2, 2),
        block="basic",
        widths=(32, 64, 128),
        stem_width=32,
    ),
    **models.BUILDERS,
}
# From this side on the detector is RetinaNet's: levels up to P7, and heads of
# four layers. Below, its heads would be most of the work.
LARGE = 256
# The finest level of a detector, and how many rows and columns the coarsest
# one has at least.
MIN_LEVEL, MIN_CELLS = 3, 4
STRIDES = {"P2": 4, "P3": 8, "P4": 16, "P5": 32}
# Stands for a side that a network leaves open: a multiple of all strides.
SIDE = 512


def feature_pyramid(
    model: keras.Model, levels: Mapping[str, str] | None = None
) -> keras.Model:
    """Turns a network into a backbone for KerasHub's detectors.

    A `keras_hub.models.FeaturePyramidBackbone`, whose `pyramid_outputs` maps
    `"P2"` to the feature map of stride 4, and so on to `"P5"` of stride 32, as
    far as the network has them: for `keras_hub.models.RetinaNetBackbone`
    (detection) or `DeepLabV3Backbone` (segmentation). It shares the layers, and
    so the weights, of the network. Load what you saved with
    `detection.load_model`.

    Args:
        model: Functional `keras.Model`, with or without classifier, that
            takes images `(H, W, C)`. `H` and `W` may be `None`, otherwise the
            coarsest stride must divide them.
        levels: Mapping of the levels to names of layers, as
            `{"P3": "stage2_block2_out"}`. Defaults to `None`, which means the
            last layer of each stride 4, 8, 16 and 32.

    Returns:
        A KerasHub backbone.

    Raises:
        TypeError: If `model` is not a `keras.Model`.
        ValueError: If `model` is not functional, or takes something else than
            one image; if its strides are not powers of two or do not divide
            the image size; if a level is missing or has another stride.
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
    model = _inspection.with_graph("model", model)
    strides = _strides(model)
    if levels is None:
        # The last layer of each.
        last = {stride: name for name, stride in strides.items()}
        levels = {k: last[s] for k, s in STRIDES.items() if s in last}
    coarsest = max(strides.values(), default=1)
    if not levels or math.log2(coarsest) % 1:
        raise ValueError(
            "The feature maps of a network must have strides that are powers "
            "of two, one of them 4, 8, 16 or 32, and the height and width of "
            "its images must be multiples of the coarsest stride. Received: "
            f'model "{model.name}" with input_shape={model.inputs[0].shape} '
            f"and strides {sorted({round(s, 2) for s in strides.values()})}. "
            "Build it for such a size, or for (None, None, C)"
        )
    names = sorted(_checks.subset("levels", list(levels), STRIDES))
    chosen = {level: levels[level] for level in names}
    for level, name in chosen.items():
        fitting = [k for k, s in strides.items() if s == STRIDES[level]]
        _checks.one_of(f'levels["{level}"]', name, fitting)
    if int(max(chosen)[1]) - int(min(chosen)[1]) >= len(chosen):
        raise ValueError(
            "The levels of a pyramid must follow each other. Received: model "
            f'"{model.name}" with levels {", ".join(chosen)}'
        )
    network = keras.Model(
        model.inputs[0],
        [model.get_layer(name).output for name in chosen.values()],
        name=model.name,
    )
    return import_hub().PyramidBackbone(
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
    with warnings.catch_warnings():
        # KerasHub's tasks warn that they are not compiled.
        for known in ("`compile.*was not called", "Skipping variable loading"):
            warnings.filterwarnings("ignore", known)
        return keras.saving.load_model(path)


def check_backbone(name: str, weights: str | None) -> None:
    """Raises unless there is such a network, and its weights can be had."""
    _checks.one_of("weights", weights, models.WEIGHTS)
    random = BACKBONES if weights is None else ()
    _checks.one_of("backbone", name, [*random, *models.PRETRAINED])
    if weights is not None:
        models.pretrained(name, weights)


def build_backbone(
    name: str,
    image_shape: Sequence[int],
    attention: MakeLayer | None,
    weights: str | None = None,
    is_frozen: bool = False,
) -> keras.Model:
    """Returns a backbone, by its name, for images in [0, 255]."""
    if name in models.PRETRAINED:
        return feature_pyramid(
            models.pretrained(name, weights, image_shape, attention, is_frozen)
        )
    inputs = keras.Input(image_shape, name="images")
    network = BACKBONES[name](
        include_top=False,
        input_tensor=layers.Rescaling(1 / 255, name="rescale")(inputs),
        attention=attention,
    )
    return feature_pyramid(network)


def levels_for(name: str, image_shape: Sequence[int]) -> tuple[int, int]:
    """Returns the finest and the coarsest level of a detector."""
    side = min(image_shape[:2])
    backbone = build_backbone(name, image_shape, None)
    coarsest = max(int(level[1]) for level in backbone.pyramid_outputs)
    if side >= LARGE and coarsest == 5:
        return MIN_LEVEL, 7
    if side < MIN_CELLS * 2**MIN_LEVEL:
        raise ValueError(
            f"A detector needs images of {MIN_CELLS * 2**MIN_LEVEL} pixels "
            f"or more. Received: images of shape {tuple(image_shape)}"
        )
    return MIN_LEVEL, min(coarsest, int(math.log2(side / MIN_CELLS)))


def _strides(model):
    """Returns the stride of each layer whose output is a feature map."""
    shapes = [tuple(tensor.shape) for tensor in model.inputs]
    if len(shapes) != 1 or len(shapes[0]) != 4:
        raise ValueError(
            "`model` must take images of shape (H, W, C). Received: model "
            f'"{model.name}" with inputs of shape {shapes}'
        )
    maps = {}
    for layer in model.layers:
        # A layer that is called twice has no single output.
        output = getattr(layer, "output", None)
        if isinstance(output, keras.KerasTensor) and len(output.shape) == 4:
            maps[layer.name] = output
    height, width = (SIDE if side is None else side for side in shapes[0][1:3])
    image = keras.KerasTensor((1, height, width, shapes[0][3]))
    outputs = keras.Model(model.inputs[0], maps).compute_output_spec(image)
    strides = {}
    for name in maps:
        _, high, wide, _ = outputs[name].shape
        # Pooled over all positions, as in a gate.
        if (high, wide) != (1, 1):
            strides[name] = max(height / high, width / wide)
    return strides


def import_hub() -> ModuleType:
    """Returns the module `hub`, which needs KerasHub."""
    _checks.require("keras_hub", extra="detect")
    return importlib.import_module("cbam_keras.detection.hub")


class _Late:
    """What Keras finds for a class of `hub` that is not imported yet."""

    def __init__(self, name: str):
        self.name = name

    def from_config(self, config: dict) -> keras.Model:
        return getattr(import_hub(), self.name).from_config(config)


# Importing `hub` replaces these.
for _name in ("PyramidBackbone", "Detector"):
    keras.saving.get_custom_objects().setdefault(
        f"cbam_keras>{_name}", _Late(_name)
    )
