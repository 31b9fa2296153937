"""Controls: networks without attention that have as many parameters."""

import bisect
import functools
import math
from collections.abc import Sequence

from cbam_keras import _graph
from cbam_keras.models import NETWORKS, UNET, hidden_network, wider_network
from cbam_keras.study.plans.study import Variant

WIDER, HIDDEN = "wider", "hidden"
# How a page says what makes them as large.
CONTROLS = {
    WIDER: "more channels in each layer",
    HIDDEN: "a hidden layer before the classifier",
}


def control(
    name: str,
    model: object,
    weights: str | None,
    is_frozen: bool,
    others: Sequence[Variant],
) -> Variant:
    """Returns a variant as large as the largest of `others`, with attention."""
    is_unet = isinstance(model, str) and model.startswith(UNET)
    is_able = is_unet or model in NETWORKS
    if name == HIDDEN:
        is_able = isinstance(model, str) and not is_unet
    if not others or not is_able:
        raise ValueError(
            f'"{WIDER}" needs a network of comparison.NETWORKS, whose width is '
            f'free, or a U-Net, and "{HIDDEN}" any other network by its name, '
            "also with pretrained weights; both need one with attention, whose "
            f'parameters they match. Received: attention="{name}", {model=}, '
            f"{weights=}, with attention: {[x.name for x in others]}"
        )
    arguments = str(model), weights, is_frozen
    builds = [variant.build for variant in others]
    build = functools.partial(_build, name, arguments, builds, {})
    return Variant(name, build, {"control": CONTROLS[name]})


def _build(name, arguments, others, sizes, images):
    """Builds the smallest control as large as others; `sizes` is a cache."""
    make = wider_network if name == WIDER else hidden_network
    key = f"{images.input_shape} {images.output_shape}"
    if key not in sizes:
        # The networks that are counted draw no values of this one.
        with _graph.same_randomness():
            most = max(_count(build(images)) for build in others)

            def count(size):
                return _count(make(*arguments, images, size))

            first, second = count(1), count(2)
            size = 1 + max(0, math.ceil((most - first) / (second - first)))
            if name == WIDER:
                # Wider networks grow faster: that many are enough.
                size = bisect.bisect_left(range(size), most, lo=1, key=count)
            sizes[key] = size
    return make(*arguments, images, sizes[key])


def _count(model):
    return sum(math.prod(x.shape) for x in model.trainable_weights)
