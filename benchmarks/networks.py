"""What does attention add to the time of a network?

    python -m benchmarks.networks --mode torch --output runs/bench

Measures a step of training and a batch of inference of whole networks without
attention, with SE, the spatial gate, CBAM and the naive CBAM, through Keras'
own `train_on_batch` and `predict_on_batch`, all by turns in one process.
Prints a table, and writes what is in it to `networks-MODE.json` in the output
folder.
"""

import os
import sys

from benchmarks import modes

os.environ["KERAS_BACKEND"] = modes.backend_of(sys.argv)

import functools

import keras
import numpy as np

from benchmarks import arguments, results, timing
from benchmarks.naive import ARMS
from cbam_keras import _terminal, models

CLASSES = 1000
KINDS = ("training", "inference")


def compiled(name, attention, options):
    """Returns a network, ready to be trained."""
    keras.config.set_dtype_policy(options.dtype)
    network = getattr(models, name)(
        input_shape=(options.image_size, options.image_size, 3),
        classes=CLASSES,
        classifier_activation=None,
        attention=ARMS[attention],
    )
    return ready(network, options.mode)


def ready(network, mode):
    """Returns a network after compiling it for training."""
    network.compile(
        optimizer=keras.optimizers.SGD(1e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        # Keras' default decides by the backend and the device.
        jit_compile={
            "tensorflow-graph": False,
            "tensorflow-xla": True,
            arguments.COMPILED: True,
        }.get(mode, "auto"),
    )
    return network


def batch(batch_size, image_size):
    """Returns random images and labels, where the backend computes."""
    rng = np.random.default_rng(0)
    shape = (batch_size, image_size, image_size, 3)
    images = rng.standard_normal(shape, "float32")
    labels = np.arange(batch_size, dtype="int32") % CLASSES
    return tuple(map(keras.ops.convert_to_tensor, (images, labels)))


def train(network, images, labels):
    network.train_on_batch(images, labels)
    # The loss is there before the last weights are, which are the first.
    modes.wait(network.trainable_variables[0].value)


def measure(options, name):
    """Returns the times of one network with each kind of attention."""
    images, labels = batch(options.batch_size, options.image_size)
    functions = {}
    for arm in ARMS:
        network = compiled(name, arm, options)
        functions[arm, "training"] = functools.partial(
            train, network, images, labels
        )
        functions[arm, "inference"] = functools.partial(
            network.predict_on_batch, images
        )
    seconds = timing.by_turns(functions, options.repeats)
    row = {"model": name}
    for kind in KINDS:
        arms = {arm: timing.spread(seconds[arm, kind]) for arm in ARMS}
        medians = {arm: measured["median"] for arm, measured in arms.items()}
        for arm, measured in arms.items():
            measured["added"] = medians[arm] - medians["none"]
            measured["added_percent"] = (
                100 * measured["added"] / medians["none"]
            )
        row[kind] = {
            "arms": arms,
            "added_by_cbam_over_naive": timing.added_ratio(medians),
        }
    return row


def table(rows):
    """Returns the times of all networks as a Markdown table."""
    columns = {"network": "left", "": "left", "attention": "left"}
    columns |= {"ms (10 to 90 %)": "right", "added ms": "right"}
    columns |= {"added %": "right", "of what naive adds": "right"}
    sections = []
    for row in rows:
        for kind in KINDS:
            ratio = row[kind]["added_by_cbam_over_naive"]
            section = [
                (
                    *(row["model"], kind, arm),
                    timing.milliseconds(measured),
                    ""
                    if arm == "none"
                    else timing.digits(1000 * measured["added"]),
                    "" if arm == "none" else f"{measured['added_percent']:.1f}",
                    timing.ratio_text(ratio) if arm == "cbam" else "",
                )
                for arm, measured in row[kind]["arms"].items()
            ]
            sections.append(section)
    return _terminal.render(columns, sections, markdown=True)


def sizes(options):
    """Returns what is measured in a sentence."""
    return (
        f"Batches of {options.batch_size} images of {options.image_size} "
        f"pixels in {options.dtype}."
    )


def main():
    parser = arguments.parser(
        __doc__.splitlines()[0], 10, arguments.NETWORK_MODES
    )
    arguments.add_models(parser, list(arguments.NETWORKS))
    arguments.add_batch_size(parser, 8)
    arguments.add_dtype(parser, "float32")
    parser.add_argument(
        "--image-size", type=arguments.positive_integer, default=224
    )
    options = parser.parse_args()
    rows = []
    for name in options.models:
        keras.utils.set_random_seed(0)
        rows.append(measure(options, name))
        keras.utils.clear_session()
        print(f"measured {name}", file=sys.stderr, flush=True)
    record = {
        **results.conditions(options),
        "batch_size": options.batch_size,
        "dtype": options.dtype,
        "image_size": options.image_size,
        "networks": rows,
    }
    results.write("networks", options, record, [table(rows), sizes(options)])


if __name__ == "__main__":
    main()
