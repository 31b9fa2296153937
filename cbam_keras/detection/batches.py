"""`Examples`, images with their objects, and `Batches` of them for `fit`."""

import dataclasses
from collections.abc import Sequence

import keras
import numpy as np

from cbam_keras import data

AUGMENTATIONS = ("flip", "translate", "zoom", "colour")
# Fractions: of the side, of the size, of the range of values.
SHIFT, ZOOM, COLOUR = 0.1, 0.2, 0.2
# What a shifted and zoomed image may show beyond each edge.
MARGIN = SHIFT + ZOOM / 2
# What random numbers are for, so that no two uses share a seed. Not 0, since
# NumPy takes a seed with zeros at its end for the one without them.
ORDER, AUGMENTATION = 1, 2
# How often one is drawn: flip, two shifts, zoom, brightness and contrast.
DRAWS = 6
# Where there is no object. It lies outside the image, so that it matches no
# anchor, and has an area, so that its logarithm is finite.
PADDING = (-2.0, -2.0, -1.0, -1.0)
# An object, true or detected.
OBJECT = np.dtype(
    [
        # The number of its image in the split.
        ("image", "int32"),
        ("label", "int32"),
        # 1 for true objects, 0 for those that are ignored: crowds and
        # difficult ones, which are neither learned nor counted.
        ("confidence", "float32"),
        # Left, top, right and bottom as fractions of the image.
        ("box", "float64", 4),
        # In pixels of the original image, NaN for that of the box.
        ("area", "float64"),
    ]
)


@dataclasses.dataclass(frozen=True)
class Examples:
    """Images of one split, and the objects in them."""

    # Arrays `(N, H, W, C)`; or paths as strings, or encoded images as bytes.
    images: np.ndarray
    # Height and width of each.
    sizes: np.ndarray
    # Of `OBJECT`, in the order of the images.
    objects: np.ndarray
    # Hashes of images that are encoded.
    contents: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.images)

    @property
    def learned(self) -> np.ndarray:
        """The objects that are not ignored."""
        return self.objects[self.objects["confidence"] > 0]


def table(image, labels, boxes, confidence=1, area=np.nan) -> np.ndarray:
    """Returns objects as an array of `OBJECT`."""
    objects = np.empty(len(labels), OBJECT)
    objects["image"], objects["label"], objects["area"] = image, labels, area
    objects["box"], objects["confidence"] = boxes, confidence
    return objects


def scale_of(sizes) -> np.ndarray:
    """Returns the factors from fractions to pixels, for `(..., 2)` sizes."""
    return np.asarray(sizes, "float32")[..., [1, 0, 1, 0]]


def overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Returns intersections over union, `(n, m)`, of boxes as `"xyxy"`."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    common = np.clip(high - low, 0, None).prod(axis=2)
    areas = [(x[:, 2:] - x[:, :2]).prod(axis=1) for x in (boxes, others)]
    return common / (areas[0][:, None] + areas[1] - common)


@dataclasses.dataclass(eq=False, repr=False)
class Batches(keras.utils.PyDataset):
    """Batches of images with boxes, each a function of its epoch and number.

    See `DetectionData` for what they hold; `N` is the same in all. The last
    images of an epoch that fill no batch are left out, others in each epoch.
    """

    examples: Examples
    image_shape: tuple[int, int, int]
    batch_size: int
    seed: int
    augment: tuple[str, ...] = ()

    def __post_init__(self):
        super().__init__()
        self.size = tuple(self.image_shape[:2])
        self.batch_size = min(self.batch_size, len(self.examples))
        learned = self.examples.learned
        following = np.arange(1, len(self.examples))
        ends = np.searchsorted(learned["image"], following)
        self.objects = np.split(learned, ends)
        self.max_objects = max(map(len, self.objects))
        self.set_epoch(0)

    def __len__(self) -> int:
        return len(self.examples) // self.batch_size

    def __getitem__(self, index: int) -> tuple[np.ndarray, dict]:
        start = index * self.batch_size
        rows = self.order[start : start + self.batch_size]
        rng = np.random.default_rng(
            [self.seed, self.epoch, index, AUGMENTATION]
        )
        draws = 2 * rng.random((len(rows), DRAWS)) - 1
        read = data.threads().map(self._read, rows, draws)
        images, moved = zip(*read, strict=True)
        shape = len(rows), self.max_objects
        boxes = np.tile(np.array(PADDING, "float32"), (*shape, 1))
        labels = np.full(shape, -1, "float32")
        for number, row in enumerate(rows):
            low, high = np.hsplit(moved[number], 2)
            # Others have left the image.
            seen = (high > low).all(axis=1)
            count = seen.sum()
            boxes[number, :count] = scale_of(self.size) * moved[number][seen]
            labels[number, :count] = self.objects[row]["label"][seen]
        return np.stack(images), {"boxes": boxes, "labels": labels}

    def on_epoch_end(self) -> None:
        self.set_epoch(self.epoch + 1)

    def set_epoch(self, epoch: int) -> None:
        """Sets which epoch comes next."""
        self.epoch = epoch
        rng = np.random.default_rng([self.seed, epoch, 0, ORDER])
        self.order = rng.permutation(len(self.examples))

    def images(self, rows: np.ndarray) -> np.ndarray:
        """Returns images of the examples, resized: float32 `(n, H, W, C)`."""
        read = data.threads().map(self._read, rows)
        return np.stack([image for image, _ in read])

    def _read(self, row, draws=None):
        """Returns an image, resized, and the boxes in it, as fractions."""
        image, boxes = self.examples.images[row], self.objects[row]["box"]
        image = data.pil_decode(image, self.image_shape[2])
        if self.augment and draws is not None:
            image, boxes = _augmented(
                image, boxes, self.size, draws, self.augment
            )
        else:
            image = data.pil_resize(image, self.size)
        return image.astype("float32"), boxes


def _augmented(image, boxes, size, draws, augment):
    """Returns an image, resized, and its boxes; `draws` are from [-1, 1)."""
    # Not by Keras' layers, whose floats round as the CPU and the backend do.
    flip, down, right, zoom, brightness, contrast = draws
    # The square of the image, of side 1, that is shown.
    side = 1 + ZOOM * zoom * ("zoom" in augment)
    top, left = (
        (1 - side) / 2 - SHIFT * shift * ("translate" in augment)
        for shift in (down, right)
    )
    height, width = image.shape[:2]
    high, wide = (int(MARGIN * length) + 1 for length in (height, width))
    padded = np.pad(image, ((high, high), (wide, wide), (0, 0)))
    box = high + top * height, wide + left * width, side * height, side * width
    image = data.pil_resize(padded, size, box)
    boxes = np.clip((boxes - [left, top, left, top]) / side, 0, 1)
    if "flip" in augment and flip < 0:
        image = image[:, ::-1]
        boxes = np.abs(boxes[:, [2, 1, 0, 3]] - [1, 0, 1, 0])
    if "colour" in augment:
        mean = image.mean(axis=(0, 1))
        image = (image - mean) * (1 + COLOUR * contrast) + mean
        image = np.clip(image + 255 * COLOUR * brightness, 0, 255)
    return image, boxes
