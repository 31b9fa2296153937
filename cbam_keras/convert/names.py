"""Names of weights in checkpoints of the authors, torchvision and timm."""

import dataclasses
import re
from collections.abc import Collection, Mapping

import keras

from cbam_keras.layers import (
    BAM,
    SCSE,
    CoordinateAttention,
    EfficientChannelAttention,
    GlobalContext,
    TripletAttention,
)

# The layers of a network: the authors' code, torchvision and timm agree.
NETWORK = {"stem_conv": "conv1", "stem_bn": "bn1", "predictions": "fc"}

# What follows the name of a block, "stage1_block1_" or "layer1.0.".
BLOCK = {
    **{name: name for name in "conv1 bn1 conv2 bn2 conv3 bn3".split()},
    "shortcut_conv": "downsample.0",
    "shortcut_bn": "downsample.1",
}

# The same for EfficientNet-Lite, whose blocks are numbered through.
LITE_NETWORK = {
    "stem_conv": "_conv_stem",
    "stem_bn": "_bn0",
    "head_conv": "_conv_head",
    "head_bn": "_bn1",
    "predictions": "_fc",
}
LITE_BLOCK = {
    "conv1": "_expand_conv",
    "bn1": "_bn0",
    "conv2": "_depthwise_conv",
    "bn2": "_bn1",
    "conv3": "_project_conv",
    "bn3": "_bn2",
}

# The variables of a layer.
CONVOLUTION = {"kernel": "weight", "bias": "bias"}

BATCH_NORM = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


@dataclasses.dataclass(frozen=True)
class Names:
    """Names of one implementation, and the order of its stacked maps."""

    # Matches a name that only this implementation has.
    mark: str
    # The module in a block, the gates in the module, and the variables of the
    # channel gate and layers of the spatial one.
    module: str
    channel: str
    spatial: str
    mlp: Mapping[str, str]
    convolution: str
    batch_norm: str
    # The order of the stacked maps, which the kernel depends on.
    maps: tuple[str, str]
    # The pools of the channel gates, where the names imply them.
    pools: tuple[str, ...] | None
    # What to build for its weights.
    attention: str


def _name_mlp(squeeze: str, excite: str) -> dict[str, str]:
    return {
        f"{ours}_{variable}": f"{module}.{name}"
        for ours, module in (("squeeze", squeeze), ("excite", excite))
        for variable, name in CONVOLUTION.items()
    }


AUTHORS = Names(
    mark=r"(\.|^)(mlp\.1|spatial\.conv)\.weight$",
    module="cbam.",
    channel="ChannelGate.",
    spatial="SpatialGate.",
    mlp=_name_mlp("mlp.1", "mlp.3"),
    convolution="spatial.conv",
    batch_norm="spatial.bn",
    maps=("max", "avg"),
    pools=None,
    attention='functools.partial(CBAM, **VARIANTS["official"])',
)

TIMM = Names(
    mark=r"(\.|^)(channel\.fc1|spatial\.conv\.conv)\.weight$|^conv\.conv\.",
    module="se.",
    channel="channel.",
    spatial="spatial.",
    mlp=_name_mlp("fc1", "fc2"),
    convolution="conv.conv",
    batch_norm="conv.bn",
    maps=("avg", "max"),
    pools=("avg", "max"),
    attention='functools.partial(CBAM, **VARIANTS["timm"])',
)

# The most copied PyTorch version, whose blocks have the gates themselves.
LUUUYI = dataclasses.replace(
    TIMM,
    mark=r"(\.|^)(ca\.fc1|sa\.conv1)\.weight$",
    module="",
    channel="ca.",
    spatial="sa.",
    convolution="conv1",
    batch_norm="bn",
    attention='functools.partial(CBAM, **VARIANTS["luuuyi"])',
)

# Its latest version.
LUUUYI_SEQUENTIAL = dataclasses.replace(
    LUUUYI, mark=r"(\.|^)ca\.fc\.0\.weight$", mlp=_name_mlp("fc.0", "fc.2")
)

# Squeeze-and-excitation of timm has the names of its channel gate.
SQUEEZE_EXCITE = dataclasses.replace(
    TIMM,
    mark=r"((\.|^)se\.|^)fc1\.weight$",
    channel="",
    pools=("avg",),
    attention="SqueezeExcite",
)


@dataclasses.dataclass(frozen=True)
class Gate:
    """Names of the weights in the authors' module of another gate."""

    # The keys are paths of our variables, of normalizations, and of pairs of a
    # kernel and a bias.
    weights: Mapping[str, str]
    # What blocks of residual networks call the module.
    modules: tuple[str, ...] = ()
    # Options of ours that compute what the module does, if they differ.
    options: Mapping[str, str] = dataclasses.field(default_factory=dict)


_BAM = "channel_att.gate_c.gate_c_", "spatial_att.gate_s.gate_s_"


def _context(term: str) -> Gate:
    return Gate(
        {
            "weighting": "conv_mask",
            "squeeze": f"channel_{term}_conv.0",
            "gamma": f"channel_{term}_conv.1.weight",
            "beta": f"channel_{term}_conv.1.bias",
            "excite": f"channel_{term}_conv.3",
        },
        ("context_block.",),
    )


def _coordinate(rows: str, columns: str) -> Gate:
    names = {"squeeze": "conv1", "batch_norm": "bn1"}
    return Gate({**names, "excite.0": rows, "excite.1": columns})


# Each class has the sets of names by which its weights are known.
GATES: dict[type[keras.layers.Layer], tuple[Gate, ...]] = {
    BAM: (
        Gate(
            {
                "squeeze": f"{_BAM[0]}fc_0",
                "channel_norm": f"{_BAM[0]}bn_1",
                "excite": f"{_BAM[0]}fc_final",
                "reduce": f"{_BAM[1]}conv_reduce0",
                "spatial_norms.0": f"{_BAM[1]}bn_reduce0",
                "dilated.0": f"{_BAM[1]}conv_di_0",
                "spatial_norms.1": f"{_BAM[1]}bn_di_0",
                "dilated.1": f"{_BAM[1]}conv_di_1",
                "spatial_norms.2": f"{_BAM[1]}bn_di_1",
                "spatial": f"{_BAM[1]}conv_final",
            },
            options={"combine": "multiply"},
        ),
    ),
    CoordinateAttention: (
        _coordinate("conv_h", "conv_w"),
        # The authors' MobileNetV2 has these names.
        _coordinate("conv2", "conv3"),
    ),
    EfficientChannelAttention: (
        # The authors call the module `eca`, and timm `se`.
        Gate({"kernel": "conv.weight"}, ("eca.", "se.")),
    ),
    GlobalContext: (_context("add"), _context("mul")),
    SCSE: (
        Gate(
            {"squeeze": "cSE.fc1", "excite": "cSE.fc2", "spatial": "sSE.conv"}
        ),
    ),
    TripletAttention: (
        Gate(
            {
                f"{ours}.{plane}": f"{plane}.conv.{theirs}"
                for plane in ("cw", "hc", "hw")
                for ours, theirs in (
                    ("kernels", "conv.weight"),
                    ("batch_norms", "bn"),
                )
            },
            ("triplet_attention.",),
        ),
    ),
}


# The order counts: the last mark matches names of the ones before it.
SOURCES = (
    AUTHORS,
    LUUUYI_SEQUENTIAL,
    LUUUYI,
    TIMM,
    SQUEEZE_EXCITE,
)


def source_of(names: Collection[str]) -> Names | None:
    """Returns the implementation of the attention among some names."""
    marked = (x for x in SOURCES if any(re.search(x.mark, y) for y in names))
    return next(marked, None)
