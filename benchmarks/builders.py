"""What do the networks of `cbam_keras.models` count?

    python -m benchmarks.builders
    python -m benchmarks.tables

The first command counts each network without attention and with CBAM in every
block, and stores the counts in `measured.jsonl`. The second one writes them
into the table of `docs/guides/networks.md`, beside those of the CBAM paper.
"""

import dataclasses
from collections.abc import Callable

import keras

from benchmarks import measured, results
from cbam_keras import _terminal, models, presets, profile_model

ATTENTIONS = (None, "cbam")


@dataclasses.dataclass(frozen=True)
class Network:
    """A row of the table.

    Attributes:
        code: The call, as the table shows it.
        build: Builds the network with an attention.
        size: The height and width of the image in pixels.
        preset: The name of the paper's network in `PRESETS`, if it has one.
    """

    code: str
    build: Callable[..., keras.Model]
    size: int = 224
    preset: str | None = None


def by_name(name, preset=None, **options):
    """Returns the row of a builder, which is called with these options."""
    builder = getattr(models, name)
    arguments = ", ".join(f"{key}={value}" for key, value in options.items())
    return Network(
        code=f"{name}({arguments})" if options else name,
        build=lambda attention: builder(attention=attention, **options),
        preset=preset,
    )


def build_small(attention):
    """Builds a ResNet for images of 32 x 32 pixels."""
    return models.ResNet(
        (2, 2, 2),
        block="basic",
        widths=(32, 64, 128),
        stem="small",
        classes=10,
        attention=attention,
    )


def build_unet(attention):
    """Builds a U-Net on ResNet18, with attention in its decoder."""
    encoder = models.ResNet18(include_top=False, input_shape=(224, 224, 3))
    return models.UNet(encoder, classes=2, attention=attention)


NETWORKS = (
    by_name("ResNet18", preset="resnet18"),
    by_name("ResNet34", preset="resnet34"),
    by_name("ResNet50", preset="resnet50"),
    by_name("ResNet101", preset="resnet101"),
    by_name("ResNet152"),
    by_name("WideResNet18", preset="wideresnet18-1.5"),
    by_name("WideResNet18", preset="wideresnet18-2.0", width_multiplier=2.0),
    by_name("ResNeXt50", preset="resnext50"),
    by_name("ResNeXt101", preset="resnext101"),
    by_name("MobileNet", preset="mobilenet"),
    by_name("MobileNet", preset="mobilenet-0.7", alpha=0.7),
    by_name("MobileNetV2"),
    by_name("EfficientNetLite0"),
    Network(
        'ResNet((2, 2, 2), block="basic", widths=(32, 64, 128), stem="small")',
        build_small,
        size=32,
    ),
    Network("UNet(ResNet18(include_top=False), classes=2)", build_unet),
)


def count(network):
    """Returns parameters and multiply-accumulates, for each attention."""
    profiles = [profile_model(network.build(x)) for x in ATTENTIONS]
    return {
        "builder": network.code,
        "parameters": [profile.parameters for profile in profiles],
        "macs": [profile.macs for profile in profiles],
    }


def stored_counts():
    """Returns the counts as stored, by the code of the row."""
    (record,) = (
        record
        for record in measured.stored()
        if record.get("benchmark") == "builders"
    )
    return {row["builder"]: row for row in record["rows"]}


def table():
    """Returns the stored counts as Markdown, beside those of the paper."""
    counts = stored_counts()
    rows = []
    for network in NETWORKS:
        row = counts[network.code]
        reported = [
            presets.PRESETS[network.preset + ending]
            for ending in ("", "-cbam")
            if network.preset
        ]
        rows.append(
            {
                "builder": f"`{network.code}`",
                "image": f"{network.size} x {network.size}",
                "parameters (M)": _pair(row["parameters"], 1e6, 2),
                "paper": _pair([x.parameters for x in reported], 1, 2),
                "GMACs": _pair(row["macs"], 1e9, 3),
                # Two columns need two names.
                "paper ": _pair([x.macs for x in reported], 1, 3),
            }
        )
    return results.table(rows)


def _pair(values, unit, digits):
    """Returns numbers without and with CBAM, for a cell."""
    return " / ".join(f"{value / unit:.{digits}f}" for value in values)


def main():
    rows = [
        count(network)
        for network in _terminal.show_progress(
            NETWORKS, len(NETWORKS), "Building the networks"
        )
    ]
    measured.store(
        {
            "benchmark": "builders",
            "command": "python -m benchmarks.builders",
            "rows": rows,
        }
    )
    print(table())


if __name__ == "__main__":
    main()
