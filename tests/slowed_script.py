"""A network for the command, with few digits, slowed to be killed."""

import time

import digits
import networks

from cbam_keras.study.files import interrupts

SECONDS_PER_BATCH = 0.3

digits.replace(digits.few)
raise_if_noted = interrupts.raise_if_noted


def step():
    time.sleep(SECONDS_PER_BATCH)
    raise_if_noted()


interrupts.raise_if_noted = step


def build(attention):
    """A small network for each attention, for `--model`."""
    units = 4 if attention is None else attention.arguments["reduction_ratio"]
    return networks.mlp(units, activation="relu")
