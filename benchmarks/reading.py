"""How long does it take to read a folder of images, beside Keras' own reader?

    python -m benchmarks.reading --mode tensorflow-graph

Writes JPEG files, and measures `data.load` and
`keras.utils.image_dataset_from_directory` by turns in one process, a new one
for each repeat: loading, two epochs of batches, and an epoch of `fit` with a
network that takes no time; of `data.load` also an epoch whose images stay of
uint8. Each epoch reads the files, as with more than 2 GiB of decoded images.

    python -m benchmarks.reading --mode tensorflow-graph --what files
    python -m benchmarks.reading --mode tensorflow-graph --what arrays

The first loads a folder of 100,000 small images, and has another one refused,
with proposals; the second measures the peak memory of a folder of `.npy` files.
"""

import concurrent.futures
import functools
import io
import multiprocessing
import pathlib
import statistics
import tempfile
import time

import keras
import numpy as np

from benchmarks import arguments, memory, results
from cbam_keras import _checks, data
from cbam_keras.data import loading

CLASSES = 4
# So many images differ; a comment in each file tells the others apart.
DIFFERENT = 100
READERS = ("data.load", "Keras")
# The shape of an array, 40 kB as float32.
LENGTH, CHANNELS = 5000, 2
# The pattern of many files in one folder.
PROPOSED = "images/{class}_*.jpg"
CLOCKS = {"cpu": "CPU", "clock": "clock"}


