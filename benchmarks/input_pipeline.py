"""How fast are photographs read?

    python -m benchmarks.input_pipeline --mode torch

Measures how many JPEG files of 500 x 375 are read, decoded, cropped and
flipped at 224 x 224 per second, and the time of the processor for each.
"""

import pathlib
import statistics
import tempfile
import time

import numpy as np
from PIL import Image

from benchmarks import arguments, results
from cbam_keras import data

IMAGES = 300


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


def epoch(images):
    """Returns images per second, and milliseconds of the processor for one."""
    count = 0
    for number, batch in enumerate(images.train):
        if number == 0:
            # The first batch waits for the others to be started.
            start, processor = time.perf_counter(), time.process_time()
        else:
            count += len(batch[0])
    seconds = time.perf_counter() - start
    return count / seconds, 1000 * (time.process_time() - processor) / count


def main():
    options = arguments.parser(__doc__, repeats=10).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_photographs(pathlib.Path(folder))
        images = data.load(
            folder,
            batch_size=8,
            image_size=224,
            augment=("random_resized_crop", "flip"),
        )
        measured = [epoch(images) for _ in range(options.repeats)]
    speeds, times = zip(*measured, strict=True)
    columns = {"images per second": speeds, "ms of the processor each": times}
    rows = [
        {
            "measured": title,
            "median": f"{statistics.median(values):.1f}",
            "lowest": f"{min(values):.1f}",
            "highest": f"{max(values):.1f}",
        }
        for title, values in columns.items()
    ]
    results.write("input_pipeline", options, columns, [results.table(rows)])


if __name__ == "__main__":
    main()
