"""The backend that Keras runs on, chosen before Keras is imported."""

import importlib.util
import json
import os
import pathlib
import sys

# Packages, and the extras that install them.
BACKENDS = ("tensorflow", "jax", "torch")


def choose_backend() -> None:
    """Sets `KERAS_BACKEND` to one that is installed, if nothing names one.

    Keras takes TensorFlow, and writes so into `keras.json`, also where it is
    missing: that was nobody's choice. Workers have the same environment.
    """
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
    name, advice = error.name, "or set KERAS_BACKEND to one that is, of"
    if not any(map(importlib.util.find_spec, BACKENDS)):
        name, advice = "jax", "the smallest, as there is none of"
    return (
        f"Keras needs {error.name}, which is not installed: pip install "
        f"'cbam_keras[{name}]' (in a clone '.[{name}]'), {advice} {listed}"
    )
