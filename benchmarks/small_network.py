"""What does attention add to a step of a small network?

    python -m benchmarks.small_network --mode jax

Trains four residual networks of three stages through Keras' own
`train_on_batch`, without attention, with CBAM and with naive CBAM, all by turns
in one process. The seconds are those of the CPU, which other programs change
least.
"""

import functools
import sys
import time

import keras

from benchmarks import arguments, networks, results, timing

# The channels of stage 1 and the pixels of an image, by name.
SIZES = {
    "8, 16, 32 channels, 24 pixels": (8, 24),
    "16, 32, 64 channels, 32 pixels": (16, 32),
    "32, 64, 128 channels, 32 pixels": (32, 32),
    "64, 128, 256 channels, 32 pixels": (64, 32),
}
KINDS = ("none", "cbam", "naive")


def measure(name, options):
    """Returns the times of a step of one network with each kind."""
    width, options.image_size = SIZES[name]
    keras.utils.set_random_seed(0)
    data = networks.batch(options)
    functions = {}
    for kind in KINDS:
        network = networks.compiled("tiny", kind, options, width=width)
        step = functools.partial(networks.train, network, *data)
        functions[name, kind] = step
    rows = timing.compared(functions, options.repeats, time.process_time)
    keras.utils.clear_session()
    print(f"measured {name}", file=sys.stderr, flush=True)
    return rows


def main():
    parser = arguments.parser(__doc__, 30, arguments.NETWORK_MODES)
    parser.set_defaults(dtype="float32", batch_size=32)
    options = parser.parse_args()
    rows = [row for name in SIZES for row in measure(name, options)]
    results.write(
        "small_network", options, {"rows": rows}, [results.times(rows)]
    )


if __name__ == "__main__":
    main()
