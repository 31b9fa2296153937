"""Training, validation and test images, ready for `fit`."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from cbam_keras import _checks


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
        one_hot: Boolean, whether labels are `(B, classes)` float32, as
            mixing images needs, and not `(B,)` int32.
        augment: Tuple of strings, how training images are changed.
        skipped: Tuple of strings, the images that could not be read.
        fingerprint: String, a short code of what the data are.
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
    _set_epoch: Callable[[int], Any] = dataclasses.field(
        default=lambda epoch: None, repr=False
    )
    _serve: Callable[..., tuple[dict, Callable]] | None = dataclasses.field(
        default=None, repr=False
    )

    def __iter__(self) -> Iterator[Any]:
        return iter((self.train, self.validation, self.test))

    def set_epoch(self, epoch: int) -> None:
        """Sets which epoch comes next, so that a resumed run goes on as it
        would have: order and augmentation of an epoch depend on the seed and
        on its number alone.

        Args:
            epoch: Integer from 0.
        """
        self._set_epoch(epoch)

    def describe(self) -> dict[str, Any]:
        """Returns what makes the data what they are, as plain JSON values.

        A run writes it down, and compares it when it is resumed.
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
        """Returns the part of each batch that one of several processes gets.

        All processes together get the batches of one process, in the same
        order, augmented alike. Every batch divides by the number of devices:
        `batch_size` is rounded down to a multiple; up to `devices - 1`
        training images of an epoch are left out, others in each; validation
        and test images are filled up with copies, and come as `(images,
        labels, weights)`, weights `(B,)` float32 zero for copies and one
        elsewhere, which `evaluate` takes into account.

        Args:
            index: Integer from 0, the number of the process.
            count: Positive integer, how many processes there are.
            devices: Positive integer, how many devices they have together,
                a multiple of `count` and at most `batch_size`.

        Returns:
            An `ImageData` with the same sizes, of all processes together.

        Raises:
            ValueError: If an argument is out of range, or the images were
                loaded whole or with boxes.
        """
        count = _checks.positive_integer("count", count)
        devices = _checks.positive_integer("devices", devices)
        _checks.one_of("index", index, range(count))
        if self._serve is None or self.batch_size is None or self.boxes:
            raise ValueError(
                "Only batches of images and labels can be shared out. "
                f"Received: images with batch_size={self.batch_size}, "
                f"boxes={self.boxes}"
            )
        if devices % count:
            raise ValueError(
                "`devices` must be a multiple of `count`, as many for each "
                f"process. Received: devices={devices}, count={count}"
            )
        smallest = min(self.batch_size, self.sizes["train"])
        if devices > smallest:
            raise ValueError(
                "Each device needs an image of a batch. Received: "
                f"devices={devices}, batch_size={self.batch_size}, "
                f"{self.sizes['train']} training images"
            )
        splits, set_epoch = self._serve(shard=(int(index), count, devices))
        return dataclasses.replace(self, **splits, _set_epoch=set_epoch)
