"""`Batches`: records as a `PyDataset` of images, boxes and labels."""

import concurrent.futures
import os
from typing import Any

import keras
import numpy as np

from cbam_keras import data
from cbam_keras.detection.augmentation import Augmentation
from cbam_keras.detection.records import Records, convert

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
        self.most = records.most_objects()
        self.augment = Augmentation(augment) if augment else None
        self._pool: Any = None
        self.set_epoch(0)

    def __len__(self) -> int:
        return len(self.records) // self.batch_size

    def __getitem__(self, index: int) -> tuple[np.ndarray, dict]:
        start = index * self.batch_size
        rows = self.order[start : start + self.batch_size]
        images = self.images(rows)
        boxes = np.empty((len(rows), self.most, 4), "float32")
        boxes[:] = PADDING
        labels = np.full((len(rows), self.most), -1, "float32")
        for number, row in enumerate(rows):
            kept = ~self.records.ignored[row]
            found = convert(
                self.records.boxes[row][kept], "rel_xyxy", "xyxy", *self.size
            )
            boxes[number, : len(found)] = found
            labels[number, : len(found)] = self.records.labels[row][kept]
        if self.augment is not None:
            seed = [self.seed, self.epoch, index]
            images, boxes, labels = self.augment(images, boxes, labels, seed)
            # Layers change padding too, and each backend differently.
            boxes = np.where(labels[..., None] < 0, PADDING, boxes)
        return images, {
            "boxes": boxes.astype("float32"),
            "labels": labels.astype("float32"),
        }

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
        few = self.batch_size
        records = Records(
            self.records.images[:few],
            self.records.sizes[:few],
            self.records.boxes[:few],
            self.records.labels[:few],
            self.records.ignored[:few],
        )
        return Batches(records, self.size, self.channels, few, self.seed)

    def _image(self, row):
        image = self.records.images[row]
        if isinstance(image, str | bytes):
            image = data.pil_decode(image, self.channels)
        if image.shape[:2] != self.size:
            box = (0, 0, *image.shape[:2])
            image = data.pil_resize(image, box, self.size)
        return image.astype("float32")