def write_images(count, side, name_of):
    """Writes JPEG files, whose paths are given by number and class."""
    pil = _checks.require("PIL.Image", extra="data")
    rng = np.random.default_rng(0)
    encoded = []
    for _ in range(min(count, DIFFERENT)):
        # Smooth shapes and a little noise, as photographs have.
        coarse = rng.integers(0, 256, (side // 16, side // 16, 3), "uint8")
        smooth = pil.fromarray(coarse).resize((side, side))
        noisy = np.asarray(smooth) + rng.normal(0, 6, (side, side, 3))
        pixels = np.clip(noisy, 0, 255).astype("uint8")
        file = io.BytesIO()
        pil.fromarray(pixels).save(file, "JPEG", quality=90)
        encoded.append(file.getvalue())
    for number in range(count):
        path = name_of(number, f"class{number % CLASSES}")
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = encoded[number % len(encoded)]
        comment = f"{number:06}".encode()
        head = b"\xff\xfe" + (2 + len(comment)).to_bytes(2, "big") + comment
        path.write_bytes(whole[:2] + head + whole[2:])


class Corner(keras.layers.Layer):
    """Returns the first pixel, so that a network takes no time."""

    def call(self, inputs):
        return inputs[:, 0, 0, :]

    def compute_output_shape(self, input_shape):
        return input_shape[0], input_shape[-1]


def compiled(side):
    """Returns a network that takes no time, after a step of it."""
    layers = [keras.Input((side, side, 3)), Corner()]
    layers.append(keras.layers.Dense(CLASSES, activation="softmax"))
    model = keras.Sequential(layers)
    model.compile("sgd", "sparse_categorical_crossentropy")
    images = np.zeros((8, side, side, 3), "float32")
    model.fit(images, np.zeros(8, "int32"), verbose=0)
    return model


def load(reader, folder, options):
    """Returns batches of a reader, and how many images they hold."""
    side, batch_size = options.image_size, options.batch_size
    if reader == "data.load":
        loaded = data.load(folder, image_size=side, batch_size=batch_size)
        return loaded.train, loaded.sizes["train"]
    batches = keras.utils.image_dataset_from_directory(
        folder,
        image_size=(side, side),
        batch_size=batch_size,
        seed=0,
        verbose=False,
    )
    return batches, options.images


def iterate(batches):
    for _ in batches:
        pass


def measured(function, *given):
    """Returns what a function returns, and its seconds of CPU and clock."""
    cpu, clock = time.process_time(), time.perf_counter()
    result = function(*given)
    seconds = time.process_time() - cpu, time.perf_counter() - clock
    return result, dict(zip(("cpu", "clock"), seconds, strict=True))


def measure_pair(folder, options, readers):
    """Returns milliseconds for each image, by what is done and the reader."""
    # No image is held in memory, however few there are.
    loading.DECODED_BYTES = 0
    found, batches, counts = {}, {}, {}

    def note(what, reader, seconds, count):
        found[what, reader] = {x: 1000 * y / count for x, y in seconds.items()}

    for reader in readers:
        loaded, seconds = measured(load, reader, folder, options)
        batches[reader], counts[reader] = loaded
        note("loading", reader, seconds, options.images)
    network = compiled(options.image_size)

    def fit(batches):
        network.fit(data.for_fit(batches), shuffle=False, verbose=0)

    for what, function in (
        ("first epoch", iterate),
        ("second epoch", iterate),
        ("epoch of `fit`", fit),
    ):
        for reader in readers:
            _, seconds = measured(function, batches[reader])
            note(what, reader, seconds, counts[reader])
    _, seconds = measured(iterate, batches["data.load"].read_epoch())
    note("epoch of uint8", "data.load", seconds, counts["data.load"])
    return found


def measure_images(options):
    """Returns rows of times for each image, of both readers."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_images(
            options.images,
            options.image_size,
            lambda number, label: folder / label / f"{number:06}.jpg",
        )
        orders = [READERS[:: 1 - 2 * (i % 2)] for i in range(options.repeats)]
        pairs = in_processes(measure_pair, folder, options, orders)
    rows = []
    for what in dict.fromkeys(what for what, _ in pairs[0]):
        row = {"": what}
        for clock, title in CLOCKS.items():
            times = []
            for reader in READERS:
                text = ""
                if (what, reader) in pairs[0]:
                    times.append([pair[what, reader][clock] for pair in pairs])
                    text = f"{statistics.median(times[-1]):.3f}"
                row[f"{reader}, {title} (ms)"] = text
            text = ""
            if len(times) == len(READERS):
                ratios = np.divide(*times)
                text = f"{np.median(ratios):.2f} "
                text += f"({ratios.min():.2f} to {ratios.max():.2f})"
            row[f"ratio, {title}"] = text
        rows.append(row)
    return rows


def measure_files(options):
    """Returns the seconds in which many small files are refused, and loaded."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name, "images")
        write_images(
            options.files,
            32,
            lambda number, label: folder / f"{label}_{number:06}.jpg",
        )
        for title, pattern in (
            ("refused, with proposals", None),
            ("loaded by one of them", PROPOSED),
        ):
            orders = [pattern] * options.repeats
            seconds = in_processes(seconds_of_loading, name, orders)
            cells = {}
            for clock, name_of_clock in CLOCKS.items():
                median = statistics.median(x[clock] for x in seconds)
                cells[f"{name_of_clock} (s)"] = f"{median:.1f}"
            rows.append({f"{options.files:,} files": title, **cells})
    return rows


def seconds_of_loading(folder, pattern):
    """Returns the seconds of loading a folder, or of refusing it."""

    def try_loading():
        try:
            return data.load(folder, pattern=pattern)
        except ValueError as error:
            return error

    result, seconds = measured(try_loading)
    if isinstance(result, ValueError) != (pattern is None):
        raise RuntimeError(f"the benchmark's folder changed: {result}")
    if pattern is None and PROPOSED not in str(result):
        raise RuntimeError(f'"{PROPOSED}" is no longer proposed: {result}')
    return seconds


def measure_arrays(options):
    """Returns by what loading a folder of `.npy` files raises the memory."""
    rng = np.random.default_rng(0)
    rows = []
    for dtype in ("float32", "float64", "int16"):
        with tempfile.TemporaryDirectory() as name:
            for number in range(options.arrays):
                values = 1000 * rng.standard_normal((LENGTH, CHANNELS))
                path = pathlib.Path(name, f"class{number % CLASSES}")
                path.mkdir(exist_ok=True)
                np.save(path / f"{number:06}.npy", values.astype(dtype))
            size = sum(
                x.stat().st_size for x in pathlib.Path(name).rglob("*.*")
            )
            orders = [name] * options.repeats
            peaks = in_processes(growth_of_loading, options, orders)
        peak = statistics.median(peaks)
        rows.append(
            {
                "`.npy` files": f"{options.arrays:,} of {dtype}",
                "size (MiB)": f"{size / 2**20:.0f}",
                "growth of the peak (MiB)": f"{peak / 2**20:.0f}",
                "ratio": f"{peak / size:.2f}",
            }
        )
    return rows


def growth_of_loading(options, folder):
    """Returns the bytes by which the peak grows while a folder is loaded."""
    before = memory.peak()
    loaded = data.load(folder, kind="signals")
    for batches in loaded:
        iterate(batches)
    return memory.peak() - before


def in_processes(function, *given):
    """Calls a function with each of the last argument, each in a process."""
    *same, orders = given
    with concurrent.futures.ProcessPoolExecutor(
        1, multiprocessing.get_context("spawn"), max_tasks_per_child=1
    ) as pool:
        return [*pool.map(functools.partial(function, *same), orders)]


def main():
    parser = arguments.parser(__doc__, repeats=5, modes=arguments.NETWORK_MODES)
    choices = {
        "images": measure_images,
        "files": measure_files,
        "arrays": measure_arrays,
    }
    parser.add_argument("--what", choices=choices, default="images")
    for name, default, text in (
        ("--images", 3000, "JPEG files that both readers read"),
        ("--image-size", 224, "of these, in pixels"),
        ("--batch-size", 32, "of both readers"),
        ("--files", 100_000, "small images that are loaded or refused"),
        ("--arrays", 10_000, ".npy files of 5,000 x 2 numbers"),
    ):
        parser.add_argument(
            name, type=arguments.positive_integer, default=default, help=text
        )
    options = parser.parse_args()
    rows = choices[options.what](options)
    results.write("reading", options, {"rows": rows}, [results.table(rows)])


if __name__ == "__main__":
    main()
