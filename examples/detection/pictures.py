"""`Picture`, an image with the objects in it, and `Batches` for `fit`."""

import dataclasses
from collections.abc import Iterable, Sequence

import keras
import numpy as np

from cbam_keras import data

AUGMENTATIONS = ("flip", "translate", "zoom", "color")
# Fractions of the side, of the size, and of the range of values.
SHIFT, ZOOM, COLOR = 0.1, 0.2, 0.2
# How far beyond each edge a shifted and zoomed image may show.
MARGIN = SHIFT + ZOOM / 2
# Each use of random numbers has a seed of its own, with one of these in it.
ORDER, AUGMENTATION = 1, 2
# An augmentation draws a flip, two shifts, a zoom, brightness and contrast.
DRAWS = 6
# Fills the places of missing objects. It lies outside the image, so that it
# matches no anchor, and has an area, so that its logarithm is finite.
PADDING = (-2.0, -2.0, -1.0, -1.0)


@dataclasses.dataclass(frozen=True, eq=False)
class Picture:
    """An image with the objects in it, true or detected.

    `image` is an array `(H, W, C)`, a path, or an encoded image, whose hash is
    `content`; `size` is height and width. `boxes` `(N, 4)` are left, top, right
    and bottom in pixels, `labels` `(N,)` indices of classes. The `scores`
    `(N,)` of true objects are 1, or 0 for those that are neither learned nor
    counted: crowds in COCO, difficult ones in VOC.
    """

    image: np.ndarray | str | bytes
    size: tuple[int, int]
    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    content: str = ""


def scale_of(size: tuple[int, int]) -> np.ndarray:
    """Returns the factors from fractions of an image to pixels of a box."""
    height, width = size
    return np.array([width, height] * 2, "float32")


def overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Returns intersections over union, `(n, m)`, of boxes."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    common = np.clip(high - low, 0, None).prod(axis=2)
    areas = [(x[:, 2:] - x[:, :2]).prod(axis=1) for x in (boxes, others)]
    return common / (areas[0][:, None] + areas[1] - common)


@dataclasses.dataclass(eq=False, repr=False)
class Batches(keras.utils.PyDataset):
    """Batches of images with boxes, each a function of its epoch and number.

    A batch is images `(B, H, W, C)` in [0, 255], and a dictionary of `"boxes"`
    `(B, N, 4)` in pixels and `"labels"` `(B, N)`, -1 where there is no object;
    `N` is the same in all. The last images of an epoch that fill no batch are
    left out, others in each epoch.
    """

    pictures: Sequence[Picture]
    image_shape: tuple[int, ...]
    batch_size: int
    seed: int
    augment: Sequence[str] = ()

    def __post_init__(self):
        super().__init__()
        self.size = tuple(self.image_shape[:2])
        self.batch_size = min(self.batch_size, len(self.pictures))
        # Boxes to learn are fractions of the image.
        self.boxes, self.labels = [], []
        for picture in self.pictures:
            learned = picture.scores > 0
            scale = scale_of(picture.size)
            self.boxes.append(picture.boxes[learned] / scale)
            self.labels.append(picture.labels[learned])
        self.max_objects = max(map(len, self.labels))
        self.set_epoch(0)

    def __len__(self) -> int:
        return len(self.pictures) // self.batch_size

    def __getitem__(self, index: int) -> tuple[np.ndarray, dict]:
        start = index * self.batch_size
        rows = self.order[start : start + self.batch_size]
        seeds = [self.seed, self.epoch, index, AUGMENTATION]
        draws = 2 * np.random.default_rng(seeds).random((len(rows), DRAWS)) - 1
        read = data.get_threads().map(self._read, rows, draws)
        images, moved_boxes = zip(*read, strict=True)
        shape = len(rows), self.max_objects
        boxes = np.tile(np.array(PADDING, "float32"), (*shape, 1))
        labels = np.full(shape, -1, "float32")
        for number, moved in enumerate(moved_boxes):
            # The others have left the image.
            is_seen = (moved[:, 2:] > moved[:, :2]).all(axis=1)
            count = is_seen.sum()
            boxes[number, :count] = scale_of(self.size) * moved[is_seen]
            labels[number, :count] = self.labels[rows[number]][is_seen]
        return np.stack(images), {"boxes": boxes, "labels": labels}

    def on_epoch_end(self) -> None:
        self.set_epoch(self.epoch + 1)

    def set_epoch(self, epoch: int) -> None:
        """Sets which epoch comes next."""
        self.epoch = epoch
        rng = np.random.default_rng([self.seed, epoch, 0, ORDER])
        self.order = rng.permutation(len(self.pictures))

    def images(self, rows: Iterable[int]) -> np.ndarray:
        """Returns images of these rows, resized, float32 `(n, H, W, C)`."""
        read = data.get_threads().map(self._read, rows)
        return np.stack([image for image, _ in read])

    def _read(self, row, draws=None):
        """Returns an image, resized, and the boxes in it, as fractions."""
        boxes = self.boxes[row]
        item, channels = self.pictures[row].image, self.image_shape[2]
        image = data.pil_decode(item, channels)
        if self.augment and draws is not None:
            image, boxes = _augment(
                image, boxes, self.size, draws, self.augment
            )
        else:
            image = data.pil_resize(image, self.size)
        return image.astype("float32"), boxes


def _augment(image, boxes, size, draws, augment):
    """Returns an image, resized, and its boxes; `draws` are from [-1, 1).

    NumPy gives the same on every CPU and backend, as Keras' layers do not.
    """
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
    if "color" in augment:
        mean = image.mean(axis=(0, 1))
        image = (image - mean) * (1 + COLOR * contrast) + mean
        image = np.clip(image + 255 * COLOR * brightness, 0, 255)
    return image, boxes
