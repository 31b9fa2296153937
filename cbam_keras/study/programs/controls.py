"""Controls: networks without attention that have as many parameters."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras

from cbam_keras import _graph
from cbam_keras.layers import MakeLayer
from cbam_keras.models import NETWORKS, UNET, hidden_network, wider_network
from cbam_keras.study.plans.study import Variant

WIDER, HIDDEN = "wider", "hidden"
# What a size means, and how a page says it.
CONTROLS = {
    WIDER: "more channels in each layer",
    HIDDEN: "a hidden layer before the classifier",
}


def split_controls(
    attentions: str | Sequence[str | MakeLayer],
) -> tuple[list[str | MakeLayer], list[str]]:
    """Returns what is compared besides controls, and the controls."""
    asked = [attentions] if isinstance(attentions, str) else [*attentions]
    controls = [x for x in asked if isinstance(x, str) and x in CONTROLS]
    return [x for x in asked if x not in controls], controls


def control(
    name: str,
    model: object,
    weights: str | None,
    is_frozen: bool,
    others: Sequence[Variant],
) -> Variant:
    """Returns a variant that has as many parameters as the largest of others.

    Args:
        name: `"wider"` or `"hidden"`.
        model, weights: As for `comparison.plan`.
        is_frozen: Boolean, whether pretrained layers are frozen.
        others: The variants with attention.

    Raises:
        ValueError: If that network has no such control.
    """
    received = f'Received: attention="{name}", model={model!r}, {weights=}'
    if not others:
        raise ValueError(
            f'"{name}" is as large as the largest network with attention, of '
            f"which there must be one. {received}"
        )
    if not isinstance(model, str):
        raise ValueError(
            f'"{name}" needs the name of a network as `model`. Add a larger '
            "network of your own to study.Study as a study.Variant. "
            f"{received}"
        )
    is_unet = model.startswith(UNET)
    if name == WIDER and not is_unet and model not in NETWORKS:
        raise ValueError(
            f'"{WIDER}" needs a network whose width can be chosen: '
            f"{', '.join(NETWORKS)}. A pretrained network has the width of its "
            f'weights: take "{HIDDEN}". {received}'
        )
    if name == HIDDEN and is_unet:
        raise ValueError(
            f'"{HIDDEN}" needs a network with a classifier after its last '
            f'feature map, not a U-Net: take "{WIDER}". {received}'
        )
    # The sizes that were found, by the shapes of data.
    sizes: dict[str, int] = {}
    build = functools.partial(
        build_control,
        name,
        (model, weights, is_frozen),
        [variant.build for variant in others],
        sizes,
    )
    return Variant(name, build, {"control": CONTROLS[name]})


def build_control(
    kind: str,
    arguments: tuple[str, str | None, bool],
    others: Sequence[Callable[[Any], keras.Model]],
    sizes: dict[str, int],
    images: Any,
) -> keras.Model:
    """Builds the smallest network with as many parameters as others."""
    make = wider_network if kind == WIDER else hidden_network
    key = f"{images.input_shape} {images.output_shape}"
    if key not in sizes:
        # The networks that are counted draw no values of this one.
        with _graph.same_randomness():
            most = max(_count(build(images)) for build in others)

            def count(size):
                return _count(make(*arguments, images, size))

            search = _solve_linear if kind == HIDDEN else _bisect
            sizes[key] = search(count, most)
    return make(*arguments, images, sizes[key])


def _solve_linear(count, most):
    """Returns the smallest size, each unit of which adds as much."""
    first, second = count(1), count(2)
    return 1 + max(0, math.ceil((most - first) / (second - first)))


def _bisect(count, most):
    """Returns the smallest size with so many parameters."""
    low, high = 0, 1
    while count(high) < most:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if count(middle) >= most:
            high = middle
        else:
            low = middle
    return high


def _count(model):
    return sum(math.prod(x.shape) for x in model.trainable_weights)
