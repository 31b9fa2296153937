"""Checks of the whole: order and scale of the gates."""

import numpy as np

from cbam_keras.auditing.gates import Gates
from cbam_keras.auditing.results import Findings


def check_arrangement(gates: Gates, found: Findings) -> None:
    """Adds how the gates are combined."""
    if gates.subject.offset:
        found.departures.append(
            "The layer adds its input to the product: that addition belongs "
            "to the residual block, not to the module."
        )
    if {"channel", "spatial"} <= set(found.facts):
        _check_order(gates, found)
    _check_scale(gates, found)


def _check_order(gates, found):
    subject = gates.subject
    values = subject.values()
    x = subject.x
    _, height, width, _ = x.shape
    swapped = x.copy()
    swapped[:, 0, 0], swapped[:, -1, -1] = x[:, -1, -1], x[:, 0, 0]
    middle = np.s_[:, height // 2, width // 2]
    # Far from the swapped positions, a spatial map that comes first stays the
    # same, and so does a channel map that is computed from the input.
    before, after = (subject.gate(y, values)[middle] for y in (x, swapped))
    if np.abs(after - before).max() > 1e-5 * np.abs(before).max():
        found.departures.append(
            "The spatial gate comes before the channel gate; the paper "
            "applies the channel gate first."
        )
        found.facts["order"] = "spatial_first"
        return
    # If both maps are computed from the input, another channel gate does not
    # change the spatial map.
    first, second = (_spatial_map(gates, seed) for seed in (0, 1))
    known = np.isfinite(first) & np.isfinite(second)
    if known.any() and np.abs(first - second)[known].max() < 1e-4:
        found.departures.append(
            "Both gates are computed from the input, in parallel; the paper "
            "computes the spatial gate from the output of the channel gate."
        )
        found.facts["order"] = "parallel"


def _spatial_map(gates, seed):
    """Returns the spatial map behind one of several channel gates."""
    subject = gates.subject
    values, others = subject.values(), subject.values(seed)
    for i in gates.channel:
        values[i] = others[i]
    whole = subject.gate(subject.x, values)
    channel = subject.gate(subject.x, subject.muted(values, gates.spatial))
    channel[np.abs(channel) < 1e-2] = np.nan
    return whole / channel


def _check_scale(gates, found):
    kinds = {
        found.facts.get(gate)
        for gate in ("channel", "spatial")
        if getattr(gates, gate)
    }
    if not gates.at_rest or not kinds <= {"sigmoid", "clipped"}:
        return
    count = bool(gates.channel) + bool(gates.spatial)
    scale = gates.at_rest * 2**count
    if found.facts.get("summed_late"):
        # The excess is reported already.
        scale /= 2
    if abs(scale - 1) < 0.01:
        return
    if abs(scale - 2**count) < 0.01:
        found.facts["identity_init"] = True
        found.choices.append(
            "The gates lie between 0 and 2 and are 1 at rest (2 * sigmoid), "
            "to start as the identity."
        )
    else:
        found.departures.append(
            f"The gates together lie between 0 and {scale:.3g}, in place of "
            "0 and 1."
        )
