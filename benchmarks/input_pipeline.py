"""Speed of the input pipeline, beside the speed of training.

    python -m benchmarks.input_pipeline --mode torch

Writes JPEG files of 500 x 375 to a temporary folder and measures how many
images per second are read, decoded and augmented at 224 x 224, and how many
`models.ResNet50` trains on at that size, by turns in one process. Also
measures small images in memory with the usual augmentation. Prints medians
and ranges, and writes all rates to `input_pipeline-MODE.json` in the output
folder.
"""

import os
import sys

from benchmarks import modes

os.environ["KERAS_BACKEND"] = modes.backend_of(sys.argv)

import pathlib
import statistics
import tempfile
import time

import numpy as np
from PIL import Image

from benchmarks import arguments, results
from cbam_keras import _terminal, data, models

IMAGES = 300
# Of each measurement.
SECONDS = 4
SIDE = 224
RECIPES = {
    "decode, random resized crop": ("random_resized_crop",),
    "decode, random resized crop, flip": ("random_resized_crop", "flip"),
}
SMALL = {
    "32 x 32 in memory": (),
    "32 x 32 in memory, crop, flip": ("crop", "flip"),
}


def write_photographs(folder, count):
    """Writes JPEG files as detailed as photographs, in two classes."""
    rng = np.random.default_rng(0)
    for number in range(count):
        # Large shapes, small ones, and sensor noise.
        image = np.zeros((375, 500, 3))
        for side, height in ((8, 120), (40, 50), (120, 20)):
            shapes = Image.fromarray(
                rng.integers(0, 256, (side, side, 3)).astype("uint8")
            ).resize((500, 375), Image.Resampling.BICUBIC)
            image += (np.asarray(shapes) / 255 - 0.5) * height
        image = np.clip(image + 128 + rng.normal(0, 6, image.shape), 0, 255)
        path = folder / f"class{number % 2}" / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image.astype("uint8")).save(path, quality=90)


def served(images):
    """Returns how many images per second a dataset yields."""
    count, epoch, start = 0, 0, None
    while True:
        for batch in images.train:
            if start is None:
                # The first batch of a dataset warms it up.
                start = time.perf_counter()
                continue
            count += len(batch[0])
            if time.perf_counter() - start > SECONDS:
                return count / (time.perf_counter() - start)
        epoch += 1
        images.set_epoch(epoch)


def trained(model, batch, steps):
    """Returns how many images per second a network trains on, from memory."""
    start = time.perf_counter()
    for _ in range(steps):
        model.train_on_batch(*batch)
    return steps * len(batch[0]) / (time.perf_counter() - start)


def measure(options, folder):
    """Returns the rates of every pipeline and of the network, by turns."""
    write_photographs(folder, IMAGES)
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (10_000, 32, 32, 3)).astype("uint8")
    size = options.batch_size
    datasets = {
        title: data.load(
            folder, batch_size=size, image_size=SIDE, augment=augment
        )
        for title, augment in RECIPES.items()
    }
    datasets |= {
        title: data.load(
            (small, np.arange(10_000) % 10), batch_size=128, augment=augment
        )
        for title, augment in SMALL.items()
    }
    model = models.ResNet50(input_shape=(SIDE, SIDE, 3), classes=2)
    model.compile("sgd", "sparse_categorical_crossentropy")
    images = rng.uniform(0, 255, (size, SIDE, SIDE, 3)).astype("float32")
    batch = images, np.arange(size) % 2
    trained(model, batch, 2)
    rates = {title: [] for title in ("ResNet50, training", *datasets)}
    for _ in range(options.repeats):
        rates["ResNet50, training"].append(trained(model, batch, 4))
        for title, images in datasets.items():
            rates[title].append(served(images))
    return rates


def main():
    parser = arguments.parser(__doc__.splitlines()[0], repeats=5)
    arguments.add_batch_size(parser, 8)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rates = measure(options, pathlib.Path(folder))
    rows = [
        (title, *(f"{f(values):,.0f}" for f in (statistics.median, min, max)))
        for title, values in rates.items()
    ]
    columns = {"images per second": "left", "median": "right"}
    columns |= {"lowest": "right", "highest": "right"}
    table = _terminal.render(columns, [rows], markdown=True)
    record = {
        **results.conditions(options),
        "batch_size": options.batch_size,
        "images_per_second": rates,
    }
    results.write("input_pipeline", options, record, [table])


if __name__ == "__main__":
    main()
