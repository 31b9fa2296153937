"""What may be done about weights that do not fit."""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import keras
import numpy as np

from cbam_keras.convert.matching import Plan
from cbam_keras.convert.names import Attention
from cbam_keras.layers import CBAM, SpatialAttention

# Shapes in PyTorch's layout by PyTorch's names.
Shapes = Mapping[str, tuple[int, ...]]


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
    other = {
        slot.name
        for slot in plan.slots
        if slot.name in theirs and not slot.fits(theirs[slot.name])
    }
    if isinstance(target, keras.Model):
        found, expected = _blocks(theirs), _blocks(ours)
        if expected and not found:
            yield (
                "The source has none of the names of a residual network, as "
                f'"{next(iter(ours))}".'
            )
            return
        if found and found != expected:
            yield (
                f"The source is a network of {found}, the model "
                f"{f'one of {expected}' if expected else 'a single block'}."
            )
            return
        if (widths := _widths(theirs)) != _widths(ours):
            yield f"The source has stages of width {widths}."
        yield from _model_hints(plan, ours, theirs)
    elif plan.source is not None and theirs.keys() - ours.keys():
        yield f"The source is of {_built_for(target, plan.source, theirs)}."
    if plan.source is not None:
        model = isinstance(target, keras.Model)
        yield from _attention_hints(plan.source, model, ours, theirs, other)
    yield from _end_hints(plan, ours, theirs, other)


def _widths(shapes: Shapes) -> tuple[int, ...]:
    """Returns the channels of the first convolution of each stage."""
    found = {
        name: shape[0]
        for name, shape in shapes.items()
        if re.fullmatch(r"layer\d+\.0\.conv1\.weight", name) and shape
    }
    return tuple(found[name] for name in sorted(found))


def _blocks(names: Collection[str]) -> str:
    """Returns of which and how many blocks a network is, "" if of none."""
    depths: dict[int, int] = {}
    kind = "basic"
    for name in names:
        if match := re.match(r"layer(\d+)\.(\d+)\.(conv3)?", name):
            stage, block = int(match[1]), int(match[2]) + 1
            depths[stage] = max(block, depths.get(stage, 0))
            kind = "bottleneck" if match[3] else kind
    counts = ", ".join(str(depths[stage]) for stage in sorted(depths))
    return f"{kind} blocks ({counts})" if depths else ""


def _model_hints(plan: Plan, ours: Shapes, theirs: Shapes) -> Iterator[str]:
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
        source.module in name or "attention" in name
        for name in ours.keys() ^ theirs.keys()
    ):
        yield (
            "The source has another attention: build the model with "
            f"attention={source.argument}."
        )


def _built_for(
    layer: keras.layers.Layer, source: Attention, names: Collection[str]
) -> str:
    """Returns the layer that the weights of a single module are for."""
    if isinstance(layer, CBAM):
        return source.layer
    if isinstance(layer, SpatialAttention):
        normalized = any(f"{source.batch_norm}." in name for name in names)
        options = f"pool_types={source.maps}, batch_norm={normalized}"
    else:
        bias = source.perceptron["squeeze_bias"]
        options = f"use_bias={any(name.endswith(bias) for name in names)}"
    return f"{type(layer).__name__}({options})"


def _attention_hints(
    source: Attention,
    model: bool,
    ours: Shapes,
    theirs: Shapes,
    other: Collection[str],
) -> Iterator[str]:
    """Yields which widths and kernels to build attention with."""
    # Hidden width and channels by name, of all gates and of those that differ.
    widths = {
        name: shape[:2]
        for name, shape in theirs.items()
        if name.endswith(source.perceptron["squeeze_kernel"])
        and len(shape) > 1
        and shape[0]
    }
    wrong = {
        name: widths[name][0]
        for name in widths
        if name in other and ours[name][1:] == widths[name][1:]
    }
    if wrong:
        ratios = {channels / hidden for hidden, channels in widths.values()}
        if len(ratios) == 1 and (ratio := ratios.pop()).is_integer():
            option = f"reduction_ratio={int(ratio)}"
        elif model:
            option = f"attention=[{', '.join(_stages(source, widths, wrong))}]"
        else:
            option = f"hidden_units={next(iter(wrong.values()))}"
        yield f"The source has other hidden widths: build with {option}."
    for name in other:
        if name.endswith(f"{source.convolution}.weight"):
            yield f"The source has kernel_size={theirs[name][-1]}."
            return


def _stages(
    source: Attention, names: Collection[str], wrong: Mapping[str, int]
) -> list[str]:
    """Returns the attention of each stage, by the hidden widths found."""
    stages = {}
    for name in names:
        layer = source.argument
        if name in wrong:
            layer = source.layer.replace(
                "(", f"(hidden_units={wrong[name]}, ", 1
            ).replace(", )", ")")
        stages[name.split(".")[0]] = layer
    return [stages[stage] for stage in sorted(stages)]


def _end_hints(
    plan: Plan, ours: Shapes, theirs: Shapes, other: Collection[str]
) -> Iterator[str]:
    """Yields what differs where images enter and classes leave."""
    stem = theirs.get("conv1.weight", ())
    if "stem_conv" in plan.known and "conv1.weight" in other and len(stem) == 4:
        width, channels, *window = stem
        if stem[2:] == ours["conv1.weight"][2:]:
            yield (
                f"The source takes images of {channels} channels to "
                f"stem_width={width}."
            )
        else:
            kind = "imagenet" if window == [7, 7] else "small"
            yield f'The source has most likely stem="{kind}".'
    if (
        "fc.weight" in other
        and ours["fc.weight"][1:] == theirs["fc.weight"][1:]
    ):
        classes = theirs["fc.weight"][0]
        yield (
            f"The source has {classes} classes: build the model with "
            f"classes={classes}, or leave the classifier out with "
            "include_top=False or as it is with strict=False."
        )
