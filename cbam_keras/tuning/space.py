"""Default values and checks of the hyperparameters of `CBAMHyperModel`."""

from typing import Any

from cbam_keras import _checks, comparison
from cbam_keras.layers import ATTENTION, ORDERS

ARMS = ("none", *ATTENTION)

CHANNEL = ("cbam", "se", "channel")

SPATIAL = ("cbam", "spatial")

# Stages of residual networks; others take one attention for all places.
STAGES = {"tiny": 3, "small": 3, "mobilenet": 0}

OTHER_STAGES = 4

# The layer of the paper, where the search begins.
PAPER: dict[str, Any] = {
    "reduction_ratio": 16,
    "kernel_size": 7,
    "order": "channel_first",
    "channel_pool_types": "avg+max",
    "spatial_pool_types": "avg+max",
    "learning_rate": 0.01,
}

# The default values to choose from.
KINDS = ("none", "se", "cbam")
REDUCTION_RATIOS = (2, 4, 8, 16)
KERNEL_SIZES = (3, 5, 7)

# Beside CBAM, SE is a control: one network by default.
SE_REDUCTION_RATIO = 4


def conditional(hp, arm, arms, ask, everything):
    """Asks for a value that only these kinds of attention have."""
    kinds = [own for own in hp.space if own.name == "attention"]
    if not kinds:
        # A function chooses the kind, so when this is in use is not known.
        return ask(hp) if arm in arms or everything else None
    possible = [value for value in kinds[0].values if value in arms]
    if not possible:
        return None
    if arm not in arms and everything:
        # To register nested hyperparameters, as if it was in use.
        probe = hp.copy()
        probe.values["attention"] = possible[0]
        with probe.conditional_scope("attention", possible):
            ask(probe)
        hp.merge(probe.space, overwrite=False)
    with hp.conditional_scope("attention", possible):
        return ask(hp) if arm in arms else None


def default(name, options):
    if name == "attention":
        return next((a for a in ("none", "cbam") if a in options), options[0])
    wanted = PAPER[name]
    if isinstance(wanted, str):
        return wanted if wanted in options else options[0]
    return min(options, key=lambda value: abs(value - wanted))


def either(value, check):
    """Returns a function as it is, and values checked, as a tuple."""
    return value if value is None or callable(value) else check(value)


def _arms(value):
    return _checks.subset("attention", value, ARMS)


def orders(value):
    return _checks.subset("order", value, ORDERS)


def ratios(value):
    return _several("reduction_ratio", value, _checks.positive_integer)


def sides(value):
    return _several("kernel_size", value, _checks.odd_integer)


def rates(value):
    return _several("learning_rate", value, _checks.positive_number)


def _several(name, value, check):
    chosen = value
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        chosen = (value,)
    chosen = tuple(check(name, one) for one in chosen)
    if not chosen or len(set(chosen)) != len(chosen):
        raise ValueError(
            f"`{name}` must be one or several values, each at most once. "
            f"Received: {name}={value!r}"
        )
    return chosen


def pools(name, known, value):
    joined = (value,) if isinstance(value, str) else value
    try:
        chosen = tuple(
            one if isinstance(one, str) else "+".join(one) for one in joined
        )
    except TypeError:
        chosen = ()
    whole = {"conv"} if name == "spatial_pool_types" else set()
    for one in chosen:
        if one not in whole:
            _checks.subset(name, one.split("+"), known)
    if not chosen or len(set(chosen)) != len(chosen):
        raise ValueError(
            f'`{name}` must be one or several pools as "avg+max", each at '
            f"most once. Received: {name}={value!r}"
        )
    return chosen


def as_pools(value):
    if not isinstance(value, str):
        return tuple(value)
    return value if value == "conv" else tuple(value.split("+"))


def layer_options(values, identity_init):
    """Returns the keyword arguments of the attention layer of these values.

    Args:
        values: Dictionary, hyperparameters to values, `None` where the layer
            has no such argument.
        identity_init: Boolean.
    """
    arm, given = values["attention"], {}
    if arm == "none":
        return given
    for name in ("reduction_ratio", "kernel_size"):
        if values[name] is not None:
            given[name] = values[name]
    for name in ("order", "channel_pool_types", "spatial_pool_types"):
        # The values of the paper are the defaults of the layers.
        if values[name] not in (None, PAPER[name]):
            own = name if arm == "cbam" else name.removeprefix(f"{arm}_")
            value = values[name]
            given[own] = value if name == "order" else as_pools(value)
    return {**given, **comparison.start_options(arm, identity_init)}


def _stages(value, model):
    own = None if callable(model) else STAGES.get(model, OTHER_STAGES)
    if callable(value):
        return value
    if value is False:
        return 0
    if value is True:
        if not own:
            raise ValueError(
                "`stages=True` needs a residual network known by name, whose "
                "number of stages is known. Received: stages=True, "
                f"model={model!r}. For a function, give the number of stages"
            )
        return own
    if hasattr(value, "__iter__") and not isinstance(value, str):
        value = tuple(_checks.boolean("stages", stage) for stage in value)
        if not any(value):
            raise ValueError(
                "`stages` must have attention somewhere; without is "
                f'attention="none". Received: stages={value}'
            )
        count = len(value)
    else:
        value = count = _checks.positive_integer("stages", value)
    if own is not None and count != own:
        raise ValueError(
            f'Model "{model}" has {own or "no"} stages that take attention '
            f"of their own. Received: stages={value!r}"
        )
    return value
