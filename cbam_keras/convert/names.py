"""Names of weights in checkpoints of the authors, torchvision and timm.

They are in `names.toml`. `read_names` checks each of its keys, so that an error
names a mistyped key.
"""

import dataclasses
import pathlib
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import keras

from cbam_keras import _checks, layers

_PATH = pathlib.Path(__file__).with_suffix(".toml")


@dataclasses.dataclass(frozen=True)
class GateKeys:
    """Names of the weights in one implementation of an attention layer."""

    # The keys are paths of our variables, of normalizations, and of pairs of a
    # kernel and a bias.
    weights: Mapping[str, str]
    # The prefixes of the module: its names in residual blocks, or in other
    # modules around it.
    modules: tuple[str, ...] = ()
    # Options with which our layer computes what the module does, where they
    # differ from its defaults.
    options: Mapping[str, str] = dataclasses.field(default_factory=dict)
    # The order of the stacked maps, which a spatial kernel depends on.
    maps: tuple[str, ...] = ()
    # The pools of the channel gate, if the names of weights in a network imply
    # them.
    pools: tuple[str, ...] = ()


class Names(NamedTuple):
    """The sections of `names.toml`: our names, and theirs."""

    # Layers of a network.
    network: Mapping[str, str]
    # What follows the name of a block.
    block: Mapping[str, str]
    # The same for EfficientNet-Lite.
    lite_network: Mapping[str, str]
    lite_block: Mapping[str, str]
    # The variables of a layer.
    convolution: Mapping[str, str]
    batch_norm: Mapping[str, str]
    # The sets of names by which the weights of a class of layers are known.
    gates: Mapping[type[keras.layers.Layer], tuple[GateKeys, ...]]


def read_names(sections: Mapping[str, Any]) -> Names:
    """Returns the content of `names.toml`, checked.

    Raises:
        ValueError: If a section, a layer or a key is unknown or missing.
    """
    _check_keys("names.toml", sections, Names._fields, Names._fields)
    public = (getattr(layers, name) for name in layers.__all__)
    names_of_layers = [x.__name__ for x in public if _is_layer(x)]
    _check_keys("[gates]", sections["gates"], names_of_layers)
    return Names(
        network=sections["network"],
        block=sections["block"],
        lite_network=sections["lite_network"],
        lite_block=sections["lite_block"],
        convolution=sections["convolution"],
        batch_norm=sections["batch_norm"],
        gates={
            getattr(layers, layer): tuple(
                _read_gate(f"[[gates.{layer}]]", keys)
                for keys in implementations
            )
            for layer, implementations in sections["gates"].items()
        },
    )


def _is_layer(value: object) -> bool:
    """Returns whether a public name of `layers` is a class of layers."""
    return isinstance(value, type) and issubclass(value, keras.layers.Layer)


def _read_gate(section: str, keys: Mapping[str, Any]) -> GateKeys:
    """Returns one implementation of a layer, from its section."""
    fields = [field.name for field in dataclasses.fields(GateKeys)]
    _check_keys(section, keys, fields, ["weights"])
    return GateKeys(
        weights=keys["weights"],
        modules=tuple(keys.get("modules", ())),
        options=keys.get("options", {}),
        maps=tuple(keys.get("maps", ())),
        pools=tuple(keys.get("pools", ())),
    )


def _check_keys(
    section: str,
    keys: Iterable[str],
    allowed: Iterable[str],
    required: Iterable[str] = (),
) -> None:
    """Raises if a section has an unknown key, or lacks a required one."""
    for key in keys:
        _checks.one_of(f"key of {section}", key, allowed)
    missing = sorted({*required} - {*keys})
    if missing:
        raise ValueError(
            f"{section} must have the keys {', '.join(missing)}. Received: "
            f"{', '.join(keys)}"
        )


_NAMES = read_names(tomllib.loads(_PATH.read_text("utf-8")))
NETWORK = _NAMES.network
BLOCK = _NAMES.block
LITE_NETWORK = _NAMES.lite_network
LITE_BLOCK = _NAMES.lite_block
CONVOLUTION = _NAMES.convolution
BATCH_NORM = _NAMES.batch_norm
GATES = _NAMES.gates
