"""What the name of attention claims, and whether it computes that."""

import inspect
import re
from typing import Any

from cbam_keras import layers
from cbam_keras.recognition.departures import differences
from cbam_keras.recognition.verdicts import Finding, Verdict

# What follows the name of a gate without a space, as in "seblock".
_KIND = "(?:block|layer|module|net|unit|gate|attention|attn|att)?s?"
_ATTENTION = "_?(?:wise_?)?(?:attention|attn|att|gate)"
# The claims that a name can make, the layer that keeps each, and its patterns
# in the words of a name, joined by "_".
CLAIMS: dict[str, tuple[type[layers.AttentionLayer], str]] = {
    "CBAM": (layers.CBAM, f"cbam{_KIND}|convolutional_block_attention"),
    "BAM": (layers.BAM, f"bam{_KIND}|bottleneck_attention"),
    "scSE": (
        layers.SCSE,
        f"sc_?se{_KIND}|(?:spatial_channel|channel_spatial)_se",
    ),
    "SE": (
        layers.SqueezeExcite,
        f"c?_?se_?{_KIND}|squeeze_?(?:(?:and|n)_?)?excit(?:e|ation)",
    ),
    "ECA": (
        layers.EfficientChannelAttention,
        f"eca{_KIND}|efficient_channel_attention",
    ),
    "SimAM": (layers.SimAM, "sim_?am"),
    "coordinate attention": (
        layers.CoordinateAttention,
        f"coord(?:inate)?{_ATTENTION}",
    ),
    # One of its three branches is none of it. A name with SE in it, such as
    # "TripSE", claims neither alone.
    "triplet attention": (
        layers.TripletAttention,
        f"triplet{_ATTENTION}(?!_?branch)|trip(?:let)?_?se",
    ),
    "global context": (
        layers.GlobalContext,
        "global_?context|gc_?(?:block|net|att)",
    ),
}
REDUCTION = "reduction_ratio"
# Claims of an axis alone.
AXES = {"channel attention": "channel", "spatial attention": "spatial"}

# The halves of CBAM.
HALVES = {
    layers.ChannelAttention: "channel",
    layers.SpatialAttention: "spatial",
}


def claim_of(name: str) -> str:
    """Returns what a name claims: a key of `CLAIMS` or `AXES`, or nothing.

    A claim is the name of one attention module among the words of the name of
    a class, a function or a layer: `"SE"` of `"SEBlock"` and `"se_block_3"`,
    none of `"sequential"`.
    """

    def has(pattern):
        return _has(name, pattern)

    found = [claim for claim, (_, words) in CLAIMS.items() if has(words)]
    axes = [claim for claim, axis in AXES.items() if has(f"{axis}(?:wise)?")]
    if found in (["CBAM"], ["BAM"]) and len(axes) == 1:
        # A half of it.
        return axes[0]
    if has("s_?se|spatial_(?:se|squeeze)") and "scSE" not in found:
        return "spatial attention"
    if "scSE" in found:
        return "scSE"
    if found:
        return found[0] if len(found) == 1 else ""
    named = [claim for claim in axes if has(AXES[claim] + _ATTENTION)]
    return named[0] if named and len(axes) == 1 else ""


def is_meant(name: str) -> bool:
    """Returns whether a class of this name is meant to be attention."""
    several = "attention|attn|att|gated?|excitation|excite"
    # Public code has them with these typing errors, too.
    several += "|attetion|atention|attension|attenion"
    # Several modules in a name are no claim, and meant all the same.
    several = "|".join([several, *(words for _, words in CLAIMS.values())])
    return bool(claim_of(name)) or _has(name, several)


def _has(name, pattern):
    """Returns whether a pattern is among the words of a name."""
    camel = re.findall("[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)
    several = ["_".join(camel), re.sub("[^a-z]+", "_", name.lower())]
    text = "__".join(several).lower()
    return re.search(f"(?:^|_)(?:{pattern})(?:_|$)", text) is not None


def differs(claim: str, computed: Any, gated: set[str]) -> Verdict | None:
    """Returns how a gate differs from a claim, or `None` if it does not.

    `computed` is the match with a layer of ours, if any, and `gated` the
    axes that it gates. What `departures` calls a variant agrees.
    """
    if axis := AXES.get(claim):
        if axis not in gated or axis == "channel" and len(gated) > 1:
            places = {"channel": "channels", "spatial": "positions"}
            axes = " and ".join(places[x] for x in sorted(gated)) or "one axis"
            return Finding.NONE.say(claim=claim, what=f"factors for {axes}")
        return fault_of(claim, computed) if computed else None
    expected = CLAIMS[claim][0]
    layer_class = computed.layer_class
    if layer_class is not expected:
        # One pool alone makes the channel half SE.
        halves = {layers.SqueezeExcite: "channel", **HALVES}
        if expected is layers.CBAM and layer_class in halves:
            return Finding.HALF.say(claim=claim, half=halves[layer_class])
        modules = {kind: name for name, (kind, _) in CLAIMS.items()}
        for half_class, half in HALVES.items():
            modules[half_class] = f"the {half} attention of CBAM"
        return Finding.OTHER.say(claim=claim, module=modules[layer_class])
    return fault_of(claim, computed)


def fault_of(claim: str, computed: Any) -> Verdict | None:
    """Returns the first fault of a match, if it has one."""
    half = HALVES.get(computed.layer_class, "")
    for difference in differences(computed.arguments, half):
        if difference.is_fault:
            return Finding.CHANGED.say(claim=claim, what=difference.words)
    return None


def layer_of(claim: str) -> type[layers.AttentionLayer]:
    """Returns the class of ours that keeps a claim."""
    if axis := AXES.get(claim):
        return next(x for x, half in HALVES.items() if half == axis)
    return CLAIMS[claim][0]


def remedy(claim: str, computed: Any) -> str:
    """Returns what to do with a gate that is not what it is called."""
    layer_class = layer_of(claim)
    ratio = computed.arguments.get(REDUCTION, "") if computed else ""
    if next(iter(inspect.signature(layer_class).parameters)) != REDUCTION:
        ratio = ""
    return f"replace it with `{layer_class.__name__}({ratio})`, or rename it"


def place_kind(layer_class):
    """Returns the kind of gates of a class of ours, `""` if it has none."""
    kinds = (kind for kind, x in layers.ATTENTION.items() if x is layer_class)
    return next(kinds, "")
