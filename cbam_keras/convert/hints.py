"""Advice on weights that do not fit."""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import keras
import numpy as np

from cbam_keras.convert.matching import Plan
from cbam_keras.layers import CBAM


def hints(
    target: keras.layers.Layer, plan: Plan, tensors: Mapping[str, Any]
) -> Iterator[str]:
    """Yields sentences on how to build what the weights are for.

    Args:
        target: Model or attention layer that they do not fit.
        plan: What their names say about it.
        tensors: Mapping of names to tensors.
    """
    ours = {slot.name: slot.shape for slot in plan.slots}
    theirs = {name: tuple(np.shape(value)) for name, value in tensors.items()}
    if not isinstance(target, keras.Model):
        if (
            isinstance(target, CBAM)
            and plan.source
            and theirs.keys() - ours.keys()
        ):
            yield f"The source is for {plan.source.layer}."
        return
    if (found := _blocks(theirs)) != (expected := _blocks(ours)):
        yield f"The source is a network of {found}, the model of {expected}."
        return
    if (widths := _widths(theirs)) != _widths(ours):
        yield f"The source has stages of width {widths}."
    yield from _attention_hints(plan, ours.keys() ^ theirs.keys())
    classes, expected_classes = (
        shapes.get("fc.weight", ())[:1] for shapes in (theirs, ours)
    )
    if classes and expected_classes and classes != expected_classes:
        yield (
            f"The source has {classes[0]} classes: build the model with "
            f"classes={classes[0]}, or leave the classifier out with "
            "include_top=False or as it is with strict=False."
        )


def _blocks(names: Collection[str]) -> str:
    """Returns the kind and number of the blocks of a network, as text."""
    depths: dict[int, int] = {}
    kind = "basic"
    for name in names:
        if match := re.match(r"layer(\d+)\.(\d+)\.(conv3)?", name):
            stage, block = int(match[1]), int(match[2]) + 1
            depths[stage] = max(block, depths.get(stage, 0))
            kind = "bottleneck" if match[3] else kind
    counts = ", ".join(str(depths[stage]) for stage in sorted(depths))
    return f"{kind} blocks ({counts})" if depths else "no known blocks"


def _widths(shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    """Returns the channels of the first convolution of each stage."""
    found = {
        name: shape[0]
        for name, shape in shapes.items()
        if re.fullmatch(r"layer\d+\.0\.conv1\.weight", name) and shape
    }
    return tuple(found[name] for name in sorted(found))


def _attention_hints(plan: Plan, unmatched: Collection[str]) -> Iterator[str]:
    """Yields which attention to build a model with."""
    source = plan.source
    if source is None:
        if plan.attention:
            yield (
                "The source has no attention weights: build the model with "
                "attention=None and call `insert_attention` afterwards."
            )
    elif not plan.attention:
        yield (
            "The source has attention weights and the model has none: build "
            f"it with attention={source.argument}."
        )
    elif any(
        source.module in name or "attention" in name for name in unmatched
    ):
        yield (
            "The source has another attention: build the model with "
            f"attention={source.argument}."
        )
