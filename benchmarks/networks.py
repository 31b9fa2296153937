"""What does attention add to the time of a network?

    python -m benchmarks.networks --mode torch --output runs/bench

Measures a step of training and a batch of inference of whole networks without
attention, with SE, the spatial gate, CBAM and both naive CBAMs, through Keras'
own `train_on_batch` and `predict_on_batch`, all by turns in one process.
"""

import functools
import sys

import keras
import numpy as np

from benchmarks import arguments, modes, results, timing
from benchmarks.naive import ARMS
from cbam_keras import models


def tiny(width=8, stem="strided", **options):
    """Returns the network `"tiny"` of `cbam-keras train`, or a wider one."""
    return models.ResNet(
        (1, 1, 1),
        block="basic",
        widths=(width, 2 * width, 4 * width),
        stem_width=width,
        stem=stem,
        **options,
    )


def compiled(name, arm, options, **further):
    """Returns a network, ready to be trained."""
    keras.config.set_dtype_policy(options.dtype)
    attention = ARMS[arm]
    build, classes = getattr(models, name, tiny), 1000
    if build is tiny:
        classes = 10
        # Its stages have few channels.
        if arm not in ("none", "spatial"):
            attention = functools.partial(attention, 4)
    network = build(
        input_shape=(options.image_size, options.image_size, 3),
        classes=classes,
        classifier_activation=None,
        attention=attention,
        **further,
    )
    network.compile(
        optimizer=keras.optimizers.SGD(1e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        # Keras' default decides by the backend and the device.
        jit_compile={
            "tensorflow-graph": False,
            "tensorflow-xla": True,
            arguments.COMPILED: True,
        }.get(options.mode, "auto"),
    )
    return network


def batch(options):
    """Returns random images and labels, where the backend computes."""
    rng = np.random.default_rng(0)
    shape = (options.batch_size, options.image_size, options.image_size, 3)
    images = rng.standard_normal(shape, "float32")
    labels = np.arange(options.batch_size, dtype="int32") % 10
    return tuple(map(keras.ops.convert_to_tensor, (images, labels)))


def train(network, images, labels):
    network.train_on_batch(images, labels)
    # The loss is there before the last weights are, which are the first.
    modes.wait(network.trainable_variables[0].value)


def predict(network, images, labels):
    network.predict_on_batch(images)


def measure(name, options):
    """Returns the times of one network with each kind of attention."""
    keras.utils.set_random_seed(0)
    data = batch(options)
    networks = {arm: compiled(name, arm, options) for arm in ARMS}
    rows = []
    # A prediction takes longer right after a step, so each kind has its turn.
    for kind, function in (("training", train), ("inference", predict)):
        functions = {
            (f"{name}, {kind}", arm): functools.partial(
                function, network, *data
            )
            for arm, network in networks.items()
        }
        rows += timing.compared(functions, options.repeats)
    keras.utils.clear_session()
    print(f"measured {name}", file=sys.stderr, flush=True)
    return rows


def main(title, docstring, *defaults):
    """Measures the networks that the command line names."""
    options = arguments.network_parser(docstring, *defaults).parse_args()
    rows = [row for name in options.models for row in measure(name, options)]
    results.write(title, options, {"rows": rows}, [results.times(rows)])


if __name__ == "__main__":
    main("networks", __doc__, 10, list(arguments.NETWORKS), 8, 224)
