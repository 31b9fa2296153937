"""Checks of the spatial gate: one map, both pools, one local convolution."""

import numpy as np

from cbam_keras.auditing import inputs
from cbam_keras.auditing.channel_gate import KINDS, pools_used, say_pools
from cbam_keras.auditing.gates import (
    CONSTANT,
    Gates,
    kind_of,
    known_same,
    logits,
)
from cbam_keras.auditing.results import Findings
from cbam_keras.auditing.subject import same, spread


def check_spatial_gate(gates: Gates, found: Findings) -> None:
    """Adds what the spatial gate does."""
    subject = gates.subject
    factors = subject.gate(subject.x, subject.values())
    if not gates.spatial or spread(factors, (1, 2)) < CONSTANT:
        found.departures.append(
            "There is no spatial attention: all positions of a channel are "
            "multiplied by the same factor."
        )
        return
    found.facts["spatial"] = kind = kind_of(gates, "spatial")
    if kind in KINDS:
        found.departures.append(KINDS[kind].format(gate="spatial"))
    own = gates.map("spatial", subject.x, subject.values())
    differing = np.nanmax(own, axis=3) - np.nanmin(own, axis=3)
    if np.nanmax(differing) > CONSTANT:
        found.departures.append(
            "The spatial map is not the same for all channels: its "
            f"convolution returns {_maps(gates)} maps in place of one."
        )
    if "spatial" in gates.hidden:
        found.unchecked.append(
            "Pools and window of the spatial gate, because the channel gate "
            "is 0 at rest."
        )
    else:
        _check_pools(gates, found)
        _check_window(gates, found)
        _check_convolution(gates, kind, found)
    _note_normalization(gates, found)


def _maps(gates):
    return max(gates.subject.weights[i].shape[-1] for i in gates.spatial)


def _run(gates, x, seed=0, values=None):
    values = gates.subject.values(seed) if values is None else values
    return gates.map("spatial", x, values)


def _check_pools(gates, found):
    x = gates.subject.x
    pools = pools_used(lambda x: _run(gates, x), x, inputs.CHANNELS)
    found.facts["spatial_pool_types"] = pools
    say_pools("spatial", pools, inputs.CHANNELS, found)
    if pools != ("avg", "max"):
        return
    values = gates.subject.values()
    for i in gates.spatial:
        if values[i].ndim == 4 and values[i].shape[-2] == 2:
            # Without the weights of the first of the two stacked maps.
            values[i][..., 0, :] = 0
            left = pools_used(
                lambda x: _run(gates, x, values=values), x, inputs.CHANNELS
            )
            stacked = ("avg", "max") if left == ("max",) else ("max", "avg")
            found.facts["spatial_pool_types"] = stacked
            found.choices.append(
                f"The pooled maps are stacked as [{'; '.join(stacked)}]."
            )
            return


def _check_window(gates, found):
    x = gates.subject.x
    _, height, width, _ = x.shape
    row, column = height // 2, width // 2
    other = x.copy()
    other[:, row, column] *= 2
    changed = np.abs(_run(gates, other) - _run(gates, x)).max(axis=(0, 3))
    rows, columns = (
        np.flatnonzero((changed > 1e-5).any(axis=axis)) for axis in (1, 0)
    )
    if len(rows) in (0, height) or len(columns) in (0, width):
        found.departures.append(
            "The spatial map at a position does not come from a window "
            "around it."
        )
        return
    found.facts["window"] = (len(rows), len(columns))
    step = int(rows[1] - rows[0]) if len(rows) > 1 else 1
    text = f"The spatial convolution is {len(rows)} x {len(columns)}"
    text += f", with a dilation of {step}." if step > 1 else "."
    if len(rows) == len(columns) and step == 1:
        found.facts["kernel_size"] = len(rows)
    found.choices.append(text)
    if row - rows[0] != rows[-1] - row or column - columns[0] != (
        columns[-1] - column
    ):
        found.departures.append(
            "The window of the spatial convolution is not centred on the "
            "position."
        )


def _check_convolution(gates, kind, found):
    if kind == "other":
        return
    # All channels are equal, and so are their average and their maximum.
    x = 0.3 * np.broadcast_to(gates.subject.x[..., :1], gates.subject.x.shape)
    z = logits(_run(gates, x), kind)
    if not all(
        known_same(logits(_run(gates, factor * x), kind), factor * z)
        for factor in (2, -1)
    ):
        found.departures.append(
            "The spatial gate is not one convolution of the pooled maps: its "
            "logits are not proportional to them."
        )


def _note_normalization(gates, found):
    subject = gates.subject
    values, x = subject.values(biases=True), subject.x
    trained = subject.gate(x, values, training=True)
    normalizes = not same(trained, subject.gate(x, values))
    paths = [variable.path for variable in subject.layer.variables]
    named = any("moving_" in path for path in paths)
    found.facts["spatial_batch_norm"] = normalizes or named
    found.choices.append(
        "The spatial gate normalizes before its sigmoid."
        if found.facts["spatial_batch_norm"]
        else "The spatial gate has no normalization."
    )
    if _maps(gates) == 1:
        biases = [w for w in subject.weights if tuple(w.shape) == (1,)]
        # Gamma and beta are not biases of the convolution.
        affine = sum("gamma" in path or "beta" in path for path in paths)
        biased = found.facts["spatial_use_bias"] = len(biases) > affine
        found.choices.append(
            f"The spatial convolution has {'a bias' if biased else 'no bias'}."
        )
