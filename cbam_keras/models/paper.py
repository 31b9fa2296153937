"""The rows of the paper's Tables 4 and 5, and their networks."""

import csv
import dataclasses
import json
import pathlib
from typing import Any

import keras

from cbam_keras import _checks, models
from cbam_keras.layers import CBAM, VARIANTS, Attention, SqueezeExcite

__all__ = ["build_preset", "PRESETS", "Preset"]

# Millions of parameters, and 1e9 multiply-accumulates, as they are printed.
PRINTED_ROWS = pathlib.Path(__file__).with_suffix(".csv")


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


# The layers of the printed attention. CBAM's parameters are of this variant.
_LAYERS = {
    "": None,
    "SE": Attention(SqueezeExcite),
    "CBAM": Attention(CBAM, VARIANTS["official"]),
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


def _read_tables():
    """Returns Tables 4 and 5, with the errors that a second copy confirmed."""
    text = PRINTED_ROWS.read_text("utf-8")
    return [
        Preset(
            name=row["name"],
            network=row["network"],
            attention=row["attention"],
            parameters=float(row["parameters"]),
            macs=float(row["macs"]),
            top1_error=float(row["top1_error"]) if row["top1_error"] else None,
            top5_error=float(row["top5_error"]) if row["top5_error"] else None,
            builder=row["network"].split()[0],
            options=json.loads(row["options"]),
        )
        for row in csv.DictReader(text.splitlines())
    ]


PRESETS = _checks.Named({row.name: row for row in _read_tables()})
