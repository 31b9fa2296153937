"""`audit`: checks anybody's CBAM layer against the paper."""

import inspect
from typing import Any

import keras

from cbam_keras import _inspection
from cbam_keras.auditing import contract, formula
from cbam_keras.auditing.formula import SIZE
from cbam_keras.auditing.gates import find_gates
from cbam_keras.auditing.layer_under_test import (
    LayerFactory,
    LayerUnderTest,
    factory_for,
)
from cbam_keras.auditing.results import Audit, Findings, first_line

# A layer that fails at the usual size is tried at sizes it may be made for.
FIXED_SIZES = (7, 14, 16, 28, 32, 56, 64, 112, 128, 224)
# Twice the usual reduction ratio of 16.
CHANNELS = 32


def audit(layer: Any) -> Audit:
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
            returns one; or a class of layers.

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
    with _inspection.same_randomness(), _inspection.dtype_policy("float32"):
        factory = factory_for(layer)
        findings = Findings()
        variant = _check(factory, findings)
    name = repr(layer)
    if isinstance(layer, keras.layers.Layer):
        name = f'{type(layer).__name__} layer "{layer.name}"'
    elif inspect.isclass(layer) or inspect.isfunction(layer):
        name = layer.__name__
    return Audit(
        name,
        tuple(dict.fromkeys(findings.departures)),
        tuple(findings.choices),
        tuple(findings.unchecked),
        variant,
    )


def _check(factory: LayerFactory, findings: Findings) -> str | None:
    """Runs all checks and returns the variant."""
    if factory.error and not factory.instance.built:
        findings.add("not_copied", error=first_line(factory.error))
        findings.add("all")
        return None
    layer, output = _first_that_runs(factory)
    if output.shape != layer.x.shape:
        shapes = {"output": output.shape[1:], "input": layer.x.shape[1:]}
        findings.add("other_shape", **shapes)
        return None
    if not layer.kernels:
        findings.add("no_kernels")
        return None
    if layer.shape[:2] != SIZE:
        findings.add("fixed_size", shape=layer.shape, size=SIZE)
    find_gates(layer)
    formula.check_channel_gate(layer, findings)
    formula.check_spatial_gate(layer, findings)
    formula.check_combination(layer, findings)
    if len(factory.ratios) == 1:
        findings.facts["reduction_ratio"] = factory.ratios[0]
    variant = formula.check_outputs(layer, findings)
    contract.check_configuration(layer, findings)
    if factory.error is None:
        contract.check_arguments(layer, findings)
        contract.check_saving(layer, findings)
        contract.check_mixed_precision(layer, findings)
        contract.check_unknown_size(layer, findings)
        contract.check_data_format(layer, findings)
    contract.check_gradients(layer, findings)
    contract.note_rounding(layer, findings)
    return variant


def _first_that_runs(factory):
    """Returns a copy built for the first shape that it takes, and its output.

    Raises:
        TypeError: If what is made is not a layer.
        ValueError: If it takes none of the shapes.
    """
    errors = []
    for shape in _shapes(factory):
        try:
            layer = LayerUnderTest(factory.make(shape[-1]), shape, factory)
            return layer, layer.output(layer.x)
        except Exception as error:
            if "callable must return" in str(error):
                raise
            errors.append(error)
    raise ValueError(
        "`layer` must take features of shape (B, H, W, C). Received: a "
        f"layer that fails for {(*SIZE, CHANNELS)} and other sizes "
        f"({first_line(errors[0])})"
    ) from errors[0]


def _shapes(factory):
    """Returns shapes `(H, W, C)` to try, the preferred ones first."""
    # A hidden layer of two units at least.
    channels = [max([CHANNELS, *(2 * ratio for ratio in factory.ratios)])]
    sizes = [(size, size) for size in FIXED_SIZES]
    layer = factory.instance
    if layer is not None:
        # The number of channels may be an argument of its constructor.
        values = factory.arguments.values()
        channels += [x for x in values if type(x) is int and x > 1]
    if layer is not None and layer.built:
        shape = getattr(layer, "input_shape", None)
        if isinstance(shape, tuple) and len(shape) == 4:
            channels = [shape[-1]]
            sizes[:0] = [] if None in shape[1:3] else [shape[1:3]]
        elif shape is None and layer.input_spec is not None:
            axes = getattr(layer.input_spec, "axes", None) or {}
            channels = [*axes.values(), *channels]
    shapes = [(*SIZE, count) for count in dict.fromkeys(channels)]
    return shapes + [(*size, channels[0]) for size in sizes]
