"""What does attention cost until a network has taken its first steps?

    python -m benchmarks.startup --mode jax

Trains a residual network of three stages by `fit`, in a process of its own for
each kind of attention, and notes the time after so many steps: tracing and
compiling included. The network is built before.
"""

import concurrent.futures
import functools
import multiprocessing
import statistics
import time

import keras
import numpy as np

from benchmarks import arguments, networks, results
from benchmarks.naive import ARMS

KINDS = [kind for kind in ARMS if kind != "spatial"]
# What ours is compared with.
BASES = ("naive", "functional")


class Timer(keras.callbacks.Callback):
    """Notes the seconds of the CPU and of the clock after some steps."""

    def __init__(self, steps):
        super().__init__()
        self.steps, self.seconds = steps, []

    def on_train_begin(self, logs=None):
        self.cpu, self.clock = time.process_time(), time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        if batch + 1 in self.steps:
            # Steps of JAX and of GPUs may still run.
            float(logs["loss"])
            self.seconds.append(
                {
                    "cpu": time.process_time() - self.cpu,
                    "clock": time.perf_counter() - self.clock,
                }
            )


def seconds(options, kind):
    """Returns the seconds of a first `fit` after each number of steps."""
    network = networks.compiled("tiny", kind, options, width=options.width)
    rng = np.random.default_rng(0)
    shape = (options.batch_size, options.image_size, options.image_size, 3)
    images = np.tile(
        rng.standard_normal(shape, "float32"), (max(options.steps), 1, 1, 1)
    )
    labels = np.arange(len(images), dtype="int32") % 10
    timer = Timer(options.steps)
    network.fit(
        images,
        labels,
        batch_size=options.batch_size,
        callbacks=[timer],
        verbose=0,
    )
    return timer.seconds


def median(rounds, kind, index, clock="cpu"):
    return statistics.median(x[kind][index][clock] for x in rounds)


def ratios(rounds, steps):
    """Yields what CBAM adds to the seconds of the CPU, by what others add."""
    for base in BASES:
        for index, count in enumerate(steps):
            added, naive = (
                median(rounds, kind, index) - median(rounds, "none", index)
                for kind in ("cbam", base)
            )
            yield {"of": base, "steps": count, "ratio": added / naive}


def main():
    parser = arguments.network_parser(__doc__, 3, ["tiny"], 16, 32)
    parser.add_argument(
        "--steps",
        nargs="+",
        type=arguments.positive_integer,
        default=[10, 30, 100, 300],
    )
    parser.add_argument(
        "--width",
        type=arguments.positive_integer,
        default=32,
        help="of stage 1",
    )
    options = parser.parse_args()
    rounds = []
    with concurrent.futures.ProcessPoolExecutor(
        1, multiprocessing.get_context("spawn"), max_tasks_per_child=1
    ) as pool:
        measure = functools.partial(seconds, options)
        for _ in range(options.repeats):
            measured = pool.map(measure, KINDS)
            rounds.append(dict(zip(KINDS, measured, strict=True)))
    rows = []
    for kind in KINDS:
        cells = {"": kind}
        for index, count in enumerate(options.steps):
            cpu = median(rounds, kind, index)
            clock = median(rounds, kind, index, "clock")
            cells[f"{count} steps (s)"] = f"{cpu:.1f} ({clock:.1f})"
        rows.append(cells)
    added = [*ratios(rounds, options.steps)]
    sentences = [
        f"After {x['steps']} steps, CBAM has added {x['ratio']:.2f} times what "
        f"{x['of']} CBAM has."
        for x in added
    ]
    results.write(
        "startup",
        options,
        {"rows": rows, "added": added},
        [results.table(rows), *sentences],
    )


if __name__ == "__main__":
    main()
