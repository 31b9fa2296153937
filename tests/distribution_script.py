"""One process of a distributed training, for the tests that start it.

    python distribution_script.py OUTPUT DEVICES PROCESSES PROCESS ADDRESS

PROCESSES is 0 for this one alone, with DEVICES, or undistributed where that is
0. With HOLD in the environment, the name of a file, training stands still after
its first epoch until there is such a file.
"""

import json
import os
import sys

import digits
import keras
from keras import layers
from training_checks import hold, linear, numbers

from cbam_keras import CBAM, training

RECIPE = training.Recipe(
    epochs=3, batch_size=16, optimizer="sgd", learning_rate=0.05
)


def network():
    """Returns a network with batch normalization and attention."""
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Rescaling(1 / 255),
            layers.AveragePooling2D(4),
            layers.Conv2D(4, 3, use_bias=False),
            layers.BatchNormalization(momentum=0.9),
            layers.ReLU(),
            CBAM(reduction_ratio=2, kernel_size=3),
            layers.GlobalAveragePooling2D(),
            layers.Dense(10, activation="softmax"),
        ],
        name="normalized",
    )


NETWORKS = {"normalized": network, "linear": linear}


def main(output, devices, processes, process, address):
    distribute = int(devices) > 0
    if int(processes):
        distribute = training.Distribution(
            address, int(processes), int(process)
        )
    if keras.backend.backend() == "tensorflow" and int(devices) > 1:
        # JAX reads XLA_FLAGS.
        from tensorflow import config

        (processor,) = config.list_physical_devices("CPU")
        parts = [config.LogicalDeviceConfiguration()] * int(devices)
        config.set_logical_device_configuration(processor, parts)
    digits.replace(digits.brighter_by_class)
    if "HOLD" in os.environ:
        hold(os.environ["HOLD"])
    results = training.train(
        NETWORKS,
        "mnist5k",
        RECIPE,
        output=output,
        resume=True,
        distribute=distribute,
    )
    print(json.dumps(numbers(results)))


if __name__ == "__main__":
    main(*sys.argv[1:])
