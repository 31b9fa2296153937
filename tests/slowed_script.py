"""The command with few digits and tiny networks, slowed to be killed."""

import sys
import time

import digits
import networks

from cbam_keras import cli
from cbam_keras.study.running import interrupts

SECONDS_PER_BATCH = 0.3

digits.replace(digits.few)
networks.replace_tiny()
raise_if_noted = interrupts.raise_if_noted


def step():
    time.sleep(SECONDS_PER_BATCH)
    raise_if_noted()


interrupts.raise_if_noted = step


def build(attention):
    """A small network for each attention, for `--model`."""
    units = 4 if attention is None else attention.arguments["reduction_ratio"]
    return networks.mlp(units, activation="relu")


if __name__ == "__main__":
    sys.exit(cli.main(sys.argv[1:]))
