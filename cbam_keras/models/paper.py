"""The rows of the paper's Tables 4 and 5, and their networks."""

import dataclasses
from typing import Any

import keras

from cbam_keras import _checks, models
from cbam_keras.layers import CBAM, VARIANTS, Attention, SqueezeExcite

__all__ = ["build_preset", "PRESETS", "Preset"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preset:
    """A row of the paper's Tables 4 and 5: a network and its reported numbers.

    Errors are in %, on ImageNet, single crop of 224 x 224, as far as a second
    copy of the table confirmed them. Parameters and multiply-accumulates equal
    those of the network built.

    Attributes:
        name: String, the key of the row, e.g. `"resnet50-cbam"`.
        network: String, the network in the paper, e.g. `"ResNeXt50 (32x4d)"`.
        attention: String, its attention in the paper: `""`, `"SE"`, `"CBAM"`.
        parameters: Number, the reported parameters in millions (1000 classes).
        macs: The reported "GFLOPs": multiply-accumulates in 1e9 at 224 x 224.
        top1_error: Number, the reported top-1 error in %, or `None`.
        top5_error: Number, the reported top-5 error in %, or `None`.
        builder: String, the function of `cbam_keras.models` that builds it.
        options: Dictionary, arguments of the builder for this network.
    """

    name: str
    network: str
    attention: str
    parameters: float
    macs: float
    top1_error: float | None = None
    top5_error: float | None = None
    builder: str
    # Dictionaries have no hash.
    options: dict = dataclasses.field(hash=False)


# Tables 4 and 5: network as printed, from its builder, and its arguments.
_NETWORKS: dict[str, tuple[str, dict]] = {
    "resnet18": ("ResNet18", {}),
    "resnet34": ("ResNet34", {}),
    "resnet50": ("ResNet50", {}),
    "resnet101": ("ResNet101", {}),
    "wideresnet18-1.5": ("WideResNet18 (1.5)", {"width_multiplier": 1.5}),
    "wideresnet18-2.0": ("WideResNet18 (2.0)", {"width_multiplier": 2.0}),
    "resnext50": ("ResNeXt50 (32x4d)", {"groups": 32, "base_width": 4}),
    "resnext101": ("ResNeXt101 (32x4d)", {"groups": 32, "base_width": 4}),
    "mobilenet": ("MobileNet", {"alpha": 1.0}),
    "mobilenet-0.7": ("MobileNet (alpha 0.7)", {"alpha": 0.7}),
}

# Printed millions of parameters and 1e9 MACs: alone, with SE and with CBAM.
_PRINTED = """
resnet18          11.69 1.814  11.78 1.814  11.78 1.815
resnet34          21.80 3.664  21.96 3.664  21.96 3.665
resnet50          25.56 3.858  28.09 3.860  28.09 3.864
resnet101         44.55 7.570  49.33 7.575  49.33 7.581
wideresnet18-1.5  25.88 3.866  26.07 3.867  26.08 3.868
wideresnet18-2.0  45.62 6.696  45.97 6.696  45.97 6.697
resnext50         25.03 3.768  27.56 3.771  27.56 3.774
resnext101        44.18 7.508  48.96 7.512  48.96 7.519
mobilenet          4.23 0.569   5.07 0.570   5.07 0.576
mobilenet-0.7      2.30 0.283   2.71 0.283   2.71 0.289
"""

# The layers of the printed attention. CBAM's parameters are of this variant.
_LAYERS = {
    "": None,
    "SE": Attention(SqueezeExcite),
    "CBAM": Attention(CBAM, VARIANTS["official"]),
}

# Top-1 and top-5 errors of Table 4 that a second copy of it confirmed.
_ERRORS: dict[str, tuple[float, float | None]] = {
    "resnet50": (24.56, 7.50),
    "resnet50-se": (23.14, 6.70),
    "resnet50-cbam": (22.66, 6.31),
    "resnet101-cbam": (21.51, None),
}


def build_preset(name: str, **options: Any) -> keras.Model:
    """Builds a network of the paper's tables.

    For checkpoints of the authors' released code or of torchvision pass
    `downsample_in="3x3"`: they load either way, but predict worse without it.

    Bottlenecks have the stride in the first 1x1 convolution, which gives the
    reported FLOPs.

    Args:
        name: String, a key of `PRESETS`, e.g. `"resnet50-cbam"`.
        **options: Arguments of the builder in `cbam_keras.models`, e.g.
            `classes=10`, `weights=path`, `input_shape=(64, 64, 3)`. Those that
            define the row are excepted: `attention`, and `width_multiplier`,
            `groups`, `base_width` or `alpha`. `downsample_in` of a residual
            network defaults to `"1x1"`.

    Returns:
        A functional `keras.Model` named `name`.

    Raises:
        ValueError: If there is no such preset, or an option is out of range.
        TypeError: If the builder has no such argument, or the preset fixes it.

    Example:
        >>> model = build_preset("resnet18-cbam", classes=10)
        >>> model.name, model.output_shape
        ('resnet18-cbam', (None, 10))
    """
    preset = PRESETS[_checks.one_of("name", name, PRESETS)]
    build = getattr(models, preset.builder)
    attention = _LAYERS[preset.attention]
    if preset.builder != "MobileNet":
        options = {"downsample_in": "1x1", **options}
    return build(**options, **preset.options, attention=attention, name=name)


def _tables_4_and_5():
    for line in _PRINTED.strip().splitlines():
        key, *numbers = line.split()
        network, options = _NETWORKS[key]
        for index, attention in enumerate(_LAYERS):
            name = "-".join(filter(None, [key, attention.lower()]))
            top1_error, top5_error = _ERRORS.get(name, (None, None))
            yield Preset(
                name=name,
                network=network,
                attention=attention,
                parameters=float(numbers[2 * index]),
                macs=float(numbers[2 * index + 1]),
                top1_error=top1_error,
                top5_error=top5_error,
                builder=network.split()[0],
                options=dict(options),
            )


PRESETS = _checks.Named({row.name: row for row in _tables_4_and_5()})
