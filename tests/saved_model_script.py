"""Saves a small network, and loads it in a process of its own.

Usage: python saved_model_script.py FOLDER
"""

import pathlib
import sys

import keras
import numpy as np

import cbam_keras

REFERENCE = pathlib.Path(__file__).parent / "reference"


def in_fast_mode(model):
    """Returns a model that runs without compiling, unless JAX runs it."""
    model.jit_compile = keras.backend.backend() == "jax"
    model.run_eagerly = not model.jit_compile
    return model


def build():
    """Returns a network with all four layers, and options that add weights."""
    import networks

    layers = cbam_keras.layers
    return networks.resnet(
        (1, 1, 1, 1),
        input_shape=(16, 16, 3),
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
    in_fast_mode(model)
    x, y = images()
    model.fit(x, y, epochs=3, batch_size=6, verbose=0)
    model.save(folder / "model.keras")
    model.save_weights(folder / "model.weights.h5")
    np.save(folder / "saved.npy", model.predict(x, verbose=0))
    (folder / "backend").write_text(keras.backend.backend())
    # The result of one more step, for processes that load and resume.
    model.fit(x, y, batch_size=6, verbose=0)
    np.save(folder / "continued.npy", model.predict(x, verbose=0))


def load(folder):
    saver = (folder / "backend").read_text()
    backend = keras.backend.backend()
    # Keras saves PyTorch's own optimizer class, which trains nowhere else.
    foreign = saver == "torch" != backend
    model = keras.saving.load_model(folder / "model.keras", compile=not foreign)
    in_fast_mode(model)
    x, y = images()
    predicted = model.predict(x, verbose=0)
    rebuilt = in_fast_mode(build())
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
    path = REFERENCE / "saved_by_0.1.0.keras"
    model = in_fast_mode(keras.saving.load_model(path))
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
    np.savez(folder / f"old-by-{keras.backend.backend()}.npz", **results)


if __name__ == "__main__":
    # First what needs no more than the import of the package.
    load_old(pathlib.Path(sys.argv[1]))
    load(pathlib.Path(sys.argv[1]))
