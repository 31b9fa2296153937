"""Keras' random layers as augmentation, from seeds of ours."""

import random
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np

from cbam_keras import _checks, _inspection
from cbam_keras.data.augmentation import AUGMENTATIONS

# A name of ours or of a layer of Keras, or the latter with its arguments.
Plain = str | Mapping[str, Any]
Augmentation = Plain | keras.layers.Layer

# Keras' random layers that keep the size of images, without the elastic
# transform, which differs from run to run with PyTorch. They have the arguments
# of Keras' guides and tests where there is no default that changes an image;
# saturation and sharpness vary around no change, which is 0.5.
LAYERS: dict[str, dict[str, Any]] = {
    "aug_mix": {},
    "cut_mix": {},
    "mix_up": {},
    "rand_augment": {},
    "random_brightness": {"factor": 0.2},
    "random_color_degeneration": {"factor": 0.5},
    "random_color_jitter": {
        "brightness_factor": 0.2,
        "contrast_factor": 0.2,
        "saturation_factor": (0.3, 0.7),
        "hue_factor": 0.2,
    },
    "random_contrast": {"factor": 0.2},
    "random_erasing": {},
    "random_flip": {},
    "random_gaussian_blur": {},
    "random_grayscale": {},
    "random_hue": {"factor": 0.2},
    "random_invert": {},
    "random_perspective": {},
    "random_posterization": {"factor": (4, 8)},
    "random_rotation": {"factor": 0.1},
    "random_saturation": {"factor": (0.3, 0.7)},
    "random_sharpness": {"factor": (0.3, 0.7)},
    "random_shear": {"x_factor": (0, 0.2), "y_factor": (0, 0.2)},
    "random_translation": {"height_factor": 0.1, "width_factor": 0.1},
    "random_zoom": {"height_factor": 0.2},
}
# These mix the labels of two images too.
MIXING = ("cut_mix", "mix_up")
# JAX warns of integers by which MixUp shuffles, PyTorch of those by which
# RandAugment equalizes.
HARMLESS = ("Explicitly requested dtype int64", "Tensor.T is deprecated")
# The data decide these arguments.
BY_DATA = ("name", "trainable", "dtype", "data_format", "seed", "value_range")


def plain(augment: object) -> tuple[Plain, ...]:
    """Returns augmentations with layers as their names and arguments."""
    kinds = str | Mapping | keras.layers.Layer
    several = (augment,) if isinstance(augment, kinds) else augment or ()
    given = tuple(several) if isinstance(several, Iterable) else (several,)
    if not all(isinstance(each, kinds) for each in given):
        raise ValueError(
            "`augment` must be a sequence of names and layers of Keras. "
            f"Received: augment={augment!r}"
        )
    return tuple(
        _described(each) if isinstance(each, keras.layers.Layer) else each
        for each in given
    )


def find_augmentations(augment: object) -> tuple[Plain, ...]:
    """Returns augmentations in the order in which they are applied.

    Ours come first, in their order, then Keras' layers as given.
    """
    given = plain(augment)
    names = [_name(each) for each in given]
    if names:
        _checks.subset("augment", names, [*AUGMENTATIONS, *LAYERS])
    ours = tuple(name for name in AUGMENTATIONS if name in names)
    return ours + tuple(each for each in given if _name(each) in LAYERS)


def mixes_labels(augment: Iterable[Plain]) -> bool:
    """Returns whether a layer among them mixes labels."""
    return any(_name(each) in MIXING for each in augment)


def make_layers(
    augment: Iterable[Plain], image_shape: tuple[int, ...]
) -> list[keras.layers.Layer]:
    """Returns Keras' layers, after a call with images of this shape."""
    made = []
    for message in HARMLESS:
        warnings.filterwarnings("ignore", message)
    # Some make layers of their own, which have the global policy.
    with _inspection.dtype_policy("float32"), keras.device("cpu:0"):
        for each in augment:
            if (name := _name(each)) in AUGMENTATIONS:
                continue
            options = LAYERS[name] if isinstance(each, str) else each[name]
            images = np.zeros((2, *image_shape), "float32")
            try:
                layer = _class_of(name)(seed=0, **options)
                apply_layers(
                    [layer], images, np.eye(2), np.random.default_rng()
                )
            except Exception as error:
                raise ValueError(
                    "`augment` must hold layers that take the images. "
                    f'Received: "{name}" for images of shape {image_shape}'
                ) from error
            made.append(layer)
    return made


def apply_layers(
    layers: Iterable[keras.layers.Layer],
    images: np.ndarray,
    labels: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Applies Keras' layers to a batch, with random numbers from `rng` alone.

    Nothing of it may run in several threads: with PyTorch, Keras draws beta
    distributions from the generator of the process, as AugMix does from that
    of Python.
    """
    to_numpy = keras.ops.convert_to_numpy
    for layer in layers:
        states = [(v, rng.integers(2**31, size=2)) for v in layer.variables]
        with (
            _inspection.same_randomness(),
            keras.device("cpu:0"),
            # The states of the generators, in place of what they hold.
            keras.StatelessScope(states),
        ):
            random.seed(int(rng.integers(2**31)))
            if type(layer) in map(_class_of, MIXING):
                mixed = {"images": images, "labels": labels}
                mixed = layer(mixed, training=True)
                images, labels = map(
                    to_numpy, (mixed["images"], mixed["labels"])
                )
            else:
                images = to_numpy(layer(images, training=True))
        images = np.clip(images, 0, 255)
    return images, labels


def _name(augmentation):
    if isinstance(augmentation, str):
        return augmentation
    return ", ".join(augmentation)


def _described(layer):
    """Returns a layer as its name and its arguments, plain values."""
    name = {_class_of(name): name for name in LAYERS}.get(type(layer))
    options = layer.get_config()
    options = {x: options[x] for x in options if x not in BY_DATA}
    return {name or type(layer).__name__: options}


def _class_of(name: str) -> Any:
    return getattr(keras.layers, name.title().replace("_", ""))
