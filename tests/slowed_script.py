"""The command with few digits and tiny networks, slowed to be killed.

Each process appends what it is at to a file of its own in the folder MARKS:
"step" after each batch, "saving" and "saved" around each checkpoint.
"""

import os
import pathlib
import sys
import time

import digits
import networks

from cbam_keras import _process, cli
from cbam_keras.study import checkpoints

MARKS = pathlib.Path(os.environ["MARKS"])
SECONDS_PER_BATCH = 0.3

digits.replace(digits.few)
networks.replace_tiny()
_raise_if_noted, _save = _process.raise_if_noted, checkpoints.save


def mark(text):
    with (MARKS / str(os.getpid())).open("a") as file:
        print(text, file=file)


def step():
    mark("step")
    time.sleep(SECONDS_PER_BATCH)
    _raise_if_noted()


def save(*arguments):
    mark("saving")
    _save(*arguments)
    mark("saved")


_process.raise_if_noted, checkpoints.save = step, save


def build(hp):
    """A space of small networks, for `--hypermodel`."""
    units = hp.Choice("units", [4, 6, 8, 12, 16, 24])
    return networks.mlp(units, activation="relu")


if __name__ == "__main__":
    sys.exit(cli.main(sys.argv[1:]))
