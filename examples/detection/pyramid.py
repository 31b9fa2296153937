"""A network as a backbone of KerasHub: feature maps of its strides."""

import math
from collections.abc import Mapping

import keras
import keras_hub

from cbam_keras import _checks, _graph

# The levels of a pyramid, as KerasHub names them.
STRIDES = {"P2": 4, "P3": 8, "P4": 16, "P5": 32}
# Stands for a side that a network leaves open: a multiple of all strides.
SIDE = 512


# The names of these classes are in saved models.
@keras.saving.register_keras_serializable(package="cbam_keras")
class PyramidBackbone(keras_hub.models.FeaturePyramidBackbone):
    """Network with `pyramid_outputs`; see `feature_pyramid`."""

    def __init__(
        self, network: keras.Model | dict, levels: Mapping[str, str], **kwargs
    ):
        if isinstance(network, dict):
            network = keras.saving.deserialize_keras_object(network)
        maps = {
            level: network.get_layer(levels[level]).output
            for level in sorted(levels)
        }
        super().__init__(
            inputs=network.inputs[0], outputs=maps[max(maps)], **kwargs
        )
        self.network = network
        self.levels = dict(levels)
        # KerasHub's tasks read both.
        self.image_shape = tuple(network.inputs[0].shape[1:])
        self.pyramid_outputs = maps

    def get_config(self):
        return {
            **super().get_config(),
            "network": keras.saving.serialize_keras_object(self.network),
            "levels": self.levels,
        }


def feature_pyramid(
    model: keras.Model, levels: Mapping[str, str] | None = None
) -> keras.Model:
    """Turns a network into a backbone for KerasHub's detectors.

    It shares the layers, and so the weights, of the network. Load what you
    saved with `load_detector`.

    The backbone is a `keras_hub.models.FeaturePyramidBackbone`, whose
    `pyramid_outputs` maps `"P2"` to the feature map of stride 4, and so on to
    `"P5"` of stride 32, as far as the network has them: for
    `keras_hub.models.RetinaNetBackbone` (detection) or `DeepLabV3Backbone`
    (segmentation).

    Args:
        model: Functional `keras.Model`, with or without classifier, that
            takes images `(H, W, C)`. `H` and `W` may be `None`, otherwise the
            coarsest stride must divide them.
        levels: Mapping of levels to names of layers, as `{"P3":
            "stage2_block2_out"}`, without levels that the detector does not
            use. Those would never be trained; layers after the coarsest are
            left out. Defaults to `None`, which means the last layer of each
            stride 4, 8, 16 and 32.

    Returns:
        A KerasHub backbone.

    Raises:
        TypeError: If `model` is not a `keras.Model`.
        ValueError: If `model` is not functional, or takes something else than
            one image; if its strides are not powers of two or do not divide
            the image size; if a level is missing or has another stride.

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
    model = _graph.with_graph("model", model)
    strides = _measure_strides(model)
    if levels is None:
        # The last layer of each stride.
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
    levels = {level: levels[level] for level in names}
    for level, layer in levels.items():
        candidates = [k for k, s in strides.items() if s == STRIDES[level]]
        _checks.one_of(f'levels["{level}"]', layer, candidates)
    if int(max(levels)[1]) - int(min(levels)[1]) >= len(levels):
        raise ValueError(
            "The levels of a pyramid must follow each other. Received: model "
            f'"{model.name}" with levels {", ".join(levels)}'
        )
    network = keras.Model(
        model.inputs[0],
        [model.get_layer(layer).output for layer in levels.values()],
        name=model.name,
    )
    return PyramidBackbone(network, levels, name=f"{model.name}_pyramid")


def _measure_strides(model):
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
        # A map of one position is pooled over all, as in a gate.
        if (high, wide) != (1, 1):
            strides[name] = max(height / high, width / wide)
    return strides
