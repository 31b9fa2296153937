"""Chooses the backend, and imports Keras without what TensorFlow logs then."""

import contextlib
import glob
import importlib.util
import json
import os
import pathlib
import platform
import re
import sys
import tempfile
from collections.abc import Iterator

# Packages, and the extras that install them.
BACKENDS = ("tensorflow", "jax", "torch")
LEVEL = "TF_CPP_MIN_LOG_LEVEL"
# Lines of level "I", for information, with what introduces or continues them.
NOISE = (
    rb"I\d{4} ",
    rb"WARNING: All log messages before absl::InitializeLog",
    rb"To enable the following instructions:",
)
# An error only for those who have a GPU.
NO_GPU = rb"E\d{4} .*failed call to cuInit"


def choose_backend() -> None:
    """Sets `KERAS_BACKEND` to one that is installed, if nothing names one."""
    if "keras" in sys.modules or os.environ.get("KERAS_BACKEND"):
        return
    home = os.environ.get("KERAS_HOME", pathlib.Path.home() / ".keras")
    try:
        settings = (pathlib.Path(home) / "keras.json").read_text()
        names = (str(json.loads(settings)["backend"]), *BACKENDS)
    except (OSError, ValueError, LookupError, TypeError):
        names = BACKENDS
    # Keras' NumPy backend imports JAX.
    needed = {name: "jax" if name == "numpy" else name for name in names}
    for name in names:
        if importlib.util.find_spec(needed[name]):
            os.environ["KERAS_BACKEND"] = name
            return


def way_to_install(error: Exception) -> str:
    """Returns what to do if Keras lacks its backend, as a sentence."""
    listed = ", ".join(BACKENDS)
    if str(error).startswith("Unable to import backend"):
        return f"{error}. Set KERAS_BACKEND to one of {listed}"
    if not isinstance(error, ImportError) or error.name not in BACKENDS:
        return ""
    if not any(map(importlib.util.find_spec, BACKENDS)):
        return (
            f"Keras needs a backend, one of {listed}, and none is installed. "
            "In a clone of cbam_keras, install one: pip install '.[jax]' (the "
            "smallest)"
        )
    return (
        f"Keras needs {error.name}, which is not installed. In a clone of "
        f"cbam_keras, pip install '.[{error.name}]', or set KERAS_BACKEND to "
        f"one of {listed} that is installed"
    )


def import_quietly() -> None:
    """Imports Keras with its backend, without what TensorFlow logs then."""
    choose_backend()
    # TensorFlow uses oneDNN by itself on newer processors alone.
    if platform.machine() in ("x86_64", "AMD64"):
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    if "keras" in sys.modules or os.environ.setdefault(LEVEL, "1") == "0":
        return
    try:
        with without_noise():
            import keras

            if (backend := keras.backend.backend()) not in BACKENDS:
                raise ValueError(f"Unable to import backend {backend} to train")
            if backend == "tensorflow":
                import tensorflow as tf

                # Looks for GPUs, and logs if there are none.
                tf.config.list_physical_devices()
    except (ModuleNotFoundError, ValueError) as error:
        if not (way := way_to_install(error)):
            raise
        print(f"cbam-keras: {way}", file=sys.stderr)
        sys.exit(2)


@contextlib.contextmanager
def without_noise() -> Iterator[None]:
    """Context in which stderr is caught; at its end all but noise follows."""
    noise = NOISE if glob.glob("/dev/nvidia*") else (*NOISE, NO_GPU)
    errors = os.dup(2)
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(errors, 2)
            os.close(errors)
            caught.seek(0)
            for line in caught:
                # Written at once: the process may be ended by a signal.
                if not any(re.match(pattern, line) for pattern in noise):
                    os.write(2, line)
