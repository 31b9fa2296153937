"""Whether a layer computes the formula of the paper, and which variant."""

import functools
import math
from typing import Any

import numpy as np

from cbam_keras.auditing import probes
from cbam_keras.auditing.layer_under_test import LayerUnderTest, same
from cbam_keras.auditing.probes import logits, same_where_known
from cbam_keras.auditing.results import DEPARTURES, Findings
from cbam_keras.layers import CBAM, VARIANTS

# Greatest difference of equal gates. An epsilon of batch normalization other
# than ours, which is not in the paper, changes more than rounding does.
TOLERANCE, TOLERANCE_WITH_NORMALIZATION = 2e-4, 2e-3


def check_channel_gate(layer: LayerUnderTest, findings: Findings) -> None:
    """Adds what the channel gate computes."""
    if not layer.gates["channel"]:
        return findings.add("no_channel_gate")
    activation = _check_activation("channel", layer, findings)
    if activation == "unknown":
        return findings.add("channel_gate")
    factors = layer.map("channel", layer.x, layer.random_weights())
    if probes.relative_spread(factors, (1, 2)) > probes.CONSTANT:
        return findings.add("varying_channel_map")

    def maps(x):
        """Returns the channel maps of two sets of weights, `(2, B, C)`."""
        weights = map(layer.random_weights, range(2))
        factors = [layer.map("channel", x, values) for values in weights]
        return np.mean(factors, axis=(2, 3))

    if not same(maps(probes.shuffled(layer.x)), maps(layer.x)):
        findings.add("local_pools")
    else:
        _check_pools("channel", maps, layer.x, findings)
    if len(layer.gates["channel"]) < 2:
        findings.add("single_dense")
    elif activation != "other":
        _check_mlp(maps, layer, activation, findings)
    channels = layer.shape[-1]
    shapes = [layer.weights[i].shape for i in layer.gates["channel"]]
    widths = [s[-1] for s in shapes if s[-2] == channels != s[-1]]
    if widths:
        findings.facts["hidden_units"] = widths[0]
        findings.add("hidden_width", width=widths[0], channels=channels)
    biases = (channels,) in [tuple(weight.shape) for weight in layer.weights]
    findings.facts["use_bias"] = biases
    findings.add("mlp_bias", biases="biases" if biases else "no biases")


def _check_activation(gate, layer, findings):
    """Returns the activation of a gate, which must be a sigmoid."""
    activation = probes.activation_of(layer, gate)
    findings.facts[gate] = activation
    if activation in DEPARTURES:
        findings.add(activation, gate=gate)
    return activation


def _check_pools(gate, maps, x, findings):
    """Returns what a gate pools by: both the average and the maximum."""
    pools = probes.pools_used(gate, maps, x)
    findings.facts[f"{gate}_pool_types"] = pools
    alone = {("avg",): "average_alone", ("max",): "maximum_alone"}
    key = "other_pools" if "other" in pools else alone.get(pools, "no_pools")
    if pools != ("avg", "max"):
        over = "positions" if gate == "channel" else "channels"
        findings.add(key, gate=gate, over=over)
    return pools


def _check_mlp(maps, layer, activation, findings):
    x = 0.3 * layer.x
    average, maximum = x.mean(axis=(1, 2)), x.max(axis=(1, 2))
    # At a single position, pools such as lse return the features too.
    position = x[:, :1, :1]
    try:
        maps(position)
    except Exception:
        position = x

    def maps_at(pooled):
        return maps(probes.constant(position, pooled))

    def logits_at(pooled):
        return logits(maps_at(pooled), activation)

    both = (logits_at(average) + logits_at(maximum)) / 2
    if findings.facts.get("channel_pool_types") == ("avg", "max") and (
        not same_where_known(logits(maps(x), activation), both)
    ):
        both = (maps_at(average) + maps_at(maximum)) / 2
        findings.facts["late_sum"] = same_where_known(maps(x), both)
        late_sum = findings.facts["late_sum"] and activation == "sigmoid"
        findings.add("late_sum" if late_sum else "not_shared")
    middle = (logits_at(maximum) + logits_at(-0.5 * maximum)) / 2
    double = logits_at(2 * maximum)
    if same_where_known(logits_at(0.25 * maximum), middle):
        findings.add("linear")
        findings.facts["activation"] = "linear"
    elif not same_where_known(double, 2 * logits_at(maximum)):
        findings.add("not_relu")


