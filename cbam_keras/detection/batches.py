"""`Examples`, images with their objects, and `Batches` of them for `fit`."""

import dataclasses

import keras
import numpy as np
from keras import layers

from cbam_keras import data

AUGMENTATIONS = ("flip", "translate", "zoom", "colour")
# Fractions: of the side, of the size, of the range of values.
SHIFT, ZOOM, COLOUR = 0.1, 0.2, 0.2
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


class Batches(keras.utils.PyDataset):
    """Batches of images with boxes, each a function of its epoch and number.

    See `DetectionData` for what they hold; `N` is the same in all. The last
    images of an epoch that fill no batch are left out, others in each epoch.
    """

    def __init__(
        self,
        examples: Examples,
        image_shape: tuple[int, int, int],
        batch_size: int,
        seed: int,
        augment: tuple[str, ...] = (),
    ):
        super().__init__()
        self.examples = examples
        *self.size, self.channels = image_shape
        self.batch_size = min(batch_size, len(examples))
        self.seed = seed
        self.layers = _layers_of(augment)
        learned = examples.learned
        ends = np.searchsorted(learned["image"], np.arange(1, len(examples)))
        self.objects = np.split(learned, ends)
        self.max_objects = max(map(len, self.objects))
        self.set_epoch(0)

    def __len__(self) -> int:
        return len(self.examples) // self.batch_size

    def __getitem__(self, index: int) -> tuple[np.ndarray, dict]:
        start = index * self.batch_size
        rows = self.order[start : start + self.batch_size]
        padding = np.array(PADDING, "float32")
        boxes = np.tile(padding, (len(rows), self.max_objects, 1))
        labels = np.full((len(rows), self.max_objects), -1, "float32")
        for number, row in enumerate(rows):
            objects = self.objects[row]
            boxes[number, : len(objects)] = scale_of(self.size) * objects["box"]
            labels[number, : len(objects)] = objects["label"]
        images, objects = self.images(rows), {"boxes": boxes, "labels": labels}
        if self.layers:
            return self._augmented(images, objects, index)
        return images, objects

    def on_epoch_end(self) -> None:
        self.set_epoch(self.epoch + 1)

    def set_epoch(self, epoch: int) -> None:
        """Sets which epoch comes next."""
        self.epoch = epoch
        rng = np.random.default_rng([self.seed, epoch])
        self.order = rng.permutation(len(self.examples))

    def images(self, rows: np.ndarray) -> np.ndarray:
        """Returns images of the examples, resized: float32 `(n, H, W, C)`."""
        return np.stack(list(data.threads().map(self._image, rows)))

    def _image(self, row):
        image = self.examples.images[row]
        if isinstance(image, str | bytes):
            image = data.pil_decode(image, self.channels)
        if list(image.shape[:2]) != self.size:
            box = (0, 0, *image.shape[:2])
            image = data.pil_resize(image, box, tuple(self.size))
        return image.astype("float32")

    def _augmented(self, images, objects, index):
        """Returns a batch, augmented; objects that have left have label -1."""
        batch = {"images": images, "bounding_boxes": objects}
        rng = np.random.default_rng([self.seed, self.epoch, index])
        states = rng.integers(2**31, size=(len(self.layers), 2))
        for layer, state in zip(self.layers, states, strict=True):
            layer.generator.state.assign(state)
            batch = layer(batch, training=True)
        batch = keras.tree.map_structure(keras.ops.convert_to_numpy, batch)
        boxes, labels = (batch["bounding_boxes"][key] for key in objects)
        # Layers change padding too, and each backend differently.
        boxes = np.where(labels[..., None] < 0, np.float32(PADDING), boxes)
        objects = {"boxes": boxes, "labels": labels.astype("float32")}
        return batch["images"], objects


def _layers_of(augment):
    """Returns the layers of Keras that augment images with their boxes.

    `RandomCrop` is not among them: in Keras 3.15.1 it moves boxes along the
    wrong axis.
    """
    options = {
        "bounding_box_format": "xyxy",
        "data_format": "channels_last",
        "seed": 0,
    }
    moved = options | {"fill_mode": "constant"}
    colour = options | {"value_range": (0, 255)}
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
