"""Answers questions in processes that have imported Keras, and not us.

Usage: python fresh_process_script.py FOLDER
"""

import importlib
import json
import os
import pathlib
import sys

import keras
import numpy as np

REFERENCE = pathlib.Path(__file__).parent / "reference"


def in_fast_mode(model):
    """Returns a model that runs without compiling, unless JAX runs it."""
    model.jit_compile = keras.backend.backend() == "jax"
    model.run_eagerly = not model.jit_compile
    return model


def build():
    """Returns a network with all four layers, and options that add weights."""
    from cbam_keras import VARIANTS, layers

    return keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            keras.layers.Conv2D(8, 3, strides=2),
            layers.CBAM(2, **VARIANTS["official"]),
            layers.SqueezeExcite(2),
            layers.ChannelAttention(pool_types=("lse", "lp"), hidden_units=3),
            layers.SpatialAttention(3, pool_types="conv", use_bias=True),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(5, activation="softmax"),
        ]
    )


def images():
    rng = np.random.default_rng(0)
    return rng.random((6, 16, 16, 3), "float32"), np.arange(6) % 5


def save(folder):
    model = build()
    optimizer = keras.optimizers.Adam(0.01)
    model.compile(optimizer, "sparse_categorical_crossentropy")
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
    importlib.import_module("cbam_keras")
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
    importlib.import_module("cbam_keras")
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


def load_without_us(folder):
    sys.modules["cbam_keras"] = None
    model = keras.saving.load_model(folder / "core.keras", safe_mode=True)
    outputs = model.predict(np.load(folder / "images.npy"), verbose=0)
    np.save(folder / f"core-by-{keras.backend.backend()}.npy", outputs)


def find_slopes(folder):
    """Writes gradients, and what they must be, of layers with a maximum."""
    # Read when XLA first compiles. Without optimizations it computes features
    # again, and none of them equals their maximum then.
    os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=0"
    formulas = importlib.import_module("test_layers_formulas")
    found = {
        kind.__name__: formulas.slopes(kind(), map_of)
        for kind, map_of in formulas.MAPS.items()
    }
    np.savez(folder / f"slopes-by-{keras.backend.backend()}.npz", **found)


def list_imports(folder):
    """Writes what the package imports, and then whether TensorFlow is."""
    before = {*sys.modules}
    package = importlib.import_module("cbam_keras")
    more = sorted({*sys.modules} - before)
    for path in pathlib.Path(package.__file__).parent.glob("*/__init__.py"):
        importlib.import_module(f"cbam_keras.{path.parent.name}")
    found = json.dumps([more, "tensorflow" in sys.modules])
    name = f"imports-by-{keras.backend.backend()}.json"
    (folder / name).write_text(found)


if __name__ == "__main__":
    failed = False
    for answer in (list_imports, load_without_us, load_old, load, find_slopes):
        # Each has a process of its own; the import of Keras takes longest.
        process = os.fork()
        if process == 0:
            answer(pathlib.Path(sys.argv[1]))
            os._exit(0)
        failed |= os.waitpid(process, 0)[1] != 0
    sys.exit(failed)
