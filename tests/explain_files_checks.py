"""Small models and images in files, and `cbam-keras explain` run on them."""

import json

import keras
import numpy as np
from keras import layers
from PIL import Image
from report_checks import change, keep, train

from cbam_keras import cli


def colours(path, size=(8, 8), turned=0, attention=None):
    """Saves a model whose evidence for class k is the colour k + turned.

    Its logits are the mean of each colour in [0, 1], times 4, and its
    heat map of a class is that colour itself over its maximum.
    """
    inputs = keras.Input((*size, 3))
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
    model.save(path)
    return model


def trained_on(class_names, folder):
    """Writes a run on data of these classes, with the model of colours."""
    content = json.loads((train(folder) / "results.json").read_text())
    content["settings"]["data"]["0"]["name"] = "arrays"
    values = {"class_names": list(class_names), "source": None}
    change(folder, settings=content["settings"], **values)
    keep(folder, ("none", 0))
    colours(folder / "none.keras")


def brightness(path, size=(8, 8)):
    """Saves a grey model of the classes bright and dark."""
    model = keras.Sequential(
        [
            keras.Input((*size, 1)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(2, 1),
            layers.GlobalAveragePooling2D(),
        ]
    )
    # Not such that the logits sum to 1, as probabilities do.
    model.set_weights([np.array([[[[2.0, -2.0]]]]), np.array([0.0, 2.0])])
    model.save(path)


def picture(path, seed=0, size=(8, 8), brightest=0):
    """Writes a picture of random colours, one of them the strongest."""
    image = np.random.default_rng(seed).integers(0, 120, (*size, 3))
    image[..., brightest] += 100
    image = image.astype("uint8")
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return image


def softmax(values):
    powers = np.exp(values - values.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def as_colours(images, turned=0):
    """Returns what the model of colours thinks, by the formula."""
    means = images.reshape(len(images), -1, 3).mean(axis=1) / 255
    return softmax(4 * np.roll(means, turned, axis=-1))


def heat_of(images, colour):
    return images[..., colour] / images[..., colour].max(
        axis=(1, 2), keepdims=True
    )


def explain(*arguments, output="out"):
    """Runs the command, and returns what it has written."""
    given = [str(argument) for argument in arguments]
    assert cli.main(["explain", *given, "--output", str(output)]) == 0
    return written(output)


def written(output="out"):
    with open(f"{output}/explain.json") as file:
        content = json.load(file)
    with np.load(f"{output}/arrays.npz") as file:
        arrays = dict(file)
    return content, arrays
