"""Trains on one device and, by a distribution of the user's, on four.

    KERAS_BACKEND=jax python several_devices_script.py FOLDER

For the test that starts it under XLA_FLAGS with four devices. Prints what each
run measured, as JSON, and on how many devices each network lay.
"""

import json
import pathlib
import sys

import keras
from data_checks import arrays
from keras import layers
from study_checks import planned
from training_checks import numbers

from cbam_keras import CBAM, study, training

# 48 images for training, 16 for validation and 16 to test.
DATA = (arrays(16, 4, (12, 12, 1)), arrays(4, 4, (12, 12, 1), seed=1))
RECIPE = training.Recipe(epochs=2, batch_size=16, learning_rate=0.05)


def main(folder):
    devices = []

    def network(data):
        model = keras.Sequential(
            [
                keras.Input(data.image_shape),
                layers.Conv2D(4, 3, use_bias=False),
                layers.BatchNormalization(momentum=0.9),
                CBAM(reduction_ratio=2, kernel_size=3),
                layers.GlobalAveragePooling2D(),
                layers.Dense(4, activation="softmax"),
            ]
        )
        kernel = model.weights[0].value
        devices.append(len(kernel.sharding.device_set))
        return model

    def trained(name):
        task = study.Classification(DATA, validation_fraction=0.25)
        both = [study.Variant(name, network) for name in ("first", "second")]
        both = planned(*both, task=task, recipe=RECIPE)
        return numbers(study.run(both, folder / name))

    one = trained("one")
    keras.distribution.set_distribution(
        keras.distribution.DataParallel(auto_shard_dataset=False)
    )
    several = trained("several")
    print(json.dumps({"one": one, "several": several, "devices": devices}))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
