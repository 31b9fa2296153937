"""What trained networks leave in memory, freed.

Where a private name of Keras or TensorFlow is gone, memory grows, no more.
"""

import contextlib
import gc
import sys
from collections.abc import Iterator

import keras

from cbam_keras import _checks


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
    operations = sys.modules.get("tensorflow.python.framework.ops")
    registry = getattr(operations, "gradient_registry", None)
    gradients: dict[str, object] = getattr(registry, "_registry", {})
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
    module = sys.modules.get("keras.src.backend.common.global_state")
    tracker = getattr(module, "GLOBAL_STATE_TRACKER", None)
    counts = getattr(tracker, "object_name_uids", {})
    before = dict(counts)
    try:
        yield
    finally:
        counts = getattr(tracker, "object_name_uids", {})
        counts.clear()
        counts.update(before)
