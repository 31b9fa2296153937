"""Training, validation and test images, ready for `fit`."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from cbam_keras import _checks


@dataclasses.dataclass(frozen=True)
class ImageData:
    """Training, validation and test images of one dataset.

    Unpacks into three: `train, validation, test = load("mnist5k")`.

    Attributes:
        name: String, the name of the dataset.
        image_shape: Tuple, the shape of an image, `(H, W, C)` or, if the
            image data format is `"channels_first"`, `(C, H, W)`.
        class_names: Tuple of strings, one per class, in label order.
        sizes: Dictionary, the number of images of `"train"`, `"validation"`
            and `"test"`.
        batch_size: Positive integer, images per batch, or `None`.
        seed: Integer, the seed that the images were loaded with.
        boxes: Boolean, whether batches hold boxes beside the labels.
        train: Training images for `fit`, a `keras.utils.PyDataset` in a new
            order each epoch: after `set_epoch`, or after its own
            `on_epoch_end`, which `fit` calls. Arrays if `batch_size` is
            `None`.
        validation: Validation images, for `validation_data` of `fit`.
        test: Test images, for `evaluate`. The same for every seed.
        one_hot: Boolean, whether labels are one-hot, `(B, classes)` float32,
            as MixUp and CutMix need, instead of `(B,)` int32.
        augment: Tuple of strings, how training images are augmented.
        skipped: Tuple of strings, the images that could not be read.
        fingerprint: String, a short hash of the dataset.
        source: Dictionary of the arguments of `load` that say where the
            images are, with the absolute path of a folder; `None` for arrays.
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
    one_hot: bool = False
    augment: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    fingerprint: str = ""
    source: dict[str, Any] | None = None

    def __iter__(self) -> Iterator[Any]:
        return iter((self.train, self.validation, self.test))

    def set_epoch(self, epoch: int) -> None:
        """Sets which epoch comes next, as a resumed run needs it.

        Order and augmentation of an epoch depend only on the seed and on the
        number of the epoch.

        Args:
            epoch: Integer from 0.
        """
        if self.batch_size is not None:
            self.train.set_epoch(epoch)

    def describe(self) -> dict[str, Any]:
        """Returns a description of the dataset, as plain JSON values.

        Stored with a run and checked when the run is resumed.
        """
        return {
            "name": self.name,
            "sizes": dict(self.sizes),
            "image_shape": list(self.image_shape),
            "classes": len(self.class_names),
            "batch_size": self.batch_size,
            "seed": self.seed,
            "augment": list(self.augment),
            "fingerprint": self.fingerprint,
        }

    def sharded(self, index: int, count: int, devices: int) -> "ImageData":
        """Returns the shard of each batch that one of several processes reads.

        All processes together read the batches of a single process, in the
        same order and with the same augmentation. Every batch divides by the
        number of devices: `batch_size` is rounded down to a multiple; up to
        `devices - 1` training images are left out, different ones each
        epoch; validation and test images are padded with copies, and come as
        `(images, labels, weights)`, weights `(B,)` float32 with zero for
        copies and one elsewhere, which `evaluate` takes into account.

        Args:
            index: Integer from 0, the number of this process.
            count: Positive integer, how many processes there are.
            devices: Positive integer, how many devices they have together,
                a multiple of `count` and at most `batch_size`.

        Returns:
            An `ImageData`. Its sizes are those of all processes together.

        Raises:
            ValueError: If an argument is out of range, or if the images were
                loaded with `batch_size=None` or with boxes.
        """
        count = _checks.positive_integer("count", count)
        devices = _checks.positive_integer("devices", devices)
        index = _checks.one_of("index", index, range(count))
        if self.batch_size is None or self.boxes:
            raise ValueError(
                "Only batches of images and labels can be sharded. "
                f"Received: images with batch_size={self.batch_size}, "
                f"boxes={self.boxes}"
            )
        if devices % count:
            raise ValueError(
                "`devices` must be a multiple of `count`: each process has as "
                f"many. Received: devices={devices}, count={count}"
            )
        if devices > min(self.batch_size, self.sizes["train"]):
            raise ValueError(
                "Each device needs at least one image per batch. Received: "
                f"devices={devices}, batch_size={self.batch_size}, "
                f"{self.sizes['train']} training images"
            )
        return dataclasses.replace(
            self,
            **{
                split: getattr(self, split).sharded(index, count, devices)
                for split in self.sizes
            },
        )
