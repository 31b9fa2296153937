"""`audit`: checks anybody's CBAM layer against the paper."""

import inspect
from typing import Any

import keras
import numpy as np

from cbam_keras import _inspection
from cbam_keras.auditing import contract
from cbam_keras.auditing.arguments import check_arguments, is_ratio, rounded
from cbam_keras.auditing.arrangement import check_arrangement
from cbam_keras.auditing.channel_gate import check_channel_gate
from cbam_keras.auditing.gates import find_gates
from cbam_keras.auditing.makers import Maker, maker_of
from cbam_keras.auditing.results import Audit, Findings, words
from cbam_keras.auditing.spatial_gate import check_spatial_gate
from cbam_keras.auditing.subject import Subject
from cbam_keras.auditing.variants import check_formula, find_variant

# The size of the features: an odd number of positions and large enough for a
# window of 11. A layer that fails there is tried at sizes it may be made for.
SIZE, OTHER_SIZE = (15, 13), (6, 9)
FIXED_SIZES = (7, 14, 16, 28, 32, 56, 64, 112, 128, 224)
# Twice the usual reduction ratio of 16; truncating and rounding C / r give
# different widths for the other.
CHANNELS, OTHER_CHANNELS = 32, 24


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
        maker = maker_of(layer)
        found = Findings()
        subject = _subject(maker, found)
        variant = None
        if subject is not None:
            variant = _check(maker, subject, found)
    return Audit(
        _name(layer),
        tuple(dict.fromkeys(found.departures)),
        tuple(found.choices),
        tuple(found.unchecked),
        variant,
    )


def _subject(maker: Maker, found: Findings) -> Subject | None:
    """Returns a built copy, or `None` if there is nothing more to check."""
    instance = maker.instance
    if maker.problem and instance is not None and not instance.built:
        found.departures.append(
            "The layer cannot be copied by `from_config(get_config())` "
            f"({words(maker.problem)})."
        )
        found.unchecked.append(
            "All else. Give `audit` a function that makes the layer, as "
            "lambda channels: MyCBAM(8)."
        )
        return None
    subject, output = _first_that_runs(maker)
    if output.shape != subject.x.shape:
        found.departures.append(
            f"The output has the shape {output.shape[1:]} in place of that of "
            f"the input, {subject.x.shape[1:]}; nothing else is checked."
        )
        return None
    if not subject.kernels:
        found.departures.append(
            "The layer has no trainable kernels after its first call: its "
            "gates are created again in every call, or are missing; nothing "
            "else is checked."
        )
        return None
    if subject.shape[:2] != SIZE:
        height, width = subject.shape[:2]
        found.departures.append(
            f"The layer works for features of {height} x {width} but not for "
            f"{SIZE[0]} x {SIZE[1]}: its pools or shapes are of a fixed size "
            "in place of global."
        )
    return subject


def _first_that_runs(maker: Maker) -> tuple[Subject, np.ndarray]:
    """Returns a copy built for the first shape that it takes, and its output.

    Raises:
        TypeError: If what is made is not a layer.
        ValueError: If it takes none of the shapes.
    """
    errors: list[Exception] = []
    for shape in _shapes(maker):
        try:
            subject = Subject(maker.make(shape[-1]), shape)
            return subject, subject.output(subject.x)
        except Exception as error:
            if not errors and "callable must return" in str(error):
                raise
            errors.append(error)
    raise ValueError(
        "`layer` must take features of shape (B, H, W, C). Received: a "
        f"layer that fails for {(*SIZE, CHANNELS)} and other sizes "
        f"({words(errors[0])})"
    ) from errors[0]


def _check(maker: Maker, subject: Subject, found: Findings) -> str | None:
    """Runs all checks; returns the variant."""
    gates = find_gates(subject)
    check_channel_gate(gates, found)
    check_spatial_gate(gates, found)
    check_arrangement(gates, found)
    if not found.departures:
        check_formula(subject, found)
    ratios = _ratios(maker)
    if len(ratios) == 1:
        found.facts["reduction_ratio"] = ratios[0]
    variant = find_variant(subject, found)
    contract.check_configuration(maker, subject, found)
    if maker.problem is None:
        check_arguments(maker, subject, found)
        contract.check_saving(subject, found)
        contract.check_mixed_precision(maker.make, subject, found)
        contract.check_unknown_size(maker.make, subject, found)
        contract.check_data_format(maker.make, subject, found)
    contract.check_gradients(subject, found)
    _check_other_shapes(maker, subject, found)
    return variant


def _shapes(maker: Maker) -> list[tuple[int, int, int]]:
    """Returns shapes `(H, W, C)` to try, the preferred ones first."""
    # A hidden layer of two units at least.
    channels = [max([CHANNELS, *(2 * ratio for ratio in _ratios(maker))])]
    sizes = [SIZE, *((size, size) for size in FIXED_SIZES)]
    layer = maker.instance
    if layer is not None:
        # The number of channels may be an argument of its constructor.
        numbers = [v for v in maker.arguments.values() if type(v) is int]
        channels += [number for number in numbers if number > 1]
        own = getattr(layer, "input_shape", None) if layer.built else None
        if own is None and layer.built and layer.input_spec is not None:
            axes = getattr(layer.input_spec, "axes", None) or {}
            channels = [*axes.values(), *channels]
        if isinstance(own, tuple) and len(own) == 4:
            channels = [own[-1]]
            if None not in own[1:3]:
                sizes.insert(1, own[1:3])
    shapes = [(*SIZE, count) for count in dict.fromkeys(channels)]
    return shapes + [(*size, shapes[0][-1]) for size in sizes[1:]]


def _ratios(maker):
    """Returns the values of the arguments that are reduction ratios."""
    return [
        value
        for name, value in maker.arguments.items()
        if is_ratio(name) and type(value) is int
    ]


def _check_other_shapes(maker, subject, found):
    """Adds whether other sizes and channel counts work, and how C / r is."""
    if subject.shape[:2] == SIZE:
        other = Subject(subject.layer, (*OTHER_SIZE, subject.shape[-1]))
        try:
            other.output(other.x, other.values())
        except Exception as error:
            found.departures.append(
                f"Other sizes of features fail ({words(error)})."
            )
    ratios = _ratios(maker)
    if maker.problem or not ratios or "hidden_units" not in found.facts:
        return
    try:
        other = Subject(
            maker.make(OTHER_CHANNELS), (*OTHER_SIZE, OTHER_CHANNELS)
        )
    except Exception:
        # Its number of channels is an argument.
        return
    widths = rounded(OTHER_CHANNELS, ratios[0])
    shapes = [tuple(other.weights[i].shape[-2:]) for i in other.kernels]
    hidden = [s[1] for s in shapes if s[0] == OTHER_CHANNELS]
    fitting = [how for how, width in widths.items() if [width] == hidden[:1]]
    if fitting and len(fitting) < len(widths):
        found.choices.append(f"C / r is {' or '.join(fitting)}.")


def _name(layer):
    if isinstance(layer, keras.layers.Layer):
        return f'{type(layer).__name__} layer "{layer.name}"'
    if inspect.isclass(layer) or inspect.isfunction(layer):
        return layer.__name__
    return repr(layer)
