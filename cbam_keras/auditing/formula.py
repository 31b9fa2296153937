"""Whether a layer computes the formula of the paper, and which variant."""

import functools
import itertools

import numpy as np

from cbam_keras import _inspection
from cbam_keras.auditing import gates
from cbam_keras.auditing.gates import logits, same_where_known
from cbam_keras.auditing.layer_under_test import (
    SIZE,
    LayerUnderTest,
    features,
    same,
    scaled,
    widths,
)
from cbam_keras.auditing.results import DEPARTURES, Findings, first_line
from cbam_keras.layers import CBAM, VARIANTS

ORDERS = ("channel_first", "spatial_first", "parallel")

# Sizes of features for which layers may behave otherwise.
OTHER_SIZES = ((6, 9), (40, 44), (1, 1))
RANDOM = "random features"

# Greatest difference of equal outputs, relative to the features. An epsilon of
# batch normalization other than ours changes more than rounding does.
TOLERANCE, TOLERANCE_WITH_NORMALIZATION = 2e-4, 2e-3


def check_channel_gate(layer: LayerUnderTest, findings: Findings) -> None:
    """Adds what the channel gate computes."""
    kernels = layer.gates["channel"]
    if not kernels:
        return findings.add("no_channel_gate")
    activation = _check_activation("channel", layer, findings)
    if activation == "unknown":
        return findings.add("channel_gate")
    factors = layer.map("channel", layer.x, layer.random_weights())
    if not gates.is_constant(factors, (1, 2)):
        return findings.add("varying_channel_map")

    def maps(x):
        """Returns the channel maps of three sets of weights, `(3, B, C)`."""
        weights = map(layer.random_weights, range(3))
        factors = [layer.map("channel", x, values) for values in weights]
        return np.mean(factors, axis=(2, 3))

    rng = np.random.default_rng(1)
    shuffled = rng.permutation(rng.permutation(layer.x, axis=1), axis=2)
    if not same(maps(shuffled), maps(layer.x)):
        findings.add("local_pools")
    else:
        _check_pools("channel", maps, layer.x, findings)
    if len(kernels) < 2:
        findings.add("single_dense")
    elif activation != "other":
        _check_mlp(maps, layer, activation, findings)
    if len(kernels) > 2 and "late_sum" not in findings.facts:
        findings.add("deep_mlp", count=len(kernels))
    channels = layer.shape[-1]
    if len(kernels) in (2, 4):
        sizes = (np.prod(layer.weights[i].shape) for i in kernels)
        width = int(min(sizes)) // channels
        findings.facts["hidden_units"] = width
        findings.add("hidden_width", width=width, channels=channels)
        ratio = layer.factory.ratio
        if ratio is not None:
            findings.facts["reduction_ratio"] = ratio
            roundings = widths(channels, ratio)
            how = [name for name, n in roundings.items() if n == width]
            if 0 < len(how) < len(roundings):
                findings.add("rounding", how=" or ".join(how))
    biases = (channels,) in _shapes_of_biases(layer)
    findings.facts["use_bias"] = biases
    findings.add("mlp_bias", biases="biases" if biases else "no biases")


def _shapes_of_biases(layer):
    """Returns shapes, without axes of length 1, of what is added."""
    return [
        tuple(size for size in weight.shape if size > 1)
        for i, weight in enumerate(layer.weights)
        # That of a batch normalization is not a bias of the layer before.
        if i not in layer.kernels and not layer.starts[i]
        if "beta" not in weight.path
    ]


def _check_activation(gate, layer, findings):
    """Returns the activation of a gate, which must be a sigmoid."""
    activation = gates.activation_of(layer, gate)
    findings.facts[gate] = activation
    if activation in DEPARTURES:
        findings.add(activation, gate=gate)
    return activation


