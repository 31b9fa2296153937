"""What a gate does in training only, and whether a layer of ours does it."""

from typing import Any

from keras import ops

from cbam_keras.insertion.cutting import EPSILON, Cut
from cbam_keras.insertion.probes import (
    TOLERANCE,
    Probes,
    Values,
    difference_of,
)
from cbam_keras.insertion.recognition import CENTERS, Match
from cbam_keras.layers import CBAM, AttentionLayer

FROZEN = "some of its weights are frozen"
CARRIED = ("regularizer", "constraint")


def layer_for(cut: Cut, match: Match, **options: Any) -> AttentionLayer:
    """Returns our layer in the place of a part, with its weights.

    It has arguments for what the part does in training, as far as they exist.
    """
    options = {**match.arguments, **options}
    for ours, theirs in _pairs(match, _built(cut, match, options)):
        kind = "bias" if ours.name.endswith("bias") else "kernel"
        for what in CARRIED:
            if (value := getattr(theirs, what, None)) is not None:
                options.setdefault(f"{kind}_{what}", value)
    for norm in cut.norms.values():
        is_cbam = match.layer_class is CBAM
        name = "spatial_" * is_cbam + "batch_norm_momentum"
        if match.reading == "":
            options.setdefault(name, norm.momentum)
    layer = _built(cut, match, options)
    layer.set_weights(match.arrays)
    sources = [x for x in match.sources if x is not None]
    layer.trainable = not sources or any(x.trainable for x in sources)
    return layer


def _built(cut, match, options):
    layer = match.layer_class(**options)
    layer.build(cut.shape)
    return layer


def _pairs(match, layer):
    """Returns the weights of our layer, each with that of the part."""
    # Weights that were computed of several have none.
    return [*zip(layer.weights, match.sources, strict=False)]


def trains_otherwise(match: Match, probes: Probes) -> list[str]:
    """Returns what a part does in training that our layer does not."""
    cut, norms = probes.cut, {*probes.cut.norms.values()}
    layer = layer_for(
        cut, match, dtype="float32", data_format=probes.data_format
    )
    reasons = [*_randomness(cut)]
    if match.reading not in ("", CENTERS):
        reasons.append(match.reading)
    if getattr(cut.source, "_keras_mask", None) is not None:
        reasons.append("the mask of its features, which ours heeds")
    for ours, theirs in _pairs(match, layer):
        if theirs is None:
            reasons.append(f"ours has a {ours.name.rpartition('_')[-1]} more")
            continue
        for what in CARRIED:
            values = [getattr(x, what, None) for x in (ours, theirs)]
            words = [x and _described(x) for x in values]
            if words[0] != words[1]:
                reasons.append(f"{words[1] or f'no {what}'} of some weights")
        if ours.trainable != theirs.trainable:
            is_norm = id(theirs) in cut.norms
            reasons.append(
                f"frozen {'normalization' if is_norm else 'weights'}"
            )
    momenta = {x.momentum for x in norms}
    if len(momenta) > 1:
        reasons.append(f"momenta {', '.join(map(str, sorted(momenta)))}")
    for epsilon in {x.epsilon for x in norms} - {EPSILON}:
        reasons.append(f"epsilon {epsilon:g} of batch normalization")
    if not reasons:
        x = ops.convert_to_tensor(probes.x, "float32")
        with Values({}):
            y = ops.convert_to_numpy(ops.stop_gradient(layer(x, training=True)))
        expected = probes.run(probes.x, training=True)
        if not difference_of(expected, y) <= 10 * TOLERANCE:
            reasons.append("other outputs in training")
    return [*dict.fromkeys(reasons)]


def _randomness(cut):
    """Yields what of the layers is random or added to the loss."""
    for layer in cut.layers:
        rate = getattr(layer, "rate", getattr(layer, "stddev", 1))
        if getattr(layer, "seed_generator", None) is not None and rate:
            yield f"{type(layer).__name__} {rate:g}"
        if getattr(layer, "activity_regularizer", None) is not None:
            yield f"activity regularizer of {layer.name}"


def _described(value):
    """Returns a regularizer or a constraint in words, as "L2 0.01"."""
    numbers = [
        f"{x:g}" for x in value.get_config().values() if isinstance(x, float)
    ]
    return " ".join([type(value).__name__, *numbers])
