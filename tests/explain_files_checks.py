"""A run of small models, and `cbam-keras explain` called on it."""

import json

import keras
import numpy as np
from keras import layers
from PIL import Image
from report_checks import change, keep, train

from cbam_keras import cli, study

COLOURS = "red", "green", "blue"


def colours(turned=0, attention=None):
    """Returns a model whose evidence for class k is the colour k + turned.

    Its logits are the mean of each colour in [0, 1], times 4, and its
    heat map of a class is that colour itself over its maximum.
    """
    inputs = keras.Input((8, 8, 3))
    x = layers.Rescaling(1 / 255)(inputs)
    x = layers.Conv2D(3, 1, use_bias=False, name="features")(x)
    if attention is not None:
        x = attention(x)
    x = layers.GlobalAveragePooling2D()(x)
    outputs = layers.Dense(3, use_bias=False, activation="softmax")(x)
    model = keras.Model(inputs, outputs, name="colours")
    model.get_layer("features").set_weights([np.eye(3)[None, None]])
    kernel = 4 * np.roll(np.eye(3), turned, axis=1)
    model.layers[-1].set_weights([kernel])
    return model


def write_run(folder, classes=COLOURS, source=None, **networks):
    """Writes a run on data of these classes, with the model of colours."""
    networks = networks or {"none": colours()}
    train(folder)
    for name, model in networks.items():
        model.save(folder / f"{name}-seed0/{name}-seed0.keras")
    settings = study.read_content(folder)["settings"]
    settings["data"]["0"] |= {
        "fingerprint": None,
        "image_shape": [8, 8, model.inputs[0].shape[-1]],
    }
    values = {"class_names": list(classes), "source": source}
    change(folder, settings=settings, **values)
    return keep(folder, *((name, 0) for name in networks))


def picture(path, seed=0, size=(8, 8), brightest=0):
    """Writes a picture of random colours, one of them the strongest."""
    image = np.random.default_rng(seed).integers(0, 120, (*size, 3))
    image[..., brightest] += 100
    image = image.astype("uint8")
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return image


def as_colours(images):
    """Returns what the model of colours thinks, by the formula."""
    means = images.reshape(len(images), -1, 3).mean(axis=1) / 255
    powers = np.exp(4 * means)
    return powers / powers.sum(axis=-1, keepdims=True)


def heat_of(images, colour):
    highest = images[..., colour].max(axis=(1, 2), keepdims=True)
    return images[..., colour] / highest


def explain(run, *arguments, output="out"):
    """Runs the command, and returns what it has written."""
    given = [str(argument) for argument in (run, *arguments)]
    assert cli.main(["explain", *given, "--output", str(output)]) == 0
    return written(output)


def written(output="out"):
    with open(f"{output}/explain.json") as file:
        content = json.load(file)
    with np.load(f"{output}/arrays.npz") as file:
        arrays = dict(file)
    return content, arrays
