"""A space of small networks, for searches in processes of their own."""

import os

import digits
import networks
from training_checks import hold

from cbam_keras.tuning import chief

if "FEW_DIGITS" in os.environ:
    digits.replace(digits.few)
    # The trial of a killed worker is given on after a minute otherwise.
    chief.SECONDS_OF_SILENCE = 10.0
if "HOLD" in os.environ:
    hold(os.environ["HOLD"])


def build(hp):
    units = hp.Choice("units", [4, 6, 8, 12, 16, 24])
    return networks.mlp(units, activation="relu")
