"""What attention does otherwise than its paper: variants, and faults.

One table decides for every name: what is a fault in a `CBAM` is one in a
`channel_attention`, too. A difference that is not in it makes a module other
than the paper's where the name is that of one module. Where the name is that
of an axis, several papers have such gates, and the verdict says what it is.
"""

import dataclasses
import enum
from collections.abc import Iterator, Mapping
from typing import Any

VARIANT, FAULT = "variant", "fault"


class Departure(enum.Enum):
    """One thing that differs from the paper: what follows, and its words."""

    # The papers, the authors' code or other published modules have these.
    SIZES = VARIANT, "another reduction ratio, kernel size or dilation"
    CONSTANT = VARIANT, "another regularization of SimAM"
    BIASES = VARIANT, "biases"
    POOL_ORDER = VARIANT, "the maximum before the mean"
    ORDER = VARIANT, "the spatial gate first, or both in parallel"
    HALVES = VARIANT, "another combination of both halves of scSE or BAM"
    FUSION = VARIANT, "global context that multiplies"
    ACTIVATION = VARIANT, "another activation inside the MLP"
    HARD_SIGMOID = VARIANT, "a hard sigmoid"
    NORM_BEFORE = VARIANT, "normalization before the sigmoid"
    EPSILON = VARIANT, "epsilon"
    ONE_WEIGHT = VARIANT, "a convolution of one weight"
    INPUT_ADDED = VARIANT, "its input is added, x * (1 + factors)"
    START = VARIANT, "it begins as the identity"
    PLACE = VARIANT, "channels first"

    POOLS = FAULT, "pools other than mean and maximum"
    OWN_WEIGHTS = FAULT, "separate weights for each pool"
    JOINED = FAULT, "mean and maximum are not joined by MLP(mean) + MLP(max)"
    OWN_SIGMOIDS = FAULT, "one sigmoid per pool, so factors reach 2"
    NO_SIGMOID = FAULT, "another function instead of the sigmoid"
    NORM_AFTER = FAULT, "normalization after the sigmoid"
    ADDS = FAULT, "adds, does not multiply"
    ONE_POSITION = FAULT, "a kernel of size 1"

    def __init__(self, kind: str, words: str):
        self.kind = kind
        self.words = words

    @property
    def is_fault(self) -> bool:
        """Whether no paper has it."""
        return self.kind == FAULT

    def say(self, more: str = "") -> "Difference":
        """Returns it as a difference, whose words end with `more`."""
        return Difference(f"{self.words}{more}", self)


@dataclasses.dataclass(frozen=True)
class Difference:
    """What differs, in words; its departure is `None` if none is known."""

    words: str
    departure: Departure | None = None

    @property
    def is_variant(self) -> bool:
        """Whether the table calls it a variant."""
        return self.departure is not None and not self.departure.is_fault

    @property
    def is_fault(self) -> bool:
        """Whether the table calls it a fault."""
        return self.departure is not None and self.departure.is_fault


# What arguments of our layers are, where their values are not the defaults.
ARGUMENTS: dict[str, Departure] = {
    "reduction_ratio": Departure.SIZES,
    "hidden_units": Departure.SIZES,
    "min_hidden_units": Departure.SIZES,
    "kernel_size": Departure.SIZES,
    "dilation_rate": Departure.SIZES,
    "regularization": Departure.CONSTANT,
    "use_bias": Departure.BIASES,
    "pool_types": Departure.POOL_ORDER,
    "batch_norm": Departure.NORM_BEFORE,
    "order": Departure.ORDER,
    "combine": Departure.HALVES,
    "fusion": Departure.FUSION,
    "activation": Departure.ACTIVATION,
    "gate_activation": Departure.HARD_SIGMOID,
    "identity_init": Departure.START,
    "data_format": Departure.PLACE,
}
POOL_NAMES = {"avg": "mean", "max": "maximum", "min": "minimum"}
# What is pooled by the half of CBAM that an argument begins with.
POOLED = {"channel": "positions", "spatial": "channels"}


def differences(
    arguments: Mapping[str, Any], half: str = ""
) -> Iterator[Difference]:
    """Yields what arguments of a layer of ours are, which are no defaults.

    `half` is that of CBAM which the layer is, if it is one.
    """
    for name, value in arguments.items():
        prefix, _, rest = name.partition("_")
        is_of_half = prefix in POOLED
        short = rest if is_of_half else name
        what = prefix if is_of_half else half
        if short == "pool_types" and len(value) == 1:
            yield pooled_by(what, value)
        elif (short, value) == ("combine", "gates"):
            yield Departure.OWN_SIGMOIDS.say()
        elif (short, value) == ("kernel_size", 1):
            yield Departure.ONE_POSITION.say()
        elif short == "gate_activation" and value in ("tanh", "relu"):
            yield Departure.NO_SIGMOID.say(f": {value}")
        else:
            yield ARGUMENTS[short].say()


def pooled_by(half: str, pools: tuple[str, ...]) -> Difference:
    """Returns what pools of a half of CBAM are, other than the paper's."""
    several = " and ".join(POOL_NAMES[pool] for pool in pools)
    only = " only" if len(pools) == 1 else ""
    return Departure.POOLS.say(f": {POOLED[half]} by the {several}{only}")
