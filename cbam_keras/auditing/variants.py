"""Which of our variants a layer equals, given the same weights."""

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from cbam_keras.auditing.results import Findings
from cbam_keras.auditing.subject import Subject
from cbam_keras.layers import CBAM, VARIANTS

# Copies of a layer's weights that are tried, where several have one shape.
MOST_ORDERS = 48
# Greatest difference of equal gates. An epsilon of batch normalization other
# than ours, which is not in the paper, changes more than rounding does.
TOLERANCE, WITH_NORMALIZATION = 2e-4, 2e-3


def find_variant(subject: Subject, found: Findings) -> str | None:
    """Returns the entry of `VARIANTS` that a layer equals, or `None`.

    Entries of which every argument fits come first.
    """
    if subject.offset:
        return None
    facts = found.facts
    exact = {key: facts[key] for key in ("identity_init",) if key in facts}
    sizes = ("hidden_units", "reduction_ratio", "kernel_size")
    others = {key: facts[key] for key in sizes if key in facts}
    variants: dict[str, Any] = VARIANTS
    for given in (exact, {**exact, **others}):
        for name, options in variants.items():
            free = dict(given)
            if "reduction_ratio" in options:
                free = {**exact, "kernel_size": facts.get("kernel_size", 7)}
            layer = CBAM(**options, **free, data_format="channels_last")
            if _may_equal(layer, facts) and equals(subject, layer):
                return name
    return None


def check_formula(subject: Subject, found: Findings) -> None:
    """Adds a departure if the formula that was found gives other outputs."""
    keys = (
        *("hidden_units", "kernel_size", "use_bias", "spatial_use_bias"),
        *("spatial_batch_norm", "spatial_pool_types", "identity_init"),
    )
    options = {key: found.facts[key] for key in keys if key in found.facts}
    if len({*keys} - {*options, "identity_init"}) == 0 and (
        equals(subject, CBAM(**options, data_format="channels_last")) is False
    ):
        found.departures.append(
            "With the same weights, the layer and the formula of the paper "
            "give different outputs."
        )


def equals(subject: Subject, layer: CBAM) -> bool | None:
    """Returns whether a layer computes what one of ours does.

    Returns:
        Boolean, or `None` if the weights do not fit.
    """
    layer.build((None, *subject.shape))
    ours = Subject(layer, subject.shape)
    orders = list(itertools.islice(_orders(subject, ours), MOST_ORDERS))
    if not orders:
        return None
    values = subject.values(biases=True)
    factors = subject.gate(subject.x, values)
    normalizes = layer.spatial_batch_norm
    tolerance = WITH_NORMALIZATION if normalizes else TOLERANCE
    for order in orders:
        copied = [
            values[i].reshape(weight.shape)
            for i, weight in zip(order, ours.weights, strict=True)
        ]
        difference = np.abs(ours.gate(ours.x, copied) - factors).max()
        if difference < tolerance * max(1, np.abs(factors).max()):
            return True
    return False


def _may_equal(layer, facts):
    """Returns whether the arguments of ours are those that were measured."""
    config = layer.get_config()
    return all(
        config[key] == fact
        for key, fact in facts.items()
        if key in config and key != "hidden_units"
    )


def _orders(subject: Subject, ours: Subject) -> Iterator[list[int]]:
    """Yields indices of a layer's weights in the order of ours."""
    shapes = [_shape(weight) for weight in subject.weights]
    wanted = [_shape(weight) for weight in ours.weights]
    if sorted(shapes) != sorted(wanted):
        return
    distinct = sorted(set(shapes))
    groups = [
        itertools.permutations(i for i, s in enumerate(shapes) if s == shape)
        for shape in distinct
    ]
    for chosen in itertools.product(*groups):
        rest = {
            shape: iter(indices)
            for shape, indices in zip(distinct, chosen, strict=True)
        }
        yield [next(rest[shape]) for shape in wanted]


def _shape(weight):
    """Returns the shape of a weight, of a dense layer if it is 1 x 1."""
    shape = tuple(weight.shape)
    if len(shape) > 2 and math.prod(shape[:-2]) == 1:
        return shape[-2:]
    return shape
