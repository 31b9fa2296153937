"""What does attention add to a training step of a small network?

    python -m benchmarks.small_network --mode jax

Measures a step of a residual network of 20,000 parameters, where attention
costs most, without attention, with SE, the spatial gate, CBAM and the naive
CBAM, all by turns in one process. Beside the time of a clock it prints that of
the processor, which other programs on the machine disturb less.
"""

import os
import sys

from benchmarks import modes

os.environ["KERAS_BACKEND"] = modes.backend_of(sys.argv)

import functools
import statistics
import time

import keras

from benchmarks import arguments, networks, results, timing
from benchmarks.naive import ARMS, NaiveCBAM
from cbam_keras import _terminal, layers, models

IMAGE_SIZE = 48
BATCH_SIZE = 64
WIDTHS = (8, 16, 32)


def network(arm, mode):
    """Returns the network, compiled, with one kind of attention."""
    kinds = {
        "se": layers.SqueezeExcite,
        "cbam": layers.CBAM,
        "naive": NaiveCBAM,
    }
    attention = ARMS[arm]
    if arm in kinds:
        attention = functools.partial(kinds[arm], 4)
    model = models.ResNet(
        (1, 1, 1),
        block="basic",
        widths=WIDTHS,
        stem_width=WIDTHS[0],
        stem="strided",
        input_shape=(IMAGE_SIZE, IMAGE_SIZE, 3),
        classes=10,
        classifier_activation=None,
        attention=attention,
    )
    return networks.ready(model, mode)


def main():
    parser = arguments.parser(
        __doc__.splitlines()[0], 30, arguments.NETWORK_MODES
    )
    options = parser.parse_args()
    keras.utils.set_random_seed(0)
    images, labels = networks.batch(BATCH_SIZE, IMAGE_SIZE)
    processor = {arm: [] for arm in ARMS}

    def step(arm, model):
        start = time.process_time()
        networks.train(model, images, labels % 10)
        processor[arm].append(time.process_time() - start)

    steps = {
        arm: functools.partial(step, arm, network(arm, options.mode))
        for arm in ARMS
    }
    clock = timing.by_turns(steps, options.repeats)
    rows = []
    for arm in ARMS:
        cells = [arm]
        for seconds in (clock, processor):
            median, base = (
                statistics.median(seconds[name][-options.repeats :])
                for name in (arm, "none")
            )
            cells += [timing.digits(1000 * median), f"{median / base:.2f}"]
        rows.append(cells)
    columns = {"attention": "left", "ms": "right", "of none": "right"}
    columns |= {"ms of processor": "right", "of none ": "right"}
    table = _terminal.render(columns, [rows], markdown=True)
    record = {
        **results.conditions(options),
        "rows": rows,
        "columns": list(columns),
    }
    results.write("small_network", options, record, [table])


if __name__ == "__main__":
    main()
