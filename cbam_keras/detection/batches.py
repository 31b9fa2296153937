"""`Batches`: records as a `PyDataset`, augmented and repeatable by epoch."""

import concurrent.futures
import os
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers

from cbam_keras import _checks, data
from cbam_keras.detection.records import Records, scale_of

AUGMENTATIONS = ("flip", "translate", "zoom", "colour")
# Fractions: of the side, of the size, of the range of values.
SHIFT, ZOOM, COLOUR = 0.1, 0.2, 0.2
# Where there is no object. It lies outside the image, so that it matches no
# anchor, and has an area, so that its logarithm is finite.
PADDING = (-2.0, -2.0, -1.0, -1.0)


class Batches(keras.utils.PyDataset):
    """Batches of images with boxes, each a function of its epoch and number.

    A batch is `(images, {"boxes", "labels"})`: float32 `(B, H, W, C)` in
    [0, 255], float32 `(B, N, 4)` as `"xyxy"` in pixels and float32 `(B, N)`
    with -1 where there is no object. `N` is the same in all batches. The last
    images of an epoch that fill no batch are left out, others in each epoch.

    Args:
        records: `Records`.
        size: Tuple `(H, W)`.
        channels: Integer.
        batch_size: Positive integer.
        seed: Integer, of order and augmentation.
        augment: Tuple of strings.
    """

    def __init__(
        self,
        records: Records,
        size: tuple[int, int],
        channels: int,
        batch_size: int,
        seed: int,
        augment: tuple[str, ...] = (),
    ):
        super().__init__()
        self.records = records
        self.size = size
        self.channels = channels
        self.batch_size = min(batch_size, len(records))
        self.seed = seed
        self.max_objects = max(int((~x).sum()) for x in records.ignored)
        self.layers = _layers_of(augment)
        self._pool: Any = None
        self.set_epoch(0)

    def __len__(self) -> int:
        return len(self.records) // self.batch_size

    def __getitem__(self, index: int) -> tuple[np.ndarray, dict]:
        start = index * self.batch_size
        rows = self.order[start : start + self.batch_size]
        images = self.images(rows)
        boxes = np.empty((len(rows), self.max_objects, 4), "float32")
        boxes[:] = PADDING
        labels = np.full((len(rows), self.max_objects), -1, "float32")
        scale = scale_of(*self.size)
        for number, row in enumerate(rows):
            kept = ~self.records.ignored[row]
            count = kept.sum()
            boxes[number, :count] = scale * self.records.boxes[row][kept]
            labels[number, :count] = self.records.labels[row][kept]
        if self.layers:
            images, boxes, labels = self._augmented(
                images, boxes, labels, [self.seed, self.epoch, index]
            )
        return images, {"boxes": boxes, "labels": labels}

    def on_epoch_end(self) -> None:
        self.set_epoch(self.epoch + 1)

    def set_epoch(self, epoch: int) -> None:
        """Sets which epoch comes next."""
        self.epoch = epoch
        rng = np.random.default_rng([self.seed, epoch])
        self.order = rng.permutation(len(self.records))

    def images(self, rows: np.ndarray) -> np.ndarray:
        """Returns images of the records, resized: float32 `(n, H, W, C)`."""
        if self._pool is None:
            self._pool = concurrent.futures.ThreadPoolExecutor(os.cpu_count())
        return np.stack(list(self._pool.map(self._image, rows)))

    def first(self) -> "Batches":
        """Returns one batch of the first records, in order."""
        records = self.records.first(self.batch_size)
        return Batches(
            records, self.size, self.channels, self.batch_size, self.seed
        )

    def _augmented(self, images, boxes, labels, seed):
        """Returns a batch, augmented; objects that have left have label -1."""
        objects = {"boxes": boxes, "labels": labels}
        batch = {"images": images, "bounding_boxes": objects}
        states = np.random.default_rng(seed).integers(
            2**31, size=(len(self.layers), 2)
        )
        for layer, state in zip(self.layers, states, strict=True):
            layer.generator.state.assign(state)
            batch = layer(batch, training=True)
        batch = keras.tree.map_structure(keras.ops.convert_to_numpy, batch)
        boxes, labels = (batch["bounding_boxes"][key] for key in objects)
        # Layers change padding too, and each backend differently.
        boxes = np.where(labels[..., None] < 0, np.float32(PADDING), boxes)
        return batch["images"], boxes, labels.astype("float32")

    def _image(self, row):
        image = self.records.images[row]
        if isinstance(image, str | bytes):
            image = data.pil_decode(image, self.channels)
        if image.shape[:2] != self.size:
            box = (0, 0, *image.shape[:2])
            image = data.pil_resize(image, box, self.size)
        return image.astype("float32")


def _layers_of(augment):
    """Returns the layers of Keras that augment images with their boxes.

    `RandomCrop` is not among them: in Keras 3.15.1 it moves boxes along the
    wrong axis.
    """
    options: dict[str, Any] = {
        "bounding_box_format": "xyxy",
        "data_format": "channels_last",
        "seed": 0,
    }
    moved = {"fill_mode": "constant", **options}
    colour = {"value_range": (0, 255), **options}
    by_name = {
        "flip": [layers.RandomFlip("horizontal", **options)],
        "translate": [layers.RandomTranslation(SHIFT, SHIFT, **moved)],
        "zoom": [layers.RandomZoom((-ZOOM, ZOOM), **moved)],
        "colour": [
            layers.RandomBrightness(COLOUR, **colour),
            layers.RandomContrast(COLOUR, **colour),
        ],
    }
    return [layer for name in augment for layer in by_name[name]]


def check_augmentations(augment: Any) -> tuple[str, ...]:
    """Returns the names in the order in which they are applied."""
    if isinstance(augment, Sequence) and not augment:
        return ()
    chosen = _checks.subset("augment", augment, AUGMENTATIONS)
    return tuple(name for name in AUGMENTATIONS if name in chosen)
