"""Names of weights in checkpoints of the authors, torchvision and timm."""

import dataclasses
from collections.abc import Mapping

import keras

from cbam_keras.layers import (
    BAM,
    CBAM,
    SCSE,
    ChannelAttention,
    CoordinateAttention,
    EfficientChannelAttention,
    GlobalContext,
    SpatialAttention,
    SqueezeExcite,
    TripletAttention,
)

# The layers of a network: the authors' code, torchvision and timm agree.
NETWORK = {"stem_conv": "conv1", "stem_bn": "bn1", "predictions": "fc"}

# What follows the name of a block, "stage1_block1_" or "layer1.0.".
ALIKE = ("conv1", "bn1", "conv2", "bn2", "conv3", "bn3")
BLOCK = {
    **{name: name for name in ALIKE},
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

CONVOLUTION = {"kernel": "weight", "bias": "bias"}
BATCH_NORM = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


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


def _name_mlp(squeeze: str, excite: str) -> dict[str, str]:
    return {
        f"{ours}_{variable}": f"{module}.{name}"
        for ours, module in (("squeeze", squeeze), ("excite", excite))
        for variable, name in CONVOLUTION.items()
    }


def _name_spatial(convolution: str, batch_norm: str) -> dict[str, str]:
    return {
        "kernel": f"{convolution}.weight",
        "bias": f"{convolution}.bias",
        "batch_norm": batch_norm,
    }


_AVG_MAX = ("avg", "max")
# The module in a block, its gates, their weights, the stacked maps, the pools.
_AUTHORS = (
    "cbam.",
    "ChannelGate.",
    "SpatialGate.",
    _name_mlp("mlp.1", "mlp.3"),
    _name_spatial("spatial.conv", "spatial.bn"),
    ("max", "avg"),
    (),
)
_TIMM = (
    "se.",
    "channel.",
    "spatial.",
    _name_mlp("fc1", "fc2"),
    _name_spatial("conv.conv", "conv.bn"),
    _AVG_MAX,
    _AVG_MAX,
)
# The most copied version, luuuyi/CBAM.PyTorch, without a module, and its last.
_LUUUYI, _SEQUENTIAL = (
    ("", "ca.", "sa.", mlp, _name_spatial("conv1", "bn"), _AVG_MAX, _AVG_MAX)
    for mlp in (_name_mlp("fc1", "fc2"), _name_mlp("fc.0", "fc.2"))
)
_CBAM = (_AUTHORS, _LUUUYI, _SEQUENTIAL, _TIMM)
_SQUEEZE_EXCITE = GateKeys(_name_mlp("fc1", "fc2"), ("se.",), pools=("avg",))


def _cbam(module, channel, spatial, mlp, convolution, maps, pools) -> GateKeys:
    names = {
        f"{gate}.{ours}": prefix + theirs
        for gate, prefix, weights in (
            ("channel_attention", channel, mlp),
            ("spatial_attention", spatial, convolution),
        )
        for ours, theirs in weights.items()
    }
    return GateKeys(names, (module,), maps=maps, pools=pools)


_BAM = "channel_att.gate_c.gate_c_", "spatial_att.gate_s.gate_s_"


def _context(term: str) -> GateKeys:
    return GateKeys(
        {
            "weighting": "conv_mask",
            "squeeze": f"channel_{term}_conv.0",
            "gamma": f"channel_{term}_conv.1.weight",
            "beta": f"channel_{term}_conv.1.bias",
            "excite": f"channel_{term}_conv.3",
        },
        ("context_block.",),
    )


def _coordinate(rows: str, columns: str) -> GateKeys:
    names = {"squeeze": "conv1", "batch_norm": "bn1"}
    return GateKeys({**names, "excite.0": rows, "excite.1": columns})


# Each class has the sets of names by which its weights are known.
GATES: dict[type[keras.layers.Layer], tuple[GateKeys, ...]] = {
    CBAM: tuple(_cbam(*names) for names in _CBAM),
    ChannelAttention: (
        *(
            GateKeys(mlp, (module + gate, gate), pools=pools)
            for module, gate, _, mlp, *_, pools in _CBAM
        ),
        _SQUEEZE_EXCITE,
    ),
    SqueezeExcite: (_SQUEEZE_EXCITE,),
    SpatialAttention: tuple(
        GateKeys(weights, (module + gate, gate), maps=maps)
        for module, _, gate, _, weights, maps, _ in _CBAM
    ),
    BAM: (
        GateKeys(
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
        GateKeys({"kernel": "conv.weight"}, ("eca.", "se.")),
    ),
    GlobalContext: (_context("add"), _context("mul")),
    SCSE: (
        GateKeys(
            {"squeeze": "cSE.fc1", "excite": "cSE.fc2", "spatial": "sSE.conv"}
        ),
    ),
    TripletAttention: (
        GateKeys(
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
