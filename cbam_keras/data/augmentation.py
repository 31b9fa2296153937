"""Random flips, shifts and crops of training images, and layers of Keras."""

import contextlib
import inspect
import math
import random
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import keras
import numpy as np

from cbam_keras import _checks, _graph

# A name, or a layer of Keras.
Augmentation: TypeAlias = str | keras.layers.Layer
AUGMENTATIONS = ("flip", "crop", "random_resized_crop")
# The state of Python's generator is that of the process.
_ONE_AT_A_TIME = threading.Lock()
# "crop" shifts by up to this fraction of a side.
SHIFT = 8
# Random resized crops: the least fraction of the area, the logarithm of the
# largest aspect ratio, and how many boxes are drawn to find one that fits.
LEAST_AREA = 0.08
LOG_RATIO = math.log(4 / 3)
TRIES = 10
# Layers that leave less of the range of images were meant for another one.
LEAST_RANGE = 0.1


def list_augmentations(augment: Any) -> tuple[Augmentation, ...]:
    """Returns augmentations in the order of their use, chains too."""
    several = augment or ()
    if isinstance(several, str | Mapping) or not isinstance(several, Iterable):
        several = (several,)
    words, layers = set[str](), list[Augmentation]()
    for each in several:
        if isinstance(each, keras.Sequential | keras.layers.Pipeline):
            layers += list_augmentations(each.layers)
        elif isinstance(each, keras.layers.Layer):
            layers.append(each)
        elif each in AUGMENTATIONS:
            words.add(each)
        else:
            names = ", ".join(map(_checks.quoted, AUGMENTATIONS))
            raise ValueError(
                f"`augment` must be one or more of {names}, or random layers "
                f"such as keras.layers.RandAugment(). Received: {augment=}"
            )
    return (*(word for word in AUGMENTATIONS if word in words), *layers)


def check_layers(
    augment: Iterable[Augmentation], images: np.ndarray, has_masks: bool
) -> None:
    """Raises unless the layers of the user suit a batch of training images."""
    for layer in augment:
        if isinstance(layer, str):
            continue
        is_random = "training" in inspect.signature(layer.call).parameters
        takes_masks = hasattr(layer, "transform_segmentation_masks")
        mixes = isinstance(layer, keras.layers.MixUp | keras.layers.CutMix)
        suits = is_random and not mixes and (takes_masks or not has_masks)
        made = ""
        if suits:
            rng = np.random.default_rng(0)
            result, _ = apply_layers([layer], images, None, rng, 0)
            least = LEAST_RANGE * np.ptp(images)
            suits = result.shape == images.shape and np.ptp(result) >= least
            ends = f"{result.min():.4g} to {result.max():.4g}"
            made = f", which makes {result.shape[1:]} with values from {ends} "
            made += f"of images {images.shape[1:]} from 0 to 255"
        if not suits:
            raise ValueError(
                "The layers of `augment` must take `training`, keep the size "
                "of images, their range of 0 to 255 (value_range=) and their "
                "labels, and with masks have `transform_segmentation_masks`, "
                "like those of Keras. Others, such as Rescaling, belong in the "
                "network; layers that mix labels, such as MixUp, in your own "
                f"task. Received: {layer!r}{made}"
            )


def apply_layers(
    layers: Iterable[keras.layers.Layer],
    images: np.ndarray,
    masks: np.ndarray | None,
    rng: np.random.Generator,
    ignore_index: int,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Applies layers of Keras to a batch, with random numbers from `rng`."""
    axis = 1 if keras.config.image_data_format() == "channels_first" else -1
    batch = {"images": images}
    if masks is not None:
        # Layers fill with 0, which is then the index that is ignored.
        shifted = masks.astype("float32") - ignore_index
        batch["segmentation_masks"] = np.expand_dims(shifted, axis)
    for layer in layers:
        with _seeded(layer, rng):
            if masks is not None:
                batch = layer(batch, training=True)
            else:
                # Layers of the user need not take a mapping.
                batch = {"images": layer(batch["images"], training=True)}
        # It is of one type, whatever the layer computes in.
        batch = {
            name: keras.ops.convert_to_numpy(value).astype("float32")
            for name, value in batch.items()
        }
    if masks is not None:
        shifted = np.squeeze(batch["segmentation_masks"], axis)
        masks = np.round(shifted) + ignore_index
    return batch["images"], masks


@contextlib.contextmanager
def _seeded(layer, rng):
    """Lets a layer draw random numbers from `rng` alone, on the CPU."""
    states = [
        (state, rng.integers(2**31, size=2))
        for state in _graph.random_states(layer)
    ]
    with (
        _ONE_AT_A_TIME,
        keras.device("cpu:0"),
        # The layer sees these states in place of its own.
        keras.StatelessScope(states),
        _graph.same_randomness(),
    ):
        # `AugMix` draws from this generator.
        random.seed(int(rng.integers(2**31)))
        yield


def draw_box(size: tuple[int, ...], draws: np.ndarray) -> tuple[int, ...]:
    """Returns top, left, height and width of a crop, by draws `(10, 4)`.

    The first of ten boxes that lies in the image, else the largest center box
    of such a ratio, as in torchvision.
    """
    height, width = map(np.float32, size)
    area = height * width * (LEAST_AREA + (1 - LEAST_AREA) * draws[:, 0])
    ratio = np.exp(LOG_RATIO * (2 * draws[:, 1] - 1)).astype("float32")
    heights = np.round(np.sqrt(area / ratio))
    widths = np.round(np.sqrt(area * ratio))
    fits = (heights >= 1) & (heights <= height)
    fits &= (widths >= 1) & (widths <= width)
    if fits.any():
        first = fits.argmax()
        high, wide = heights[first], widths[first]
        down, right = draws[first, 2:]
    else:
        high = min(height, np.round(width * 4 / 3))
        wide = min(width, np.round(height * 4 / 3))
        down = right = np.float32(0.5)
    # Rounding may reach the excluded end.
    top = min(np.floor(down * (height - high + 1)), height - high)
    left = min(np.floor(right * (width - wide + 1)), width - wide)
    return tuple(map(int, (top, left, high, wide)))


def flip_and_crop(
    images: np.ndarray, draws: np.ndarray, augment: Sequence[str]
) -> np.ndarray:
    """Flips and shifts a batch, each image by its draws `(B, 3)`."""
    # Keras' `RandomFlip` draws for a whole batch, of which a process may hold
    # some rows, and its `RandomCrop` crops all images alike.
    if "crop" in augment:
        height, width = images.shape[1:3]
        down, right = height // SHIFT, width // SHIFT
        edges = ((0, 0), (down, down), (right, right), (0, 0))
        padded = np.pad(images, edges, mode="symmetric")
        # The first row and column kept, from 0 to twice the margin.
        top = (draws[:, 1] * (2 * down + 1)).astype("int32")
        left = (draws[:, 2] * (2 * right + 1)).astype("int32")
        images = np.stack(
            [
                image[y : y + height, x : x + width]
                for image, y, x in zip(padded, top, left, strict=True)
            ]
        )
    if "flip" in augment:
        flipped = draws[:, 0, None, None, None] < 0.5
        images = np.where(flipped, images[:, :, ::-1], images)
    return images
