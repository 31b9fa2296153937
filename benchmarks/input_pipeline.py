"""Speed of the input pipeline, beside the speed of training.

    python -m benchmarks.input_pipeline --mode torch

Measures by turns how many images per second are read from JPEG files of
500 x 375, decoded, cropped and flipped at 224 x 224, and how many
`models.ResNet50` trains on at 224 x 224. Prints a table, and writes all rates
to `input_pipeline-MODE.json` in the output folder.
"""

import pathlib
import statistics
import tempfile
import time

import numpy as np
from PIL import Image

from benchmarks import arguments, networks, results
from cbam_keras import data

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


def measure(folder, options):
    """Returns the rates of each round, by what is measured."""
    write_photographs(folder)
    images = data.load(
        folder,
        batch_size=options.batch_size,
        image_size=options.image_size,
        augment=("random_resized_crop", "flip"),
    )
    model = networks.compiled("ResNet50", "none", options)
    batch = networks.batch(options)
    trained(model, *batch)
    training, reading = [], []
    for _ in range(options.repeats):
        training.append(trained(model, *batch))
        reading.append(served(images))
    return {"ResNet50, training": training, "decode, crop, flip": reading}


def main():
    parser = arguments.parser(__doc__, repeats=5)
    parser.set_defaults(batch_size=8, image_size=224, dtype="float32")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rates = measure(pathlib.Path(folder), options)
    rows = [
        {
            "images per second": title,
            "median": f"{statistics.median(values):,.0f}",
            "lowest": f"{min(values):,.0f}",
            "highest": f"{max(values):,.0f}",
        }
        for title, values in rates.items()
    ]
    record = {"images_per_second": rates}
    results.write("input_pipeline", options, record, [results.table(rows)])


if __name__ == "__main__":
    main()
