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

    Errors are in %, on ImageNet, single crop of 224 x 224. Parameters and
    multiply-accumulates equal those of the network built.

    Errors are given where a second copy of the table confirms them, and are
    `None` elsewhere.

    Attributes:
        name: String, the key of the row, e.g. `"resnet50-cbam"`.
        network: String, the name of the network in the paper, e.g. `"ResNeXt50
            (32x4d)"`.
        attention: String, its attention in the paper: `""`, `"SE"`, `"CBAM"`.
        parameters: Number, the reported parameters in millions (trainable, 1000
            classes).
        macs: Number, the reported "GFLOPs": multiply-accumulates in 1e9 at 224
            x 224.
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


# The networks as the tables print them: builder in `models`, and its arguments.
_NETWORKS: dict[str, tuple[str, dict]] = {
    "ResNet18": ("ResNet18", {}),
    "ResNet34": ("ResNet34", {}),
    "ResNet50": ("ResNet50", {}),
    "ResNet101": ("ResNet101", {}),
    "WideResNet18 (1.5)": ("WideResNet18", {"width_multiplier": 1.5}),
    "WideResNet18 (2.0)": ("WideResNet18", {"width_multiplier": 2.0}),
    "ResNeXt50 (32x4d)": ("ResNeXt50", {"groups": 32, "base_width": 4}),
    "ResNeXt101 (32x4d)": ("ResNeXt101", {"groups": 32, "base_width": 4}),
    "MobileNet": ("MobileNet", {"alpha": 1.0}),
    "MobileNet (alpha 0.7)": ("MobileNet", {"alpha": 0.7}),
}

# The reported top-1 and top-5 errors of Table 4 that a second copy of the table
# confirms.
_ERRORS: dict[str, tuple[float, float | None]] = {
    "resnet50": (24.56, 7.50),
    "resnet50-se": (23.14, 6.70),
    "resnet50-cbam": (22.66, 6.31),
    "resnet101-cbam": (21.51, None),
}

# The layers of the reported attention: the formula, which a class stands for,
# and not what we recommend, which a name stands for. The reported parameters of
# CBAM are those of the authors' variant.
_LAYERS = {
    "": None,
    "SE": Attention(SqueezeExcite),
    "CBAM": Attention(CBAM, VARIANTS["official"]),
}


def build_preset(name: str, **options: Any) -> keras.Model:
    """Builds a network of the paper's tables.

    For checkpoints of the authors' released code or of torchvision, pass
    `downsample_in="3x3"`: networks of bottlenecks refuse them without it.

    By default, bottlenecks have the stride in the first 1x1 convolution, which
    gives the reported FLOPs. In these checkpoints it is in the 3x3 convolution,
    so predictions would be worse.

    Args:
        name: String, a key of `PRESETS`, e.g. `"resnet50-cbam"`.
        **options: Arguments of the builder in `cbam_keras.models`, e.g.
            `classes=10`, `weights=path`, `input_shape=(64, 64, 3)`. Those that
            define the row are excepted: `attention`, and `width_multiplier`,
            `groups`, `base_width` or `alpha`. `downsample_in` of a residual
            network defaults to `"1x1"`.

    Returns:
        A functional `keras.Model` named `name`, with random weights unless
        `weights` is passed.

    Raises:
        ValueError: If the preset does not exist, or if an option is out of
            range.
        TypeError: If the builder has no such argument, or if the preset fixes
            it.

    Example:
        >>> model = build_preset("resnet18-cbam", classes=10)
        >>> model.name, model.output_shape
        ('resnet18-cbam', (None, 10))
    """
    preset = PRESETS[_checks.one_of("name", name, PRESETS)]
    build = getattr(models, preset.builder)
    attention = _LAYERS[preset.attention]
    if preset.builder != "MobileNet":
        # The printed FLOPs count the stride in the first 1x1 convolution.
        options = {"downsample_in": "1x1", **options}
    return build(**options, **preset.options, attention=attention, name=name)


def _row(name, network, attention, parameters, macs):
    """Returns a row of the tables, with how to build its network."""
    builder, options = _NETWORKS[network]
    top1_error, top5_error = _ERRORS.get(name, (None, None))
    return Preset(
        name=name,
        network=network,
        attention=attention,
        parameters=parameters,
        macs=macs,
        top1_error=top1_error,
        top5_error=top5_error,
        builder=builder,
        options=dict(options),
    )


# Tables 4 and 5: key, network, attention, and as they are printed, millions of
# parameters and 1e9 multiply-accumulates.
_ROWS = (
    _row("resnet18", "ResNet18", "", 11.69, 1.814),
    _row("resnet18-se", "ResNet18", "SE", 11.78, 1.814),
    _row("resnet18-cbam", "ResNet18", "CBAM", 11.78, 1.815),
    _row("resnet34", "ResNet34", "", 21.80, 3.664),
    _row("resnet34-se", "ResNet34", "SE", 21.96, 3.664),
    _row("resnet34-cbam", "ResNet34", "CBAM", 21.96, 3.665),
    _row("resnet50", "ResNet50", "", 25.56, 3.858),
    _row("resnet50-se", "ResNet50", "SE", 28.09, 3.860),
    _row("resnet50-cbam", "ResNet50", "CBAM", 28.09, 3.864),
    _row("resnet101", "ResNet101", "", 44.55, 7.570),
    _row("resnet101-se", "ResNet101", "SE", 49.33, 7.575),
    _row("resnet101-cbam", "ResNet101", "CBAM", 49.33, 7.581),
    _row("wideresnet18-1.5", "WideResNet18 (1.5)", "", 25.88, 3.866),
    _row("wideresnet18-1.5-se", "WideResNet18 (1.5)", "SE", 26.07, 3.867),
    _row("wideresnet18-1.5-cbam", "WideResNet18 (1.5)", "CBAM", 26.08, 3.868),
    _row("wideresnet18-2.0", "WideResNet18 (2.0)", "", 45.62, 6.696),
    _row("wideresnet18-2.0-se", "WideResNet18 (2.0)", "SE", 45.97, 6.696),
    _row("wideresnet18-2.0-cbam", "WideResNet18 (2.0)", "CBAM", 45.97, 6.697),
    _row("resnext50", "ResNeXt50 (32x4d)", "", 25.03, 3.768),
    _row("resnext50-se", "ResNeXt50 (32x4d)", "SE", 27.56, 3.771),
    _row("resnext50-cbam", "ResNeXt50 (32x4d)", "CBAM", 27.56, 3.774),
    _row("resnext101", "ResNeXt101 (32x4d)", "", 44.18, 7.508),
    _row("resnext101-se", "ResNeXt101 (32x4d)", "SE", 48.96, 7.512),
    _row("resnext101-cbam", "ResNeXt101 (32x4d)", "CBAM", 48.96, 7.519),
    _row("mobilenet", "MobileNet", "", 4.23, 0.569),
    _row("mobilenet-se", "MobileNet", "SE", 5.07, 0.570),
    _row("mobilenet-cbam", "MobileNet", "CBAM", 5.07, 0.576),
    _row("mobilenet-0.7", "MobileNet (alpha 0.7)", "", 2.30, 0.283),
    _row("mobilenet-0.7-se", "MobileNet (alpha 0.7)", "SE", 2.71, 0.283),
    _row("mobilenet-0.7-cbam", "MobileNet (alpha 0.7)", "CBAM", 2.71, 0.289),
)
PRESETS = _checks.Named({row.name: row for row in _ROWS})
