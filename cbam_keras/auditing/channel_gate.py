"""Checks of the channel gate: pools, shared MLP, activation, sigmoid."""

import numpy as np

from cbam_keras.auditing import inputs
from cbam_keras.auditing.gates import (
    CONSTANT,
    Gates,
    kind_of,
    known_same,
    logits,
)
from cbam_keras.auditing.results import Findings
from cbam_keras.auditing.subject import same, spread

# What is said of a gate that is not a sigmoid.
KINDS = {
    "clipped": "The {gate} gate is never below one half: a ReLU precedes its "
    "sigmoid.",
    "relu": "The {gate} gate is a ReLU in place of a sigmoid, so it is not "
    "bounded by 1.",
    "other": "The {gate} gate is not a sigmoid.",
}


def check_channel_gate(gates: Gates, found: Findings) -> None:
    """Adds what the channel gate does."""
    subject = gates.subject
    if not gates.channel:
        found.departures.append(
            "There is no channel attention: all channels of a position are "
            "multiplied by the same factor."
        )
        return
    found.facts["channel"] = kind = kind_of(gates, "channel")
    if kind == "unknown":
        found.unchecked.append(
            "The channel gate, because the spatial gate is 0 at rest."
        )
        return
    if kind in KINDS:
        found.departures.append(KINDS[kind].format(gate="channel"))
    if spread(_map(gates, subject.x, 0, False), (1, 2)) > CONSTANT:
        found.departures.append(
            "The channel map is not the same at all positions."
        )
        return
    _check_pools(gates, found)
    if len(gates.channel) < 2:
        found.departures.append(
            "The channel gate has a single dense layer in place of an MLP "
            "with a hidden layer."
        )
    elif kind != "other":
        _check_mlp(gates, kind, found)
    _note_weights(gates, found)


def pools_used(run, x, over):
    """Returns the pools over an axis that a map depends on.

    Args:
        run: Function of features that returns the maps of several weights.
        x: Features `(B, H, W, C)`.
        over: `"positions"` or `"channels"`.

    Returns:
        Tuple of strings among `"avg"`, `"max"` and `"other"`.
    """
    before = run(x)
    changes = {
        "avg": inputs.other_average,
        "max": inputs.other_maximum,
        "other": inputs.other_spread,
    }
    return tuple(
        name
        for name, change in changes.items()
        if not same(run(change(x, over)), before)
    )


def say_pools(gate, pools, over, found):
    """Adds a departure unless a gate has both pools and no other."""
    if "other" in pools:
        found.departures.append(
            f"The {gate} gate depends on more than the average and the "
            f"maximum over {over}."
        )
    elif not pools:
        found.departures.append(
            f"The {gate} gate does not depend on its input's average or "
            f"maximum over {over}."
        )
    elif len(pools) == 1:
        name = {"avg": "average", "max": "maximum"}[pools[0]]
        found.departures.append(
            f"The {gate} gate pools by the {name} over {over} alone."
        )


def _map(gates, x, seed=0, mean=True):
    """Returns the channel map, `(B, C)` or `(B, H, W, C)`."""
    found = gates.map("channel", x, gates.subject.values(seed))
    return found.mean(axis=(1, 2)) if mean else found


def _check_pools(gates, found):
    x = gates.subject.x

    def run(x):
        return np.stack([_map(gates, x, seed) for seed in (0, 1)])

    if not same(run(inputs.shuffled(x)), run(x)):
        found.departures.append(
            "The channel map depends on the order of the positions: its "
            "pools are not global."
        )
        return
    pools = pools_used(run, x, inputs.POSITIONS)
    found.facts["channel_pool_types"] = pools
    say_pools("channel", pools, inputs.POSITIONS, found)


def _check_mlp(gates, kind, found):
    x = 0.3 * gates.subject.x
    average, maximum = x.mean(axis=(1, 2)), x.max(axis=(1, 2))

    def run(x, seed):
        factors = _map(gates, x, seed)
        return factors, logits(factors, kind)

    def at(values, seed):
        # The average and the maximum of a constant are the same.
        return run(inputs.constant(x, values), seed)

    shared, linear, homogeneous, summed_late = [], [], [], []
    for seed in (0, 1):
        (p, z), (p1, z1), (p2, z2) = (
            run(x, seed),
            at(average, seed),
            at(maximum, seed),
        )
        shared.append(known_same(z, (z1 + z2) / 2))
        summed_late.append(known_same(p, (p1 + p2) / 2))
        opposite = at(-0.5 * maximum, seed)[1]
        between = at(0.25 * maximum, seed)[1]
        linear.append(known_same(between, (z2 + opposite) / 2))
        homogeneous.append(known_same(at(2 * maximum, seed)[1], 2 * z2))
    both = found.facts.get("channel_pool_types") == ("avg", "max")
    if both and not all(shared):
        found.departures.append(
            "The sigmoid of the channel gate is applied to each pooled branch "
            "and the results are added: the gate reaches 2."
            if kind == "sigmoid" and all(summed_late)
            else "The average and the maximum do not go through one shared "
            "MLP whose outputs are added before the sigmoid."
        )
        found.facts["summed_late"] = all(summed_late)
    if all(linear):
        found.departures.append(
            "There is no activation between the two dense layers of the "
            "channel gate, so they are one linear layer."
        )
        found.facts["activation"] = "linear"
    elif not all(homogeneous):
        found.departures.append(
            "The activation between the two dense layers of the channel gate "
            "is not a ReLU."
        )


def _note_weights(gates, found):
    subject = gates.subject
    channels = subject.x.shape[-1]
    shapes = [tuple(subject.weights[i].shape) for i in gates.channel]
    hidden = [s[-1] for s in shapes if s[-2] == channels and s[-1] != channels]
    if hidden:
        found.facts["hidden_units"] = hidden[0]
        found.choices.append(
            f"The hidden layer of the MLP has a width of {hidden[0]} for "
            f"{channels} channels."
        )
    sizes = [w.shape for w in subject.weights if w.ndim == 1]
    found.facts["use_bias"] = biases = (channels,) in map(tuple, sizes)
    found.choices.append(f"The MLP has {'biases' if biases else 'no biases'}.")
