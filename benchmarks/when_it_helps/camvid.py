"""CamVid: photographs from a car, with a class for each pixel, as a task."""

import pathlib

import keras
import numpy as np
from PIL import Image

from cbam_keras import data, models
from cbam_keras.data.batches import Batches

CLASSES = (
    *("sky", "building", "pole", "road", "pavement", "tree"),
    *("sign", "fence", "car", "pedestrian", "cyclist"),
)
# The label of pixels of no class, which are neither learned nor counted.
VOID = len(CLASSES)
# Half the size of the photographs, and narrow decoders, for a CPU.
SIZE, WIDTHS = (96, 128), (64, 48, 32, 24, 16)


def unet(attention, multiplier=1):
    """Returns a U-Net on a pretrained network, attention in its decoder."""
    return models.UNet(
        models.pretrained("EfficientNetLite0", "imagenet", (*SIZE, 3)),
        len(CLASSES),
        attention=attention,
        decoder_widths=[int(multiplier * width) for width in WIDTHS],
    )


def read(folder, mode, resampling):
    """Returns the images of a folder, in the order of their names."""
    images = [Image.open(x).convert(mode) for x in sorted(folder.iterdir())]
    return np.stack([x.resize(SIZE[::-1], resampling) for x in images])


class Segmentation:
    """A class for each pixel of CamVid, measured by the mean IoU."""

    name = "camvid"
    measure = "test_miou"
    measure_name = "mIoU"
    metrics = ("loss", "miou", "val_loss", "val_miou")

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)

    def load(self, recipe):
        splits = {}
        for split in ("train", "val", "test"):
            folder, seed = self.folder / split, None
            images = read(folder / "images", "RGB", Image.Resampling.BOX)
            labels = read(folder / "labels", "L", Image.Resampling.NEAREST)
            if split == "train":
                # Each photograph and its mirror image.
                images = np.concatenate([images, images[:, :, ::-1]])
                labels = np.concatenate([labels, labels[:, :, ::-1]])
                seed = recipe.seed
            examples = data.Examples(images, labels)
            splits[split] = Batches(examples, recipe.batch_size, SIZE, 3, seed)
        return data.ImageData(
            name=self.name,
            image_shape=(*SIZE, 3),
            class_names=CLASSES,
            sizes={name: len(x.examples) for name, x in splits.items()},
            batch_size=recipe.batch_size,
            seed=recipe.seed,
            boxes=False,
            train=splits["train"],
            validation=splits["val"],
            test=splits["test"],
        )

    def check(self, model, data):
        """Nothing: `unet` builds for the data."""

    def compile(self, model, recipe, data):
        miou = keras.metrics.MeanIoU(
            len(CLASSES), name="miou", ignore_class=VOID, sparse_y_pred=False
        )
        model.compile(
            recipe.make_optimizer(len(data.train)),
            keras.losses.SparseCategoricalCrossentropy(ignore_class=VOID),
            metrics=[miou],
        )

    def evaluate(self, model, data):
        measured = model.evaluate(data.test, return_dict=True, verbose=0)
        return {self.measure: float(measured["miou"])}
