"""`audit`: checks anybody's CBAM layer against the paper."""

import keras

from cbam_keras import _inspection
from cbam_keras.auditing import contract, formula, gates
from cbam_keras.auditing.layer_under_test import (
    SIZE,
    LayerFactory,
    LayerUnderTest,
    copy_of,
    factory_for,
)
from cbam_keras.auditing.results import Audit, Findings, first_line

# A layer that fails at the usual size is tried at sizes it may be made for.
FIXED_SIZES = (7, 14, 16, 28, 32, 56, 64, 112, 128, 224)
# Twice the usual reduction ratio of 16.
CHANNELS = 32


def audit(layer: object) -> Audit:
    """Checks anybody's CBAM layer against the paper.

    The layer is run with weights and features that tell its parts apart, and
    judged by what it computes: both pools, one shared MLP, a sum before the
    sigmoid, one spatial map from a local convolution, the order of the gates,
    arguments that have an effect, configuration and saving, mixed precision,
    data formats, unknown sizes, and gradients. What the paper leaves open,
    such as biases, is reported as a choice. The layer and its weights stay
    as they are.

    Args:
        layer: A `keras.layers.Layer` or `keras.Model` for features
            `(B, H, W, C)`, built or not; or a callable `f(channels)` that
            returns one; or a class of layers; or a function `f(x)` of a
            tensor that calls layers.

    Returns:
        An `Audit`, which prints as a table.

    Raises:
        TypeError: If `layer` is neither a layer nor such a callable.
        ValueError: If the layer does not take features `(B, H, W, C)`.

    Example:
        >>> result = cbam_keras.audit(CBAM(reduction_ratio=8))
        >>> result.departures
        ()
        >>> result.variant
        'kobiso_keras'
    """
    findings = Findings()
    with _inspection.same_randomness(), _inspection.dtype_policy("float32"):
        _check(factory_for(layer), findings)
    name = getattr(layer, "__name__", repr(layer))
    if isinstance(layer, keras.Layer):
        name = f'{type(layer).__name__} layer "{layer.name}"'
    return Audit(
        name,
        tuple(findings.departures),
        tuple(findings.choices),
        tuple(findings.unchecked),
        findings.facts.get("variant"),
    )


def _check(factory: LayerFactory, findings: Findings) -> None:
    if factory.instance is not None:
        with findings.errors_as("`from_config(get_config())` fails"):
            copy_of(factory.instance)
        if findings.departures:
            return findings.skips(
                "All else. Give `audit` a function `f(channels)`."
            )
    layer, output = _first_that_runs(factory)
    if output.shape != layer.x.shape:
        shapes = f"{output.shape[1:]} in place of {layer.x.shape[1:]}"
        return findings.departs(f"The output has the shape {shapes}.")
    if not layer.kernels:
        return findings.departs(
            "The layer has no trainable kernels after its first call: its "
            "gates are missing or created in every call."
        )
    if layer.shape[:2] != SIZE:
        findings.departs(
            f"The layer fails for features of {SIZE[0]} x {SIZE[1]}, not for "
            f"{layer.shape[0]} x {layer.shape[1]}: its pools or shapes are of "
            "a fixed size."
        )
    for check in (
        gates.find_gates,
        gates.check_channel_gate,
        gates.check_spatial_gate,
        formula.check_outputs,
        contract.check_arguments,
        contract.check_saving,
        contract.check_mixed_precision,
        contract.check_unknown_size,
        contract.check_data_format,
        contract.check_gradients,
    ):
        check(layer, findings)


def _first_that_runs(factory):
    """Returns a copy for the first shape that it takes, and its output."""
    errors = []
    for shape in _shapes(factory):
        try:
            layer = LayerUnderTest(factory, shape)
            return layer, layer.output(layer.x, layer.random_weights())
        except Exception as error:
            errors.append(error)
    raise ValueError(
        "`layer` must take features of shape (B, H, W, C). Received: a "
        f"layer that fails for {(*SIZE, CHANNELS)} and other sizes "
        f"({first_line(errors[0])})"
    ) from errors[0]


def _shapes(factory):
    """Returns shapes `(H, W, C)` to try, the preferred ones first."""
    layer, ratio = factory.instance, factory.ratio
    channels, sizes = [CHANNELS], [(size, size) for size in FIXED_SIZES]
    if ratio is not None:
        # Truncating and rounding C / r differ, and the width is at least 4.
        quotient = max(4, CHANNELS // ratio) + 0.75
        channels = [int(quotient * ratio), max(CHANNELS, 2 * ratio)]
    if layer is not None:
        # The number of channels may be an argument of its constructor.
        values = factory.arguments.values()
        channels += [x for x in values if type(x) is int and x > 1]
    if layer is not None and layer.built:
        shape = (layer.get_build_config() or {}).get("input_shape")
        shape = list(shape or getattr(layer, "input_shape", ()))
        if len(shape) == 4:
            first = getattr(layer, "data_format", None) == "channels_first"
            channels = [shape.pop(1 if first else -1)]
            sizes[:0] = [] if None in shape[1:] else [tuple(shape[1:])]
    return [(*SIZE, count) for count in channels] + [
        (*size, count) for size in sizes for count in channels[:2]
    ]