def _check_pools(gate, maps, x, findings):
    """Adds what a gate pools by: both the average and the maximum."""
    pools = gates.pools_used(gate, maps, x)
    over = "positions" if gate == "channel" else "channels"
    if "other" in pools:
        findings.add("other_pools", gate=gate, over=over)
    elif pools:
        findings.facts[f"{gate}_pool_types"] = pools
    else:
        findings.add("no_pools", gate=gate, over=over)
    alone = {("avg",): "average", ("max",): "maximum"}
    if pools in alone:
        findings.add("one_pool", gate=gate, pool=alone[pools], over=over)


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
        return maps(gates.constant(position, pooled))

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
    if not kernels or gates.is_constant(
        layer.factors(layer.x, weights), (1, 2)
    ):
        return findings.add("no_spatial_gate")
    activation = _check_activation("spatial", layer, findings)
    maps = functools.partial(layer.map, "spatial", weights=weights)
    count = max(weights[i].shape[-1] for i in kernels)
    found = maps(layer.x)
    spread = np.nanmax(found, axis=3) - np.nanmin(found, axis=3)
    if np.nanmax(spread) > gates.CONSTANT:
        findings.add("several_maps", count=count)
    if "spatial" in layer.unobservable:
        findings.add("spatial_gate")
    else:
        _check_pools("spatial", maps, layer.x, findings)
        _check_window(maps, layer, findings)
        if activation != "other":
            _check_convolution(maps, layer, activation, findings)
    statistics = [
        variable.shape
        for variable in layer.layer.variables
        if "moving_" in variable.path
    ]
    normalizes = findings.facts["spatial_batch_norm"] = (1,) in statistics
    findings.add("normalizes" if normalizes else "no_normalization")
    if any(shape != (1,) for shape in statistics):
        findings.add("normalized_features")
    biased = findings.facts["spatial_use_bias"] = () in _shapes_of_biases(layer)
    findings.add("spatial_bias", bias="a bias" if biased else "no bias")


def _check_window(maps, layer, findings):
    """Adds which positions the spatial map of one position depends on."""
    row, column = centre = np.array(layer.shape[:2]) // 2
    x = layer.x.copy()
    x[:, row, column] *= 2
    changed = np.abs(maps(x) - maps(layer.x)).max(axis=(0, 3)) > 1e-5
    windows = [np.flatnonzero(changed.any(axis=axis)) for axis in (1, 0)]
    size = tuple(map(len, windows))
    if 0 in size or any(np.equal(size, layer.shape[:2])):
        return findings.add("no_window")
    findings.facts["window"] = size
    ends = np.array([(window[0], window[-1]) for window in windows])
    dilation = windows[0][1] - windows[0][0] if size[0] > 1 else 1
    dilated = f", with a dilation of {dilation}" if dilation > 1 else ""
    findings.add("window", size=size, dilated=dilated)
    if any(ends.sum(axis=1) != 2 * centre):
        findings.add("not_centred")
    elif size[0] == size[1] and dilation == 1:
        findings.facts["kernel_size"] = size[0]


def _check_convolution(maps, layer, activation, findings):
    # All channels are equal, and so are their average and their maximum.
    x = 0.3 * np.broadcast_to(layer.x[..., :1], layer.x.shape)
    once, twice, negative = (
        logits(maps(factor * x), activation) for factor in (1, 2, -1)
    )
    proportional = same_where_known(twice, 2 * once)
    if not proportional or not same_where_known(negative, -once):
        findings.add("not_convolution")


