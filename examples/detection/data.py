"""`load`: training and test data for detectors, from any source."""

import dataclasses
import os
import pathlib

import numpy as np

from cbam_keras import _checks, data
from cbam_keras.study import Recipe
from examples.detection import readers
from examples.detection.pictures import AUGMENTATIONS, Batches
from examples.detection.scenes import digit_scenes

# Images of different sizes are resized to squares of this side.
SIDE = 320


@dataclasses.dataclass(frozen=True)
class DetectionData:
    """Training and test images with boxes, as `study.Task` asks for them."""

    name: str
    class_names: tuple[str, ...]
    image_shape: tuple[int, ...]
    batch_size: int
    # Numbers of images.
    sizes: dict[str, int]
    train: Batches
    test: Batches
    validation: None = None

    def set_epoch(self, epoch: int) -> None:
        self.train.set_epoch(epoch)

    def describe(self) -> dict[str, object]:
        # A resumed run notices other images or boxes by the hash.
        content: list[object] = [self.class_names]
        for picture in (*self.train.pictures, *self.test.pictures):
            content += [picture.boxes, picture.labels, picture.scores]
            content += [picture.size, picture.content]
        shape = list(self.image_shape)
        return {"image_shape": shape, "fingerprint": data.digest(*content)}


def load(
    source: str | os.PathLike,
    recipe: Recipe,
    *,
    data_dir: str | os.PathLike | None = None,
    download: bool = False,
) -> DetectionData:
    """Loads images with boxes.

    `source` is `"digit_scenes"` (4,000 training and 500 test scenes of 64 x 64
    pixels with one to three digits among clutter), a folder in COCO's or
    VOC's layout, or a dataset of TensorFlow Datasets with boxes. The
    `augment` of the recipe holds names of `AUGMENTATIONS`; its `image_size` is
    by default the size of all images, or 320 if they differ. Warns of images
    and boxes that are left out. Raises a `ValueError` if no box is left.
    """
    if recipe.augment:
        _checks.subset("augment", recipe.augment, AUGMENTATIONS)
    path = pathlib.Path(source).expanduser()
    if source == "digit_scenes":
        splits, class_names = digit_scenes(recipe.seed)
    elif path.is_dir() or str(source).startswith(data.PATH_STARTS):
        splits, class_names = readers.read_folder(path)
    else:
        splits, class_names = readers.read_tfds(str(source), data_dir, download)
    size = recipe.image_size
    if size is None:
        sizes = {x.size for pictures in splits.values() for x in pictures}
        size = sizes.pop() if len(sizes) == 1 else SIDE
    image = splits["train"][0].image
    channels = image.shape[-1] if isinstance(image, np.ndarray) else 3
    shape = (*_checks.height_and_width(size), channels)
    train, test = (
        Batches(
            *(splits[split], shape, recipe.batch_size, recipe.seed),
            augment=augment,
        )
        for split, augment in (("train", recipe.augment), ("test", ()))
    )
    return DetectionData(
        name=name_of(source),
        class_names=class_names,
        image_shape=shape,
        batch_size=train.batch_size,
        sizes={split: len(pictures) for split, pictures in splits.items()},
        train=train,
        test=test,
    )


def name_of(source: str | os.PathLike) -> str:
    """Returns what a source is called, without loading it."""
    path = pathlib.Path(source).expanduser()
    return path.resolve().name if path.is_dir() else str(source)
