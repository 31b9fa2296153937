"""Controls: networks without attention that have as many parameters."""

import bisect
import functools
import math
from collections.abc import Callable, Sequence

import keras

from cbam_keras import _graph
from cbam_keras.data import ImageData
from cbam_keras.models import NETWORKS, UNET, hidden_network, wider_network
from cbam_keras.study.plans.study import Variant

WIDER = "wider"
HIDDEN = "hidden"
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
    """Returns a variant that has as many parameters as the largest of others.

    Args:
        name: `"wider"` or `"hidden"`.
        model: As for `comparison.plan`.
        weights: As for `comparison.plan`.
        is_frozen: Boolean, whether pretrained layers are frozen.
        others: The variants with attention.

    Raises:
        ValueError: If that network has no such control.
    """
    network = _check_network(name, model, weights, others)
    build = functools.partial(
        _build,
        name,
        (network, weights, is_frozen),
        [variant.build for variant in others],
        {},
    )
    return Variant(name, build, {"control": CONTROLS[name]})


def _check_network(
    name: str, model: object, weights: str | None, others: Sequence[Variant]
) -> str:
    """Returns the name of the network, or raises if it has no such control."""
    received = f'Received: attention="{name}", {model=}, {weights=}'
    if not others:
        raise ValueError(
            f'"{name}" needs a network with attention whose number of '
            "parameters it can match, such as in "
            f'["none", "cbam", "{name}"]. {received}'
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
            f"{', '.join(NETWORKS)}, or a U-Net. A pretrained network has the "
            f'width of its weights: use "{HIDDEN}". {received}'
        )
    if name == HIDDEN and is_unet:
        raise ValueError(
            f'"{HIDDEN}" needs a network with a classifier after its last '
            f'feature map, which a U-Net is not: use "{WIDER}". {received}'
        )
    return model


def _build(
    name: str,
    arguments: tuple[str, str | None, bool],
    builds: Sequence[Callable[[ImageData], keras.Model]],
    sizes: dict[str, int],
    images: ImageData,
) -> keras.Model:
    """Builds the smallest control as large as the networks of `builds`.

    Args:
        name: `"wider"` or `"hidden"`.
        arguments: Network, weights, and whether these are frozen.
        builds: Functions that build the networks with attention.
        sizes: The sizes that were chosen before, by the shapes of the data: a
            size depends on nothing else, and is searched once.
        images: The data, whose shapes the network gets.
    """
    make = wider_network if name == WIDER else hidden_network
    shapes = f"{images.input_shape} {images.output_shape}"
    if shapes not in sizes:
        # The networks that are counted draw no values of this one.
        with _graph.same_randomness():
            target = max(_count(build(images)) for build in builds)

            def count(size):
                return _count(make(*arguments, images, size))

            sizes[shapes] = _find_size(count, target, is_linear=name == HIDDEN)
    return make(*arguments, images, sizes[shapes])


def _find_size(
    count: Callable[[int], int], target: int, *, is_linear: bool
) -> int:
    """Returns the smallest size from 1 whose `count` is at least `target`.

    A hidden layer adds as many parameters with each unit, so its size follows
    from two counts. A wider network grows faster with each channel, so that
    number is enough, and the smallest is found by bisection.
    """
    first = count(1)
    growth = count(2) - first
    enough = 1 + max(0, math.ceil((target - first) / growth))
    if is_linear:
        return enough
    return bisect.bisect_left(range(enough), target, lo=1, key=count)


def _count(model):
    """Returns the trainable parameters."""
    return sum(math.prod(x.shape) for x in model.trainable_weights)
