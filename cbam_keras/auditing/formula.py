"""Whether a layer gives the outputs of the paper's formula."""

import itertools

import numpy as np

from cbam_keras import _inspection
from cbam_keras.auditing.layer_under_test import (
    SIZE,
    LayerUnderTest,
    factory_for,
    features,
    scaled,
    widths,
)
from cbam_keras.auditing.results import Findings, first_line
from cbam_keras.layers import CBAM, VARIANTS

ORDERS = {
    "channel_first": "",
    "spatial_first": "The spatial gate comes before the channel gate.",
    "parallel": "Both gates are computed from the input, in parallel.",
}
# Sizes of features for which layers may behave otherwise.
OTHER_SIZES = ((40, 44), (1, 1))
OTHER_OUTPUTS = "The outputs are not those of the formula ({kinds})."

# Greatest difference of equal outputs, relative to the features. An epsilon of
# batch normalization other than ours changes more than rounding does.
TOLERANCE, TOLERANCE_WITH_NORMALIZATION = 2e-4, 2e-3


def check_outputs(layer: LayerUnderTest, findings: Findings) -> None:
    """Adds outputs that are not those of the formula, and the variant."""
    formula = _find_formula(layer, findings)
    kinds_by_problem: dict[str, list[str]] = {}
    for kind, features_of_kind in _kinds(layer).items():
        problem = _problem(layer, formula, *features_of_kind)
        kinds_by_problem.setdefault(problem, []).append(kind)
    kinds_by_problem.pop("", None)
    for problem, kinds in kinds_by_problem.items():
        sentence = problem.replace("{kinds}", ", ".join(kinds))
        findings.departs(sentence)
    if formula and OTHER_OUTPUTS not in kinds_by_problem:
        findings.facts["variant"] = _variant(layer, findings.facts)


def _problem(layer, formula, x, factor=1, training=False):
    """Returns what is wrong with the outputs for `{kinds}`, or ""."""
    weights = scaled(layer.random_weights(biases=True), layer.kernels, factor)
    try:
        output = layer.output(x, weights, training)
    except Exception as error:
        return f"The layer fails for {{kinds}} ({first_line(error)})."
    if not np.isfinite(output).all():
        return "The output is not finite for {kinds}."
    if formula is None:
        return ""
    ours, places = formula
    # Weights that the layer lacks are those that change nothing.
    values = ours.random_weights()
    for i, (source, axes) in places.items():
        array = np.squeeze(weights[source]).transpose(axes)
        values[i] = array.reshape(values[i].shape)
    difference = np.abs(output - ours.output(x, values, training)).max()
    tolerance = TOLERANCE
    if ours.layer.spatial_batch_norm:
        tolerance = TOLERANCE_WITH_NORMALIZATION
    return "" if difference < tolerance * np.abs(x).max() else OTHER_OUTPUTS


def _find_formula(layer, findings):
    """Returns a layer of ours with the same outputs, and where weights go."""
    formula = None
    for formula in _formulas(layer, findings.facts):
        if not _problem(layer, formula, layer.x):
            ours = formula[0].layer
            order, maps = ours.order, ours.spatial_pool_types
            findings.facts |= {"order": order, "spatial_pool_types": maps}
            stacked = "; ".join(maps)
            findings.chooses(f"The pooled maps are stacked as [{stacked}].")
            if ORDERS[order]:
                findings.departs(ORDERS[order])
            return formula
    if not findings.departures:
        if formula:
            findings.departs(OTHER_OUTPUTS.format(kinds="random features"))
        else:
            findings.skips(
                "Whether the outputs are those of the formula, because the "
                "weights have other shapes."
            )
    return None


def _kinds(layer):
    """Returns kinds of features, with a factor of kernels and `training`."""
    x, channels = layer.x, layer.shape[-1]
    kinds = {
        "features after a ReLU": (np.maximum(x, 0), 1, False),
        # The smaller kernels keep the gates from saturation.
        "features 20 times as large": (20 * x, 20**-0.5, False),
        "a single image": (x[:1], 1, False),
        "training=True": (x, 1, True),
    }
    fixed = _inspection.is_graph(layer.layer) and (
        None not in layer.layer.inputs[0].shape[1:]
    )
    if layer.shape[:2] == SIZE and not fixed:
        for height, width in OTHER_SIZES:
            other = features(height, width, channels)
            kinds[f"features of {height} x {width}"] = (other, 1, False)
    return kinds


def _formulas(layer, facts):
    """Yields layers of ours, and for their weights those of the layer."""
    known = {"hidden_units", "kernel_size"}
    known |= {"channel_pool_types", "spatial_pool_types"}
    if layer.residual or not known <= set(facts):
        return
    config, pools = CBAM().get_config(), facts["spatial_pool_types"]
    options = {key: facts[key] for key in facts if key in config}
    options["use_bias"] = True
    for order, maps in itertools.product(ORDERS, itertools.permutations(pools)):
        options |= {"order": order, "spatial_pool_types": maps}
        factory = factory_for(CBAM(**options, data_format="channels_last"))
        ours = LayerUnderTest(factory, layer.shape)
        values = list(map(np.squeeze, layer.random_weights()))
        shapes = [np.squeeze(value).shape for value in ours.random_weights()]
        if len(values) > len(shapes):
            continue
        # For each weight of the layer, which of ours it may be, and the order
        # of its axes then.
        fitting = [
            [
                (i, axes)
                for i, shape in enumerate(shapes)
                for axes in itertools.permutations(range(value.ndim))
                if value.transpose(axes).shape == shape
            ]
            for value in values
        ]
        for chosen in itertools.product(*fitting):
            places = {i: (j, axes) for j, (i, axes) in enumerate(chosen)}
            if len(places) == len(values) and set(ours.kernels) <= set(places):
                yield ours, places


def _variant(layer, facts):
    """Returns the first entry of `VARIANTS` that fits, `None` without.

    Entries of which every argument fits come before those whose sizes differ.
    """
    facts = {"activation": "relu", "identity_init": False, **facts}
    for sizes in (set(), {"reduction_ratio", "hidden_units"}):
        for name, options in VARIANTS.items():
            config = CBAM(**options).get_config()
            differ = {x for x in facts if config.get(x, facts[x]) != facts[x]}
            differ -= {"kernel_size"}
            ratio = config["reduction_ratio"]
            if facts["hidden_units"] in widths(layer.shape[-1], ratio).values():
                differ -= {"hidden_units"}
            if "reduction_ratio" not in options:
                differ -= sizes
            if facts["identity_init"]:
                # The other entries may start as the identity too.
                differ -= {"identity_init"}
            if not differ:
                return name
    return None