def check_spatial_gate(layer: LayerUnderTest, findings: Findings) -> None:
    """Adds what the spatial gate computes."""
    kernels = layer.gates["spatial"]
    weights = layer.random_weights()
    factors = layer.factors(layer.x, weights)
    varies = probes.relative_spread(factors, (1, 2)) >= probes.CONSTANT
    if not kernels or not varies:
        return findings.add("no_spatial_gate")
    activation = _check_activation("spatial", layer, findings)
    factors = layer.map("spatial", layer.x, weights)
    differences = np.nanmax(factors, axis=3) - np.nanmin(factors, axis=3)
    count = max(weights[i].shape[-1] for i in kernels)
    if np.nanmax(differences) > probes.CONSTANT:
        findings.add("several_maps", count=count)
    if "spatial" in layer.unobservable:
        findings.add("spatial_gate")
    else:
        _check_spatial_pools(layer, findings)
        _check_window(layer, findings)
        if activation != "other":
            _check_convolution(layer, activation, findings)
    weights = layer.random_weights(biases=True)
    paths = [variable.path for variable in layer.layer.variables]
    normalizes = any("moving_" in path for path in paths) or not same(
        layer.factors(layer.x, weights, training=True),
        layer.factors(layer.x, weights),
    )
    findings.facts["spatial_batch_norm"] = normalizes
    findings.add("normalizes" if normalizes else "no_normalization")
    if count == 1:
        biases = [w for w in layer.weights if tuple(w.shape) == (1,)]
        # Gamma and beta are not biases of the convolution.
        affine = sum("gamma" in path or "beta" in path for path in paths)
        biased = findings.facts["spatial_use_bias"] = len(biases) > affine
        findings.add("spatial_bias", bias="a bias" if biased else "no bias")


def _check_spatial_pools(layer, findings):
    weights = layer.random_weights()
    maps = functools.partial(layer.map, "spatial", weights=weights)
    pools = _check_pools("spatial", maps, layer.x, findings)
    for i in layer.gates["spatial"]:
        if pools == ("avg", "max") and weights[i].shape[2:3] == (2,):
            # Without the weights of the first of the two stacked maps.
            weights[i][..., 0, :] = 0
            second = probes.pools_used("spatial", maps, layer.x)
            order = ("avg", "max") if second == ("max",) else ("max", "avg")
            findings.facts["spatial_pool_types"] = order
            return findings.add("stacked", order="; ".join(order))


def _check_window(layer, findings):
    """Adds which positions the spatial map of one position depends on."""
    weights = layer.random_weights()
    row, column = centre = np.array(layer.shape[:2]) // 2
    x = layer.x.copy()
    x[:, row, column] *= 2
    before, after = (layer.map("spatial", y, weights) for y in (layer.x, x))
    changed = np.abs(after - before).max(axis=(0, 3)) > 1e-5
    windows = [np.flatnonzero(changed.any(axis=axis)) for axis in (1, 0)]
    size = tuple(map(len, windows))
    if 0 in size or any(np.equal(size, layer.shape[:2])):
        return findings.add("no_window")
    findings.facts["window"] = size
    dilation = windows[0][1] - windows[0][0] if size[0] > 1 else 1
    if dilation > 1:
        findings.add("dilated_window", size=size, dilation=dilation)
    else:
        findings.add("window", size=size)
        if size[0] == size[1]:
            findings.facts["kernel_size"] = size[0]
    ends = np.array([(window[0], window[-1]) for window in windows])
    if any(ends.sum(axis=1) != 2 * centre):
        findings.add("not_centred")


def _check_convolution(layer, activation, findings):
    # All channels are equal, and so are their average and their maximum.
    x = layer.x
    x = 0.3 * np.broadcast_to(x[..., :1], x.shape)
    weights = layer.random_weights()
    once, twice, negative = (
        logits(layer.map("spatial", factor * x, weights), activation)
        for factor in (1, 2, -1)
    )
    proportional = same_where_known(twice, 2 * once)
    if not proportional or not same_where_known(negative, -once):
        findings.add("not_convolution")


def check_gate_order(layer: LayerUnderTest, findings: Findings) -> None:
    """Adds how the gates are combined: residual, order and scale."""
    if layer.residual:
        findings.add("residual")
    if {"channel", "spatial"} <= set(findings.facts):
        order = None
        if _spatial_gate_is_first(layer):
            order = "spatial_first"
        elif _gates_are_parallel(layer):
            order = "parallel"
        if order is not None:
            findings.add(order)
            findings.facts["order"] = order
    _check_scale(layer, findings)


