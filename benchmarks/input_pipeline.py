"""Speed of the input pipeline, beside the speed of training.

    python -m benchmarks.input_pipeline --mode torch

Measures by turns how many images per second are read from JPEG files of
500 x 375, decoded and augmented at 224 x 224, how many of 32 x 32 are augmented
in memory, and how many `models.ResNet50` trains on at 224 x 224. Prints a
table, and writes all rates to `input_pipeline-MODE.json` in the output folder.
"""

import os
import sys

from benchmarks import modes

os.environ["KERAS_BACKEND"] = modes.backend_of(sys.argv)

import functools
import pathlib
import statistics
import tempfile
import time

import numpy as np
from PIL import Image

from benchmarks import arguments, networks, results
from cbam_keras import _terminal, data

IMAGES = 300
# Of each measurement.
SECONDS = 4
STEPS = 4


def write_photographs(folder):
    """Writes JPEG files as detailed as photographs, in two classes."""
    rng = np.random.default_rng(0)
    for number in range(IMAGES):
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


def trained(model, images, labels):
    """Returns how many images per second a network trains on, from memory."""
    start = time.perf_counter()
    for _ in range(STEPS):
        networks.train(model, images, labels)
    return STEPS * len(labels) / (time.perf_counter() - start)


def measurements(folder, options):
    """Returns a function for each rate, by title."""
    write_photographs(folder)
    load = functools.partial(
        data.load, folder, batch_size=options.batch_size, image_size=224
    )
    small = np.random.default_rng(0).integers(0, 256, (10_000, 32, 32, 3))
    small = small.astype("uint8"), np.arange(10_000) % 10
    datasets = {
        "decode, random resized crop": load(augment=("random_resized_crop",)),
        "decode, random resized crop, flip": load(
            augment=("random_resized_crop", "flip")
        ),
        "32 x 32 in memory": data.load(small, batch_size=128, augment=()),
        "32 x 32 in memory, crop, flip": data.load(
            small, batch_size=128, augment=("crop", "flip")
        ),
    }
    model = networks.compiled("ResNet50", "none", options)
    batch = networks.batch(options.batch_size, options.image_size)
    trained(model, *batch)
    return {
        "ResNet50, training": functools.partial(trained, model, *batch),
        **{
            title: functools.partial(served, images)
            for title, images in datasets.items()
        },
    }


def main():
    parser = arguments.parser(__doc__.splitlines()[0], repeats=5)
    arguments.add_batch_size(parser, 8)
    parser.set_defaults(image_size=224, dtype="float32")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        functions = measurements(pathlib.Path(folder), options)
        rates = {title: [] for title in functions}
        for _ in range(options.repeats):
            for title, function in functions.items():
                rates[title].append(function())
    rows = [
        (title, *(f"{f(values):,.0f}" for f in (statistics.median, min, max)))
        for title, values in rates.items()
    ]
    columns = {"images per second": "left", "median": "right"}
    columns |= {"lowest": "right", "highest": "right"}
    table = _terminal.render(columns, [rows], markdown=True)
    record = {**results.conditions(options), "images_per_second": rates}
    results.write("input_pipeline", options, record, [table])


if __name__ == "__main__":
    main()