def check_scale(layer: LayerUnderTest, findings: Findings) -> None:
    """Adds what there is beside the two gates, and their range."""
    if layer.residual:
        findings.add("residual")
    present = [gate for gate, kernels in layer.gates.items() if kernels]
    activations = {findings.facts.get(gate) for gate in present}
    if not layer.factor_at_rest or not activations <= {"sigmoid", "clipped"}:
        return
    weights = layer.random_weights()
    at_rest = scaled(weights, layer.kernels)
    before = layer.factors(layer.x, at_rest)
    for i, start in enumerate(layer.starts):
        if i not in layer.kernels and start:
            changed = scaled(at_rest, [i], 1.5)
            if not same(layer.factors(layer.x, changed), before):
                findings.add("other_factor", name=layer.weights[i].name)
    # Each sigmoid is one half at rest.
    highest = 2 ** len(present)
    scale = layer.factor_at_rest * highest
    if findings.facts.get("late_sum"):
        # The excess is reported already.
        scale /= 2
    if abs(scale - highest) < 0.01:
        findings.facts["identity_init"] = True
        findings.add("identity")
    elif abs(scale - 1) > 0.01:
        findings.add("scale", scale=scale)


def check_outputs(layer: LayerUnderTest, findings: Findings) -> None:
    """Adds outputs that are not those of the formula, and the variant."""
    formula = _find_formula(layer, findings)
    found: dict[str, list[str]] = {}
    first_error = ""
    for kind, (x, factor, training) in _kinds(layer).items():
        weights = layer.random_weights(biases=True)
        weights = scaled(weights, layer.kernels, factor)
        key = ""
        try:
            if not np.isfinite(layer.output(x, weights, training)).all():
                key = "not_finite"
        except Exception as error:
            key, first_error = "fails", first_error or first_line(error)
        if formula and not key:
            same_outputs = _same_outputs(layer, formula, x, factor, training)
            key = "" if same_outputs else "other_outputs"
        if key:
            found.setdefault(key, []).append(kind)
    for key, kinds in found.items():
        findings.add(key, kinds=", ".join(kinds), error=first_error)
    if formula and "other_outputs" not in found:
        findings.facts["variant"] = _variant(layer, findings.facts)


def _find_formula(layer, findings):
    """Returns a layer of ours with the same outputs, and where weights go."""
    departs, fits = bool(findings.sentences["departure"]), False
    surplus = _parameters_beyond_the_formula(layer, findings.facts)
    if surplus > 0 and not departs:
        return findings.add("more_parameters", count=surplus)
    for ours, places in _formulas(layer, findings.facts):
        fits = True
        if _same_outputs(layer, (ours, places), layer.x):
            order, maps = ours.layer.order, ours.layer.spatial_pool_types
            findings.facts |= {"order": order, "spatial_pool_types": maps}
            findings.add("stacked", order="; ".join(maps))
            if order in DEPARTURES:
                findings.add(order)
            return ours, places
    if not departs:
        findings.add("other_outputs" if fits else "other_weights", kinds=RANDOM)
    return None


def _kinds(layer):
    """Returns kinds of features, with a factor of kernels and `training`."""
    x, channels = layer.x, layer.shape[-1]
    kinds = {
        "features after a ReLU": (np.maximum(x, 0), 1, False),
        "negative features": (-np.abs(x), 1, False),
        "features of a single value": (np.ones_like(x), 1, False),
        # The smaller kernels keep the gates from saturation.
        "features 20 times as large": (20 * x, 20**-0.5, False),
        "features 100 times smaller": (x / 100, 10, False),
        "a single image": (x[:1], 1, False),
        "training=True": (x, 1, True),
    }
    fixed = _inspection.is_graph(layer.layer) and (
        None not in layer.layer.inputs[0].shape[1:]
    )
    if layer.shape[:2] == SIZE and not fixed:
        for size in OTHER_SIZES:
            other = features(*size, channels)
            kinds["features of {} x {}".format(*size)] = (other, 1, False)
    return kinds


def _parameters_beyond_the_formula(layer, facts):
    units, size = facts.get("hidden_units"), facts.get("kernel_size")
    if units is None or size is None:
        return 0
    channels = layer.shape[-1]
    mlp = (channels + 1) * units + (units + 1) * channels
    spatial = 2 * size**2 + facts["spatial_use_bias"]
    of_layer = sum(int(np.prod(weight.shape)) for weight in layer.weights)
    return of_layer - mlp - spatial - 2 * facts["spatial_batch_norm"]


