"""What trained networks leave in memory, freed.

Where a private name of Keras or TensorFlow is gone, memory grows, no more.
"""

import contextlib
import gc
from collections.abc import Iterator

import keras

from cbam_keras import _checks, _private


@contextlib.contextmanager
def free_memory() -> Iterator[None]:
    """Context after which the memory of its networks is freed."""
    try:
        # TensorFlow would keep their graphs otherwise.
        with _same_names(), gradients_forgotten():
            yield
    finally:
        gc.collect()
        if keras.backend.backend() == "torch":
            # PyTorch would compile nothing more after eight networks.
            _checks.require("torch", extra="torch").compiler.reset()


@contextlib.contextmanager
def gradients_forgotten() -> Iterator[None]:
    """Context after which TensorFlow forgets the graphs of its gradients."""
    gradients = _private.gradients_of_tensorflow()
    before = set(gradients)
    try:
        yield
    finally:
        for name in set(gradients) - before:
            if name.startswith("CustomGradient-"):
                del gradients[name]


@contextlib.contextmanager
def _same_names() -> Iterator[None]:
    """Context after which layers are numbered on as if it had built none."""
    counts = _private.counts_of_names()
    before = dict(counts)
    try:
        yield
    finally:
        # Keras makes the dictionary with the first name that it numbers, and
        # again after `keras.backend.clear_session`.
        counts = _private.counts_of_names()
        counts.clear()
        counts.update(before)
