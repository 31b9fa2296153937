"""Saves or loads a small network in a process of its own.

Usage: python saved_model_script.py save|load|load_old FOLDER
"""

import json
import pathlib
import sys

import keras
import numpy as np

import cbam_keras

REFERENCE = pathlib.Path(__file__).parent / "reference"


def build():
    """Returns a network with all four layers, and options that add weights."""
    layers = cbam_keras.layers
    from cbam_keras import models

    return models.ResNet(
        (1, 1, 1, 1),
        block="basic",
        widths=(4, 4, 8, 8),
        stem_width=4,
        stem="small",
        input_shape=(16, 16, 3),
        classes=5,
        attention=[
            layers.CBAM(2, **cbam_keras.VARIANTS["official"]),
            layers.SqueezeExcite(2),
            layers.ChannelAttention(pool_types=("lse", "lp"), hidden_units=3),
            layers.SpatialAttention(3, pool_types="conv", use_bias=True),
        ],
    )


def images():
    rng = np.random.default_rng(0)
    return rng.random((6, 16, 16, 3), "float32"), np.arange(6) % 5


def save(folder):
    model = build()
    model.compile("adam", loss="sparse_categorical_crossentropy")
    x, y = images()
    model.fit(x, y, epochs=3, batch_size=6, verbose=0)
    model.save(folder / "model.keras")
    model.save_weights(folder / "model.weights.h5")
    np.save(folder / "saved.npy", model.predict(x, verbose=0))
    (folder / "saved.json").write_text(
        json.dumps({"backend": keras.backend.backend()})
    )
    # The result of one more step, for processes that load and resume.
    model.fit(x, y, batch_size=6, verbose=0)
    np.save(folder / "continued.npy", model.predict(x, verbose=0))


def load(folder):
    saver = json.loads((folder / "saved.json").read_text())["backend"]
    backend = keras.backend.backend()
    # Keras saves PyTorch's own optimizer class, which trains nowhere else.
    foreign = saver == "torch" != backend
    model = keras.saving.load_model(folder / "model.keras", compile=not foreign)
    # JAX saves that it compiles, which would start PyTorch's compiler.
    model.jit_compile = model.jit_compile and backend != "torch"
    x, y = images()
    predicted = model.predict(x, verbose=0)
    rebuilt = build()
    rebuilt.load_weights(folder / "model.weights.h5")
    results = {
        "predicted": predicted,
        "from_weights": rebuilt.predict(x, verbose=0),
    }
    if not foreign:
        results["iterations"] = keras.ops.convert_to_numpy(
            model.optimizer.iterations
        )
        model.fit(x, y, batch_size=6, verbose=0)
        results["continued"] = model.predict(x, verbose=0)
    np.savez(folder / f"loaded-by-{backend}.npz", **results)


def load_old(folder):
    """Loads the file that version 0.1.0 saved, and trains for a step."""
    model = keras.saving.load_model(REFERENCE / "saved_by_0.1.0.keras")
    images = np.load(REFERENCE / "saved_by_0.1.0_io.npz")["images"]
    results = {
        "outputs": model.predict(images, verbose=0),
        "iterations": keras.ops.convert_to_numpy(model.optimizer.iterations),
        "optimizer": type(model.optimizer).__name__,
        "momentum": sum(
            np.abs(keras.ops.convert_to_numpy(variable)).sum()
            for variable in model.optimizer.variables[2:]
        ),
    }
    model.fit(images, np.arange(len(images)) % 3, verbose=0)
    results["next"] = keras.ops.convert_to_numpy(model.optimizer.iterations)
    np.savez(folder / "old.npz", **results)


if __name__ == "__main__":
    actions = {"save": save, "load": load, "load_old": load_old}
    actions[sys.argv[1]](pathlib.Path(sys.argv[2]))
