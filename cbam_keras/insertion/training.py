"""What a gate does in training only, and whether a layer of ours does it."""

from typing import TYPE_CHECKING, Any

from keras import ops

from cbam_keras.insertion.cutting import EPSILON
from cbam_keras.insertion.probes import TOLERANCE, Values, difference_of
from cbam_keras.insertion.recognition import READINGS
from cbam_keras.layers import CBAM, AttentionLayer

if TYPE_CHECKING:
    from cbam_keras.insertion.checking import Gate

*_, CENTERS = READINGS


def layer_for(gate: "Gate", **options: Any) -> AttentionLayer:
    """Returns our layer in the place of a gate, with its weights."""
    cut, match = gate.cut, gate.match
    arguments = {**match.arguments, **_carried(gate)[0], **options}
    layer = match.layer_class(**arguments)
    layer.build(cut.shape)
    layer.set_weights(match.arrays)
    sources = [x for x in match.sources if x is not None]
    layer.trainable = not sources or any(x.trainable for x in sources)
    return layer


def trains_otherwise(gate: "Gate") -> list[str]:
    """Returns what a gate does in training that our layer does not."""
    reasons = _carried(gate)[1]
    if not reasons and _outputs_differ(gate):
        reasons.append("other outputs in training")
    return reasons


def _carried(gate):
    """Returns arguments that carry over what a gate does in training.

    The second result is what no argument carries.
    """
    cut, match = gate.cut, gate.match
    arguments: dict[str, Any] = {}
    reasons = [match.reading] * (match.reading not in ("", CENTERS))
    for layer in cut.layers:
        rate = getattr(layer, "rate", getattr(layer, "stddev", 1))
        if getattr(layer, "seed_generator", None) is not None and rate:
            reasons.append(f"{_words(type(layer).__name__)} {rate:g}")
        if getattr(layer, "activity_regularizer", None) is not None:
            reasons.append(f"activity regularizer of {layer.name}")
    if getattr(cut.source, "_keras_mask", None) is not None:
        reasons.append("the mask of its features, which ours heeds")
    norms = {*cut.norms.values()}
    for epsilon in {x.epsilon for x in norms} - {EPSILON}:
        reasons.append(f"epsilon {epsilon:g} of batch normalization")
    momenta = {x.momentum for x in norms}
    if len(momenta) == 1 and match.reading == "":
        name = "batch_norm_momentum"
        name = f"spatial_{name}" if match.layer_class is CBAM else name
        arguments[name] = momenta.pop()
    elif momenta and match.reading == "":
        reasons.append(
            f"momenta {', '.join(f'{x:g}' for x in sorted(momenta))}"
        )
    if not match.sources:
        return arguments, reasons
    layer = match.layer_class(**match.arguments)
    layer.build(cut.shape)
    pairs = [*zip(layer.weights, match.sources, strict=True)]
    lacking = {ours.name for ours, theirs in pairs if theirs is None}
    reasons += ["biases that it lacks"] * any(
        x.endswith("bias") for x in lacking
    )
    reasons += ["scales that it lacks"] * bool({"gamma", "beta"} & lacking)
    pairs = [(x, y) for x, y in pairs if y is not None and x.trainable]
    if len(
        {y.trainable for _, y in pairs} | {not x.trainable for x in norms}
    ) > 1 or (norms and len({x.trainable for x in norms}) > 1):
        frozen = any(not x.trainable for x in norms)
        reasons.append("frozen normalization" if frozen else "frozen weights")
    for what in ("regularizer", "constraint"):
        for kind in ("kernel", "bias", ""):
            found = {
                str(x.get_config()): x
                for ours, theirs in pairs
                if _kind(ours) == kind
                for x in [getattr(theirs, what)]
                if x is not None
            }
            of_all = all(
                getattr(y, what) is not None
                for x, y in pairs
                if _kind(x) == kind
            )
            if len(found) == 1 and of_all and kind:
                arguments[f"{kind}_{what}"] = next(iter(found.values()))
            elif found:
                words = ", ".join(_described(x) for x in found.values())
                reasons.append(f"{words} of some weights")
    return arguments, reasons


def _kind(variable):
    """Returns whose arguments regularize a weight of ours."""
    if variable.name in ("gamma", "beta"):
        return ""
    return "bias" if variable.name.endswith("bias") else "kernel"


def _described(value):
    """Returns a regularizer or a constraint in words, as "L2 0.01"."""
    numbers = [x for x in value.get_config().values() if x]
    return " ".join(
        [
            type(value).__name__,
            *(f"{x:g}" for x in numbers if isinstance(x, int | float)),
        ]
    )


def _words(name):
    """Returns the name of a class in lower case, as "spatial dropout2d"."""
    return "".join(f" {x.lower()}" if x.isupper() else x for x in name).strip()


def _outputs_differ(gate):
    """Returns whether outputs in training are those of our layer."""
    probes = gate.probes
    options = {"dtype": "float32", "data_format": probes.data_format}
    layer = layer_for(gate, **options)
    x = ops.convert_to_tensor(probes.x, "float32")
    with Values({}):
        y = ops.convert_to_numpy(ops.stop_gradient(layer(x, training=True)))
    expected = probes.run(probes.x, training=True)
    return not difference_of(expected, y) <= 10 * TOLERANCE
