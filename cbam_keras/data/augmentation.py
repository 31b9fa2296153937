"""Random layers of Keras for training images, some of them by name."""

import inspect
import random
import threading
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import keras
import numpy as np

from cbam_keras import _checks, _graph

# A name, or a layer of Keras.
Augmentation: TypeAlias = str | keras.layers.Layer
# The layers of each name. A crop moves whole pixels, by up to an eighth of a
# side. Keras has no random resized crop: the image is moved by up to a fifth,
# and 8 to 100 % of its area are kept. The others have the factor of Keras'
# guides; a single number would only raise the contrast.
LAYERS: dict[str, list[tuple[Any, tuple]]] = {
    "flip": [(keras.layers.RandomFlip, ("horizontal",))],
    "crop": [
        (keras.layers.RandomTranslation, (1 / 8, 1 / 8, "reflect", "nearest"))
    ],
    "random_resized_crop": [
        (keras.layers.RandomTranslation, (0.2, 0.2)),
        (keras.layers.RandomZoom, ((-0.72, 0.0),)),
    ],
    "rotate": [(keras.layers.RandomRotation, (0.1,))],
    "zoom": [(keras.layers.RandomZoom, (0.1,))],
    "brightness": [(keras.layers.RandomBrightness, (0.1,))],
    "contrast": [(keras.layers.RandomContrast, ((0.1, 0.1),))],
}
AUGMENTATIONS = tuple(LAYERS)
# The state of Python's generator is that of the process.
_ONE_AT_A_TIME = threading.Lock()
# Layers that leave less of the range of images were meant for another one.
LEAST_RANGE = 0.1


def list_augmentations(augment: Any) -> tuple[Augmentation, ...]:
    """Returns one or several augmentations, each layer of a chain by itself."""
    several = augment or ()
    if isinstance(several, str | Mapping) or not isinstance(several, Iterable):
        several = (several,)
    listed: list[Augmentation] = []
    for each in several:
        if isinstance(each, keras.Sequential | keras.layers.Pipeline):
            listed += list_augmentations(each.layers)
        elif isinstance(each, Augmentation):
            listed.append(each)
        else:
            raise ValueError(
                "`augment` must be one or several names or layers of Keras. "
                f"Received: augment={augment!r}"
            )
    return tuple(listed)


def check_augmentations(augment: Any) -> tuple[Augmentation, ...]:
    """Returns the augmentations, in the order in which they are applied."""
    listed = list_augmentations(augment)
    for name in listed:
        if isinstance(name, str) and name not in AUGMENTATIONS:
            names = ", ".join(map(_checks.quoted, AUGMENTATIONS))
            raise ValueError(
                f"`augment` must be one or several of {names}, or random "
                "layers of Keras, as keras.layers.RandAugment(). Received: "
                f"augment={augment!r}"
            )
    layers = (x for x in listed if not isinstance(x, str))
    return (*(name for name in AUGMENTATIONS if name in listed), *layers)


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
                "labels and, with masks, have the method "
                "`transform_segmentation_masks`, as Keras' own have. Others, "
                "as Rescaling, belong into the network, after its input; those "
                "that mix labels, as MixUp, need a task of your own. Received: "
                f"{layer!r}{made}"
            )


def make_layers(augment: Iterable[Augmentation]) -> list[keras.layers.Layer]:
    """Returns the layers of augmentations that are checked."""
    made = []
    for each in augment:
        if not isinstance(each, str):
            made.append(each)
            continue
        for layer, options in LAYERS[each]:
            # With name and seed, the state of the process stays as it is.
            made.append(layer(*options, name=each, seed=0, dtype="float32"))
    return made


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
            if masks is not None:
                batch = layer(batch, training=True)
            else:
                # Layers of the user need not take a mapping.
                batch = {"images": layer(batch["images"], training=True)}
        for name, value in batch.items():
            # It is of one type, whatever the layer computes in.
            batch[name] = keras.ops.convert_to_numpy(value).astype("float32")
    if masks is not None:
        shifted = np.squeeze(batch["segmentation_masks"], axis)
        masks = np.round(shifted) + ignore_index
    return batch["images"], masks
