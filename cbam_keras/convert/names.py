"""Names of weights in checkpoints of the authors, torchvision and timm."""

import dataclasses
import pathlib
import tomllib
from collections.abc import Mapping

import keras

from cbam_keras import layers

_PATH = pathlib.Path(__file__).with_suffix(".toml")
_NAMES = tomllib.loads(_PATH.read_text("utf-8"))
# Ours, and theirs, in a network and behind the name of a block.
NETWORK, BLOCK = _NAMES["network"], _NAMES["block"]
LITE_NETWORK, LITE_BLOCK = _NAMES["lite_network"], _NAMES["lite_block"]
CONVOLUTION, BATCH_NORM = _NAMES["convolution"], _NAMES["batch_norm"]


@dataclasses.dataclass(frozen=True)
class GateKeys:
    """Names of the weights in one implementation of an attention layer."""

    # By paths of variables, normalizations, and pairs of kernel and bias.
    weights: Mapping[str, str]
    # What blocks of residual networks, or modules around it, call the module.
    modules: tuple[str, ...] = ()
    # Options of ours that compute what the module does, if they differ.
    options: Mapping[str, str] = dataclasses.field(default_factory=dict)
    # The order of the stacked maps, which a spatial kernel depends on.
    maps: tuple[str, ...] = ()
    # The pools of the channel gate, where the names in a network imply them.
    pools: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("modules", "maps", "pools"):
            object.__setattr__(self, name, tuple(getattr(self, name)))


GATES: dict[type[keras.layers.Layer], tuple[GateKeys, ...]] = {
    getattr(layers, name): tuple(GateKeys(**keys) for keys in known)
    for name, known in _NAMES["gates"].items()
}
