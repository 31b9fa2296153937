"""What a gate does in training only, and whether a layer of ours does it."""

from typing import Any

import numpy as np
from keras import ops

from cbam_keras import _graph
from cbam_keras.insertion.cutting import Cut
from cbam_keras.insertion.probes import TOLERANCE, Probes, Values, difference_of
from cbam_keras.insertion.recognition import Match, fitted
from cbam_keras.layers import CBAM, AttentionLayer

# What weights have that our layers take as arguments.
CARRIED = ("regularizer", "constraint")


def layer_for(cut: Cut, match: Match, **options: Any) -> AttentionLayer:
    """Returns our layer in the place of a part, with its weights."""
    prefix = "spatial_" * (match.layer_class is CBAM)
    for norm in cut.norms:
        options[f"{prefix}batch_norm_momentum"] = norm.momentum
    norms = {id(x) for norm in cut.norms for x in norm.variables}
    given = [x for x in match.sources if x is not None]
    for source in given:
        kind = "kernel" if len(source.shape) > 1 else "bias"
        if id(source) not in norms:
            for what in CARRIED:
                options[f"{kind}_{what}"] = getattr(source, what, None)
    layer = match.layer_class(**{**match.arguments, **options})
    layer.build(cut.source.shape)
    match.set_weights(layer, {id(x): _graph.to_float32(x) for x in given})
    layer.trainable = not given or any(x.trainable for x in given)
    return layer


def trains_otherwise(match: Match, probes: Probes) -> list[str]:
    """Returns what a part does in training that our layer does not."""
    cut = probes.cut
    layer = layer_for(
        cut, match, dtype="float32", data_format=probes.data_format
    )
    reasons = []
    for inner in cut.layers:
        if getattr(inner, "seed_generator", None) is not None:
            reasons.append(type(inner).__name__)
        if getattr(inner, "activity_regularizer", None) is not None:
            reasons.append(f"activity regularizer of {inner.name}")
    if getattr(cut.source, "_keras_mask", None) is not None:
        reasons.append("the mask of its features, which ours heeds")
    for ours, theirs in zip(layer.weights, match.sources, strict=True):
        if theirs is None:
            reasons.append(f"ours has a {ours.name.rpartition('_')[-1]} more")
            continue
        if ours.trainable != theirs.trainable:
            reasons.append("frozen weights")
        for what in CARRIED:
            several = [getattr(x, what, None) for x in (theirs, ours)]
            x = probes.generator.normal(size=theirs.shape).astype("float32")
            given, kept = (
                np.ravel(f(fitted(x, y.shape))) if f else np.empty(0)
                for f, y in zip(several, (theirs, ours), strict=True)
            )
            if not np.array_equal(given, kept):
                reasons.append(_described(several[0] or several[1]))
    if match.scales:
        reasons.append("ours adds its bias for each pool")
    if len(momenta := {x.momentum for x in cut.norms}) > 1:
        reasons.append(f"momenta {', '.join(map(str, sorted(momenta)))}")
    if not reasons:
        expected = probes.run(probes.x, training=True)
        for inner in cut.layers:
            weights = inner.trainable_variables
            if len(inner.losses) > sum(bool(x.regularizer) for x in weights):
                reasons.append("add_loss")
    if not reasons:
        x = ops.convert_to_tensor(probes.x, "float32")
        with Values({}):
            y = ops.convert_to_numpy(ops.stop_gradient(layer(x, training=True)))
        if not difference_of(expected, y) <= 10 * TOLERANCE:
            reasons.append("other outputs in training")
    return [*dict.fromkeys(reasons)]


def _described(value):
    """Returns a regularizer or a constraint in words, e.g. "L2 0.01"."""
    numbers = [
        f"{x:g}" for x in value.get_config().values() if isinstance(x, float)
    ]
    return " ".join([type(value).__name__, *numbers])