def _spatial_gate_is_first(layer):
    # Far from two positions that are exchanged, a spatial map that comes first
    # stays the same, and so does a channel map that is computed from the input.
    x = layer.x.copy()
    x[:, [0, -1], [0, -1]] = x[:, [-1, 0], [-1, 0]]
    middle = np.s_[:, x.shape[1] // 2, x.shape[2] // 2]
    weights = layer.random_weights()
    before, after = (layer.factors(y, weights)[middle] for y in (layer.x, x))
    return np.abs(after - before).max() > 1e-5 * np.abs(before).max()


def _gates_are_parallel(layer):
    # Then another channel gate does not change the spatial map.
    weights, others = layer.random_weights(), layer.random_weights(seed=1)
    for i in layer.gates["spatial"]:
        others[i] = weights[i]
    first, second = (
        layer.spatial_map_after_channel_gate(layer.x, values)
        for values in (weights, others)
    )
    known = np.isfinite(first) & np.isfinite(second)
    return known.any() and np.abs(first - second)[known].max() < 1e-4


def _check_scale(layer, findings):
    present = [gate for gate, kernels in layer.gates.items() if kernels]
    activations = {findings.facts.get(gate) for gate in present}
    if not layer.factor_at_rest or not activations <= {"sigmoid", "clipped"}:
        return
    # Each sigmoid is one half at rest.
    highest = 2 ** len(present)
    scale = layer.factor_at_rest * highest
    if findings.facts.get("late_sum"):
        # The excess is reported already.
        scale /= 2
    if abs(scale - 1) < 0.01:
        return
    if abs(scale - highest) < 0.01:
        findings.facts["identity_init"] = True
        findings.add("identity")
    else:
        findings.add("scale", scale=scale)


def check_outputs(layer: LayerUnderTest, findings: Findings) -> None:
    """Adds a departure if the formula that was found gives other outputs."""
    keys = {"hidden_units", "kernel_size", "use_bias", "spatial_use_bias"}
    keys |= {"spatial_batch_norm", "spatial_pool_types"}
    options = {
        key: fact
        for key, fact in findings.facts.items()
        if key in keys | {"identity_init"}
    }
    if keys <= set(options):
        ours = CBAM(**options, data_format="channels_last")
        if _equals(layer, ours) is False:
            findings.add("other_outputs")


def find_variant(layer: LayerUnderTest, findings: Findings) -> str | None:
    """Returns the entry of `VARIANTS` that a layer equals, or `None`.

    Entries of which every argument fits come first.
    """
    facts = findings.facts
    sizes = ("hidden_units", "reduction_ratio", "kernel_size")
    variants: dict[str, Any] = {} if layer.residual else VARIANTS
    for keys in ((), sizes):
        for name, options in variants.items():
            free = {key: facts[key] for key in keys if key in facts}
            if "reduction_ratio" in options:
                free = {"kernel_size": facts.get("kernel_size", 7)}
            if "identity_init" in facts:
                free["identity_init"] = True
            ours = CBAM(**{**options, **free}, data_format="channels_last")
            config = ours.get_config()
            fits = all(
                config.get(key, fact) == fact
                for key, fact in facts.items()
                if key != "hidden_units"
            )
            if fits and _equals(layer, ours):
                return name
    return None


def _equals(layer, cbam):
    """Returns whether a layer equals one of ours, `None` if weights differ."""
    cbam.build((None, *layer.shape))
    ours = LayerUnderTest(cbam, layer.shape)
    weights = layer.random_weights(biases=True)
    expected = layer.factors(layer.x, weights)
    tolerance = TOLERANCE
    if cbam.spatial_batch_norm:
        tolerance = TOLERANCE_WITH_NORMALIZATION
    tolerance *= max(1, np.abs(expected).max())
    equal = None
    for order in _orders(layer.weights, ours.weights):
        pairs = zip(order, ours.weights, strict=True)
        values = [weights[i].reshape(weight.shape) for i, weight in pairs]
        difference = np.abs(ours.factors(ours.x, values) - expected).max()
        equal = bool(difference < tolerance)
        if equal:
            break
    return equal


def _orders(weights, wanted, begun=()):
    """Yields the orders of weights in which their shapes are those wanted."""
    if len(weights) != len(wanted):
        return
    if len(begun) == len(wanted):
        yield begun
        return
    shape = _shape(wanted[len(begun)])
    for i, weight in enumerate(weights):
        if i not in begun and _shape(weight) == shape:
            yield from _orders(weights, wanted, (*begun, i))


def _shape(weight):
    """Returns the shape of a weight, of a dense layer if it is 1 x 1."""
    shape = tuple(weight.shape)
    if len(shape) > 2 and math.prod(shape[:-2]) == 1:
        return shape[-2:]
    return shape
