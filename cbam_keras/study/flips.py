"""Which test images networks are right about, a bit for each."""

import pathlib

import numpy as np

from cbam_keras import _files

# The file in the folder of a network under training, and the end of its name
# beside the network's file.
CORRECT = "correct.npy"


def correct_path(network: pathlib.Path) -> pathlib.Path:
    """Returns the path of the bits that belong to the file of a network."""
    return network.with_suffix(f".{CORRECT}")


def write_correct(path: pathlib.Path, correct: np.ndarray) -> None:
    """Writes a boolean per test image, eight in a byte."""
    with _files.replacing(path) as beside:
        np.save(beside, np.packbits(np.asarray(correct, bool)))
