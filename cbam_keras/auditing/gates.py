"""The two gates of a layer, distinguished and measured by what they do."""

import dataclasses
import math

import numpy as np

from cbam_keras.auditing.inputs import constant
from cbam_keras.auditing.subject import Subject, same, spread

# Relative variation below which a map counts as constant.
CONSTANT = 1e-3
# Makes logits so large that a sigmoid is 0 or 1.
LOUD = 1e3


@dataclasses.dataclass(frozen=True)
class Gates:
    """Kernels of the channel and of the spatial gate, and maps of each.

    Attributes:
        subject: The `Subject`.
        channel: List of indices of its kernels that belong to the channel
            gate.
        spatial: List of those that belong to the spatial gate.
        at_rest: Float, the factor of the input if all kernels are 0.
        hidden: List of the gates that cannot be seen while the other is at
            rest, because that is 0 there.
    """

    subject: Subject
    channel: list[int]
    spatial: list[int]
    at_rest: float
    hidden: list[str] = dataclasses.field(default_factory=list)

    def map(self, gate, x, values):
        """Returns the map of a gate, `(B, H, W, C)`, the other at rest.

        It is 1 where the gate is at rest, if it is not 0 there. Where it
        cannot be measured it is NaN.
        """
        muted = self.subject.muted
        if gate not in self.hidden:
            values = muted(values, self.others(gate))
            return self.subject.gate(x, values) / (self.at_rest or 1.0)
        if gate == "channel":
            return np.full(x.shape, np.nan)
        # Behind a channel gate that is 0 at rest.
        whole = self.subject.gate(x, values)
        channel = self.subject.gate(x, muted(values, self.spatial))
        return whole / np.where(np.abs(channel) < 1e-2, np.nan, channel)

    def others(self, gate):
        """Returns the kernels of the other gate."""
        return self.spatial if gate == "channel" else self.channel


def find_gates(subject: Subject) -> Gates:
    """Returns which kernels belong to which gate.

    Without the kernels of the spatial gate, each channel is multiplied by
    the same factor at all positions.
    """
    values = subject.values()
    subject.offset = _offset(subject)
    silent = subject.muted(values, subject.kernels)
    at_rest = float(subject.gate(subject.x, silent).mean())
    whole = subject.gate(subject.x, values)
    spatial = []
    if spread(whole, (1, 2)) < CONSTANT:
        spatial = [i for i in subject.kernels if _has_window(subject, i)]
    elif spread(whole, 3) < CONSTANT:
        spatial = subject.kernels
    else:
        spatial = [
            i for i in subject.kernels if _is_spatial(subject, i, values, whole)
        ]
    channel = [i for i in subject.kernels if i not in spatial]
    gates = Gates(subject, channel, spatial, at_rest)
    for gate in ("channel", "spatial"):
        alone = gates.map(gate, subject.x, values)
        if np.abs(alone).max() < 1e-6:
            gates.hidden.append(gate)
    return gates


def kind_of(gates: Gates, gate: str) -> str:
    """Returns what the map of a gate is computed by.

    Returns:
        `"sigmoid"`; `"clipped"`, a sigmoid of a ReLU; `"relu"`; `"other"`;
        or `"unknown"`, if the other gate hides it.
    """
    subject = gates.subject
    own = gates.channel if gate == "channel" else gates.spatial
    values = subject.values()
    # Several, because the sign of a few weights may be the same.
    loud = np.stack(
        [
            gates.map(gate, subject.x, subject.muted(more, own, LOUD))
            for more in (values, subject.values(1), subject.values(2))
        ]
    )
    if np.isnan(loud).all():
        return "unknown"
    low, high = np.nanmin(loud), np.nanmax(loud)
    if abs(high - 2) < 0.05 and low < 0.05:
        kind = "sigmoid"
    elif abs(high - 2) < 0.05 and abs(low - 1) < 0.02:
        kind = "clipped"
    elif abs(low) < 1e-6 and high > 2.05:
        kind = "relu"
    else:
        return "other"
    x = 0.3 * subject.x
    if gate == "channel":
        # The same for both pools, wherever they are added.
        x = constant(x, x.max(axis=(1, 2)))
    last = [i for i in own if subject.weights[i].shape[-1] in (1, x.shape[-1])]
    halved = gates.map(gate, x, subject.muted(values, last, 0.5))
    before = logits(gates.map(gate, x, values), kind)
    after = logits(halved, kind)
    # Half, or a quarter if two of the kernels are last.
    halves = [known_same(after, factor * before) for factor in (0.5, 0.25)]
    return kind if any(halves) else "other"


def logits(values: np.ndarray, kind: str) -> np.ndarray:
    """Returns what a gate was computed from, NaN where that is lost."""
    if kind == "relu":
        return np.where(values > 1e-4, values, np.nan)
    half = np.clip(values / 2, 1e-7, 1 - 1e-7)
    found = np.log(half / (1 - half))
    lost = np.isnan(values) | (np.abs(found) > 12)
    if kind == "clipped":
        lost |= values < 1 + 1e-4
    return np.where(lost, np.nan, found)


def known_same(a: np.ndarray, b: np.ndarray) -> bool:
    """Returns whether arrays are equal where both are known."""
    known = np.isfinite(a) & np.isfinite(b)
    return same(a[known], b[known]) if known.any() else True


def _offset(subject):
    """Returns 1 if the layer adds its input to the product, else 0."""
    loud = subject.muted(subject.values(), subject.kernels, LOUD)
    lowest = subject.gate(subject.x, loud).min()
    return float(lowest > 0.98)


def _is_spatial(subject, index, values, whole):
    without = subject.gate(subject.x, subject.muted(values, [index]))
    if np.abs(without).max() < 1e-6:
        # The gate is a ReLU, which is 0 then: nothing more can be seen.
        return _has_window(subject, index)
    if spread(without, (1, 2)) < CONSTANT:
        return True
    others = list(values)
    others[index] = subject.values(seed=1)[index]
    changed = subject.gate(subject.x, others)
    return same(_by_channel(changed), _by_channel(whole))


def _by_channel(factors):
    """Returns how factors differ between channels, `(B, C)`."""
    found = np.log(np.maximum(factors, 1e-9)).mean(axis=(1, 2))
    return found - found.mean(axis=-1, keepdims=True)


def _has_window(subject, index):
    return math.prod(subject.weights[index].shape[:-2]) > 1
