"""A space of small networks, for searches in processes of their own."""

import keras
from keras import layers

from cbam_keras.tuning import chief

# The trial of a killed worker is given on after a minute otherwise.
chief.SECONDS_OF_SILENCE = 10.0


def build(hp):
    units = hp.Choice("units", [4, 6, 8, 12, 16, 24])
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Rescaling(1 / 255),
            layers.AveragePooling2D(7),
            layers.Flatten(),
            layers.Dense(units, activation="relu"),
            layers.Dense(10),
        ]
    )