def _formulas(layer, facts):
    """Yields layers of ours, and which of their weights the layer's are."""
    known = {"hidden_units", "kernel_size", "spatial_pool_types"}
    if layer.residual or not known | {"channel_pool_types"} <= set(facts):
        return
    config, pools = CBAM().get_config(), facts["spatial_pool_types"]
    options = {key: facts[key] for key in facts if key in config}
    options["use_bias"] = True
    for order, maps in itertools.product(ORDERS, itertools.permutations(pools)):
        options |= {"order": order, "spatial_pool_types": maps}
        ours = CBAM(**options, data_format="channels_last")
        ours = LayerUnderTest(ours, layer.shape)
        values = _arrays(layer, layer.random_weights())
        shapes = [np.squeeze(value).shape for value in ours.random_weights()]
        for places in _arrangements(values, shapes):
            if set(ours.kernels) <= set(places):
                yield ours, places


def _arrays(layer, weights):
    """Returns weights without axes of length 1, split kernels as one."""
    arrays = {i: np.squeeze(weight) for i, weight in enumerate(weights)}
    spatial = layer.gates["spatial"]
    if len(spatial) == 2 and {arrays[i].ndim for i in spatial} == {2}:
        # Each pooled map has a convolution, and the results are added.
        first, second = spatial
        pair = arrays[first], arrays.pop(second)
        arrays[first] = np.stack(pair, axis=-1)
    return list(arrays.values())


def _arrangements(arrays, shapes, begun=()):
    """Yields each way to arrange arrays, whose axes may be in any order.

    A way is a dictionary of positions in `shapes` to positions in `arrays`
    and axes.
    """
    if len(begun) == len(arrays):
        yield dict(begun)
        return
    array = arrays[len(begun)]
    for i, shape in enumerate(shapes):
        for axes in itertools.permutations(range(array.ndim)):
            taken = i in dict(begun)
            if not taken and array.transpose(axes).shape == shape:
                item = i, (len(begun), axes)
                yield from _arrangements(arrays, shapes, (*begun, item))


def _same_outputs(layer, formula, x, factor=1, training=False):
    """Returns whether one of our layers gives the same with the weights."""
    ours, places = formula
    weights = scaled(layer.random_weights(biases=True), layer.kernels, factor)
    arrays = _arrays(layer, weights)
    # Weights that the layer lacks are those that change nothing.
    values = ours.random_weights()
    for i, (source, axes) in places.items():
        values[i] = arrays[source].transpose(axes).reshape(values[i].shape)
    difference = layer.output(x, weights, training) - ours.output(
        x, values, training
    )
    tolerance = TOLERANCE
    if ours.layer.spatial_batch_norm:
        tolerance = TOLERANCE_WITH_NORMALIZATION
    return np.abs(difference).max() < tolerance * np.abs(x).max()


def _variant(layer, facts):
    """Returns the first entry of `VARIANTS` that fits, `None` without.

    Entries of which every argument fits come before those whose sizes differ.
    """
    channels = layer.shape[-1]
    facts = {"activation": "relu", **facts}
    for sizes in ((), ("reduction_ratio", "hidden_units")):
        for name, options in VARIANTS.items():
            config = CBAM(**options).get_config()
            if config["identity_init"] and not facts.get("identity_init"):
                continue
            free = {"identity_init"}
            ratio = config["reduction_ratio"]
            if facts["hidden_units"] in widths(channels, ratio).values():
                free |= {"hidden_units"}
            if sizes or "reduction_ratio" in options:
                free |= {"kernel_size"}
            if "reduction_ratio" not in options:
                free |= set(sizes)
            if all(
                config.get(key, fact) == fact
                for key, fact in facts.items()
                if key not in free
            ):
                return name
    return None
